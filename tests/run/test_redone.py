"""Regions that are made again: different pixels inside, the same bytes outside, no seam."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pixelsmith import Compute, Method, Progress, Region, Request, RequestError, Size, generate, load
from pixelsmith.cli.redo_command import _request_of
from pixelsmith.geometry import Window
from pixelsmith.pixels.settings_inside import read_settings
from pixelsmith.run.redone import Place
from tests.cli.test_program import Call, call  # noqa: F401

FLOAT = Compute("cpu", "float32")


@pytest.fixture(scope="module")
def made(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Request, Path]:
    request = Request("a map", Size(300, 240), model=str(tiny_model), method=Method(steps=2), compute=FLOAT)
    path = tmp_path_factory.mktemp("redone") / "map.png"
    generate(request, path)
    return request, path


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB")).astype(int)


def test_only_the_region_changes(made: tuple[Request, Path], tmp_path: Path, call: Call) -> None:  # noqa: F811
    path = made[1]
    (tmp_path / "map.png").write_bytes(path.read_bytes())
    again = tmp_path / "map-redone.png"
    for name, options in (("first", ()), ("second", ("--overwrite", "--prompt", "a lake", "--slider", "0.1"))):
        code, out, err = call("redo", str(tmp_path / "map.png"), "--region", "100,80,120,90", "--seed", "9", *options)
        assert (code, err) == (0, "")
        assert "120x90+100+80, seed 9" in out
        difference = np.abs(pixels(again) - pixels(path)).max(-1)
        inside = difference[80:170, 100:220].copy()
        difference[80:170, 100:220] = 0
        assert difference.max() == 0, name
        assert (inside[30:60, 30:90] > 0).mean() > 0.5, name
    (said,) = read_settings(again)["redone"]
    assert (said["prompt"], said["seed"], said["slider"], said["window"]) == ("a lake", 9, 0.1, "120x90+100+80")
    assert read_settings(again)["request"] == read_settings(path)["request"]
    assert call("redo", str(again), "--region", "0,0,60,60", "-o", str(tmp_path / "twice.png"), "-q") == (0, "", "")
    assert len(read_settings(tmp_path / "twice.png")["redone"]) == 2


def test_a_new_prompt_is_that_of_the_whole_part_and_a_new_slider_replaces_a_painted_map(
    tiny_model: Path, tmp_path: Path
) -> None:
    Image.new("L", (30, 24), 200).save(tmp_path / "map.png")
    method = Method(steps=1, slider_map=str(tmp_path / "map.png"))
    regions = (Region("a town", box=(0.0, 0.0, 150.0, 120.0)),)
    request = Request("a map", Size(300, 240), model=str(tiny_model), method=method, compute=FLOAT, regions=regions)
    generate(request, tmp_path / "one.png")
    assert _request_of(tmp_path / "one.png", None, False).regions == regions
    assert _request_of(tmp_path / "one.png", "a lake", False).regions == ()
    assert _request_of(tmp_path / "one.png", None, False, slider=0.3).method.slider_map == "auto"
    assert _request_of(tmp_path / "one.png", None, False).method.slider_map == method.slider_map
    generate(request.with_method(slider_map="even"), tmp_path / "even.png")
    assert _request_of(tmp_path / "even.png", None, False, slider=0.3).method.slider_map == "even"


def test_the_share_of_a_redo_rises_to_all_of_it(made: tuple[Request, Path]) -> None:
    shares: list[float] = []
    with load(made[0].model, compute=FLOAT) as model:
        model.redo(
            made[0], made[1], Window(0, 0, 64, 64),
            observer=lambda event: shares.append(event.share) if isinstance(event, Progress) else None,
        )  # fmt: skip
    assert shares == sorted(shares)
    assert (shares[0] < 0.5, shares[-1]) == (True, 1.0)


def test_pictures_of_more_than_eight_bits_are_refused(tiny_model: Path, tmp_path: Path) -> None:
    request = Request("a map", Size(130, 100), model=str(tiny_model), method=Method(steps=1), compute=FLOAT, depth=16)
    generate(request, tmp_path / "deep.png")
    with load(request.model, compute=FLOAT) as model:
        with pytest.raises(RequestError, match="expected a picture with 8 bits per channel, got ushort"):
            model.redo(request, tmp_path / "deep.png", Window(0, 0, 32, 32))
        assert model.preview(request).settings["request"]["depth"] == 8


def test_the_settings_of_a_redone_picture_are_those_of_its_file(tiny_model: Path, tmp_path: Path, call: Call) -> None:  # noqa: F811
    request = Request("a map", Size(130, 100), model=str(tiny_model), method=Method(steps=1), compute=FLOAT)
    generate(replace(request, profile="display-p3"), tmp_path / "wide.png")
    assert call("redo", str(tmp_path / "wide.png"), "--region", "0,0,32,32", "-q") == (0, "", "")
    assert read_settings(tmp_path / "wide-redone.png")["request"]["profile"] == "srgb"


def test_a_mask_selects_the_pixels(made: tuple[Request, Path], tmp_path: Path) -> None:
    request, path = made
    grey = np.zeros((120, 150), np.uint8)
    grey[20:60, 30:80] = 255
    grey[40:60, 80:110] = 255
    Image.fromarray(grey).save(tmp_path / "mask.png")
    with load(request.model, compute=FLOAT) as model:
        found = model.redo(replace(request, seed=4), path, mask=tmp_path / "mask.png")
        after = np.asarray(found.picture.read(request.size.window).permute(1, 2, 0)).astype(int)
        difference = np.abs(after - pixels(path)).max(-1)
        white = np.asarray(Image.fromarray(grey).resize((300, 240), Image.Resampling.LANCZOS)) > 0
        assert difference[white].max() > 0
        assert difference[~white].max() == 0
        for wrong, said in (({"region": Window(0, 200, 50, 200)}, "inside of 300x240"), ({}, "a region or a mask")):
            with pytest.raises(RequestError, match=said):
                model.redo(request, path, **wrong)  # type: ignore[arg-type]
        Image.new("L", (150, 120)).save(tmp_path / "black.png")
        Image.new("L", (150, 60), 255).save(tmp_path / "wide.png")
        for name, said in (("black", "it is black"), ("wide", "of the shape of")):
            with pytest.raises(RequestError, match=said):
                model.redo(request, path, mask=tmp_path / f"{name}.png")


def test_the_region_is_blended_over_a_ramp_except_at_the_edges_of_the_picture() -> None:
    shares = Place.of_region(Window(100, 0, 200, 150), Size(400, 400)).shares[0]
    assert shares.shape == (200, 150)
    assert shares[100, 0] == shares[100, 75] == 1
    for edge in (shares[0], shares[-1], shares[:, -1]):
        assert edge.max() < 0.05
    steps = (shares[1:] - shares[:-1]).abs().max(), (shares[:, 1:] - shares[:, :-1]).abs().max()
    assert max(steps) < 0.1


@pytest.mark.parametrize("region", ["1,2,3", "a,b,c,d", "0,0,0,5", "-1,0,5,5"])
def test_invalid_regions_are_refused(made: tuple[Request, Path], region: str, call: Call) -> None:  # noqa: F811
    code, _, err = call("redo", str(made[1]), f"--region={region}")
    assert code == 2
    assert "region: expected X,Y,W,H" in err
