"""The canvases of a denoising's steps in memory, for tests of the engine alone."""

from __future__ import annotations

from dataclasses import dataclass, field

from pixelsmith.canvas import MemorySpace
from pixelsmith.engine.denoise import Patched
from pixelsmith.sampling.patches import Tiling


@dataclass
class KeptSteps:
    """Steps as a stage keeps them; ``forget`` off, none is dropped."""

    channels: int
    forget: bool = True
    space: MemorySpace = field(default_factory=MemorySpace)

    def open(self, step: int, tiling: Tiling) -> Patched:
        return self.space.open(str(step), tiling, self.channels)

    def __contains__(self, step: int) -> bool:
        return str(step) in self.space

    def drop(self, step: int) -> None:
        if self.forget:
            self.space.drop(str(step))
