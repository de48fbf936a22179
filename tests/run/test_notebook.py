"""Display in notebooks: a result as a small picture with a link to its file, and a progress bar."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pixelsmith import CancelledError, CancelToken, Compute, Method, PictureError, Request, Size, generate
from pixelsmith.notebook import progress_bar


def test_a_result_is_displayed(tiny_model: Path, tmp_path: Path) -> None:
    request = Request(
        "a map", Size(140, 100), model=str(tiny_model), method=Method(steps=1), compute=Compute("cpu", "float32")
    )
    result = generate(request, tmp_path / "a<b>.png")
    in_file, in_memory = replace(result, picture=None), replace(result, path=None)
    for one in (in_file, in_memory):
        shown = np.asarray(Image.open(BytesIO(one._repr_png_())).convert("RGB"))
        assert np.array_equal(shown, result.pixels), "as it is where it is small enough"
        assert one.small(70).size == (70, 50)
    assert "a&lt;b&gt;.png" in in_file._repr_html_()
    assert "href" not in in_memory._repr_html_()


def test_a_run_shows_a_progress_bar(tiny_model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    request = Request(
        "a map", Size(140, 100), model=str(tiny_model), method=Method(steps=1), compute=Compute("cpu", "float32")
    )
    observe = progress_bar()
    for name in ("first.png", "second.png"):
        generate(request, tmp_path / name, observe)
        out, err = capfd.readouterr()
        shown = err.replace("\r", "\n").split("\n")
        assert out == ""
        assert shown[1].startswith("loading the model:   0%")
        assert shown[-2].startswith("done in ")
        assert "100%" in shown[-2]
    with pytest.raises(PictureError):
        generate(request, tmp_path / "third.gif", observe)
    assert capfd.readouterr() == ("", "")
    cancelled = CancelToken()
    cancelled.cancel()
    with pytest.raises(CancelledError):
        generate(request, tmp_path / "fourth.png", observe, cancel=cancelled)
    generate(request, tmp_path / "fifth.png", observe)
    # A second bar at the same time would be drawn below the first.
    assert "\x1b[A" not in capfd.readouterr().err
