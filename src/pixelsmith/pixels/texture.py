"""Texture that a network draws into decoded pixels, from noise that is keyed by seed, stage and place."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from pixelsmith.families.protocol import Family, TextureNetwork
from pixelsmith.geometry import Window
from pixelsmith.sampling.keyed import Purpose
from pixelsmith.sampling.noise import Noise, NoiseField


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

    def add_to(self, pixels: Float[Tensor, "3 H W"], window: Window, kept: Window) -> None:
        """Draw into pixels (-1..1) of a window, in place, where ``kept`` lies; both in latents of the whole picture.

        What is drawn is right but for ``context`` latents at those edges of ``kept`` that are none of the picture's.
        """
        part = pixels[(..., *kept.relative_to(window).scaled(self.scale).slices)]
        noise = self.noise.read(kept.scaled(self.scale))
        part += self.strength * self.network(part[None], noise[None])[0]
