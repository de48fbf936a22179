from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pixelsmith import Compute, Method, MissingPartError, Request, Size
from pixelsmith.canvas import Array
from pixelsmith.evaluate import figures
from pixelsmith.evaluate.commands import FIGURE_NAMES
from pixelsmith.evaluate.figures import FIGURES, Scene, moved, seen
from pixelsmith.geometry import Window


def scene(model: Path, output: Path) -> Scene:
    method = Method(steps=2, guidance_scale=1)
    request = Request("a map", Size(128, 128), model=str(model), method=method, compute=Compute("cpu", "float32"))
    return Scene(request, output)


def test_the_command_knows_every_figure() -> None:
    assert set(FIGURE_NAMES) == set(FIGURES)


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_is_drawn(tiny_model: Path, tmp_path: Path, name: str) -> None:
    for path in FIGURES[name](scene(tiny_model, tmp_path)):
        with Image.open(path) as image:
            assert min(image.size) > 100
            assert (getattr(image, "n_frames", 1) > 2) == (path.suffix == ".gif")


@pytest.mark.parametrize(("name", "count", "different"), [("sweep", 6, 6), ("steps", 2, 2), ("ladder", 2, 2),
                                                          ("compare", 2, 2), ("chess", 3, 3)])  # fmt: skip
def test_panels_show_different_pictures(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, count: int, different: int
) -> None:
    """Every position of the Slider gives another picture."""
    shown: list[np.ndarray] = []

    def kept(path: Path, rows: list[list[np.ndarray]], *titles: object) -> Path:
        shown.extend(rows[0])
        return path

    monkeypatch.setattr(figures, "_panels", kept)
    FIGURES[name](scene(tiny_model, tmp_path))
    assert len(shown) == count
    assert len({panel.tobytes() for panel in shown}) == different


@pytest.mark.parametrize("coverage", ["grid", "random"])
def test_each_latent_is_denoised_once_per_step(tiny_model: Path, tmp_path: Path, coverage: str) -> None:
    request = scene(tiny_model, tmp_path).request.with_method(coverage=coverage)
    states = list(moved(request))
    assert states[0].max() == 0
    assert all(((after - before) >= 0).all() for before, after in zip(states, states[1:], strict=False))
    assert (states[12] == 1).all()
    assert (states[-1] == 2).all()


def test_random_patches_are_in_the_order_of_the_paper(tiny_model: Path, tmp_path: Path) -> None:
    """Around random pixels: after a quarter of a step some of the lower half is denoised as well."""
    request = replace(scene(tiny_model, tmp_path).request, size=Size(512, 512)).with_method(coverage="random")
    quarter = list(moved(request))[3]
    assert quarter[:64].any()
    assert quarter[64:].any()


def test_a_panel_shows_the_requested_window() -> None:
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 60, 80), np.uint8))
    found = seen(Array(pixels), Window(10, 20, 30, 40))
    assert np.array_equal(found, pixels[:, 10:40, 20:60].permute(1, 2, 0))


def test_without_matplotlib_the_error_names_the_command_that_installs_it(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingPartError, match=r"pixelsmith\[evaluate\]"):
        scene(tiny_model, tmp_path)
