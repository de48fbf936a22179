"""The training and validation data of the denoiser: latents with the tokens of their captions."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.data import load_records, paraphrase
from training.loop import balanced_weights
from training.text import TOKENS, build_tokenizer, take_tokenizer

STYLE_SHARES = {"satellite": 0.55, "watercolor": 0.25, "night": 0.14, "landscape": 0.06}
EMPHASIS = {
    "green forested mountains": 4.0,
    "with lakes": 1.5,
    "with roads": 1.5,
    "brown steppe plains": 1.5,
    "deep ocean": 2.5,
    "green forest and blue sea": 1.5,
}
"""Factors by which captions with these words are drawn more often; they were the worst ones after the first hours."""
DROP_CAPTION = 0.1
SIDE = 32
"""The side of a picture's latents."""


class Batches:
    """Latents of the training pictures, with ``mosaics`` also of crops of mosaics, and tokens of captions."""

    def __init__(self, work: Path, device: torch.device, init: Path | None = None, mosaics: bool = False) -> None:
        self._records, self._device = load_records(work), device
        self._latents = [np.load(work / "latents.npy", mmap_mode="r")]
        if mosaics:
            self._records += load_records(work, "mosaics.csv")
            self._latents += [np.load(work / "mosaics.npy", mmap_mode="r")]
        self.latent_channels = self._latents[0].shape[1]
        self._scaling_factor: float = json.loads((work / "latents.json").read_text())["scaling_factor"]
        self._weights = balanced_weights(self._records, STYLE_SHARES, EMPHASIS)
        captions = [record.caption for record in self._records]
        self.tokenizer = take_tokenizer(init, work) if init else build_tokenizer(captions, work)

    def draw(self, rng: np.random.Generator, side: int, count: int) -> tuple[Tensor, Tensor]:
        """Random crops (count, c, side, side) and tokens (count, 32) of their paraphrased or dropped captions."""
        words = random.Random(int(rng.integers(2**32)))
        crops, captions = [], []
        for i in rng.choice(len(self._records), size=count, p=self._weights):
            top, left = rng.integers(0, SIDE + 1 - side, size=2)
            crops.append(self._latent(i)[:, top : top + side, left : left + side])
            captions.append("" if words.random() < DROP_CAPTION else paraphrase(self._records[i].caption, words))
        return self._latents_of(crops), self._tokens(captions)

    def held_out(self, count: int) -> Iterator[tuple[Tensor, Tensor]]:
        """All held-out latents (n, c, 32, 32) with tokens (n, 32) of their unchanged captions, in batches of ``count``.

        They are in a shuffled order that is always the same.
        """
        found = [i for i, record in enumerate(self._records) if record.held_out]
        order = np.random.default_rng(0).permutation(found).astype(int).tolist()
        for start in range(0, len(order), count):
            chosen = order[start : start + count]
            captions = [self._records[i].caption for i in chosen]
            yield self._latents_of([self._latent(i) for i in chosen]), self._tokens(captions)

    def _latent(self, i: int) -> NDArray[np.float16]:
        """(c, 32, 32): tiles and photos come first, then crops of mosaics."""
        tiles, *mosaics = self._latents
        found: NDArray[np.float16] = tiles[i] if i < len(tiles) else mosaics[0][i - len(tiles)]
        return found

    def _latents_of(self, crops: Sequence[NDArray[np.float16]]) -> Tensor:
        z = torch.from_numpy(np.stack(crops)).to(self._device).float().contiguous(memory_format=torch.channels_last)
        return z * self._scaling_factor

    def _tokens(self, captions: list[str]) -> Tensor:
        ids = self.tokenizer(captions, padding="max_length", max_length=TOKENS, truncation=True, return_tensors="pt")
        tokens: Tensor = ids.input_ids
        return tokens.to(self._device)
