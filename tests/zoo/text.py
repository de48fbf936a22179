"""Tiny text encoders with true tokenizers that read every text as its bytes or characters."""

from __future__ import annotations

import string
from typing import Any

import torch
from tokenizers import pre_tokenizers
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    Gemma2Config,
    Gemma2Model,
    GemmaTokenizer,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Tokenizer,
    Qwen3Config,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

from tests.tiny import build_tokenizer

WIDTH = 16
CHAT = "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>{% endfor %}"


def clip(projection: int | None = None, seed: int = 0, width: int = WIDTH) -> tuple[Any, Any]:
    """A CLIP text encoder, with a projection of the pooled state if asked for, and its tokenizer."""
    torch.manual_seed(seed)
    tokenizer = build_tokenizer()
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=32,
        projection_dim=projection or width,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=16,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    return (CLIPTextModel if projection is None else CLIPTextModelWithProjection)(config), tokenizer


def encoders(*pairs: tuple[Any, Any]) -> dict[str, Any]:
    """Text encoders and their tokenizers, by the names that pipelines have for the first, second and third."""
    parts: dict[str, Any] = {}
    for (encoder, tokenizer), suffix in zip(pairs, ("", "_2", "_3"), strict=False):
        parts |= {f"text_encoder{suffix}": encoder, f"tokenizer{suffix}": tokenizer}
    return parts


def t5(width: int = WIDTH) -> tuple[Any, Any]:
    torch.manual_seed(1)
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    tokenizer = T5Tokenizer(vocab=[*pieces, *((letter, -3.0) for letter in string.printable)], extra_ids=0)
    config = T5Config(
        vocab_size=len(tokenizer), d_model=width, d_ff=32, d_kv=8, num_layers=1, num_heads=2, decoder_start_token_id=0
    )
    return T5EncoderModel(config), tokenizer


def gemma() -> tuple[Any, Any]:
    torch.manual_seed(2)
    pieces = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "▁", *string.printable]
    tokenizer = GemmaTokenizer(vocab={piece: i for i, piece in enumerate(pieces)}, merges=[])
    config = Gemma2Config(vocab_size=len(tokenizer), head_dim=8, **_decoder())
    return Gemma2Model(config), tokenizer


def qwen_tokenizer() -> Any:
    pieces = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokenizer = Qwen2Tokenizer(vocab={piece: i for i, piece in enumerate(pieces)}, merges=[], chat_template=CHAT)
    tokenizer.add_special_tokens({"additional_special_tokens": pieces[1:3]})
    return tokenizer


def qwen3(kind: Any, layers: int = 3) -> tuple[Any, Any]:
    torch.manual_seed(3)
    tokenizer = qwen_tokenizer()
    return kind(Qwen3Config(vocab_size=len(tokenizer), head_dim=8, **_decoder(layers))), tokenizer


def qwen_vl() -> tuple[Any, Any]:
    torch.manual_seed(4)
    tokenizer = qwen_tokenizer()
    rope = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10000.0}
    ends = {"bos_token_id": 0, "eos_token_id": 0}
    config = Qwen2_5_VLConfig(
        text_config={"vocab_size": len(tokenizer), "rope_parameters": rope, **ends, **_decoder()},
        **ends,
        vision_config={
            "depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": WIDTH,
            "fullatt_block_indexes": [0],
        },
    )  # fmt: skip
    return Qwen2_5_VLForConditionalGeneration(config), tokenizer


def _decoder(layers: int = 2) -> dict[str, Any]:
    return {
        "hidden_size": WIDTH,
        "intermediate_size": 32,
        "num_hidden_layers": layers,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "max_position_embeddings": 2048,
    }
