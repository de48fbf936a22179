from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pixelsmith.canvas import Array, Part
from pixelsmith.geometry import Size, Window
from pixelsmith.pixels.resample import BLOCK, Bands, Resized
from pixelsmith.sampling.readable import deferred
from tests.devices import DEVICES

KERNELS = {"lanczos": Image.Resampling.LANCZOS, "bicubic": Image.Resampling.BICUBIC}


def picture(width: int, height: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(width * 100 + height)
    return torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("kernel", KERNELS)
@given(width=st.integers(2, 30), height=st.integers(2, 30), factor=st.floats(1, 8), data=st.data())
def test_a_window_equals_that_of_the_whole_picture(
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
def test_resizing_a_whole_picture_equals_pillow(kernel: str) -> None:
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


@pytest.mark.parametrize("kernel", KERNELS)
@given(width=st.integers(2, 40), height=st.integers(2, 40), factor=st.floats(0.3, 8), top=st.integers(0, 90))
def test_a_window_equals_pillow_on_the_pixels_it_depends_on(
    kernel: str, width: int, height: int, factor: float, top: int
) -> None:
    """To the last bit of a byte: it computes them otherwise, but as exactly."""
    pixels, target = picture(width, height), Size(width, height).scaled(factor)
    resized = Resized(Array(pixels), Size(width, height), target, kernel)  # type: ignore[arg-type]
    window = Window(min(top, target.height - 1), 0, 70, target.width).cut(target)
    seen = resized.sees(window)
    step, margin = 1 / target.factor_over(Size(width, height)), 200
    around = np.pad(pixels.float().numpy(), ((0, 0), (margin, margin), (margin, margin)), mode="edge")
    there = around[(..., *Window(seen.top + margin, seen.left + margin, seen.height, seen.width).slices)]
    left = (width - step * target.width) / 2 + step * window.left - seen.left
    up = (height - step * target.height) / 2 + step * window.top - seen.top
    box = (left, up, left + step * window.width, up + step * window.height)
    sides = (window.width, window.height)
    expected = [np.asarray(Image.fromarray(channel).resize(sides, KERNELS[kernel], box=box)) for channel in there]
    rounded = np.stack(expected).round().clip(0, 255).astype(np.uint8)
    assert np.array_equal(resized.read(window).numpy(), rounded)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("step", [0.125, 0.37, 1, 2.5])
@pytest.mark.parametrize("count", [1, BLOCK, 2 * BLOCK + 3])
def test_band_matrices_contain_the_values_of_the_kernel(kernel: str, step: float, count: int) -> None:
    """Each row the kernel around its place, of sum 1."""
    start, width = 12.25, max(1, step)
    length = int(start + step * count + 3 * width) + 2
    bands = Bands.of(kernel, start, step, count, np.arange(count), length)  # type: ignore[arg-type]
    found = bands(torch.eye(length)[None])[0].numpy()
    radius = {"lanczos": 3, "bicubic": 2}[kernel]
    for i in range(count):
        x = (np.arange(length) + 0.5 - start - step * (i + 0.5)) / width
        inside = np.abs(x) < radius
        row = np.where(inside, kernel_at(kernel, x), 0)
        np.testing.assert_allclose(found[i], row / row.sum(), atol=1e-5)


def kernel_at(kernel: str, x: np.ndarray) -> np.ndarray:
    """Where neither is 0: sin(πx)·sin(πx/3)/(π²x²/3), and the two cubics that meet at 1 with the same slope."""
    x = np.abs(x) + 1e-12
    if kernel == "lanczos":
        return np.asarray(3 * np.sin(np.pi * x) * np.sin(np.pi * x / 3) / (np.pi * x) ** 2)
    near, far = 1 - 2.5 * x**2 + 1.5 * x**3, 2 - 4 * x + 2.5 * x**2 - 0.5 * x**3
    return np.where(x < 1, near, far)


@pytest.mark.parametrize("device", DEVICES)
def test_another_device_gives_the_same_pixels_up_to_rounding(device: str) -> None:
    resized = Resized(Array(picture(30, 20)), Size(30, 20), Size(150, 100), "lanczos")
    window = Window(10, 20, 90, 141)
    found = resized.deferred(window, torch.device(device))()
    assert (found.device.type, found.dtype) == (device, torch.uint8)
    assert (found.cpu().int() - resized.read(window).int()).abs().max() <= 1


def test_what_is_prepared_for_the_host_is_computed_as_on_the_device_where_it_is_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A run prepares tiles for its own host; a worker on a GPU gets the bytes that a run on that GPU alone gets."""
    values = torch.rand(3, 20, 30, generator=torch.Generator().manual_seed(0))
    resized, window = Resized(Array(values), Size(30, 20), Size(150, 100), "lanczos"), Window(10, 20, 90, 141)
    sent, on_host = resized.deferred(window, torch.device("cpu")), resized.read(window)
    # As on every device but the CPU.
    monkeypatch.setattr("pixelsmith.pixels.resample._dtype_on", lambda device: torch.float32)
    alone = resized.read(window)
    assert not torch.equal(alone, on_host)
    assert torch.equal(sent(), alone)


def test_pixels_can_be_computed_on_another_device() -> None:
    """On a device that only knows shapes."""
    resized = Resized(Array(picture(30, 20)), Size(30, 20), Size(150, 100), "lanczos")
    for source in (resized, Part(resized, Window(2, 3, 90, 130)), Array(resized.read(resized.size.window))):
        assert deferred(source, Window(1, 0, 80, 60), torch.device("meta"))().shape == (3, 80, 60)


@given(width=st.integers(30, 90), height=st.integers(30, 90), factor=st.floats(1, 4), data=st.data())
def test_a_window_of_latents_equals_that_of_the_whole(
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


def test_beyond_the_picture_its_edge_is_repeated() -> None:
    pixels = picture(8, 6)
    resized = Resized(Array(pixels), Size(8, 6), Size(8, 6), "lanczos")
    padded = resized.read(Window(0, 0, 10, 12))
    assert torch.equal(padded[:, :6, :8], pixels)
    assert torch.equal(padded[:, 6:, :8], pixels[:, 5:].expand(3, 4, 8))
    assert torch.equal(padded[:, :, 8:], padded[:, :, 7:8].expand(3, 10, 4))
    assert torch.equal(resized.read(Window(8, 9, 2, 3)), pixels[:, 5:, 7:].expand(3, 2, 3))


def test_latents_are_resized_in_the_coordinates_of_the_picture() -> None:
    """A picture of 36x28 on latents of 8: the padding of the canvas below must not shift what is above it."""
    ramp = torch.arange(8.0).expand(1, 4, 8).clone()
    resized = Resized(Array(ramp), Size(36, 28), Size(72, 56), "bicubic", unit=8)
    assert resized.size == Size(9, 7)
    values = resized.read(Window(0, 0, 8, 10))
    # Latent i stands for the picture around 8·(i + 0.5): twice as large, it lies at half the index.
    torch.testing.assert_close(values[0, 3, 2:8], (torch.arange(2.0, 8.0) + 0.5) / 2 - 0.5, atol=0.05, rtol=0)
