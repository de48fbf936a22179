"""Networks from a ``.pt2`` file, which ``torch.export.save`` wrote: they carry their own code, so any will do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pixelsmith.errors import ModelError


class Exported:
    """A program that takes pictures (1, 3, ``side``, ``side``) in 0..1. Raises ``ModelError`` for what is none."""

    def __init__(self, path: Path) -> None:
        try:
            program: Any = torch.export.load(path)
            name = program.graph_signature.user_inputs[0]
            shape = next(node.meta["val"].shape for node in program.graph.nodes if node.name == name)
            self.side = int(shape[-1])
            self._run = program.module()
        except Exception as error:
            # Whatever the archive is not, the library that reads it says in its own way.
            raise ModelError(
                f"{path}: expected a program of torch.export for pictures (1, 3, s, s) ({error})"
            ) from error

    @torch.inference_mode()
    def __call__(self, x: Tensor) -> Tensor:
        """What the program returns."""
        found: Tensor = self._run(x)
        return found
