"""The embedded model as a newcomer meets it: it follows its prompts, and another seed is another picture."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pixelsmith import Method, Request, Size, generate
from pixelsmith.config.request import EMBEDDED
from pixelsmith.families import find_model


def mean_colour(prompt: str, seed: int = 0) -> np.ndarray:
    pixels = generate(Request(prompt, Size(256, 256), seed=seed, method=Method(steps=8))).pixels
    return np.asarray(pixels.reshape(-1, 3).mean(0))


def test_the_model_is_small_enough_for_the_package() -> None:
    folder = find_model(EMBEDDED)
    variants = sum(path.stat().st_size for path in folder.glob("lora/*"))
    assert variants <= 16e6
    assert sum(path.stat().st_size for path in folder.rglob("*")) - variants <= 48e6
    assert not list(folder.rglob("*.bin"))


def test_prompts_of_different_styles_give_the_expected_colours() -> None:
    night = mean_colour("night photo from space of many city lights")
    map_ = mean_colour("watercolor map of land with lakes")
    desert = mean_colour("satellite photo of sandy desert plains")
    assert night.mean() < 80 < 160 < map_.mean()
    assert desert[0] > desert[2] + 20, "a desert is not"


def test_a_satellite_photo_of_an_ocean_is_blue() -> None:
    ocean = mean_colour("satellite photo of dark blue deep ocean floor")
    assert ocean[2] > ocean[0] + 20


def test_synonyms_of_a_style_are_understood() -> None:
    assert mean_colour("city lights at night: small towns").mean() < 80
    assert mean_colour("an archipelago, painted in watercolour").mean() > 150


@pytest.mark.parametrize("prompt", ["watercolor map of islands in a turquoise sea"])
def test_another_seed_gives_another_picture(prompt: str) -> None:
    request = Request(prompt, Size(256, 256), method=Method(steps=8))
    first, second = (generate(replace(request, seed=seed)).pixels.mean(-1).ravel() for seed in (0, 1))
    # Both show much sea, so it is the places of light and dark that are compared.
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.5
