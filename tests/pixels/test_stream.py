from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pixelsmith.canvas import Array
from pixelsmith.geometry import Size, Window
from pixelsmith.pixels import stream
from pixelsmith.pixels.stream import png_chunks, streamed


def unheard(done: int, total: int) -> None:
    pass


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 9), st.integers(0, 99))
def test_the_chunks_form_a_png_of_the_picture(width: int, height: int, band: int, seed: int) -> None:
    pixels = torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stream, "_BAND", band)
        patch.setattr(stream, "_BLOCK", 2 * band)
        data = b"".join(png_chunks(Array(pixels), unheard))
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(data))), pixels.permute(1, 2, 0))


def test_libvips_reads_the_streamed_picture() -> None:
    pixels = torch.randint(0, 256, (3, 700, 90), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with streamed(Array(pixels), unheard) as image:
        assert image.interpretation == "srgb"
        assert np.array_equal(image.numpy(), pixels.permute(1, 2, 0))


class Damaged:
    """A picture that can be read down to a row."""

    def __init__(self, rows: int) -> None:
        self.size, self._rows = Size(300, 1200), rows

    def read(self, window: Window) -> torch.Tensor:
        if window.bottom > self._rows:
            raise OSError("the disk is gone")
        return torch.zeros(3, window.height, window.width, dtype=torch.uint8)


@pytest.mark.parametrize("rows", [0, 512, 1024])
def test_an_error_while_reading_is_raised_at_any_position(rows: int) -> None:
    with pytest.raises(OSError, match="the disk is gone"), streamed(Damaged(rows), unheard) as image:
        image.avg()
