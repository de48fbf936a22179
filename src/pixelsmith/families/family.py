"""What a model family must offer to the method."""

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
"""A prompt as the network is told it: tensors by name, each for a batch of one."""
CONTROL = "control"
"""The tensor of a prompt that is what control pictures show at a patch: (1, n, 3, H, W) uint8, of n ControlNets."""
PromptAt = Callable[[Window], Prompt]
"""The prompt of a patch, by the window in which it lies on the canvas, in latents."""


def everywhere(prompt: Prompt) -> PromptAt:
    """The same prompt for every patch."""
    return partial(_same, prompt)


def _same(prompt: Prompt, window: Window) -> Prompt:
    return prompt


def named(names: Sequence[str], positive: Sequence[Tensor], negative: Sequence[Tensor]) -> tuple[Prompt, Prompt]:
    """The tensors of a prompt and of the negative one, by the names that the network's call has for them."""
    return dict(zip(names, positive, strict=True)), dict(zip(names, negative, strict=True))


def base_noise(facts: ModelFacts, seed: int, canvas: Size) -> Noise:
    """What the base canvas (in latents) of a seed is made of."""
    channels = facts.latent_channels
    return DrawnNoise(seed, channels, canvas) if facts.stock_seeds else NoiseField(seed, 0, channels)


@runtime_checkable
class Autoencoder(Protocol):
    """Pixels to latents and back, one tile at a time."""

    @property
    def tiling(self) -> TileLayout: ...

    @property
    def device(self) -> torch.device:
        """Where it computes; what it is given may be elsewhere."""
        ...

    def encode(self, pixels: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "b c h w"]:
        """Pixels in -1..1 to latents at the denoiser's scale, float32, on its device."""
        ...

    def decode(self, latents: Float[Tensor, "b c h w"], kept: Window | None = None) -> Float[Tensor, "b 3 H W"]:
        """Latents at the denoiser's scale to pixels, about -1..1, float32, on its device.

        Where only ``kept`` (in latents) is of use, the pixels of all else may be anything: some save work by that.
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
    """Draws from noise what a decoder cannot know: texture at the scale of pixels."""

    @property
    def noise_channels(self) -> int:
        """Values of noise for each pixel."""
        ...

    @property
    def margin(self) -> int:
        """Pixels around a window that decide what it becomes."""
        ...

    def __call__(self, pixels: Float[Tensor, "b 3 H W"], noise: Float[Tensor, "b k H W"]) -> Float[Tensor, "b 3 H W"]:
        """What is added to pixels in -1..1, float32, on their device, drawn from standard normal noise."""
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
        """What draws texture into decoded pixels, if the model has it."""
        ...

    def schedule(self, steps: int) -> Schedule:
        """The levels of ``steps`` denoising steps, from the model's own scheduler configuration."""
        ...

    def unread(self, prompt: str) -> str:
        """The end of a prompt that the model has no room for; empty where all of it is read."""
        ...

    def encode(self, prompt: str, negative_prompt: str, weighted: bool = False) -> tuple[Prompt, Prompt]:
        """Both as the model's own pipeline encodes them; ``weighted``: as prompts whose words have weights."""
        ...

    def base_noise(self, seed: int, canvas: Size) -> Noise:
        """What the base canvas (in latents) of this seed is made of."""
        ...

    def refuses(self, picture: Readable) -> bool:
        """Whether the model's own safety checker, if it has one, refuses a picture (3, H, W) uint8."""
        ...

    def denoiser(
        self, prompt_at: PromptAt, picture: Size, guidance_scale: float, perturbation: Perturbation | None = None
    ) -> Denoiser:
        """The network told each patch's prompt, perturbed if asked for.

        ``picture`` is the size in pixels that patches are part of; ``guidance_scale`` is for networks that are told it.
        Raises ``RequestError`` where the network has none of the layers that are to be perturbed.
        """
        ...
