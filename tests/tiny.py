"""Tiny pipelines: the true classes with shrunk configurations and random weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from tokenizers import pre_tokenizers
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from pixelsmith.families.latent_upsampler_network import LatentUpsamplerModel
from pixelsmith.families.texture_network import TextureModel


def build_tokenizer() -> CLIPTokenizer:
    """Every text as its bytes."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = [*alphabet, *(byte + "</w>" for byte in alphabet), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={piece: i for i, piece in enumerate(pieces)}, merges=[], model_max_length=16)


def build_autoencoder() -> AutoencoderKL:
    """Group norms and attention in the middle, as in Stable Diffusion; three levels, so a scale of 4."""
    torch.manual_seed(1)
    return AutoencoderKL(
        block_out_channels=(8, 16, 16),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=4,
        sample_size=64,
    )


def save_with_network(folder: Path, name: str, network: Any) -> None:
    """A tiny Stable Diffusion in a folder, with a network of its own that its ``pixelsmith.json`` names."""
    build_stable_diffusion().save_pretrained(folder)
    network.save_pretrained(folder / name)
    (folder / "pixelsmith.json").write_text(json.dumps({name: name}))


def build_texture() -> TextureModel:
    """Of random weights, the last layer's too, which are 0 where a training begins."""
    torch.manual_seed(0)
    model: TextureModel = TextureModel(channels=8, coarse_channels=8)
    torch.nn.init.normal_(model.last.weight, std=0.1)
    return model


def build_latent_upsampler(channels: int = 4) -> LatentUpsamplerModel:
    """Of random weights, the last layer's too, which are 0 where a training begins."""
    torch.manual_seed(0)
    model: LatentUpsamplerModel = LatentUpsamplerModel(channels, width=8, blocks=2)
    torch.nn.init.normal_(model.last.weight, std=0.1)
    return model


def build_unet(**changes: Any) -> UNet2DConditionModel:
    """Two levels, 16x16 latents."""
    torch.manual_seed(0)
    return UNet2DConditionModel(
        **{
            "sample_size": 16,
            "layers_per_block": 1,
            "block_out_channels": (16, 32),
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
            "cross_attention_dim": 16,
            "attention_head_dim": 4,
            "norm_num_groups": 8,
        }
        | changes
    )


def build_stable_diffusion(**scheduler: Any) -> StableDiffusionPipeline:
    """Native 64x64 pixels, 16x16 latents."""
    tokenizer = build_tokenizer()
    unet = build_unet()
    text = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=16,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    return StableDiffusionPipeline(
        vae=build_autoencoder(),
        text_encoder=CLIPTextModel(text),
        tokenizer=tokenizer,
        unet=unet,
        scheduler=DDIMScheduler(
            **{
                "beta_schedule": "scaled_linear",
                "beta_start": 0.00085,
                "beta_end": 0.012,
                "clip_sample": False,
                "steps_offset": 1,
                "set_alpha_to_one": False,
            }
            | scheduler
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
