"""Texture at the scale of pixels, which latents do not contain: generated from noise after the decoder."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from jaxtyping import Float
from torch import Tensor, nn

from pixelsmith.families.texture_layers import BLURS, COARSE, FINE, RESIDUAL


def blurred(pixels: Tensor, distance: int) -> Tensor:
    """The binomial mean of each pixel and its neighbours at a distance, with edges repeated."""
    for dim in (-2, -1):
        padding = (0, 0, distance, distance) if dim == -2 else (distance, distance, 0, 0)
        padded, side = F.pad(pixels, padding, mode="replicate"), pixels.shape[dim]
        before, after = padded.narrow(dim, 0, side), padded.narrow(dim, 2 * distance, side)
        pixels = (before + 2 * pixels + after) / 4
    return pixels


class TextureModel(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """A network that adds texture to decoded pixels, from noise with values for each of them.

    A decoder is a function of its latents alone, so it repeats the same pattern where they are smooth. Here the
    surroundings of a pixel, encoded at a quarter of the resolution, determine how noise and picture are mixed into
    texture, at half of the resolution with four times the channels. The local mean of each of these channels is
    subtracted (``BLURS``), so that colours do not change and no pattern repeats every second pixel. All layers are
    local: pixels do not depend on others farther away than ``texture_layers.MARGIN``.

    ``noise_channels``: noise values per pixel; ``channels``, ``coarse_channels``: the widths of the network.
    """

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(self, noise_channels: int = 2, channels: int = 48, coarse_channels: int = 64) -> None:
        super().__init__()
        self.surroundings = nn.Sequential(
            nn.PixelUnshuffle(COARSE),
            nn.Conv2d(3 * COARSE**2, coarse_channels, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(coarse_channels, coarse_channels, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(coarse_channels, coarse_channels, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(coarse_channels, 2 * channels, 1),
        )
        self.first = nn.Conv2d((3 + noise_channels) * FINE**2, channels, 3, padding=1)
        self.residual = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in range(RESIDUAL))
        self.last = nn.Conv2d(channels, 3 * FINE**2, 3, padding=1)
        for values in self.last.parameters():
            nn.init.zeros_(values)

    def forward(self, pixels: Float[Tensor, "b 3 H W"], noise: Float[Tensor, "b k H W"]) -> Float[Tensor, "b 3 H W"]:
        """The texture to add to pixels in -1..1; sides are multiples of ``COARSE``, ``noise`` is standard normal."""
        x = F.pixel_unshuffle(torch.cat([pixels, noise], dim=1), FINE)
        scale, shift = F.interpolate(self.surroundings(pixels), x.shape[-2:], mode="bilinear").chunk(2, dim=1)
        x = F.silu(self.first(x) * (1 + scale) + shift)
        for convolution in self.residual:
            x = x + F.silu(convolution(x))
        drawn = self.last(x)
        means = drawn
        for octave in range(BLURS):
            means = blurred(means, 2**octave)
        return F.pixel_shuffle(drawn - means, FINE)
