"""What planning needs to know of a model."""

from __future__ import annotations

from dataclasses import dataclass, field

from pixelsmith.config.recommended import Recommended
from pixelsmith.geometry import Size
from pixelsmith.sampling.grid import TileLayout


@dataclass(frozen=True)
class ModelFacts:
    """What planning needs to know of a model.

    - ``name``: folder, hub id or ``embedded``; ``pipeline``: the class named in its ``model_index.json``.
    - ``native_size``: the size it was trained at, in pixels; ``latent_scale``: pixels per latent on one axis.
    - ``latent_channels``; ``latent_multiple``: what the network needs the sides of a patch to be a multiple of.
    - ``train_steps``: the number of timesteps it was trained with.
    - ``tiling``: how its autoencoder is run tile by tile.
    - ``parameters``: the numbers in its weight files on this disk; of a hub id that was never fetched unknown, and 0.
    - ``quantised_bytes``: of weights that stay in a format of their own, which ``parameters`` does not count.
    - ``recommended``: what it is best run with.
    - ``float16_safe``: whether its numbers stay in the range of float16.
    - ``perturbable``: whether a ``Perturbation`` of its network is known.
    - ``captioner_parameters``: the numbers in the weight files of its captioner; ``None`` where there is none.
    - ``stock_seeds``: whether a base picture begins with the noise that diffusers draws for its seed; else with noise
      that is keyed as that of stages (docs/decisions/0002-keyed-randomness.md).
    """

    name: str
    pipeline: str
    native_size: Size
    latent_scale: int
    latent_channels: int
    latent_multiple: int
    train_steps: int
    tiling: TileLayout
    parameters: int
    recommended: Recommended = field(default_factory=Recommended)
    float16_safe: bool = True
    perturbable: bool = False
    quantised_bytes: int = 0
    stock_seeds: bool = True
    captioner_parameters: int | None = None

    @property
    def patch(self) -> Size:
        """The native size in latents: what the network denoises in one call."""
        return self.native_size.divided(self.latent_scale)

    def latent_size(self, size: Size) -> Size:
        """The canvas in latents that holds a picture of ``size`` pixels, padded to what the network can take."""
        return size.padded(self.latent_scale * self.latent_multiple).divided(self.latent_scale)
