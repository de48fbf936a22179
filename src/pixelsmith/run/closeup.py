"""The final pixels of one place of a picture, without the rest of it.

Noise, guide and patches are keyed by place, so any window of a stage can be made alone. What it takes of its
surroundings is made as well, less of it with each step; beyond that the canvas is taken to be the guide at the level of
the step, which is near to what it would be (docs/decisions/0029-closeups.md).
"""

from __future__ import annotations

import math
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

from pixelsmith.canvas import Array, Mosaic, Part, PartlyFilled, Placed, Space, watch
from pixelsmith.config.checks import check_whole
from pixelsmith.config.model_facts import ModelFacts
from pixelsmith.config.plans import Plan
from pixelsmith.engine.codec import decode, encode
from pixelsmith.engine.denoise import Denoising, Guide, Patched
from pixelsmith.engine.stage import Cascade, Rung, StageSteps
from pixelsmith.engine.words import Cells, joined
from pixelsmith.errors import RequestError
from pixelsmith.families import Prompt, PromptAt
from pixelsmith.geometry import NO_WRAP, Size, Window, Wrap
from pixelsmith.pixels.resample import Resized
from pixelsmith.run.given import Given
from pixelsmith.sampling.patches import Coverage, Tiling
from pixelsmith.sampling.readable import Readable
from pixelsmith.sampling.schedule import noised

SURROUNDINGS = 1.0
"""Sides of a patch around the place that are denoised with it at first, if nothing is said; at the last step there are
none. Fewer are faster and farther from the whole picture's pixels."""
MOST_SURROUNDINGS = 100.0
_DETAIL_REACH = 10
"""Latents of the picture below around a place on which its local detail depends, at most."""
_GAP = 8


@dataclass(frozen=True)
class Closeup:
    """The final pixels of one place at several positions of the Slider.

    - ``window``: the place, in pixels of the whole picture; ``pictures``: (h, w, 3) uint8 sRGB, one for each of
      ``sliders``.
    - ``settings``: what a file of them carries: those of the whole picture, the place and the positions.
    """

    window: Window
    sliders: tuple[float, ...]
    pictures: tuple[NDArray[np.uint8], ...]
    settings: Mapping[str, Any]

    @property
    def pixels(self) -> NDArray[np.uint8]:
        """All of them side by side, with white between them."""
        gap = np.full((self.window.height, _GAP, 3), 255, np.uint8)
        panels = [panel for picture in self.pictures for panel in (gap, picture)]
        return np.concatenate(panels[1:], axis=1)

    @property
    def picture(self) -> Readable:
        """The same, to be read as (3, h, w)."""
        return Array(torch.from_numpy(self.pixels).permute(2, 0, 1))


