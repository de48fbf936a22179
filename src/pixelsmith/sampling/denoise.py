"""Denoise a canvas patch by patch (paper, sections 3.2 to 3.4; docs/decisions/0001-two-canvases.md).

Every patch of a step reads the canvas from before the step, and is kept as a piece of the next one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from pixelsmith.geometry import Size, Window
from pixelsmith.sampling.chess import chess_mask, chess_phase
from pixelsmith.sampling.device import finite
from pixelsmith.sampling.dilated import Dilated, Joined
from pixelsmith.sampling.fusion import FUSIONS, Fusion, Residual, fuse
from pixelsmith.sampling.guidance import Batch, Denoiser
from pixelsmith.sampling.noise import Noise
from pixelsmith.sampling.patches import Coverage, Tiling
from pixelsmith.sampling.schedule import Schedule, extrapolated, noised, step


@runtime_checkable
class Readable(Protocol):
    """Anything whose windows can be read as tensors (c, h, w)."""

    @property
    def size(self) -> Size: ...

    def read(self, window: Window) -> Tensor: ...


@runtime_checkable
class Patched(Readable, Protocol):
    """A canvas that is filled patch by patch (``pixelsmith.canvas.Mosaic``)."""

    def put(self, index: int, values: Tensor) -> None: ...

    def missing(self, group: int = 1) -> Iterator[range]: ...

    def sync(self) -> None: ...

    @property
    def complete(self) -> bool: ...


@runtime_checkable
class Steps(Protocol):
    """The canvases after each step, counted from 1; a step that another run has begun may be there."""

    def open(self, step: int, tiling: Tiling) -> Patched: ...

    def __contains__(self, step: int) -> bool: ...

    def drop(self, step: int) -> None: ...


@dataclass(frozen=True)
class Guide:
    """The guide of a stage and how it leads.

    ``latents``: the encoded upsampled picture; ``weights``: its lead at each step, 1 to 0 (``slider.guide_weights``);
    ``fusion`` and ``chess_mask``: what it gives to a patch.
    """

    latents: Readable
    weights: Sequence[float]
    fusion: Fusion | Residual = FUSIONS["phase"]
    chess_mask: bool = True


@dataclass(frozen=True)
class Denoising:
    """Everything that decides what a canvas becomes; ``run`` does it.

    ``second_order`` is DPM-Solver++(2M), else DDIM (Euler for flow models). ``guide`` is ``None`` for the base.
    ``seed`` and ``stage`` key the chess mask's phases, as they key ``noise`` and ``coverage``. ``dilated`` joins an
    estimate of the whole canvas to those of the patches.
    """

    denoiser: Denoiser
    schedule: Schedule
    coverage: Coverage
    noise: Noise
    seed: int
    stage: int
    guide: Guide | None = None
    second_order: bool = False
    dilated: Dilated | None = None

    @property
    def channels(self) -> int:
        """Of the canvases: the latents and, second order, the clean estimate after them."""
        return self.noise.channels * (2 if self.second_order else 1)

    def run(
        self,
        steps: Steps,
        batch_size: int,
        device: torch.device,
        on_batch: Callable[[int, int, int], None] = lambda step, done, total: None,
    ) -> Readable:
        """Denoise from the noisiest level to the clean one; what ``steps`` has already is not made again.

        ``on_batch`` hears (step, patches done, patches of the step) after each batch. Neither ``batch_size`` nor
        ``device`` is part of what the picture is. Raises ``DeviceError`` where a patch is not finite.
        """
        begin, canvas = self._furthest(steps)
        for i in range(begin, self.schedule.steps):
            patches = self.coverage.patches(i)
            target = steps.open(i + 1, patches)
            joined = self if target.complete else self._joined(i, canvas, batch_size, device)
            for indices in target.missing(batch_size):
                moved = joined._move(i, [patches[index].window for index in indices], canvas, device)
                for index, values in zip(indices, finite(moved.cpu(), "a batch of patches"), strict=True):
                    target.put(index, values)
                target.sync()
                on_batch(i, indices.stop, len(patches))
            canvas = target
            steps.drop(i)
        return _Latents(canvas, self.noise.channels)

    def _furthest(self, steps: Steps) -> tuple[int, Readable]:
        """The last step that is done, and the canvas after it."""
        for done in range(self.schedule.steps, 0, -1):
            if done in steps:
                canvas = steps.open(done, self.coverage.patches(done - 1))
                if canvas.complete:
                    for older in range(1, done):
                        steps.drop(older)
                    return done, canvas
        return 0, _Start(self)

    def _move(self, i: int, windows: list[Window], canvas: Readable, device: torch.device) -> Batch:
        """Patches of step i at the next level, (b, channels, h, w)."""
        t, s = self.schedule.levels[i : i + 2]
        lead, next_lead = self._lead(i), self._lead(i + 1)
        state = _stack(canvas, windows, device)
        x_t, clean = state[:, : self.noise.channels], state[:, self.noise.channels :]
        clean_guide, noise = self._guide_of(windows, device) if lead > 0 or next_lead > 0 else (x_t, x_t)
        guide = noised(clean_guide, noise, t) if lead > 0 else x_t
        x_t = fuse(x_t, guide, self.guide.fusion if self.guide else FUSIONS["none"], lead)
        estimate = self.denoiser(x_t, t, windows)
        direction = estimate
        if self.second_order and i > 0:
            direction = extrapolated(estimate, clean, self.schedule.levels[i - 1], t, s)
        x_s = step(x_t, direction, t, s)
        # The paper's guide does not reach past its last step: the mask needs the guide to lead at s as well.
        if self.guide and self.guide.chess_mask and next_lead > 0:
            mask = next_lead * torch.stack([self._mask(i, window) for window in windows])[:, None].to(device)
            x_s = torch.lerp(x_s, noised(clean_guide, noise, s), mask)
        return torch.cat([x_s, estimate], dim=1) if self.second_order else x_s

    def _joined(self, i: int, canvas: Readable, batch_size: int, device: torch.device) -> Denoising:
        """With the estimate of the whole canvas at step i, where there is dilated sampling."""
        if self.dilated is None:
            return self
        t, windows, lead = self.schedule.levels[i], [canvas.size.window], self._lead(i)
        x_t = _stack(canvas, windows, device)[:, : self.noise.channels]
        if self.guide and lead > 0:
            x_t = fuse(x_t, noised(*self._guide_of(windows, device), t), self.guide.fusion, lead)
        return replace(self, denoiser=Joined(self.denoiser, self.dilated.estimate(x_t[0], t, batch_size)))

    def _lead(self, i: int) -> float:
        return self.guide.weights[i] if self.guide and i < self.schedule.steps else 0.0

    def _guide_of(self, windows: list[Window], device: torch.device) -> tuple[Batch, Batch]:
        """The clean guide and the noise of some windows."""
        if self.guide is None:
            raise ValueError("a guided step needs a guide")
        return _stack(self.guide.latents, windows, device), _stack(self.noise, windows, device)

    def _mask(self, i: int, window: Window) -> Tensor:
        return chess_mask(window.height, window.width, chess_phase(self.seed, self.stage, i, window))


@dataclass(frozen=True)
class _Start:
    """The first canvas: the guide at the noisiest level; without one, noise as strong as that level's latents."""

    denoising: Denoising

    @property
    def size(self) -> Size:
        return self.denoising.coverage.patches(0).canvas

    def read(self, window: Window) -> Tensor:
        level, noise = self.denoising.schedule.levels[0], self.denoising.noise.read(window)
        if self.denoising.guide is None:
            return math.hypot(level.alpha, level.sigma) * noise
        return noised(self.denoising.guide.latents.read(window), noise, level)


@dataclass(frozen=True)
class _Latents:
    """A canvas without the clean estimates that may come after its latents."""

    canvas: Readable
    channels: int

    @property
    def size(self) -> Size:
        return self.canvas.size

    def read(self, window: Window) -> Tensor:
        return self.canvas.read(window)[: self.channels]


def _stack(source: Readable | Noise, windows: list[Window], device: torch.device) -> Batch:
    return torch.stack([source.read(window) for window in windows]).to(device)
