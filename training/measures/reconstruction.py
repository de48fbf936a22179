"""The autoencoder: the reconstruction of held-out pictures, its speed, and differences between tiles."""

from __future__ import annotations

from collections import defaultdict
from functools import partial
from statistics import fmean

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pixelsmith import Compute
from pixelsmith.canvas import Array, MemorySpace
from pixelsmith.engine.codec import decode
from pixelsmith.evaluate.structure import ssim
from pixelsmith.families import Family
from training.autoencoder import as_input, as_pixels
from training.figures import Figure
from training.measures.timing import in_each_way
from training.study import Study

MOSAIC = 4
"""The side, in held-out pictures, of the mosaic for tiles and speed, which is larger than one tile."""
MOST_SECONDS = 0.8
"""The target for decoding a megapixel in bfloat16 on two cores."""


def psnr(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    """Peak signal-to-noise ratio in dB, peak 255; infinite for equal pictures."""
    error = np.square(a.astype(np.float64) - b).mean()
    return float(10 * np.log10(255**2 / error)) if error else float("inf")


@torch.inference_mode()
def reconstruction(study: Study) -> list[Figure]:
    family = study.load(compute=Compute(dtype="float32"))
    autoencoder = family.autoencoder
    found = defaultdict(list)
    for (_, record), picture in zip(study.held_out, study.real, strict=True):
        (again,) = as_pixels(autoencoder.decode(autoencoder.encode(as_input(picture[None]))))
        for group in (record.style, "all"):
            found[group].append((psnr(picture, again), ssim(picture, again)))
    mosaic = _mosaic(study.real)
    latents, megapixels = autoencoder.encode(as_input(mosaic[None])).cpu(), mosaic.size / 3 / 1e6
    return [
        *_figures(found),
        _tiles(latents, family),
        *in_each_way(
            study,
            "decoding, seconds a megapixel",
            lambda family: partial(_decoded, latents[0], family),
            unit=1 / megapixels,
            most=MOST_SECONDS,
        ),
    ]


def _figures(found: dict[str, list[tuple[float, float]]]) -> list[Figure]:
    figures = []
    for group in sorted(found):
        decibel, similar = (fmean(values) for values in zip(*found[group], strict=True))
        note, whole = f"{len(found[group])} held-out pictures", group == "all"
        figures += [Figure(f"PSNR in dB, {group}", decibel, least=31 if whole else None, note=note)]
        figures += [Figure(f"SSIM, {group}", similar, least=0.88 if whole else None, note=note)]
    return figures


def _tiles(latents: Tensor, family: Family) -> Figure:
    whole = ((family.autoencoder.decode(latents)[0].cpu() + 1) * 127.5).clamp(0, 255)
    tiled = _decoded(latents[0], family)
    return Figure("tiled decoding against untiled, of 255", float((tiled - whole).abs().max()), most=0.01)


def _decoded(latents: Tensor, family: Family) -> Tensor:
    """Decode tile by tile, as in a stage."""
    canvas = Array(latents)
    tiles = family.autoencoder.tiling.tiles(canvas.size)
    picture = MemorySpace().open("picture", tiles.scaled(family.facts.latent_scale), 3)
    decode(canvas, family.autoencoder, picture, lambda done, total: None)
    return picture.read(picture.size.window)


def _mosaic(pictures: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Join pictures into one."""
    chosen = pictures[np.arange(MOSAIC**2) % len(pictures)]
    rows = [np.concatenate(list(chosen[i : i + MOSAIC]), axis=1) for i in range(0, MOSAIC**2, MOSAIC)]
    return np.concatenate(rows, axis=0)
