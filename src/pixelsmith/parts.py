"""What is loaded beside the model itself, as small frozen values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pixelsmith.checks import check_range
from pixelsmith.errors import RequestError


@dataclass(frozen=True)
class Lora:
    """Low-rank weights to add to the model's: a ``.safetensors`` file or a folder with one; ``weight`` -10..10.

    Raises ``RequestError`` for a weight out of range.
    """

    path: str
    weight: float = 1.0

    def __post_init__(self) -> None:
        check_range("weight of a LoRA", self.weight, -10, 10)

    @classmethod
    def parse(cls, text: str) -> Lora:
        """Read ``PATH`` or ``PATH:WEIGHT``. Raises ``RequestError``."""
        path, colon, weight = text.rpartition(":")
        try:
            return cls(path, float(weight)) if colon else cls(text)
        except ValueError:
            # The colon belongs to the path.
            return cls(text)


@dataclass(frozen=True)
class Parts:
    """Which of a model's files are taken, and what is put beside or in the place of its own.

    - ``variant``: of its weight files, such as ``fp16``.
    - ``config``: for a model in a single file, the folder or hub id with its configuration files; ``None`` looks in the
      hub's cache for the one that diffusers knows for such files.
    - ``vae``: another autoencoder for the same latents, full or tiny: a diffusers folder or a hub id.
    - ``loras``, in the order in which they are added; ``textual_inversions``: files, whose names are their tokens.
    - ``allow_pickle``: whether weights may be read from pickles, which can run any code.

    Raises ``RequestError`` for values of another kind.
    """

    variant: str | None = None
    config: str | None = None
    vae: str | None = None
    loras: tuple[Lora, ...] = ()
    textual_inversions: tuple[str, ...] = ()
    allow_pickle: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "loras", tuple(self.loras))
        object.__setattr__(self, "textual_inversions", tuple(self.textual_inversions))
        if type(self.allow_pickle) is not bool:
            raise RequestError(f"allow pickle: expected True or False, got {self.allow_pickle!r}")

    def located(self, folder: Path) -> Parts:
        """The same with paths as they were meant in ``folder``."""
        return Parts(
            self.variant,
            _located(self.config, folder),
            _located(self.vae, folder),
            tuple(Lora(str(folder / lora.path), lora.weight) for lora in self.loras),
            tuple(str(folder / path) for path in self.textual_inversions),
            self.allow_pickle,
        )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Parts:
        """Read plain values. Raises ``TypeError`` for unknown names."""
        return cls(**{**values, "loras": tuple(Lora(**lora) for lora in values.get("loras", ()))})


def _located(name: str | None, folder: Path) -> str | None:
    """A path, or the hub id that it is where there is no such folder."""
    return str(folder / name) if name is not None and (folder / name).exists() else name
