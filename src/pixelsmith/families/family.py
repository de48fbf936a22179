"""The protocols that a loaded model implements."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from pixelsmith.config.model_facts import ModelFacts
from pixelsmith.config.recommended import Perturbation
from pixelsmith.geometry import Size, Window
from pixelsmith.sampling.denoiser import Denoiser
from pixelsmith.sampling.grid import TileLayout
from pixelsmith.sampling.noise import DrawnNoise, Noise, NoiseField
from pixelsmith.sampling.readable import Readable
from pixelsmith.sampling.schedule import Schedule

Prompt = Mapping[str, Tensor]
"""An encoded prompt: the tensors that condition the network, by name, each for a batch of one."""
CONTROL = "control"
"""The tensor of a prompt with what control pictures show at a patch, for n ControlNets: pixels (1, n, 3, H, W) uint8,
or latents (1, n, c, h, w) at the denoiser's scale (``ModelFacts.control_latents``)."""
IMAGE = "image-"
"""How the names of the tensors begin with what IP-Adapters see of pictures."""
PromptAt = Callable[[Window], Prompt]
"""Maps the window of a patch (in latents of the canvas) to its prompt."""


def everywhere(prompt: Prompt) -> PromptAt:
    """The same prompt for every patch."""
    return partial(_same, prompt)


def _same(prompt: Prompt, window: Window) -> Prompt:
    return prompt


def named(names: Sequence[str], positive: Sequence[Tensor], negative: Sequence[Tensor]) -> tuple[Prompt, Prompt]:
    """The tensors of a prompt and of the negative one, by the names that the network's call has for them."""
    return dict(zip(names, positive, strict=True)), dict(zip(names, negative, strict=True))


def base_noise(facts: ModelFacts, seed: int, canvas: Size) -> Noise:
    """The noise that the base canvas (in latents) of a seed starts from."""
    channels = facts.latent_channels
    return DrawnNoise(seed, channels, canvas) if facts.stock_seeds else NoiseField(seed, 0, channels)


@runtime_checkable
class Autoencoder(Protocol):
    """Pixels to latents and back, one tile at a time. Hashable, because filters that fit it are kept with it."""

    @property
    def tiling(self) -> TileLayout: ...

    @property
    def device(self) -> torch.device:
        """Where it computes; inputs may be on another device."""
        ...

    def encode(self, pixels: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "b c h w"]:
        """Pixels in -1..1 to latents at the denoiser's scale, float32, on its device."""
        ...

    def decode(self, latents: Float[Tensor, "b c h w"], kept: Window | None = None) -> Float[Tensor, "b 3 H W"]:
        """Latents at the denoiser's scale to pixels, about -1..1, float32, on its device.

        ``kept`` (in latents): the part that is needed. Pixels outside it may have any value, which lets some
        autoencoders skip work.
        """
        ...

    def steady_encoding(self, samples: Iterable[Float[Tensor, "b 3 H W"]]) -> AbstractContextManager[None]:
        """While open, ``encode`` normalises every tile alike, by the statistics of these samples of the picture."""
        ...

    def steady_decoding(self, samples: Iterable[Float[Tensor, "b c h w"]]) -> AbstractContextManager[None]:
        """While open, ``decode`` normalises every tile alike, by the statistics of these samples of the canvas."""
        ...


@runtime_checkable
class TextureNetwork(Protocol):
    """Generates texture at the scale of pixels from noise: detail that a decoder cannot reconstruct."""

    @property
    def noise_channels(self) -> int:
        """Noise values per pixel."""
        ...

    @property
    def margin(self) -> int:
        """The receptive field: how many pixels around a window affect it."""
        ...

    def __call__(self, pixels: Float[Tensor, "b 3 H W"], noise: Float[Tensor, "b k H W"]) -> Float[Tensor, "b 3 H W"]:
        """What is added to pixels in -1..1, float32, on their device, drawn from standard normal noise."""
        ...


DOUBLE = 2
"""The factor by which a ``LatentUpsampler`` enlarges each side."""


@runtime_checkable
class LatentUpsampler(Protocol):
    """Enlarges latents by ``DOUBLE``, as if the picture had been enlarged and encoded."""

    @property
    def margin(self) -> int:
        """The receptive field: how many latents around a window affect its enlargement."""
        ...

    def __call__(self, latents: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c H W"]:
        """Latents at the denoiser's scale, two for each on a side, float32, on its device."""
        ...


@runtime_checkable
class Family(Protocol):
    """One loaded model."""

    @property
    def facts(self) -> ModelFacts: ...

    @property
    def device(self) -> torch.device: ...

    @property
    def autoencoder(self) -> Autoencoder: ...

    @property
    def texture(self) -> TextureNetwork | None:
        """The network that adds texture to decoded pixels, if the model has one."""
        ...

    @property
    def latent_upsampler(self) -> LatentUpsampler | None:
        """The network that enlarges latents, if the model has one."""
        ...

    def schedule(self, steps: int) -> Schedule:
        """The levels of ``steps`` denoising steps, from the model's own scheduler configuration."""
        ...

    def unread(self, prompt: str) -> str:
        """The end of a prompt that exceeds the tokenizer's limit; empty if all of it is read."""
        ...

    def encode(self, prompt: str, negative_prompt: str, weighted: bool = False) -> tuple[Prompt, Prompt]:
        """Encode both prompts as the model's own pipeline does; ``weighted``: as prompts whose words have weights."""
        ...

    def encode_images(self, pictures: Sequence[Tensor]) -> tuple[Prompt, Prompt]:
        """What a prompt and the negative prompt have besides their text for each IP-Adapter's picture (3, H, W) uint8.

        It is to be called before ``encode``, after which the encoders may be gone.
        """
        ...

    def base_noise(self, seed: int, canvas: Size) -> Noise:
        """The noise that the base canvas (in latents) of this seed starts from."""
        ...

    def refuses(self, picture: Readable) -> bool:
        """Whether the model's own safety checker, if it has one, refuses a picture (3, H, W) uint8."""
        ...

    def denoiser(
        self,
        prompt_at: PromptAt,
        picture: Size,
        guidance_scale: float,
        perturbation: Perturbation | None = None,
        in_stages: bool = False,
    ) -> Denoiser:
        """The network conditioned on each patch's prompt, perturbed if asked for.

        ``picture`` is the size in pixels of the whole picture; ``guidance_scale`` is for networks that take it as an
        input; ``in_stages``: whether it is for a stage, which may have LoRAs that the base has not. Raises
        ``RequestError`` if the network has none of the layers to perturb.
        """
        ...
