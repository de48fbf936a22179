"""A network that enlarges latents by 2, so that the next stage needs no decoding and encoding in between."""

from __future__ import annotations

import torch.nn.functional as F  # noqa: N812
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from jaxtyping import Float
from torch import Tensor, nn

from pixelsmith.families.family import DOUBLE


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.near = nn.Conv2d(width, width, 3, padding=1)
        self.mixed = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        added: Tensor = self.mixed(F.silu(self.near(x)))
        return x + added


class LatentUpsamplerModel(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """Latents at the denoiser's scale to those of the picture at twice its size.

    The network computes what is added to the bicubic interpolation; the four values of each latent and channel are its
    own, because the latents of a larger picture are not interpolations of those of the smaller one. All layers are
    local and unnormalised: a value depends on the input latents up to ``margin`` away from its own, so tiles with
    that context equal the whole. Beyond the edges of the canvas the convolutions see zeros, as those of autoencoders.

    ``latent_channels``: of the model; ``width``, ``blocks``: the channels and the residual blocks of the network.
    """

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(self, latent_channels: int = 16, width: int = 128, blocks: int = 7) -> None:
        super().__init__()
        self.first = nn.Conv2d(latent_channels, width, 3, padding=1)
        self.residual = nn.ModuleList(_Residual(width) for _ in range(blocks))
        self.last = nn.Conv2d(width, latent_channels * DOUBLE**2, 3, padding=1)
        for values in self.last.parameters():
            nn.init.zeros_(values)

    @property
    def margin(self) -> int:
        """The receptive field: how many input latents around a window affect its values."""
        return len(self.residual) + 2

    def forward(self, latents: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c H W"]:
        """The enlarged latents, two for each input latent on each side."""
        x = self.first(latents)
        for block in self.residual:
            x = block(x)
        smooth = F.interpolate(latents, scale_factor=DOUBLE, mode="bicubic")
        return smooth + F.pixel_shuffle(self.last(x), DOUBLE)
