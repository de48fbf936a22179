"""The time of the network per patch and per picture, and the size of the files."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from pixelsmith.families import Family, everywhere
from training.figures import Figure
from training.measures.timing import in_each_way
from training.study import Study

BATCH = 8
MOST_MILLISECONDS = 18
"""The target for a patch in bfloat16 on two cores."""
LARGEST_MODEL, LARGEST_VARIANT = 48, 16


@torch.inference_mode()
def speed(study: Study) -> list[Figure]:
    variants = _megabytes(study.folder / "lora")
    whole = _megabytes(study.folder) - variants
    return [
        *in_each_way(
            study,
            "a call of the network, ms a patch at batch 8",
            _call_of,
            unit=1000 / BATCH,
            most=MOST_MILLISECONDS,
        ),
        Figure("weights, MB", whole, most=LARGEST_MODEL),
        Figure("weights of the variants, MB", variants, most=LARGEST_VARIANT),
    ]


def _call_of(family: Family) -> Callable[[], object]:
    """An evaluation for some patches in the middle of the denoising."""
    facts, level = family.facts, family.schedule(2).levels[1]
    prompt, _ = family.encode("watercolor map of a coast", "")
    x = torch.ones(BATCH, facts.latent_channels, facts.patch.height, facts.patch.width, device=family.device)
    denoiser = family.denoiser(everywhere(prompt), facts.native_size, 1.0)
    return partial(denoiser, x, level, [facts.patch.window] * BATCH)


def _megabytes(folder: Path) -> float:
    return sum(file.stat().st_size for file in folder.rglob("*.safetensors")) / 1e6
