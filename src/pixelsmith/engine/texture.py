"""Texture that a network draws into decoded pixels, from noise that is keyed by seed, stage and place."""

from __future__ import annotations

from dataclasses import dataclass, replace

from jaxtyping import Float
from torch import Tensor

from pixelsmith.families.family import Family, TextureNetwork
from pixelsmith.geometry import Size, Window, Wrap
from pixelsmith.sampling.keyed import Purpose
from pixelsmith.sampling.noise import Noise, NoiseField, repeated


@dataclass(frozen=True)
class Texture:
    """What of a picture's texture is drawn: ``strength`` 0..1 is the share that is added.

    ``noise`` has a value and channel for each pixel of the picture, so that tiles agree; ``scale``: pixels per latent.
    """

    network: TextureNetwork
    noise: Noise
    strength: float
    scale: int

    @classmethod
    def of(cls, family: Family, seed: int, stage: int, strength: float) -> Texture | None:
        """That of a rung's picture; ``None`` where the model has no texture network, or nothing of it is wanted."""
        if family.texture is None or not strength:
            return None
        noise = NoiseField(seed, stage, family.texture.noise_channels, Purpose.TEXTURE)
        return cls(family.texture, noise, strength, family.facts.latent_scale)

    @property
    def context(self) -> int:
        """Latents around a window that decide what it becomes."""
        return -(-self.network.margin // self.scale)

    def on(self, picture: Size, wrap: Wrap) -> Texture:
        """The same on a picture of so many pixels that may wrap."""
        return replace(self, noise=repeated(self.noise, picture, wrap))

    def within(self, part: Window) -> Texture:
        """The same where a window of the picture, in latents, is decoded as if it were all there is."""
        return replace(self, noise=_Shifted(self.noise, part.scaled(self.scale)))

    def noise_of(self, window: Window) -> Float[Tensor, "1 k H W"]:
        """What is drawn from in a window, in latents."""
        return self.noise.read(window.scaled(self.scale))[None]

    def add_to(self, pixels: Float[Tensor, "3 H W"], inside: Window, noise: Float[Tensor, "1 k h w"]) -> None:
        """Draw into pixels (-1..1), in place, ``inside`` a window of theirs, in latents, which the noise is of.

        What is drawn is right but for ``context`` latents at those edges of the window that are none of the picture's.
        """
        part = pixels[(..., *inside.scaled(self.scale).slices)]
        part += self.strength * self.network(part[None], noise)[0]


@dataclass(frozen=True)
class _Shifted:
    """Noise of a window, counted from its top left corner."""

    noise: Noise
    window: Window

    @property
    def channels(self) -> int:
        return self.noise.channels

    def read(self, window: Window) -> Float[Tensor, "c h w"]:
        return self.noise.read(window.within(self.window))
