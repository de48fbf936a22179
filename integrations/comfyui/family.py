"""A model that is loaded in ComfyUI, with its conditioning and its autoencoder, as a family of Pixelsmith."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import comfy.conds
import comfy.model_base
import comfy.model_management
import comfy.model_sampling
import comfy.samplers
import torch
from torch import Tensor

from pixelsmith import RequestError, Size
from pixelsmith.extension import (
    CLEAN,
    Denoiser,
    DrawnNoise,
    Level,
    ModelFacts,
    Noise,
    Prompt,
    PromptAt,
    Readable,
    Recommended,
    Schedule,
    Window,
)

from .autoencoder import ComfyAutoencoder

NATIVE = {"SD15": 512, "SD20": 768, "SD21UnclipL": 768, "SD21UnclipH": 768}
"""The native size of models in pixels by the class of their configuration; that of all others is ``USUAL``."""
USUAL = 1024
OF_A_PICTURE = ("area", "mask", "control", "gligen", "concat_latent_image", "reference_latents")
"""Entries of conditioning that apply to one whole picture."""
Watch = Callable[[Tensor, Sequence[Window], Size], None]
"""Is called with the clean estimates (b, c, h, w) of patches, their windows, and the canvas size, all in latents."""


def facts_of(patcher: Any, vae: Any, steps: int, cfg: float, native: int = 0) -> ModelFacts:
    """The facts that planning needs, of a model patcher; ``native``: the size it was trained at, 0 for the known one.

    ComfyUI computes classifier-free guidance, with all patches to it: Pixelsmith only passes the scale.
    """
    model = patcher.model
    scale, side = vae.spacial_compression_encode(), native or NATIVE.get(type(model.model_config).__name__, USUAL)
    channels = model.latent_format.latent_channels
    if vae.latent_channels != channels:
        raise RequestError(
            f"vae: the model has latents of {channels} channels, the VAE of {vae.latent_channels}; take the model's own"
        )
    return ModelFacts(
        name=f"ComfyUI {type(model).__name__}",
        pipeline=type(model).__name__,
        native_size=Size(side, side),
        latent_scale=scale,
        latent_channels=channels,
        latent_multiple=_multiple(model),
        train_steps=getattr(model.model_sampling, "num_timesteps", 1000),
        tiling=ComfyAutoencoder(vae, model).tiling,
        parameters=patcher.model_size() // patcher.model_dtype().itemsize,
        recommended=Recommended(steps, guidance_scale=cfg, guidance_told=True),
    )


def _multiple(model: Any) -> int:
    """The number that divides the sides of a patch: a transformer's patch size, or a U-Net's downscaling factor."""
    config = model.model_config.unet_config
    if "channel_mult" in config:
        return int(2 ** (len(config["channel_mult"]) - 1))
    patch = getattr(model.diffusion_model, "patch_size", config.get("patch_size", 2))
    return int(patch[-1] if isinstance(patch, list | tuple) else patch)


def check_conditioning(conditioning: Sequence[Any]) -> None:
    """Raise ``RequestError`` for conditioning of one whole picture, which would apply in full to each patch."""
    for _, options in conditioning:
        if found := [name for name in OF_A_PICTURE if options.get(name) is not None]:
            raise RequestError(
                f"conditioning: {', '.join(found)} is for one whole picture, and this one is denoised in patches; "
                "leave it out, and start from a picture instead"
            )


@dataclass(frozen=True)
class ComfyFamily:
    """The model of a prepared guider (``comfy.samplers.CFGGuider``), usable while it samples.

    - ``conds``: the guider's, as prepared; ``options``: the model's, with all patches.
    - ``scheduler``: the name of the ComfyUI scheduler that chooses the noise levels.
    """

    facts: ModelFacts
    guider: Any
    options: Mapping[str, Any]
    conds: Mapping[str, Sequence[Mapping[str, Any]]]
    autoencoder: ComfyAutoencoder
    scheduler: str
    watch: Watch
    texture: None = None
    latent_upsampler: None = None

    @property
    def device(self) -> torch.device:
        return torch.device(self.guider.model_patcher.load_device)

    @property
    def is_flow(self) -> bool:
        """Whether it is a flow-matching model, α = 1 − σ; otherwise ComfyUI stores x / α, and its σ is our σ / α."""
        return isinstance(self.guider.inner_model.model_sampling, comfy.model_sampling.CONST)

    def schedule(self, steps: int) -> Schedule:
        """The noise levels of a ComfyUI scheduler; their timesteps are its sigmas."""
        sigmas = comfy.samplers.calculate_sigmas(self.guider.inner_model.model_sampling, self.scheduler, steps)
        if len(sigmas) != steps + 1:
            raise RequestError(
                f"scheduler: {self.scheduler} makes {len(sigmas) - 1} steps of {steps}; take fewer, or another one"
            )
        return Schedule((*(self._level(float(sigma), i / steps) for i, sigma in enumerate(sigmas[:-1])), CLEAN))

    def _level(self, sigma: float, progress: float) -> Level:
        if self.is_flow:
            return Level(1 - sigma, sigma, sigma, progress)
        alpha = (1 + sigma**2) ** -0.5
        return Level(alpha, sigma * alpha, sigma, progress)

    def unread(self, prompt: str) -> str:
        """Nothing: the prompt is encoded already."""
        return ""

    def encode(self, prompt: str, negative_prompt: str, weighted: bool = False) -> tuple[Prompt, Prompt]:
        """Nothing: the guider has the conditioning."""
        return {}, {}

    def encode_images(self, pictures: Sequence[Tensor]) -> tuple[Prompt, Prompt]:
        """Nothing: requests of the nodes name no pictures of IP-Adapters."""
        return {}, {}

    def base_noise(self, seed: int, canvas: Size) -> Noise:
        """The noise that ComfyUI draws for an empty latent of this size."""
        return DrawnNoise(seed, self.facts.latent_channels, canvas)

    def refuses(self, picture: Readable) -> bool:
        return False

    def denoiser(
        self,
        prompt_at: PromptAt,
        picture: Size,
        guidance_scale: float,
        perturbation: object | None = None,
        in_stages: bool = False,
    ) -> Denoiser:
        """The guider at this scale."""
        return _Guider(self, picture, guidance_scale)


@dataclass(frozen=True)
class _Guider:
    """Clean estimates by a guider: with its guidance, hooks, wrappers and patches."""

    family: ComfyFamily
    picture: Size
    scale: float

    def __call__(self, x: Tensor, level: Level, windows: Sequence[Window]) -> Tensor:
        family, guider = self.family, self.family.guider
        model = guider.inner_model
        # ComfyUI may have unloaded the model to make room for the autoencoder.
        needed = model.memory_required([2 * len(x), *x.shape[1:]])
        comfy.model_management.load_models_gpu([guider.model_patcher, *guider.loaded_models], memory_required=needed)
        guider.set_cfg(self.scale)
        guider.conds = self._placed(windows)
        sigma = torch.full((len(x),), level.timestep, dtype=torch.float32, device=x.device)
        own = x if family.is_flow else x / level.alpha
        video = model.latent_format.latent_dimensions == 3
        clean: Tensor = guider(own[:, :, None] if video else own, sigma, model_options=family.options)
        clean = (clean[:, :, 0] if video else clean).float()
        family.watch(clean, windows, family.facts.latent_size(self.picture))
        return clean

    def _placed(self, windows: Sequence[Window]) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        """The conditioning of patches, with the size and position of each for models with such inputs."""
        model, conds = self.family.guider.inner_model, self.family.conds
        if not isinstance(model, comfy.model_base.SDXL | comfy.model_base.SDXLRefiner):
            return conds
        return {kind: [self._at(windows, kind, cond) for cond in own] for kind, own in conds.items()}

    def _at(self, windows: Sequence[Window], kind: str, cond: Mapping[str, Any]) -> dict[str, Any]:
        width, height, scale = self.picture.width, self.picture.height, self.family.facts.latent_scale
        size = {"width": width, "height": height, "target_width": width, "target_height": height}
        told = {"prompt_type": kind, **cond, **size, "device": self.family.device}
        rows = [
            self.family.guider.inner_model.encode_adm(**told, crop_w=window.left * scale, crop_h=window.top * scale)
            for window in windows
        ]
        return {**cond, "model_conds": {**cond["model_conds"], "y": comfy.conds.CONDRegular(torch.cat(rows))}}