def place_at(share: Sequence[float], side: int, size: Size) -> Window:
    """A square of ``side`` pixels around a place, given by its shares of width and height in 0..1, moved inside.

    Raises ``RequestError`` for other shares and sides.
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
    """A window (h, w, 3) of the picture that a cascade would make from the picture of stage ``done``.

    Raises ``RequestError`` where that takes whole canvases.
    """
    size, facts, sizes = cascade.request.size, cascade.family.facts, [stage.size for stage in the_plan.stages]

    def kept(rung: Rung, stages: int) -> Rung:
        return replace(rung, picture=given.kept(rung.picture, sizes[:stages])) if given and stages else rung

    reaches = reaches_of(window, the_plan, size, done + 1, facts, surroundings, cascade.wrap)
    own, rung = CloseupCascade.over(cascade, reaches, cascade.space), kept(start, done)
    for number in reaches:
        rung = kept(own.stage(number, rung, sizes[number - 1]), number)
    picture = rung.picture
    whole = picture if picture.size == size else Resized(picture, picture.size, size, "lanczos", wrap=cascade.wrap)
    return np.asarray(whole.read(window).permute(1, 2, 0))


def finished_below(run_dir: Path, last: int) -> tuple[int, Rung | None]:
    """The highest stage of a run below the ``last`` one whose picture is finished, and that; (0, ``None``) for none."""
    for stage in range(last - 1, -1, -1):
        with suppress(LookupError):
            picture, _ = watch(run_dir / f"stage-{stage}" / "picture")
            if picture.complete:
                return stage, Rung(picture, None)
    return 0, None


@dataclass(frozen=True)
class Reach:
    """What is made of a stage. ``pixels``: what is wanted of its picture; all else in latents.

    - ``decoded``: what the decoder sees for it; ``encoded``: what is known of the guide.
    - ``margin``: how far around ``decoded`` the first step goes.
    - ``wrap``: the axes on which it may go over the edges.
    """

    pixels: Window
    decoded: Window
    encoded: Window
    margin: int
    wrap: Wrap = NO_WRAP

    @classmethod
    def around(cls, pixels: Window, size: Size, facts: ModelFacts, surroundings: float, wrap: Wrap = NO_WRAP) -> Reach:
        """That of a window of a stage's picture of ``size`` pixels."""
        canvas, scale, context = facts.latent_size(size), facts.latent_scale, facts.tiling.context
        top, left = pixels.top // scale, pixels.left // scale
        bottom, right = -(-pixels.bottom // scale), -(-pixels.right // scale)
        # Decoders narrow what they compute to what is kept, and one latent more.
        decoded = wrap.grown(Window(top, left, bottom - top, right - left), context + 1, canvas)
        side = max(facts.patch.width, facts.patch.height)
        margin = math.ceil(surroundings * side)
        return cls(pixels, decoded, wrap.grown(decoded, margin + side + context, canvas), margin, wrap)

    def moved(self, step: int, steps: int, canvas: Size) -> Window:
        """Where latents are right after so many of the steps."""
        return self.wrap.grown(self.decoded, math.ceil(self.margin * (1 - step / steps)), canvas)


def reaches_of(
    window: Window,
    the_plan: Plan,
    picture: Size,
    first: int,
    facts: ModelFacts,
    surroundings: float,
    wrap: Wrap = NO_WRAP,
) -> dict[int, Reach]:
    """What each stage from ``first`` on must make for a window of the final picture of ``picture`` pixels."""
    sizes = {number: stage.size for number, stage in enumerate(the_plan.stages, start=1)}
    last = len(sizes)
    wanted = window
    if sizes[last] != picture:
        wanted = seen(sizes[last], picture, window, 0, wrap)
    reaches: dict[int, Reach] = {}
    for number in range(last, first - 1, -1):
        reaches[number] = Reach.around(wanted, sizes[number], facts, surroundings, wrap)
        if number > first:
            enlarged = reaches[number].encoded.scaled(facts.latent_scale)
            wanted = seen(sizes[number - 1], sizes[number], enlarged, _DETAIL_REACH * facts.latent_scale, wrap)
    return dict(sorted(reaches.items()))


def seen(below: Size, size: Size, window: Window, margin: int, wrap: Wrap = NO_WRAP) -> Window:
    """What a window of a picture of ``size`` pixels shows of the one ``below``, and ``margin`` around it."""
    around = Resized(_Empty(below), below, size, "lanczos", wrap=wrap).sees(window)
    return wrap.grown(around, margin, below)


@dataclass(frozen=True)
class CloseupCascade(Cascade):
    """A cascade that makes of the stages in ``reaches`` what is said there."""

    reaches: Mapping[int, Reach] | None = None

    @classmethod
    def over(cls, cascade: Cascade, reaches: Mapping[int, Reach], space: Space) -> CloseupCascade:
        """The same as a cascade, with a space of its own. Raises ``RequestError`` where all of a canvas is needed."""
        found = cls(**{**vars(cascade), "space": space, "reaches": reaches})
        if any(found._dilated(stage, found.request.size) for stage in reaches):
            raise RequestError("preview: demofusion samples all of the canvas at once; choose another strategy")
        return found

    def _reach(self, stage: int) -> Reach:
        return (self.reaches or {})[stage]

    def _map(self, stage: int, name: str, source: Readable) -> Readable:
        reach = self._reach(stage).encoded
        part = Part(source, reach)
        tiles = self.family.autoencoder.tiling.tiles(part.size)
        kept = self.space.open(f"stage-{stage}/{name}", tiles, 1)
        for index in range(len(tiles)):
            kept.put(index, part.read(tiles[index].window))
        return Placed(kept, reach, reach, source, self.wrap)

    def _control(self, stage: int, size: Size) -> Sequence[Readable]:
        """Of a place few pixels are read, so none of them are kept."""
        if self.family.facts.control_latents:
            return super()._control(stage, size)
        return self.controls.get(stage, ())

    def _encoded(
        self, stage: int, picture: Resized, size: Size, name: str = "guide", phase: str = "encode"
    ) -> Readable:
        facts, reach = self.family.facts, self._reach(stage).encoded
        if self.request.method.upsampling == "latent":
            return super()._encoded(stage, picture, size, name, phase)
        part = Part(picture, reach.scaled(facts.latent_scale))
        tiles = self.family.autoencoder.tiling.tiles(Size(reach.width, reach.height))
        latents = self.space.open(f"stage-{stage}/{name}", tiles, facts.latent_channels)
        with self._phase(stage, phase) as on_tile:
            encode(part, facts.latent_scale, self.autoencoder, latents, partial(on_tile, 0), self.executor)
        return Placed(latents, reach, reach, _Empty(facts.latent_size(size)), self.wrap)

    def _prompts_at(self, stage: int, below: Rung, size: Size) -> list[PromptAt]:
        """Captions of the places that are asked for."""
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
        return Placed(picture, reach.decoded.scaled(scale), reach.pixels, _Empty(size), self.wrap)


@dataclass(frozen=True)
class _Steps:
    """The canvases of a stage's steps, each as far as it is made."""

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
    """The guide at the level after a step: what a canvas is taken to be where it is not made."""

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


@dataclass(frozen=True)
class _Empty:
    """A size alone: of what is read nowhere beyond what is known of it."""

    size: Size

    def read(self, window: Window) -> Tensor:
        raise LookupError(f"{window} is not made")
