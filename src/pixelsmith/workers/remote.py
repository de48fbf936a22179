"""A model that is loaded by workers: its methods are calls that one of the workers answers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor

from pixelsmith.canvas import Array
from pixelsmith.config.model_facts import ModelFacts
from pixelsmith.config.recommended import Perturbation
from pixelsmith.engine.crew import Crew
from pixelsmith.engine.many import ask
from pixelsmith.engine.shipping import OfModel
from pixelsmith.families import Family, Prompt, PromptAt
from pixelsmith.families.family import CONTROL, Autoencoder, LatentUpsampler, TextureNetwork, base_noise
from pixelsmith.geometry import Size, Window
from pixelsmith.sampling.denoiser import Batch, Denoiser
from pixelsmith.sampling.grid import TileLayout
from pixelsmith.sampling.noise import Noise
from pixelsmith.sampling.readable import Readable
from pixelsmith.sampling.schedule import Level, Schedule
from pixelsmith.system.device import is_out_of_memory


class RemoteFamily(OfModel):
    """The ``Family`` of a crew. When it is sent to a worker, it becomes that worker's own family.

    ``texture``: the noise channels and the margin of the texture network, if there is one; ``latent_upsampler``: the
    margin of the network that enlarges latents. ``device`` is the CPU, because the run itself computes nothing.
    """

    part = "family"
    device = torch.device("cpu")

    def __init__(
        self, facts: ModelFacts, crew: Crew, texture: tuple[int, int] | None, latent_upsampler: int | None
    ) -> None:
        self.facts, self._crew = facts, crew
        self.autoencoder: Autoencoder = RemoteAutoencoder(facts.tiling, crew)
        self.texture: TextureNetwork | None = None if texture is None else RemoteTexture(*texture, crew)
        self.latent_upsampler: LatentUpsampler | None = (
            None if latent_upsampler is None else RemoteLatentUpsampler(latent_upsampler, crew)
        )

    def schedule(self, steps: int) -> Schedule:
        found: Schedule = self._asked("schedule", steps)
        return found

    def unread(self, prompt: str) -> str:
        return str(self._asked("unread", prompt))

    def encode(self, prompt: str, negative_prompt: str, weighted: bool = False) -> tuple[Prompt, Prompt]:
        found: tuple[Prompt, Prompt] = self._asked("encode", prompt, negative_prompt, weighted)
        return found

    def encode_images(self, pictures: Sequence[Tensor]) -> tuple[Prompt, Prompt]:
        found: tuple[Prompt, Prompt] = self._asked("encode_images", list(pictures))
        return found

    def base_noise(self, seed: int, canvas: Size) -> Noise:
        return base_noise(self.facts, seed, canvas)

    def refuses(self, picture: Readable) -> bool:
        return bool(ask(self._crew, partial(_refuses, self, picture.read(picture.size.window))))

    def denoiser(
        self,
        prompt_at: PromptAt,
        picture: Size,
        guidance_scale: float,
        perturbation: Perturbation | None = None,
        in_stages: bool = False,
    ) -> Denoiser:
        return _Described(self, prompt_at, picture, guidance_scale, perturbation, in_stages)

    def _asked(self, method: str, *given: Any) -> Any:
        return ask(self._crew, partial(_called, self, method, *given))


class RemoteAutoencoder(OfModel):
    """The ``Autoencoder`` of a crew. ``device`` is the CPU, because its inputs are on the host."""

    part = "autoencoder"
    device = torch.device("cpu")

    def __init__(self, tiling: TileLayout, crew: Crew) -> None:
        self.tiling, self._crew = tiling, crew

    def encode(self, pixels: Tensor) -> Tensor:
        found: Tensor = _ask_divisible(self._crew, partial(_called, self, "encode", pixels))
        return found

    def decode(self, latents: Tensor, kept: Window | None = None) -> Tensor:
        found: Tensor = _ask_divisible(self._crew, partial(_called, self, "decode", latents, kept))
        return found

    @contextmanager
    def steady_encoding(self, samples: Iterable[Tensor]) -> Iterator[None]:
        """One worker computes the normalisation statistics of the samples and all use them, so that tiles match."""
        with self._steady("encode", samples):
            yield

    @contextmanager
    def steady_decoding(self, samples: Iterable[Tensor]) -> Iterator[None]:
        with self._steady("decode", samples):
            yield

    @contextmanager
    def _steady(self, method: str, samples: Iterable[Tensor]) -> Iterator[None]:
        if self.tiling.blend == 0:
            # A local autoencoder needs no shared statistics.
            yield
            return
        self.statistics = _ask_divisible(self._crew, partial(_called, self, "statistics", method, list(samples)))
        try:
            yield
        finally:
            self.statistics = None


@dataclass(eq=False)
class RemoteTexture(OfModel):
    """The ``TextureNetwork`` of a crew."""

    noise_channels: int
    margin: int
    crew: Crew
    part: str = field(default="texture", init=False)

    def __call__(self, pixels: Tensor, noise: Tensor) -> Tensor:
        return _computed(self, self.crew, pixels, noise)


@dataclass(eq=False)
class RemoteUpsampler(OfModel):
    """The ``Upsampler`` of a crew."""

    scale: int
    crew: Crew
    part: str = field(default="upsampler", init=False)

    def __call__(self, pixels: Tensor) -> Tensor:
        return _computed(self, self.crew, pixels)


@dataclass(eq=False)
class RemoteLatentUpsampler(OfModel):
    """The ``LatentUpsampler`` of a crew."""

    margin: int
    crew: Crew
    part: str = field(default="latent_upsampler", init=False)

    def __call__(self, latents: Tensor) -> Tensor:
        return _computed(self, self.crew, latents)


@dataclass(frozen=True)
class _Described:
    """A denoiser that each worker creates from its own family on the first call."""

    family: Family
    prompt_at: PromptAt
    picture: Size
    guidance_scale: float
    perturbation: Perturbation | None
    in_stages: bool

    def __call__(self, x: Batch, level: Level, windows: Sequence[Window]) -> Batch:
        return self._denoiser(x, level, windows)

    @cached_property
    def _denoiser(self) -> Denoiser:
        prompt_at = _OnDevice(self.prompt_at, self.family.device)
        return self.family.denoiser(prompt_at, self.picture, self.guidance_scale, self.perturbation, self.in_stages)


@dataclass(eq=False)
class _OnDevice:
    """The prompts of patches, whose tensors are copied to the device once; the control pictures differ at each patch
    and are copied where they are used.
    """

    prompt_at: PromptAt
    device: torch.device
    _known: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)

    def __call__(self, window: Window) -> Prompt:
        prompt = self.prompt_at(window)
        return {name: value if name == CONTROL else self._brought(value) for name, value in prompt.items()}

    def _brought(self, value: Tensor) -> Tensor:
        if id(value) not in self._known:
            # The dictionary keeps the tensor alive, so that no other one can get the same id.
            self._known[id(value)] = value, value.to(self.device)
        return self._known[id(value)][1]


def _ask_divisible(crew: Crew, compute: Callable[[], Any]) -> Any:
    """The result of ``compute`` on one of the workers, for callers that divide the work if memory ends.

    Raises ``torch.OutOfMemoryError`` then, as on one device; the worker is not lost.
    """
    found = ask(crew, partial(_unless_out_of_memory, compute))
    if not found:
        raise torch.OutOfMemoryError("out of memory")
    return found[0]


def _unless_out_of_memory(compute: Callable[[], Any]) -> tuple[Any, ...]:
    """The result as the only item, or nothing if memory ends."""
    try:
        return (compute(),)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        return ()


def _computed(part: Any, crew: Crew, *values: Tensor) -> Tensor:
    """The result of a part that is itself a function of tensors, by any worker."""
    found: Tensor = ask(crew, partial(_called, part, "__call__", *values))
    return found


def _called(part: Any, method: str, *given: Any) -> Any:
    found: Callable[..., Any] = getattr(part, method)
    return found(*given)


def _refuses(family: Family, pixels: Tensor) -> bool:
    return family.refuses(Array(pixels))
