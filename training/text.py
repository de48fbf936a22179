"""The tokenizer and the text encoder: CLIP's classes at a small size, with a vocabulary learned from the captions."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from training.data import paraphrase

TOKENS = 32
WIDTH = 192
START, END = "<|startoftext|>", "<|endoftext|>"


def build_tokenizer(captions: Sequence[str], work: Path) -> CLIPTokenizer:
    """Learn byte-pair merges from paraphrased captions; any other text falls back to its bytes."""
    rng = random.Random(0)
    corpus = [paraphrase(caption, rng) for caption in sorted(set(captions)) for _ in range(200)]
    learner = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    learner.normalizer = normalizers.Lowercase()
    learner.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(" ", "removed"), pre_tokenizers.Punctuation(), pre_tokenizers.ByteLevel(False)]
    )
    learner.train_from_iterator(
        corpus, trainers.BpeTrainer(vocab_size=800, end_of_word_suffix="</w>", show_progress=False)
    )
    merges = [tuple(merge) for merge in json.loads(learner.to_str())["model"]["merges"]]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = [*alphabet, *(byte + "</w>" for byte in alphabet), *("".join(merge) for merge in merges), START, END]
    vocab = {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=TOKENS)
    tokenizer.save_pretrained(work / "tokenizer")
    return CLIPTokenizer.from_pretrained(work / "tokenizer")


def take_tokenizer(model: Path, work: Path) -> CLIPTokenizer:
    """Use the tokenizer of an exported model, to which its text encoder's weights belong."""
    tokenizer = CLIPTokenizer.from_pretrained(model / "tokenizer")
    tokenizer.save_pretrained(work / "tokenizer")
    return tokenizer


def build_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """Three layers of width 192, trained together with the denoiser."""
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=4 * WIDTH,
        projection_dim=WIDTH,
        num_hidden_layers=3,
        num_attention_heads=6,
        max_position_embeddings=TOKENS,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return CLIPTextModel(config)
