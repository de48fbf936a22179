"""Networks from ``.pt2`` files of ``torch.export.save``, which contain their own computation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pixelsmith.errors import ModelError


class Exported:
    """An exported program for pictures (1, 3, ``side``, ``side``) in 0..1. Raises ``ModelError`` for other files."""

    def __init__(self, path: Path) -> None:
        try:
            program: Any = torch.export.load(path)
            name = program.graph_signature.user_inputs[0]
            shape = next(node.meta["val"].shape for node in program.graph.nodes if node.name == name)
            self.side = int(shape[-1])
            self._run = program.module()
        except Exception as error:
            # PyTorch raises various errors for invalid archives.
            raise ModelError(
                f"{path}: expected a program of torch.export for pictures (1, 3, s, s) ({error})"
            ) from error

    @torch.inference_mode()
    def __call__(self, x: Tensor) -> Tensor:
        """The output of the program."""
        found: Tensor = self._run(x)
        return found
