"""Pictures sampled in batches equal those made one by one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pixelsmith import Compute, Method, Request, Size, generate
from pixelsmith.families import load_family, read_facts
from training.sampling import Shot, denoised, pictures

CPU = Compute("cpu", "float32")
SHOTS = [Shot("a sea", 3), Shot("a wood", 4, "lakes"), Shot("a sea", 5)]


@pytest.mark.parametrize("sampler", ["ddim", "dpmpp-2m"])
def test_sampling_in_batches_gives_the_pictures_of_generate(teacher: Path, sampler: str) -> None:
    family = load_family(teacher, read_facts(teacher, "x"), CPU)
    method = Method(steps=4, sampler=sampler)
    found = pictures(family, SHOTS, method.at(0, family.facts.recommended))
    for shot, picture in zip(SHOTS, found, strict=True):
        request = Request(
            shot.prompt, Size(64, 64), shot.negative_prompt, shot.seed, str(teacher), method=method, compute=CPU
        )
        expected = generate(request).pixels
        assert np.abs(picture.astype(int) - expected).max() <= 1


def test_denoising_returns_the_latents_of_every_level(teacher: Path) -> None:
    family = load_family(teacher, read_facts(teacher, "x"), CPU)
    states = list(denoised(family, SHOTS, Method(steps=3).at(0, family.facts.recommended)))
    assert [tuple(state.shape) for state in states] == [(3, 4, 16, 16)] * 4
    assert abs(states[0].std() - 1) < 0.05, "pure noise"
