from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pixelsmith.canvas import Array
from pixelsmith.geometry import Size, Window
from pixelsmith.pixels.resample import Resized

KERNELS = {"lanczos": Image.Resampling.LANCZOS, "bicubic": Image.Resampling.BICUBIC}


def picture(width: int, height: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(width * 100 + height)
    return torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("kernel", KERNELS)
@given(width=st.integers(2, 30), height=st.integers(2, 30), factor=st.floats(1, 8), data=st.data())
def test_any_window_equals_that_of_the_whole(
    kernel: str, width: int, height: int, factor: float, data: st.DataObject
) -> None:
    pixels = picture(width, height)
    target = Size(width, height).scaled(factor)
    resized = Resized(Array(pixels), Size(width, height), target, kernel)  # type: ignore[arg-type]
    whole = resized.read(target.window)
    top, left = data.draw(st.integers(0, target.height - 1)), data.draw(st.integers(0, target.width - 1))
    window = Window(top, left, data.draw(st.integers(1, 40)), data.draw(st.integers(1, 40))).cut(target)
    difference = resized.read(window).int() - whole[(slice(None), *window.slices)].int()
    assert difference.abs().max() <= 1


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_whole_equals_pillow(kernel: str) -> None:
    """Also where the shapes differ: then the middle of the picture covers the target."""
    pixels = picture(20, 15)[:1].float()
    pillow = Image.fromarray(np.pad(pixels[0].numpy(), 8, mode="edge"))
    for target, box in ((Size(80, 60), (0, 0, 20, 15)), (Size(60, 60), (2.5, 0, 17.5, 15))):
        resized = Resized(Array(pixels), Size(20, 15), target, kernel)  # type: ignore[arg-type]
        expected = np.asarray(
            pillow.resize(
                (target.width, target.height), KERNELS[kernel], box=(8 + box[0], 8 + box[1], 8 + box[2], 8 + box[3])
            )
        )
        np.testing.assert_allclose(resized.read(target.window)[0].numpy(), expected, atol=1e-2)


@given(width=st.integers(30, 90), height=st.integers(30, 90), factor=st.floats(1, 4), data=st.data())
def test_any_window_of_latents_equals_that_of_the_whole(
    width: int, height: int, factor: float, data: st.DataObject
) -> None:
    """Also where the enlarged canvas reaches past the one below."""
    below = Size(width, height)
    canvas = below.padded(8).divided(8)
    latents = torch.randn(2, canvas.height, canvas.width, generator=torch.Generator().manual_seed(0))
    resized = Resized(Array(latents), below, below.scaled(factor), "bicubic", unit=8)
    whole = resized.read(resized.size.window)
    top, left = data.draw(st.integers(0, whole.shape[1] - 1)), data.draw(st.integers(0, whole.shape[2] - 1))
    window = Window(top, left, data.draw(st.integers(1, 9)), data.draw(st.integers(1, 9))).cut(resized.size)
    torch.testing.assert_close(resized.read(window), whole[(slice(None), *window.slices)], atol=1e-4, rtol=1e-4)


def test_beyond_the_picture_its_edge_goes_on() -> None:
    pixels = picture(8, 6)
    resized = Resized(Array(pixels), Size(8, 6), Size(8, 6), "lanczos")
    padded = resized.read(Window(0, 0, 10, 12))
    assert torch.equal(padded[:, :6, :8], pixels)
    assert torch.equal(padded[:, 6:, :8], pixels[:, 5:].expand(3, 4, 8))
    assert torch.equal(padded[:, :, 8:], padded[:, :, 7:8].expand(3, 10, 4))
    assert torch.equal(resized.read(Window(8, 9, 2, 3)), pixels[:, 5:, 7:].expand(3, 2, 3))


def test_latents_are_resized_in_units_of_the_picture() -> None:
    """A picture of 36x28 on latents of 8: the padding of the canvas below must not shift what is above it."""
    ramp = torch.arange(8.0).expand(1, 4, 8).clone()
    resized = Resized(Array(ramp), Size(36, 28), Size(72, 56), "bicubic", unit=8)
    assert resized.size == Size(9, 7)
    values = resized.read(Window(0, 0, 8, 10))
    # Latent i stands for the picture around 8·(i + 0.5): twice as large, it lies at half the index.
    torch.testing.assert_close(values[0, 3, 2:8], (torch.arange(2.0, 8.0) + 0.5) / 2 - 0.5, atol=0.05, rtol=0)
