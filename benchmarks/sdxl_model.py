"""SDXL's architecture with random weights, at full size or tiny."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import AutoencoderKL, EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
from torch import nn

from pixelsmith import Size
from pixelsmith.config.model_facts import ModelFacts
from pixelsmith.config.recommended import Recommended
from pixelsmith.families import Prompt
from pixelsmith.families.architecture import DiffusersFamily
from pixelsmith.families.autoencoders.autoencoder import tiling_of
from pixelsmith.families.loading.quiet import quiet
from pixelsmith.families.registry import architecture_of

UNET: dict[str, Any] = {
    "sample_size": 128,
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (5, 10, 20),
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
    "cross_attention_dim": 2048,
}
VAE: dict[str, Any] = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "scaling_factor": 0.13025,
}
TINY_UNET = UNET | {
    "sample_size": 16,
    "layers_per_block": 1,
    "block_out_channels": (16, 32),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 1),
    "attention_head_dim": (2, 4),
    "norm_num_groups": 8,
}
TINY_VAE = VAE | {"block_out_channels": (8, 8, 8, 8), "layers_per_block": 1, "norm_num_groups": 4}
BETAS: dict[str, Any] = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
TOKENS, POOLED = 77, 1280

NOISE = 1_000_003
"""The number of random values, which are repeated for all weights; a prime, so that rows of a layer differ."""


def build(tiny: bool, device: torch.device, dtype: torch.dtype) -> DiffusersFamily:
    """Build the model on the meta device, then allocate random weights on its device."""
    with torch.device("meta"):
        unet = UNet2DConditionModel(**(TINY_UNET if tiny else UNET))
        vae = AutoencoderKL(**(TINY_VAE if tiny else VAE))
    parts = {"unet": _filled(unet, device, dtype), "vae": _filled(vae, device, dtype)}
    scheduler = EulerDiscreteScheduler(**BETAS, timestep_spacing="leading", steps_offset=1)
    text = dict.fromkeys(("text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2"))
    pipeline = StableDiffusionXLPipeline(scheduler=scheduler, add_watermarker=False, **parts, **text)
    parameters = sum(p.numel() for part in parts.values() for p in part.parameters())
    native, multiple = 8 * unet.config.sample_size, 2 ** (len(unet.config.block_out_channels) - 1)
    facts = ModelFacts(
        "random SDXL", "StableDiffusionXLPipeline", Size(native, native), 8, 4, multiple, 1000,
        tiling_of({**vae.config, "_class_name": type(vae).__name__}), parameters,
        Recommended(20, guidance_scale=5.0),
    )  # fmt: skip
    return DiffusersFamily(architecture_of(facts.pipeline, facts.name), pipeline, facts, device)


def _filled(module: nn.Module, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """Set random weights that preserve the standard deviation of activations, without drawing 2.6 billion values."""
    noise = torch.randn(NOISE, generator=torch.Generator().manual_seed(0)).to(device, dtype)
    with quiet():
        module.to(dtype).to_empty(device=device)
    for name, parameter in module.named_parameters():
        values = parameter.data
        if values.ndim == 1:
            values.fill_(name.endswith("weight"))
            continue
        for part in torch.split(values.view(-1), NOISE):
            torch.mul(noise[: len(part)], values[0].numel() ** -0.5, out=part)
    return module.eval()


def prompts(family: DiffusersFamily) -> tuple[Prompt, Prompt]:
    """Random embeddings of the actual shapes; the time of text encoders is negligible."""
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator).to(family.device, family.pipeline.unet.dtype)

    positive, negative = (
        {"encoder_hidden_states": random(1, TOKENS, 2048), "text_embeds": random(1, POOLED)} for _ in range(2)
    )
    return positive, negative
