"""Models of ComfyUI: its true classes with shrunk configurations and random weights, and a node that hands them on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import comfy.ldm.models.autoencoder
import comfy.model_patcher
import comfy.sd
import comfy.supported_models
import torch
from comfy_api.latest import ComfyExtension, io

NATIVE = 64
"""Pixels; eight latents."""
WIDTH = 16
CPU = torch.device("cpu")
SDXL = {
    "image_size": 32, "in_channels": 4, "out_channels": 4, "model_channels": 32, "num_res_blocks": [1, 1],
    "channel_mult": [1, 2], "transformer_depth": [0, 1], "transformer_depth_output": [0, 0, 1, 1],
    "transformer_depth_middle": 1, "context_dim": WIDTH, "adm_in_channels": 2 * WIDTH + 6 * 256,
    "num_classes": "sequential", "use_spatial_transformer": True, "legacy": False, "use_linear_in_transformer": True,
    "use_checkpoint": False,
}  # fmt: skip
SD3 = {
    "in_channels": 16, "out_channels": 16, "patch_size": 2, "depth": 1, "input_size": None,
    "adm_in_channels": 2 * WIDTH, "pos_embed_max_size": 24, "num_patches": 24**2, "pos_embed_scaling_factor": None,
    "context_embedder_config": {"target": "torch.nn.Linear", "params": {"in_features": WIDTH, "out_features": 64}},
}  # fmt: skip
FLUX = {
    "image_model": "flux", "in_channels": 16, "out_channels": 16, "vec_in_dim": 2 * WIDTH, "context_in_dim": WIDTH,
    "hidden_size": 32, "mlp_ratio": 2.0, "num_heads": 2, "depth": 1, "depth_single_blocks": 1, "axes_dim": [4, 4, 8],
    "theta": 10000, "patch_size": 2, "qkv_bias": True, "guidance_embed": True,
}  # fmt: skip


def filled(module: torch.nn.Module, spread: float = 0.1) -> torch.nn.Module:
    """With random weights: ComfyUI leaves those of new modules as they are found in memory."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, value in module.state_dict().items():
            if value.is_floating_point() and not name.startswith(("model_sampling", "noise_augmentor")):
                middle = 1.0 if "norm" in name and name.endswith("weight") else 0.0
                value.copy_(torch.randn(value.shape, generator=generator) * spread + middle)
    return module.eval()


def patcher_of(kind: str, config: dict[str, Any]) -> Any:
    """A model that is ready for sampling."""
    settings = getattr(comfy.supported_models, kind)(config)
    settings.unet_config.update({"dtype": torch.float32} | ({"num_head_channels": 16} if kind == "SDXL" else {}))
    model = settings.get_model({}, "", device=CPU)
    filled(model.diffusion_model)
    return comfy.model_patcher.ModelPatcher(model, load_device=CPU, offload_device=CPU)


def vae_of(channels: int) -> Any:
    """An autoencoder of eight pixels per latent, with attention in its middle."""
    shape = {
        "double_z": True, "z_channels": channels, "resolution": 64, "in_channels": 3, "out_ch": 3, "ch": 32,
        "ch_mult": [1, 1, 1, 1], "num_res_blocks": 1, "attn_resolutions": [], "dropout": 0.0,
    }  # fmt: skip
    params = {"ddconfig": shape, "embed_dim": channels}
    weights = filled(comfy.ldm.models.autoencoder.AutoencoderKL(**params)).state_dict()
    vae = comfy.sd.VAE(sd=weights, config={"params": params}, device=CPU, dtype=torch.float32)
    vae.latent_channels = channels
    return vae


def conditioning(seed: int) -> list[Any]:
    """As a text encoder would give it."""
    generator = torch.Generator().manual_seed(seed)
    text = torch.randn(1, 8, WIDTH, generator=generator)
    return [[text, {"pooled_output": torch.randn(1, 2 * WIDTH, generator=generator)}]]


MODELS: dict[str, Callable[[], tuple[Any, Any]]] = {
    "SDXL": lambda: (patcher_of("SDXL", SDXL), vae_of(4)),
    "SD3": lambda: (patcher_of("SD3", SD3), vae_of(16)),
    "Flux": lambda: (patcher_of("Flux", FLUX), vae_of(16)),
}


class TinyModel(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TinyModel",
            inputs=[io.Combo.Input("kind", options=list(MODELS))],
            outputs=[io.Model.Output(), io.Vae.Output(), io.Conditioning.Output(), io.Conditioning.Output()],
        )

    @classmethod
    def execute(cls, kind: str) -> io.NodeOutput:
        model, vae = MODELS[kind]()
        return io.NodeOutput(model, vae, conditioning(1), conditioning(2))


class Tiny(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [TinyModel]


async def comfy_entrypoint() -> Tiny:
    return Tiny()
