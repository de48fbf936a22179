"""Denoise a canvas patch by patch (paper, sections 3.2 to 3.4; design, sections 2.4 and 2.5).

Two canvases: every patch of a step reads the canvas from before the step, results are summed into the next one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from pixelsmith.geometry import Size, Window, tiles
from pixelsmith.sampling.chess import chess_mask, chess_phase
from pixelsmith.sampling.fusion import FUSIONS, Fusion, fuse
from pixelsmith.sampling.guidance import Batch, Denoiser
from pixelsmith.sampling.noise import NoiseField
from pixelsmith.sampling.patches import Coverage, Patch
from pixelsmith.sampling.schedule import Level, Schedule, extrapolated, noised, step

FILL_TILE = 256
"""Side in latents of the windows in which the first canvas is filled."""


@runtime_checkable
class Readable(Protocol):
    """Anything whose windows can be read as tensors (c, h, w)."""

    @property
    def size(self) -> Size: ...

    def read(self, window: Window) -> Tensor: ...


@runtime_checkable
class Canvas(Readable, Protocol):
    """An array of (c, h, w) in memory or elsewhere, read and changed window by window."""

    def write(self, window: Window, values: Tensor) -> None: ...

    def add(self, window: Window, values: Tensor) -> None: ...


@dataclass(frozen=True)
class Guide:
    """The guide of a stage and how it leads.

    ``latents``: the encoded upsampled picture; ``weights``: its lead at each step, 1 to 0 (``slider.guide_weights``);
    ``fusion`` and ``chess_mask``: what it gives to a patch.
    """

    latents: Readable
    weights: Sequence[float]
    fusion: Fusion = FUSIONS["phase"]
    chess_mask: bool = True


@dataclass(frozen=True)
class Denoising:
    """Everything that decides what a canvas becomes; ``run`` does it.

    ``second_order`` is DPM-Solver++(2M), else DDIM (Euler for flow models). ``guide`` is ``None`` for the base.
    ``seed`` and ``stage`` key the chess mask's phases, as they key ``noise`` and ``coverage``.
    """

    denoiser: Denoiser
    schedule: Schedule
    coverage: Coverage
    noise: NoiseField
    seed: int
    stage: int
    guide: Guide | None = None
    second_order: bool = False

    def run(
        self,
        new_canvas: Callable[[], Canvas],
        batch_size: int,
        device: torch.device,
        on_batch: Callable[[int, int, int], None] = lambda step, done, total: None,
    ) -> Canvas:
        """Denoise from the noisiest level to the clean one.

        ``new_canvas`` makes empty (zero) latent canvases; ``on_batch`` hears (step, patches done, patches of the
        step) after each batch. Neither ``batch_size`` nor ``device`` is part of what the picture is.
        """
        x, clean = self._first_canvas(new_canvas()), None
        for i in range(self.schedule.steps):
            next_x, next_clean = new_canvas(), new_canvas() if self.second_order else None
            patches = self.coverage.patches(i)
            for first in range(0, len(patches), batch_size):
                batch = patches[first : first + batch_size]
                moved, estimate = self._move(i, [patch.window for patch in batch], x, clean, device)
                for patch, values, cleaned in zip(batch, moved.cpu(), estimate.cpu(), strict=True):
                    _blend(next_x, patch, values)
                    if next_clean is not None:
                        _blend(next_clean, patch, cleaned)
                on_batch(i, first + len(batch), len(patches))
            x, clean = next_x, next_clean
        return x

    def _first_canvas(self, canvas: Canvas) -> Canvas:
        """The guide at the noisiest level; without a guide, noise as strong as that level's latents."""
        level = self.schedule.levels[0]
        strength = math.hypot(level.alpha, level.sigma)
        for window in tiles(canvas.size, FILL_TILE):
            noise = self.noise.read(window)
            canvas.write(
                window, noised(self.guide.latents.read(window), noise, level) if self.guide else strength * noise
            )
        return canvas

    def _move(
        self, i: int, windows: list[Window], canvas: Canvas, clean: Canvas | None, device: torch.device
    ) -> tuple[Batch, Batch]:
        """Patches of step i at the next level, and their clean estimates; each (b, c, h, w)."""
        t, s = self.schedule.levels[i : i + 2]
        lead, next_lead = self._lead(i), self._lead(i + 1)
        x_t = _stack(canvas, windows, device)
        guide = self._guide_at(windows, t, device) if lead > 0 else x_t
        x_t = fuse(x_t, guide, self.guide.fusion if self.guide else FUSIONS["none"], lead)
        estimate = self.denoiser(x_t, t, windows)
        direction = estimate
        if clean is not None and i > 0:
            direction = extrapolated(estimate, _stack(clean, windows, device), self.schedule.levels[i - 1], t, s)
        x_s = step(x_t, direction, t, s)
        # The paper's guide does not reach past its last step: the mask needs the guide to lead at s as well.
        if self.guide and self.guide.chess_mask and next_lead > 0:
            mask = next_lead * torch.stack([self._mask(i, window) for window in windows])[:, None].to(device)
            x_s = torch.lerp(x_s, self._guide_at(windows, s, device), mask)
        return x_s, estimate

    def _lead(self, i: int) -> float:
        return self.guide.weights[i] if self.guide and i < self.schedule.steps else 0.0

    def _guide_at(self, windows: list[Window], level: Level, device: torch.device) -> Batch:
        if self.guide is None:
            raise ValueError("a guided step needs a guide")
        return noised(_stack(self.guide.latents, windows, device), _stack(self.noise, windows, device), level)

    def _mask(self, i: int, window: Window) -> Tensor:
        return chess_mask(window.height, window.width, chess_phase(self.seed, self.stage, i, window))


def _blend(canvas: Canvas, patch: Patch, values: Tensor) -> None:
    canvas.add(patch.window, values * torch.from_numpy(patch.weights))


def _stack(source: Readable | NoiseField, windows: list[Window], device: torch.device) -> Batch:
    return torch.stack([source.read(window) for window in windows]).to(device)
