"""The inputs of a stage: prompts and captions, the guide, maps, control pictures, texture noise."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial

import torch

from pixelsmith.canvas import Space
from pixelsmith.config.recommended import StageMethod
from pixelsmith.config.request import Request
from pixelsmith.config.strategies import STRATEGIES
from pixelsmith.engine import Executor, Serial
from pixelsmith.engine.bands import FittedBands, low_pass_bands
from pixelsmith.engine.codec import TILE, encode
from pixelsmith.engine.conditions import Conditions, guided_denoiser
from pixelsmith.engine.control import Controlled, Shown
from pixelsmith.engine.denoise import Guide
from pixelsmith.engine.dilated import Dilated
from pixelsmith.engine.doubled import DOUBLED_TILES, Doubling, keep_doubled
from pixelsmith.engine.enlarged import TILE_OF_UPSAMPLER, enlarged_to, fill, passes_of, piece_side
from pixelsmith.engine.filling import copied
from pixelsmith.engine.pieces import InPieces, UpsamplerInPieces
from pixelsmith.engine.prompts import PromptEncoder
from pixelsmith.engine.texture import Texture
from pixelsmith.engine.words import Cells, Words, joined
from pixelsmith.events import Observer, PhaseFinished, Progress, Warned
from pixelsmith.families import Captioner, Family, Prompt, PromptAt, Upsampler, everywhere
from pixelsmith.families.family import DOUBLE
from pixelsmith.geometry import Size, Window, Wrap
from pixelsmith.pixels.resample import Coarser, Resized
from pixelsmith.pixels.slider_map import CHAINED, flatness_map, slider_map
from pixelsmith.planning.stage_sizes import doublings_of
from pixelsmith.sampling.denoiser import Denoiser
from pixelsmith.sampling.grid import Grid
from pixelsmith.sampling.merging import MERGES, Bands, Lead
from pixelsmith.sampling.patches import dilation
from pixelsmith.sampling.readable import Readable
from pixelsmith.sampling.regional import Layers
from pixelsmith.system.memory import give_back_memory


@dataclass(frozen=True)
class Rung:
    """The finished picture of a stage (3, H, W) uint8, and its latents if the next stage needs them."""

    picture: Readable
    latents: Readable | None


@dataclass(frozen=True)
class StageInputs:
    """Everything that the stages of a request share, and the inputs of each stage that are computed from it.

    Canvases and captions are stored in ``space``; those that it contains already are not computed again.

    - ``methods``: the settings of the method for each stage, by its number; 0 is the base.
    - ``encode``: encodes prompts.
    - ``prompts``: the encoded prompt and negative prompt; ``regions``: those of each region of the request.
    - ``layers``: where the regions lie on the canvas of each stage; ``controls``: the control pictures of each stage.
    - ``captioner``: describes the parts of a picture; ``None`` if the request has no captions.
    - ``upsampler``: enlarges the picture below each stage; ``None`` resamples it alone.
    - ``executor``: runs the batches of patches and the tiles.
    """

    request: Request
    family: Family
    methods: Mapping[int, StageMethod]
    encode: PromptEncoder
    prompts: tuple[Prompt, Prompt]
    observer: Observer
    space: Space
    captioner: Captioner | None = None
    upsampler: Upsampler | None = None
    executor: Executor = field(default_factory=Serial)
    regions: Sequence[tuple[Prompt, Prompt]] = ()
    layers: Mapping[int, Layers] = field(default_factory=dict)
    controls: Mapping[int, Sequence[Resized]] = field(default_factory=dict)

    @property
    def wrap(self) -> Wrap:
        """The axes on which all pictures and canvases wrap."""
        return self.request.wrapped_axes

    def _tiles(self, canvas: Size) -> Grid:
        return self.family.autoencoder.tiling.tiles(canvas, self.wrap)

    @property
    def autoencoder(self) -> InPieces:
        """The family's autoencoder, which divides tiles further if requested or if the memory is too small."""
        scale, asked = self.family.facts.latent_scale, self.request.compute.tile
        return InPieces(self.family.autoencoder, scale, partial(self._warn_of_pieces, TILE), asked and asked // scale)

    @property
    def _enlarger(self) -> UpsamplerInPieces | None:
        """The upsampler, which divides tiles in the same way."""
        if self.upsampler is None:
            return None
        side = piece_side(self.request.compute.tile, self.upsampler.scale)
        warn = partial(self._warn_of_pieces, TILE_OF_UPSAMPLER)
        return UpsamplerInPieces(self.upsampler, self.upsampler.scale, warn, side)

    def _warn_of_pieces(self, what: str, side: int) -> None:
        self.observer(Warned(f"the device has no memory for {what}; going on with pieces of {side} pixels a side"))

    @contextmanager
    def _phase(self, stage: int, phase: str) -> Iterator[Callable[[int, int, int], None]]:
        """Report the progress and the duration of a phase; yields a callback (step from 0, done, total)."""
        steps = self.methods[stage].steps if phase == "denoise" else 1
        began = time.monotonic()
        give_back_memory()
        yield lambda step, done, total: self.observer(Progress(stage, phase, step + 1, steps, done, total))
        self.observer(PhaseFinished(stage, phase, time.monotonic() - began))

    def _encoded_texts(self, stage: int) -> Sequence[tuple[Prompt, Prompt]]:
        """The encoded prompt and negative prompt of the picture, and those of each region that the stage shows."""
        return [self.prompts, *self.regions][: len(self.request.texts(stage))]

    def _uncaptioned(self, stage: int) -> list[PromptAt]:
        """The prompts of the picture and of each region that the stage shows, as given in the request."""
        return [everywhere(prompt) for prompt, _ in self._encoded_texts(stage)]

    def _prompts_at(self, stage: int, below: Rung, size: Size) -> list[PromptAt]:
        """The same prompts for each patch, with a caption of what the previous stage shows there, if there are any."""
        request, captioner = self.request, self.captioner
        if captioner is None:
            return self._uncaptioned(stage)
        cells = Cells(self.family.facts.latent_size(size), self.family.facts.patch)
        enlarged = Resized(below.picture, below.picture.size, size, "lanczos", wrap=self.wrap)
        captions = self.space.texts(
            f"stage-{stage}/captions", lambda: self._captions(stage, enlarged, cells, captioner)
        )
        layers = [Words(cells, [joined(caption, prompt) for caption in captions]) for prompt, _ in request.texts(stage)]
        prompts = dict.fromkeys(prompt for words in layers for prompt in words.prompts)
        if not request.prompt_weighting and any(self.family.unread(prompt) for prompt in prompts):
            self.observer(Warned("the model has no room for the end of the prompt behind some of the captions"))
        encoded = {prompt: self.encode(prompt, request.negative_prompt)[0] for prompt in prompts}
        return [partial(_worded, words, encoded) for words in layers]

    def _captions(self, stage: int, enlarged: Resized, cells: Cells, captioner: Captioner) -> Iterator[str]:
        """A caption for each cell of the upsampled picture; one by one, so that none depends on its batch."""
        with self._phase(stage, "caption") as on_place:
            for done, cell in enumerate(cells, start=1):
                yield from captioner(enlarged.read(cell.scaled(self.family.facts.latent_scale))[None])
                on_place(0, done, len(cells))

    def _map(self, stage: int, name: str, source: Readable) -> Readable:
        """A map (1, h, w) of the canvas, stored because every step reads it."""
        tiles = self._tiles(source.size)
        return copied(source, self.space.open(f"stage-{stage}/{name}", tiles, 1), tiles)

    def _bands(self, factor: float, doubled: bool) -> Bands:
        """The frequency bands in which a picture is known from one that is ``factor`` times smaller.

        An upsampler makes finer detail than these, which is not known and so is not held.
        """
        method = self.request.method
        if method.upsampling == "latent":
            return low_pass_bands(factor)
        return FittedBands(self.family.autoencoder, self.family.facts.latent_scale, factor, method.kernel, doubled)

    def _guide_latents(self, stage: int, below: Rung, size: Size) -> Readable:
        """The clean guide z_g: the encoded upsampled picture, or the upsampled latents."""
        method, scale = self.request.method, self.family.facts.latent_scale
        if doubling := self._doubling(below.picture.size, size):
            return self._doubled(stage, below, size, doubling)
        if method.upsampling == "latent":
            # The canvas is padded beyond the picture; there the picture's edge is repeated.
            endless = Resized(below.picture, below.picture.size, below.picture.size, "bicubic", wrap=self.wrap)
            latents = below.latents or self._encoded(stage, endless, below.picture.size)
            return Resized(latents, below.picture.size, size, "bicubic", unit=scale, wrap=self.wrap)
        enlarged = enlarged_to(size, below.picture, method.kernel, self._enlarger, self.wrap)
        return self._encoded(stage, enlarged, size)

    def _doubling(self, below: Size, size: Size) -> Doubling | None:
        """The model's network, if it enlarges the guide of a stage of this size above a picture of another one."""
        times, network = doublings_of(self.request, below, size, self.family.facts), self.family.latent_upsampler
        return Doubling(network, times) if network is not None and times else None

    def _doubled(self, stage: int, below: Rung, size: Size, doubling: Doubling) -> Readable:
        """The guide: the picture below, encoded at a smaller scale, whose latents the model's network doubles."""
        small = self._small(below.picture, size, doubling.times)
        latents = self._encoded(stage, small, small.size, "small-guide")
        facts = self.family.facts
        doubled = doubling.of(latents, facts.latent_size(size), self.wrap)
        tiles = DOUBLED_TILES.tiles(doubled.size, self.wrap)
        kept = self.space.open(f"stage-{stage}/guide", tiles, facts.latent_channels)
        with self._phase(stage, "double") as on_tile:
            keep_doubled(doubled, kept, tiles, self.family.device, partial(on_tile, 0), self.executor)
        return kept

    def _small(self, picture: Readable, size: Size, times: int) -> Coarser:
        """The picture below on the grid whose latents are doubled so often for a stage of this size."""
        kernel = self.request.method.kernel
        return Coarser(picture, picture.size, size, kernel, wrap=self.wrap, times=DOUBLE**times)

    def _encoded(
        self, stage: int, picture: Resized, size: Size, name: str = "guide", phase: str = "encode"
    ) -> Readable:
        """A picture as latents, which are stored under this ``name``."""
        facts = self.family.facts
        canvas, scale = facts.latent_size(size), facts.latent_scale
        latents = self.space.open(f"stage-{stage}/{name}", self._tiles(canvas), facts.latent_channels)
        read = picture if latents.complete else self._upsampled(stage, picture, canvas.window.scaled(scale))
        with self._phase(stage, phase) as on_tile:
            encode(read, scale, self.autoencoder, latents, partial(on_tile, 0), self.executor, self.wrap)
        for number in range(len(passes_of(picture, canvas.window.scaled(scale)))):
            self.space.drop(_upsampled_name(stage, number))
        return latents

    def _upsampled(self, stage: int, picture: Resized, window: Window) -> Resized:
        """The picture, if other processes compute, with the tiles of the upsampler on which a window depends stored;
        otherwise they are computed when they are read.
        """
        source: Readable | None = None
        for number, (enlarged, around) in enumerate(passes_of(picture, window) if self.executor.elsewhere else ()):
            enlarged = enlarged if source is None else replace(enlarged, source=source)
            kept = self.space.open(_upsampled_name(stage, number), enlarged.tiles, 3, torch.uint8, enlarged.size)
            with self._phase(stage, "upsample") as on_tile:
                fill(kept, enlarged, around, partial(on_tile, 0), self.executor)
            source = kept
        return picture if source is None else replace(picture, source=source)

    def _guide(self, stage: int, below: Rung, size: Size) -> Guide:
        """The guide of a stage, and how it is merged into the patches."""
        facts, method = self.family.facts, self.request.method
        strategy, own = STRATEGIES[method.strategy], self.methods[stage]
        factor = size.factor_over(below.picture.size)
        merge = strategy.merge_of(own)
        moderates = own.holds and own.slider_map == "auto" and "slider_map" not in MERGES[merge].unused
        flatness = flatness_map(below.picture, size, facts.latent_scale, self.wrap, most=1.0 if stage == 1 else CHAINED)
        lead = Lead(
            weights=strategy.weights(own),
            positions=slider_map(own.slider_map, own.slider, size, facts.latent_scale, self.wrap),
            bands=self._bands(factor, self._doubling(below.picture.size, size) is not None),
            factor=factor,
            flatness=self._map(stage, "flatness", flatness) if moderates else None,
            chess_mask=own.chess_mask,
        )
        return Guide(self._guide_latents(stage, below, size), MERGES[merge].made_of(lead))

    def _denoiser(self, stage: int, size: Size, prompts_at: Sequence[PromptAt], shown: Shown | None = None) -> Denoiser:
        negatives = [everywhere(negative) for _, negative in self._encoded_texts(stage)]
        texts, layers = self.request.texts(stage), self.layers.get(stage)
        conditions = Conditions(texts, prompts_at, negatives, layers if len(texts) > 1 else None)
        if shown is not None:
            conditions = conditions.extended(partial(Controlled, shown=shown))
        return guided_denoiser(self.family, conditions, self.methods[stage], size)

    def _shown(self, stage: int, size: Size) -> Shown | None:
        """The control pictures of a stage, if there are any."""
        if stage not in self.controls:
            return None
        facts = self.family.facts
        return Shown(self._control(stage, size), 1 if facts.control_latents else facts.latent_scale)

    def _control(self, stage: int, size: Size) -> Sequence[Readable]:
        """The control pictures of a stage, stored because every step reads them."""
        facts, found = self.family.facts, []
        tiles = self._tiles(facts.latent_size(size)).scaled(facts.latent_scale)
        for number, source in enumerate(self.controls.get(stage, ())):
            name = f"control-{number}"
            if facts.control_latents:
                found.append(self._encoded(stage, source, size, name, "control"))
            else:
                kept = self.space.open(f"stage-{stage}/{name}", tiles, 3, torch.uint8)
                found.append(copied(source, kept, tiles))
        return found

    def _dilated(self, stage: int, size: Size) -> Dilated | None:
        facts = self.family.facts
        if stage == 0 or not STRATEGIES[self.request.method.strategy].dilated:
            return None
        # Dilated samples show the whole canvas, so they are conditioned on the picture's own prompt.
        denoiser = self._denoiser(stage, size, self._uncaptioned(stage))
        return Dilated(denoiser, dilation(facts.latent_size(size), facts.patch), facts.latent_multiple)

    def _texture(self, stage: int, size: Size) -> Texture | None:
        texture = Texture.of(self.family, self.request.seed, stage, self.methods[stage].texture)
        return texture and texture.on(size, self.wrap)


def _upsampled_name(stage: int, number: int) -> str:
    """The name of the canvas for a pass of the upsampler."""
    return f"stage-{stage}/upsampled-{number}"


def _worded(words: Words, encoded: Mapping[str, Prompt], window: Window) -> Prompt:
    """The prompt of a patch."""
    return encoded[words.at(window)]
