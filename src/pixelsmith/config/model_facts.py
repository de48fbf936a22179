"""The properties of a model that planning needs."""

from __future__ import annotations

from dataclasses import dataclass, field

from pixelsmith.config.recommended import Recommended
from pixelsmith.geometry import Size
from pixelsmith.sampling.grid import TileLayout


@dataclass(frozen=True)
class ModelFacts:
    """The properties of a model that planning needs.

    - ``name``: folder, hub id or ``embedded``; ``pipeline``: the class named in its ``model_index.json``.
    - ``native_size``: the size it was trained at, in pixels; ``latent_scale``: pixels per latent on one axis.
    - ``latent_channels``; ``latent_multiple``: the sides of a patch must be multiples of this.
    - ``train_steps``: the number of timesteps it was trained with.
    - ``tiling``: how its autoencoder is run tile by tile.
    - ``parameters``: the numbers in its weight files on this disk; of a hub id that was never fetched unknown, and 0.
    - ``exchanged_parameters``: those of the network, if it has LoRAs of the stages alone; otherwise 0.
    - ``quantised_bytes``: of weights that stay in a format of their own, which ``parameters`` does not count.
    - ``recommended``: the settings that it works best with.
    - ``float16_safe``: whether activations stay in the range of float16.
    - ``perturbable``: whether a ``Perturbation`` of its network is known.
    - ``patch_values``: the most values that its network holds at once per latent of a patch, and ``tile_values``: that
      its autoencoder holds per pixel of a tile, in the dtype of the run (``pixelsmith.families.footprint``).
    - ``float32_autoencoder``: whether its autoencoder is float32 where the run is in float16.
    - ``captioner_parameters``: the numbers in the weight files of its captioner; ``None`` where there is none.
    - ``doubles_latents``: whether it has a network for ``upsampling="learned"``.
    - ``control_latents``: whether its ControlNets see the latents of their pictures, not the pixels.
    - ``stock_seeds``: whether a base picture starts from the noise that diffusers draws for its seed, or from keyed
      noise as stages do (docs/decisions/0002-keyed-randomness.md).
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
    exchanged_parameters: int = 0
    quantised_bytes: int = 0
    doubles_latents: bool = False
    control_latents: bool = False
    stock_seeds: bool = True
    captioner_parameters: int | None = None
    patch_values: int = 0
    tile_values: int = 0
    float32_autoencoder: bool = False

    @property
    def patch(self) -> Size:
        """The native size in latents: what the network denoises in one call."""
        return self.native_size.divided(self.latent_scale)

    def latent_size(self, size: Size) -> Size:
        """The canvas in latents that holds a picture of ``size`` pixels, padded to what the network can take."""
        return size.padded(self.latent_scale * self.latent_multiple).divided(self.latent_scale)
