"""Bit depth, dither and colour profile, from the decoder to the file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pyvips
from PIL import Image

from pixelsmith import Compute, Method, Request, RequestError, Size, generate, plan, resume
from pixelsmith.viewer import show
from tests.stopping import stop_at


def request_of(model: Path, **changes: Any) -> Request:
    made = Request("a map", Size(150, 130), model=str(model), method=Method(steps=2), compute=Compute("cpu", "float32"))
    return replace(made, **changes)


@pytest.mark.parametrize("size", ["150x130", "64", "33x20"])
def test_rounded_sixteen_bit_values_equal_the_eight_bit_ones(tiny_model: Path, tmp_path: Path, size: str) -> None:
    request = request_of(tiny_model, size=Size.parse(size))
    coarse = generate(request).pixels
    deep = generate(replace(request, depth=16), tmp_path / "deep.png")
    values = pyvips.Image.new_from_file(str(tmp_path / "deep.png")).numpy().astype(float) / 257
    # The smallest is scaled down from what was rounded already.
    assert np.abs(values - coarse).max() <= (0.51 if size != "33x20" else 1.01)
    assert np.mean(np.abs(values - np.round(values)) > 0.01) > 0.5, "no bytes stretched to 16 bits"
    assert deep.pixels.dtype == np.uint8
    assert np.abs(deep.pixels.astype(int) - coarse).max() <= 1


def test_dither_changes_values_by_at_most_one_and_is_deterministic(tiny_model: Path, tmp_path: Path) -> None:
    request = request_of(tiny_model, dither=True)
    plain = generate(replace(request, dither=False)).pixels.astype(int)
    for name in ("a.png", "b.png"):
        generate(request, tmp_path / name)
    with Image.open(tmp_path / "a.png") as image:
        apart = np.abs(np.asarray(image).astype(int) - plain)
    assert apart.max() == 1
    assert 0.1 < apart.mean() < 0.4
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_a_run_with_sixteen_bits_can_be_viewed_and_resumed(tiny_model: Path, tmp_path: Path) -> None:
    request = request_of(tiny_model, depth=16)
    generate(request, tmp_path / "whole.tif")

    with pytest.raises(KeyboardInterrupt):
        generate(request, tmp_path / "big.tif", stop_at(phase="decode", stage=1), run_dir=tmp_path / "run")
    resume(tmp_path / "run")
    assert (tmp_path / "big.tif").read_bytes() == (tmp_path / "whole.tif").read_bytes()
    seen = show(tmp_path / "run").pictures
    last = list(seen.values())[-2 if "file" in str(list(seen)[-1]) else -1]
    looked = np.asarray(last.look((0, 0, 150, 130), Size(150, 130))).astype(int)
    deep = pyvips.Image.new_from_file(str(tmp_path / "whole.tif")).numpy().astype(float) / 257
    assert np.abs(looked - deep).max() <= 1


def test_the_depth_is_part_of_the_plan_and_checked(tiny_model: Path, tmp_path: Path) -> None:
    request = request_of(tiny_model)
    assert plan(replace(request, depth=16)).canvas_bytes > plan(request).canvas_bytes
    with pytest.raises(RequestError, match="depth: expected 8, 16 or 32 bits a channel, got 12"):
        replace(request, depth=12)
    with pytest.raises(RequestError, match="dither: it is for 8 bits"):
        replace(request, depth=16, dither=True)
    with pytest.raises(RequestError, match="profile: expected one of srgb, display-p3, got 'adobe-rgb'"):
        replace(request, profile="adobe-rgb")  # type: ignore[arg-type]
    with pytest.raises(RequestError, match="8 or 16 bits without dither; leave out --depth 32"):
        replace(request, depth=32, profile="display-p3")


def test_float_values_equal_the_decoders(tiny_model: Path, tmp_path: Path) -> None:
    request = request_of(tiny_model, size=Size(64, 64), method=Method(steps=1))
    deep = generate(replace(request, depth=16), tmp_path / "deep.png")
    made = generate(replace(request, depth=32), tmp_path / "float.tif")
    values, whole = (pyvips.Image.new_from_file(str(result.path)).numpy() for result in (made, deep))
    assert values.dtype == np.float32
    assert np.abs(values.astype(float) * 65535 - whole).max() <= 0.51
    assert len(np.unique(values)) > len(np.unique(whole))
    assert np.abs(made.pixels.astype(int) - deep.pixels).max() <= 1


def test_the_profile_is_the_requests(tiny_model: Path, tmp_path: Path) -> None:
    request = request_of(tiny_model, size=Size(64, 64), method=Method(steps=1))
    made = [generate(replace(request, profile=name), tmp_path / f"{name}.png") for name in ("srgb", "display-p3")]
    profiles = [pyvips.Image.new_from_file(str(one.path)).get("icc-profile-data") for one in made]
    assert profiles[0] != profiles[1]
    assert np.abs(made[0].pixels.astype(int) - made[1].pixels).mean() < 1
