"""Code shared by families with a U-Net."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from pixelsmith.config.recommended import Recommended
from pixelsmith.families.architecture import Configs, Scene, brought
from pixelsmith.families.shared.blocks import summed
from pixelsmith.geometry import Size

FEW_STEPS = 4
"""Default steps of models distilled to 1 to 8 steps."""
MIDDLE = "UNetMidBlock2DCrossAttn"


def unet_native(configs: Configs) -> Size:
    """The size in latents that a U-Net was trained at."""
    sample = configs["unet"]["sample_size"]
    height, width = sample if isinstance(sample, list) else (sample, sample)
    return Size(width, height)


def attends_in_the_middle(configs: Configs) -> bool:
    """Whether the middle of a U-Net has attention; some small ones have no middle."""
    return bool(configs["unet"].get("mid_block_type", MIDDLE) == MIDDLE)


def recommended_for(configs: Configs, usual: Recommended) -> Recommended:
    """The family's defaults, or those of its few-step models, which are distilled with guidance.

    - Latent consistency models have ``LCMScheduler`` (arXiv 2310.04378); those distilled for a range of guidance scales
      take the scale as an input.
    - Turbo and Lightning models predict ε and have Euler schedulers with trailing timesteps: they start from the last
      timestep, those of plain models are leading (arXiv 2311.17042, 2402.13929).
    """
    scheduler = configs["scheduler"]
    if configs["unet"].get("time_cond_proj_dim") is not None:
        return Recommended(FEW_STEPS, guidance_scale=8.5, guidance_told=True)
    trails = scheduler.get("timestep_spacing") == "trailing" and scheduler.get("prediction_type") == "epsilon"
    name = str(scheduler["_class_name"])
    if name == "LCMScheduler" or (name.startswith("Euler") and trails):
        return replace(usual, steps=FEW_STEPS, guidance_scale=1.0)
    return usual


def guidance_embedding(pipeline: Any, x: Tensor, scale: float) -> Tensor | None:
    """For U-Nets that take their guidance scale w as an input, as w − 1 (arXiv 2310.04378, section 4.2)."""
    size = pipeline.unet.config.time_cond_proj_dim
    if size is None:
        return None
    embedding: Tensor = pipeline.get_guidance_scale_embedding(torch.full((len(x),), scale - 1), embedding_dim=size)
    return brought(embedding.to(x.dtype), x.device)


def image_conditions(scene: Scene) -> dict[str, Any]:
    """The image embeddings for a U-Net with IP-Adapters; empty without."""
    return {"image_embeds": list(scene.images)} if scene.images else {}


def controlled(scene: Scene, x: Tensor, timestep: Tensor, **conditions: Any) -> dict[str, Any]:
    """The residuals that ControlNets add to the blocks of a U-Net, summed (arXiv 2302.05543, section 3.2).

    ``conditions``: the other inputs of the U-Net, which ControlNets share. Empty if none is on.
    """
    added = [
        control.network(
            x,
            timestep,
            **conditions,
            controlnet_cond=control.picture,
            conditioning_scale=control.scale,
            return_dict=False,
        )
        for control in scene.controls
    ]
    if not added:
        return {}
    down, middle = zip(*added, strict=True)
    return {
        "down_block_additional_residuals": [summed(same) for same in zip(*down, strict=True)],
        "mid_block_additional_residual": summed(middle),
    }
