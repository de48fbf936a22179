"""Previews: the final pixels of one window of a picture, without the rest of it.

Noise, guide and patches are keyed by their position, so any window of a stage can be computed alone. The surroundings
that affect it are computed as well, fewer of them at each step; beyond these, the canvas is approximated by the guide
at the noise level of the step (docs/decisions/0029-closeups.md).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pixelsmith.canvas import Array, Mosaic, Part, PartlyFilled, Placed, watch
from pixelsmith.config.checks import check_whole
from pixelsmith.config.plans import Plan
from pixelsmith.engine.codec import decode, encode
from pixelsmith.engine.denoise import Denoising, Guide, Patched
from pixelsmith.engine.doubled import DOUBLED_TILES, Doubling, keep_doubled
from pixelsmith.engine.filling import copied
from pixelsmith.engine.inputs import Rung
from pixelsmith.engine.stage import Cascade, StageSteps
from pixelsmith.engine.words import Cells, joined
from pixelsmith.errors import RequestError
from pixelsmith.events import Event, Observer, PhaseFinished, Progress, StageStarted
from pixelsmith.families import Prompt, PromptAt
from pixelsmith.geometry import Size, Window
from pixelsmith.pixels.resample import Resized
from pixelsmith.run.given import Given
from pixelsmith.run.reach import Reach, Uncomputed, doubled_from, reaches_of
from pixelsmith.sampling.patches import Coverage, Tiling
from pixelsmith.sampling.readable import Readable
from pixelsmith.sampling.schedule import noised

SURROUNDINGS = 1.0
"""Default margin around the window at the first step, in sides of a patch; it shrinks to 0 until the last step. Less
is faster and less exact."""
MOST_SURROUNDINGS = 100.0
_GAP = 8


@dataclass(frozen=True)
class Closeup:
    """The final pixels of one window at several positions of the Slider.

    - ``window``: in pixels of the whole picture; ``pictures``: (h, w, 3) uint8 sRGB, one for each of ``sliders``.
    - ``settings``: the settings for a file of them: those of the whole picture, the window and the positions.
    """

    window: Window
    sliders: tuple[float, ...]
    pictures: tuple[NDArray[np.uint8], ...]
    settings: Mapping[str, Any]

    @property
    def pixels(self) -> NDArray[np.uint8]:
        """All pictures side by side, with white gaps, (h, w, 3) uint8."""
        gap = np.full((self.window.height, _GAP, 3), 255, np.uint8)
        panels = [panel for picture in self.pictures for panel in (gap, picture)]
        return np.concatenate(panels[1:], axis=1)

    @property
    def picture(self) -> Readable:
        """The same as (3, h, w)."""
        return Array(torch.from_numpy(self.pixels).permute(2, 0, 1))


def place_at(share: Sequence[float], side: int, size: Size) -> Window:
    """A square of ``side`` pixels, as far as it fits into the picture.

    ``share``: its centre as shares of width and height, 0..1; it is moved inside the picture. Raises
    ``RequestError`` for other values.
    """
    if len(share) != 2 or not all(0 <= part <= 1 for part in share):
        raise RequestError(f"at: expected two shares in 0..1 such as 0.3,0.6, got {tuple(share)}")
    check_whole("side", side, least=1)
    x, y = share
    width, height = min(side, size.width), min(side, size.height)
    left = min(max(round(x * size.width) - width // 2, 0), size.width - width)
    top = min(max(round(y * size.height) - height // 2, 0), size.height - height)
    return Window(top, left, height, width)


def close_up(
    cascade: Cascade,
    the_plan: Plan,
    window: Window,
    start: Rung,
    done: int,
    given: Given | None,
    surroundings: float = SURROUNDINGS,
) -> NDArray[np.uint8]:
    """The pixels (h, w, 3) of a window of the final picture.

    ``start``: the finished picture of stage ``done``, 0 for the base. Raises ``RequestError`` if the strategy needs
    whole canvases.
    """
    size, sizes = cascade.request.size, [stage.size for stage in the_plan.stages]

    def kept(rung: Rung, stages: int) -> Rung:
        return replace(rung, picture=given.kept(rung.picture, sizes[:stages])) if given and stages else rung

    reaches = reaches_of(window, the_plan, cascade, done + 1, surroundings)
    own, rung = CloseupCascade.over(cascade, reaches), kept(start, done)
    for number in reaches:
        cascade.observer(StageStarted(number, len(sizes), sizes[number - 1]))
        rung = kept(own.stage(number, rung, sizes[number - 1]), number)
    picture = rung.picture
    whole = picture if picture.size == size else Resized(picture, picture.size, size, "lanczos", wrap=cascade.wrap)
    return np.asarray(whole.read(window).permute(1, 2, 0))


def with_shares(observer: Observer, denoised: int) -> Observer:
    """An observer whose progress has the share of the whole work, in which ``denoised`` pictures are denoised.

    Denoising takes nearly all of the time of close-ups.
    """
    finished = 0

    def observe(event: Event) -> None:
        nonlocal finished
        if isinstance(event, Progress):
            now = (event.step - 1 + event.done / event.total) / event.steps if event.phase == "denoise" else 0
            event = replace(event, share=min(1.0, (finished + now) / denoised))
        if isinstance(event, PhaseFinished) and event.phase == "denoise":
            finished += 1
        observer(event)

    return observe


def finished_below(run_dir: Path, last: int) -> tuple[int, Rung | None]:
    """The highest finished stage of a run below stage ``last``, and its picture; (0, ``None``) if there is none."""
    for stage in range(last - 1, -1, -1):
        with suppress(LookupError):
            picture, _ = watch(run_dir / f"stage-{stage}" / "picture")
            if picture.complete:
                return stage, Rung(picture, None)
    return 0, None


@dataclass(frozen=True)
class CloseupCascade(Cascade):
    """A cascade that computes only parts of its stages, as given by ``reaches``."""

    reaches: Mapping[int, Reach] | None = None

    @classmethod
    def over(cls, cascade: Cascade, reaches: Mapping[int, Reach]) -> CloseupCascade:
        """A copy of a cascade for these parts. Raises ``RequestError`` if the strategy needs whole canvases."""
        found = cls(**vars(cascade), reaches=reaches)
        if any(found._dilated(stage, found.request.size) for stage in reaches):
            raise RequestError("preview: demofusion samples the whole canvas at once; choose another strategy")
        return found

    def _reach(self, stage: int) -> Reach:
        return (self.reaches or {})[stage]

    def _map(self, stage: int, name: str, source: Readable) -> Readable:
        reach = self._reach(stage).encoded
        part = Part(source, reach)
        tiles = self.family.autoencoder.tiling.tiles(part.size)
        kept = copied(part, self.space.open(f"stage-{stage}/{name}", tiles, 1), tiles)
        return Placed(kept, reach, reach, source, self.wrap)

    def _control(self, stage: int, size: Size) -> Sequence[Readable]:
        """The control pictures; pixels are not stored because only a small part of them is read."""
        if self.family.facts.control_latents:
            return super()._control(stage, size)
        return self.controls.get(stage, ())

    def _encoded(
        self, stage: int, picture: Resized, size: Size, name: str = "guide", phase: str = "encode"
    ) -> Readable:
        if name == "guide" and self.request.method.upsampling == "latent":
            return super()._encoded(stage, picture, size, name, phase)
        reach = self._reach(stage).encoded
        upsampled = self._upsampled(stage, picture, reach.scaled(self.family.facts.latent_scale))
        return self._encoded_part(stage, upsampled, size, name, phase, reach)

    def _encoded_part(
        self, stage: int, picture: Readable, size: Size, name: str, phase: str, reach: Window
    ) -> Readable:
        """A window of a picture, given in latents, as latents."""
        facts = self.family.facts
        part = Part(picture, reach.scaled(facts.latent_scale))
        tiles = self.family.autoencoder.tiling.tiles(Size(reach.width, reach.height))
        latents = self.space.open(f"stage-{stage}/{name}", tiles, facts.latent_channels)
        with self._phase(stage, phase) as on_tile:
            encode(part, facts.latent_scale, self.autoencoder, latents, partial(on_tile, 0), self.executor)
        return Placed(latents, reach, reach, Uncomputed(facts.latent_size(size)), self.wrap)

    def _doubled(self, stage: int, below: Rung, size: Size, doubling: Doubling) -> Readable:
        facts, reach = self.family.facts, self._reach(stage).encoded
        small, canvas = self._small(below.picture, size, doubling.times), facts.latent_size(size)
        around = doubled_from(reach, small.size, size, doubling, facts, self.wrap)
        latents = self._encoded_part(stage, small, small.size, "small-guide", "encode", around)
        part = Part(doubling.of(latents, canvas, self.wrap), reach)
        tiles = DOUBLED_TILES.tiles(part.size)
        kept = self.space.open(f"stage-{stage}/guide", tiles, facts.latent_channels)
        with self._phase(stage, "double") as on_tile:
            keep_doubled(part, kept, tiles, self.family.device, partial(on_tile, 0), self.executor)
        return Placed(kept, reach, reach, Uncomputed(canvas), self.wrap)

    def _prompts_at(self, stage: int, below: Rung, size: Size) -> list[PromptAt]:
        """Prompts with captions, which are computed when a patch first needs them."""
        request, captioner, facts = self.request, self.captioner, self.family.facts
        if captioner is None:
            return self._uncaptioned(stage)
        cells = Cells(facts.latent_size(size), facts.patch)
        windows = list(cells)
        enlarged = Resized(below.picture, below.picture.size, size, "lanczos", wrap=self.wrap)

        @cache
        def caption_of(cell: int) -> str:
            (caption,) = captioner(enlarged.read(windows[cell].scaled(facts.latent_scale))[None])
            return caption

        @cache
        def encoded(prompt: str) -> Prompt:
            return self.encode(prompt, request.negative_prompt)[0]

        def prompt_at(own: str, window: Window) -> Prompt:
            return encoded(joined(caption_of(cells.under(window)), own))

        return [partial(prompt_at, own) for own, _ in request.texts(stage)]

    def _denoised(
        self,
        stage: int,
        size: Size,
        coverage: Coverage,
        guide: Callable[[], Guide | None],
        prompts_at: Callable[[], Sequence[PromptAt]],
    ) -> Rung:
        if stage not in (self.reaches or {}):
            return super()._denoised(stage, size, coverage, guide, prompts_at)
        denoising = self._denoising(stage, size, coverage, prompts_at(), guide())
        steps = _Steps(StageSteps(self.space, stage, denoising.channels), denoising, self._reach(stage))
        with self._phase(stage, "denoise") as on_batch:
            latents = denoising.run(
                steps, self._batch_size, self.family.device, on_batch, self.executor, self._fills(stage)
            )
        picture = self._decoded(stage, size, latents)
        return Rung(picture, latents if self.request.method.upsampling == "latent" else None)

    def _decoded(self, stage: int, size: Size, latents: Readable) -> Readable:
        reach, scale = self._reach(stage), self.family.facts.latent_scale
        part, texture = Part(latents, reach.decoded), self._texture(stage, size)
        tiles = self.family.autoencoder.tiling.tiles(part.size).scaled(scale)
        picture = self.space.open(f"stage-{stage}/picture", tiles, 3, torch.uint8)
        with self._phase(stage, "decode") as on_tile:
            within = texture and texture.within(reach.decoded)
            decode(part, self.autoencoder, picture, partial(on_tile, 0), self.executor, within)
        return Placed(picture, reach.decoded.scaled(scale), reach.pixels, Uncomputed(size), self.wrap)


@dataclass(frozen=True)
class _Steps:
    """The canvases of a stage's steps, each as far as it is computed."""

    steps: StageSteps
    denoising: Denoising
    reach: Reach

    def open(self, step: int, tiling: Tiling) -> Patched:
        mosaic = self.steps.open(step, tiling)
        if not isinstance(mosaic, Mosaic):
            raise TypeError("expected the mosaic of a space")
        window = self.reach.moved(step, self.denoising.schedule.steps, tiling.canvas)
        return PartlyFilled(mosaic, window, _Approach(self.denoising, step), self.reach.wrap)

    def __contains__(self, step: int) -> bool:
        return step in self.steps

    def drop(self, step: int) -> None:
        self.steps.drop(step)


@dataclass(frozen=True)
class _Approach:
    """The guide at the noise level after a step, by which a canvas is approximated outside of its computed part."""

    denoising: Denoising
    step: int

    @property
    def size(self) -> Size:
        return self.denoising.coverage.patches(0).canvas

    def read(self, window: Window) -> Tensor:
        denoising = self.denoising
        if denoising.guide is None:
            raise ValueError("a stage has a guide")
        clean = denoising.guide.latents.read(window)
        values = noised(clean, denoising.noise.read(window), denoising.schedule.levels[self.step])
        return torch.cat([values, clean]) if denoising.rule.remembers else values
