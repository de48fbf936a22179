"""Texture that a network adds to decoded pixels, from noise keyed by seed, stage and position."""

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
    """The texture of a picture; ``strength``: the factor 0..1 with which it is added.

    ``noise`` has a value and channel for each pixel of the picture, so that tiles agree; ``scale``: pixels per latent.
    """

    network: TextureNetwork
    noise: Noise
    strength: float
    scale: int

    @classmethod
    def of(cls, family: Family, seed: int, stage: int, strength: float) -> Texture | None:
        """The texture of a stage's picture; ``None`` if the model has no texture network, or the strength is 0."""
        if family.texture is None or not strength:
            return None
        noise = NoiseField(seed, stage, family.texture.noise_channels, Purpose.TEXTURE)
        return cls(family.texture, noise, strength, family.facts.latent_scale)

    @property
    def context(self) -> int:
        """The margin in latents around a window on which its texture depends."""
        return -(-self.network.margin // self.scale)

    def on(self, picture: Size, wrap: Wrap) -> Texture:
        """The same for a picture of this size in pixels, which may wrap."""
        return replace(self, noise=repeated(self.noise, picture, wrap))

    def within(self, part: Window) -> Texture:
        """The same for a window of the picture, in latents, that is decoded as a picture of its own."""
        return replace(self, noise=_Shifted(self.noise, part.scaled(self.scale)))

    def noise_of(self, window: Window) -> Float[Tensor, "1 k H W"]:
        """The noise of a window, which is given in latents."""
        return self.noise.read(window.scaled(self.scale))[None]

    def add_to(self, pixels: Float[Tensor, "3 H W"], inside: Window, noise: Float[Tensor, "1 k h w"]) -> None:
        """Add texture to pixels (-1..1) in place, in the window ``inside`` of them, in latents.

        ``noise`` is that of the window. The texture is correct except for ``context`` latents at those edges of the
        window that are not the picture's.
        """
        part = pixels[(..., *inside.scaled(self.scale).slices)]
        part += self.strength * self.network(part[None], noise)[0]


@dataclass(frozen=True)
class _Shifted:
    """Noise relative to the top left corner of a window."""

    noise: Noise
    window: Window

    @property
    def channels(self) -> int:
        return self.noise.channels

    def read(self, window: Window) -> Float[Tensor, "c h w"]:
        return self.noise.read(window.within(self.window))
