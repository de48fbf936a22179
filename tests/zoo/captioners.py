"""Tiny captioners: the true classes with shrunk configurations and random weights, in the format of the hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import pre_tokenizers
from transformers import (
    BertTokenizer,
    BlipConfig,
    BlipForConditionalGeneration,
    BlipImageProcessor,
    GPT2Config,
    GPT2Tokenizer,
    VisionEncoderDecoderConfig,
    VisionEncoderDecoderModel,
    ViTConfig,
    ViTImageProcessor,
)

SIDE = 32
_WORDS = ["sea", "forest", "coast", "ice", "a", "of", "the", "roads", "lakes", "islands", "mountains", "sand"]


def save_blip(folder: Path) -> Path:
    """A BLIP of two small transformers."""
    torch.manual_seed(0)
    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]", *_WORDS]
    tokenizer = BertTokenizer(vocab={word: i for i, word in enumerate(vocabulary)}, bos_token="[DEC]")  # noqa: S106
    text = {**small, "vocab_size": len(tokenizer), "encoder_hidden_size": 16, "max_position_embeddings": 64}
    ids = {"bos_token_id": tokenizer.bos_token_id, "pad_token_id": 0, "eos_token_id": 3, "sep_token_id": 3}
    config = BlipConfig(
        text_config={**text, **ids, "projection_dim": 16},
        vision_config={**small, "image_size": SIDE, "patch_size": 8, "projection_dim": 16},
        projection_dim=16,
        image_text_hidden_size=16,
    )
    return _saved(folder, _loud(BlipForConditionalGeneration(config)), BlipImageProcessor(size=_square()), tokenizer)


def save_vit_gpt2(folder: Path) -> Path:
    """A ViT with a GPT-2 that reads every text as its bytes."""
    torch.manual_seed(0)
    pieces = [*sorted(pre_tokenizers.ByteLevel.alphabet()), "<|endoftext|>"]
    tokenizer = GPT2Tokenizer(vocab={piece: i for i, piece in enumerate(pieces)}, merges=[])
    end = tokenizer.eos_token_id
    config = VisionEncoderDecoderConfig.from_encoder_decoder_configs(
        ViTConfig(
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            image_size=SIDE,
            patch_size=8,
        ),
        GPT2Config(
            vocab_size=len(tokenizer),
            n_positions=64,
            n_embd=16,
            n_layer=1,
            n_head=2,
            bos_token_id=end,
            eos_token_id=end,
        ),
    )
    config.decoder_start_token_id = config.pad_token_id = config.eos_token_id = end
    return _saved(folder, _loud(VisionEncoderDecoderModel(config)), ViTImageProcessor(size=_square()), tokenizer)


CAPTIONERS = {"blip": save_blip, "vit-gpt2": save_vit_gpt2}
"""What saves each of them, by name."""


def _loud(model: torch.nn.Module) -> torch.nn.Module:
    """With weights so large that what it says depends on the picture."""
    for name, value in model.named_parameters():
        if value.ndim > 1:
            value.data *= 1000 if "crossattention" in name else 50
    return model


def _square() -> dict[str, int]:
    return {"height": SIDE, "width": SIDE}


def _saved(folder: Path, *parts: Any) -> Path:
    for part in parts:
        part.save_pretrained(folder)
    return folder
