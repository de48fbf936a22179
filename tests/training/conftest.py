"""A little of everything that training reads and writes."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from tests.tiny import build_stable_diffusion, build_texture

CAPTIONS = {
    "satellite": "satellite photo of sandy desert plains",
    "watercolor": "watercolor map of a coast",
    "night": "night photo from space of scattered towns",
    "landscape": "landscape photo of hills",
}
OF_EACH = 6


@pytest.fixture(scope="session")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of noise of another colour for each style; of each half are held out."""
    folder, rng, rows, pixels = tmp_path_factory.mktemp("work"), np.random.default_rng(0), [], []
    for i, (style, caption) in enumerate(CAPTIONS.items()):
        for number in range(OF_EACH):
            rows.append((caption, style, number % 2))
            pixels.append(rng.integers(40 * i, 40 * i + 100, (256, 256, 3), dtype=np.uint8))
    np.save(folder / "pixels.npy", np.stack(pixels))
    with (folder / "records.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("caption", "style", "held_out"), *rows])
    return folder


@pytest.fixture
def teacher(tmp_path: Path) -> Path:
    """A tiny model like the embedded one: v-prediction, pure noise at first, levels that trail, texture."""
    folder = tmp_path / "teacher"
    build_stable_diffusion(
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        set_alpha_to_one=True,
        beta_schedule="squaredcos_cap_v2",
    ).save_pretrained(folder)
    build_texture().save_pretrained(folder / "texture")
    own = {"texture": "texture", "method": {"steps": 8, "guidance_scale": 2.0, "guidance_rescale": 0.7}}
    (folder / "pixelsmith.json").write_text(json.dumps(own))
    return folder
