"""Denoise a canvas patch by patch (paper, sections 3.2 to 3.4; docs/decisions/0001-two-canvases.md).

All patches of a step read the canvas of the previous step and write their results to a new one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from pixelsmith.engine.dilated import Dilated, Joined
from pixelsmith.engine.executor import PATCH, Executor, Serial, Work
from pixelsmith.engine.seldom import Seldom
from pixelsmith.geometry import NO_WRAP, Size, Window, Wrap
from pixelsmith.sampling.denoiser import Batch, Denoiser
from pixelsmith.sampling.keyed import Purpose
from pixelsmith.sampling.merging.merge import GuideAt, Merge, Unmerged
from pixelsmith.sampling.noise import Noise, NoiseField, repeated
from pixelsmith.sampling.patches import Coverage, Tiling
from pixelsmith.sampling.readable import Readable
from pixelsmith.sampling.samplers import SAMPLERS, Move, Rule
from pixelsmith.sampling.schedule import Schedule, noised
from pixelsmith.system.device import finite, staged


@runtime_checkable
class Patched(Readable, Protocol):
    """A canvas that is filled patch by patch (``pixelsmith.canvas.Mosaic``)."""

    def put(self, index: int, values: Tensor) -> None: ...

    def missing(self, group: int = 1, even: bool = False) -> Iterator[Sequence[int]]: ...

    def sync(self) -> None: ...

    @property
    def complete(self) -> bool: ...


@runtime_checkable
class Steps(Protocol):
    """The canvases after each step, counted from 1; some may exist from an interrupted run."""

    def open(self, step: int, tiling: Tiling) -> Patched: ...

    def __contains__(self, step: int) -> bool: ...

    def drop(self, step: int) -> None: ...


@dataclass(frozen=True)
class Guide:
    """The guide of a stage: ``latents``, the encoded enlarged picture z_g, and how it is merged into patches."""

    latents: Readable
    merge: Merge


@dataclass(frozen=True)
class Denoising:
    """Everything that determines the result of denoising a canvas; ``run`` computes it.

    - ``rule``: the step rule of the sampler; ``guide``: ``None`` for the base.
    - ``seed``, ``stage``: the keys of the chess mask's random phases, as of ``noise`` and ``coverage``.
    - ``dilated``: dilated sampling, which adds an estimate of the whole canvas to those of the patches.
    - ``wrap``: the axes on which the canvas and all inputs wrap.
    - ``reads``: the windows of sources that ``denoiser`` itself reads at a patch (``Work.reads``).
    """

    denoiser: Denoiser
    schedule: Schedule
    coverage: Coverage
    noise: Noise
    seed: int
    stage: int
    guide: Guide | None = None
    rule: Rule = SAMPLERS["ddim"]
    dilated: Dilated | None = None
    wrap: Wrap = NO_WRAP
    reads: Callable[[Window], Iterable[tuple[Readable, Window]]] | None = None

    @property
    def channels(self) -> int:
        """The channels of the canvases: the latents, then the clean estimate if the step rule needs it."""
        return self.noise.channels * (2 if self.rule.remembers else 1)

    def run(
        self,
        steps: Steps,
        batch_size: int,
        device: torch.device,
        on_batch: Callable[[int, int, int], None] = lambda step, done, total: None,
        executor: Executor | None = None,
        filled: bool = False,
    ) -> Readable:
        """Denoise from the noisiest level to the clean one; patches that ``steps`` contains are not computed again.

        ``on_batch`` is called with (step, patches done, patches of the step) once a batch is written. ``filled``: all
        batches are padded to ``batch_size``. These arguments affect the picture only by rounding. Raises
        ``DeviceError`` if a patch is not finite, or the device has too little memory for one.
        """
        begin, canvas = self._furthest(steps)
        executor = executor or Serial()
        batches = _Batches(batch_size, device, executor, batch_size if filled else None)
        opened, done = self._ahead(executor, steps, begin), executor.behind(lambda: None)
        for i in range(begin, self.schedule.steps):
            patches, target = opened()
            opened = self._ahead(executor, steps, i + 1)
            if not target.complete:
                joined = self._joined(i, canvas, batches)
                work = joined._work(i, patches, canvas, target, batches)
                executor.run(work, partial(_report, on_batch, i, len(patches)))
            done()
            # Flushing to disk and dropping the previous canvas happen in the background.
            done = executor.behind(partial(_finish, steps, i, target))
            canvas = target
        done()
        return _Latents(canvas, self.noise.channels)

    def _ahead(self, executor: Executor, steps: Steps, i: int) -> Callable[[], tuple[Tiling, Patched]]:
        """The patches of step i and the canvas for their results, prepared in the background if there is a step i."""

        def opened() -> tuple[Tiling, Patched]:
            patches = self.coverage.patches(i)
            return patches, steps.open(i + 1, patches)

        return executor.ahead(opened) if i < self.schedule.steps else opened

    def _work(
        self, i: int, patches: Tiling, canvas: Readable, target: Patched, batches: _Batches
    ) -> Work[_Patches, Batch]:
        """The patches of step i that are missing in ``target``. All of them read ``canvas``, and none reads what
        another one writes.
        """
        # Workers in other processes generate the noise of their patches themselves.
        noise = not batches.executor.elsewhere
        fresh = self._fresh(i, patches.canvas, patches.largest.height)
        sync = Seldom(target.sync)

        def read(indices: Sequence[int]) -> _Patches:
            windows = [patches[index].window for index in indices]
            return self._read(i, canvas, windows, batches.device, fresh, noise)

        def write(indices: Sequence[int], moved: Tensor) -> None:
            for index, values in zip(indices, finite(moved, "a batch of patches"), strict=True):
                target.put(index, values)
            sync()

        def place(indices: Sequence[int]) -> str:
            return f"patches {indices[0] + 1} to {indices[-1] + 1} of {len(patches)}, step {i + 1}, stage {self.stage}"

        def reads(indices: Sequence[int]) -> Iterator[tuple[Readable, Window]]:
            if self.reads is not None:
                for index in indices:
                    yield from self.reads(patches[index].window)

        # On a CPU the batch size does not affect the time per patch but may affect rounding, so batches stay full.
        groups = target.missing(batches.size, batches.executor.even)
        return Work(PATCH, groups, read, partial(self._move, i), write, place, batches.full, reads)

    def _furthest(self, steps: Steps) -> tuple[int, Readable]:
        """The number of completed steps, and the canvas after them."""
        for done in range(self.schedule.steps, 0, -1):
            if done in steps:
                canvas = steps.open(done, self.coverage.patches(done - 1))
                if canvas.complete:
                    for older in range(1, done):
                        steps.drop(older)
                    return done, canvas
        return 0, _Start(self)

    def _fresh(self, i: int, canvas: Size, height: int) -> Noise:
        """The noise that the sampler adds at step i. Rows of ``height`` are cached for overlapping patches."""
        rows = Size(canvas.width, height)
        noise = NoiseField(self.seed, self.stage, self.noise.channels, Purpose.STEP, i, rows)
        return repeated(noise, canvas, self.wrap)

    def _read(
        self, i: int, canvas: Readable, windows: list[Window], device: torch.device, fresh: Noise, noise: bool = True
    ) -> _Patches:
        """All inputs of these patches at step i; ``noise``: whether they include the noise."""
        patches, needs = _Patches(canvas, windows, device, fresh), self._merge.needs(i)
        sources: list[Readable | Noise] = [canvas, *needs.maps]
        if needs.clean and self.guide is not None:
            sources.append(self.guide.latents)
        if noise:
            sources += [self.noise] if needs.noise else []
            sources += [fresh] if self.rule.draws else []
        for source in sources:
            patches.on_host(source)
        return patches

    def _move(self, i: int, patches: _Patches) -> Batch:
        """The patches of step i at the next noise level, (b, channels, h, w)."""
        t, s = self.schedule.levels[i : i + 2]
        merge, guide = self._merge, self._guide_at(i, patches)
        state = patches.on_device(patches.canvas)
        x_t = merge.before(state[:, : self.noise.channels], guide)
        estimate = merge.estimate(self.denoiser(x_t, t, patches.windows), guide)
        before = self.schedule.levels[i - 1] if i > 0 else None
        previous = state[:, self.noise.channels :] if before is not None and self.rule.remembers else None
        fresh = partial(patches.on_device, patches.fresh)
        x_s = merge.after(self.rule.move(Move(x_t, estimate, t, s, previous, before, fresh)), guide)
        return torch.cat([x_s, estimate], dim=1) if self.rule.remembers else x_s

    def _joined(self, i: int, canvas: Readable, batches: _Batches) -> Denoising:
        """The same, with the estimate of the whole canvas at step i if there is dilated sampling."""
        if self.dilated is None:
            return self
        fresh = self._fresh(i, canvas.size, canvas.size.height)
        whole = self._read(i, canvas, [canvas.size.window], batches.device, fresh)
        x_t = whole.on_device(canvas)[:, : self.noise.channels]
        x_t = self._merge.before(x_t, self._guide_at(i, whole))
        estimate = self.dilated.estimate(x_t[0], self.schedule.levels[i], batches.size, batches.executor, batches.full)
        return replace(self, denoiser=Joined(self.denoiser, estimate))

    @property
    def _merge(self) -> Merge:
        return self.guide.merge if self.guide else Unmerged()

    def _guide_at(self, i: int, patches: _Patches) -> GuideAt:
        """The guide at step i, which is never read if there is no guide."""

        def clean() -> Batch:
            if self.guide is None:
                raise ValueError("a guided step needs a guide")
            return patches.on_device(self.guide.latents)

        t, s = self.schedule.levels[i : i + 2]
        noise = partial(patches.on_device, self.noise)
        return GuideAt(self.seed, self.stage, i, t, s, patches.windows, clean, noise, patches.on_host)


@dataclass(frozen=True)
class _Batches:
    """How the patches of a step are computed: in batches of ``size``, padded to ``full`` if that is given."""

    size: int
    device: torch.device
    executor: Executor
    full: int | None


class _Patches:
    """Some patches of a canvas, and the values of any source in their windows, each read once.

    ``fresh``: the noise that the sampler adds at this step.
    """

    def __init__(self, canvas: Readable, windows: list[Window], device: torch.device, fresh: Noise) -> None:
        self.canvas, self.windows, self.fresh, self._device = canvas, windows, fresh, device
        # The dictionary keeps each source alive, so that no other one can get the same id.
        self._read: dict[int, tuple[Readable | Noise, Batch]] = {}

    def __getstate__(self) -> dict[str, Any]:
        """With the sources instead of their ids, which differ in another process."""
        return vars(self) | {"_read": list(self._read.values())}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state | {"_read": {id(source): (source, values) for source, values in state["_read"]}})

    def on_host(self, source: Readable | Noise) -> Batch:
        """The windows of a source (b, c, h, w), on the host."""
        if id(source) not in self._read:
            values = torch.stack([source.read(window) for window in self.windows])
            self._read[id(source)] = source, staged(values, self._device)
        return self._read[id(source)][1]

    def on_device(self, source: Readable | Noise) -> Batch:
        """The same on the device."""
        return self.on_host(source).to(self._device, non_blocking=True)


def _finish(steps: Steps, i: int, target: Patched) -> None:
    """Flush the canvas of step i and drop the one before it."""
    target.sync()
    steps.drop(i)


def _report(on_batch: Callable[[int, int, int], None], i: int, total: int, group: Sequence[int]) -> None:
    on_batch(i, group[-1] + 1, total)


@dataclass(frozen=True)
class _Start:
    """The first canvas: the guide at the noisiest level, or without a guide noise of that level's magnitude."""

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
    """The latents of a canvas, without the clean estimates that may follow them."""

    canvas: Readable
    channels: int

    @property
    def size(self) -> Size:
        return self.canvas.size

    def read(self, window: Window) -> Tensor:
        return self.canvas.read(window)[: self.channels]
