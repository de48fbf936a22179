"""A result as a notebook shows it: small, whole, with a link to its file."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from pixelsmith import Compute, Method, Request, Size, generate


def test_a_result_shows_itself(tiny_model: Path, tmp_path: Path) -> None:
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
