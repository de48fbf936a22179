"""What a smaller picture knows, in the latents of true autoencoders."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from pixelsmith.canvas import Array
from pixelsmith.config.compute import Compute
from pixelsmith.engine.bands import FittedBands, low_pass_bands, synthetic_picture
from pixelsmith.families import find_model, load_family, read_facts
from pixelsmith.families.family import Autoencoder
from pixelsmith.geometry import Size
from pixelsmith.pixels.resample import Resized


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


@pytest.fixture(scope="module")
def autoencoder() -> Autoencoder:
    model = find_model("embedded")
    return load_family(model, read_facts(model, "embedded"), Compute(device="cpu", dtype="float32")).autoencoder


def encoded(autoencoder: Autoencoder, picture: Array, shrunk: float = 1) -> Tensor:
    """Of the picture, or of what is left of it when it is shrunk and enlarged again."""
    seen, small = picture.read(picture.size.window), Size(*(round(side / shrunk) for side in (128, 128)))
    if shrunk > 1:
        below = Array(Resized(picture, picture.size, small, "lanczos").read(small.window))
        seen = Resized(below, small, picture.size, "lanczos").read(picture.size.window)
    return autoencoder.encode(seen.float()[None] / 127.5 - 1)


@pytest.mark.parametrize(("factor", "position"), [(4.0, 1.0), (4.0, 0.5), (8.0, 1.0), (4.0, 0.25)])
def test_the_band_of_latents_is_the_latents_of_what_shrinking_leaves(
    autoencoder: Autoencoder, factor: float, position: float
) -> None:
    """On a picture that was not fitted to, of what shrinking takes away hardly any is missed."""
    band = FittedBands(autoencoder, 8, factor, "lanczos")(position).of_clean
    picture = Array(synthetic_picture(Size(128, 128), np.random.default_rng(1)))
    latents, wanted = encoded(autoencoder, picture), encoded(autoencoder, picture, factor / position)
    inside = (..., slice(2, -2), slice(2, -2))
    taken = float((latents - wanted)[inside].square().mean())
    assert float((band(latents) - wanted)[inside].square().mean()) < 0.1 * taken
    if factor / position <= 4:
        # A low-pass of latents is not that band.
        plain = low_pass_bands(factor)(position).of_clean(latents)
        assert float((plain - wanted)[inside].square().mean()) > 0.3 * taken


def test_a_fit_is_the_same_again(autoencoder: Autoencoder) -> None:
    clean, guide = torch.randn(2, 1, 16, 12, 12, generator=torch.Generator().manual_seed(0))
    first, again = (FittedBands(autoencoder, 8, 4.0, "lanczos")(0.7).correction(clean, guide) for _ in range(2))
    assert torch.equal(first, again)


@pytest.mark.parametrize("position", [1.0, 0.7, 0.25])
def test_an_estimate_that_is_right_is_left_alone(autoencoder: Autoencoder, position: float) -> None:
    """Also at frequencies that shrinking only weakens: nothing of them is taken away again."""
    picture = Array(synthetic_picture(Size(128, 128), np.random.default_rng(1)))
    clean, guide = encoded(autoencoder, picture), encoded(autoencoder, picture, 4.0)
    band = FittedBands(autoencoder, 8, 4.0, "lanczos")(position)
    inside = (..., slice(2, -2), slice(2, -2))
    lost = (clean - guide)[inside]

    def share(correction: Tensor) -> float:
        """How much of what shrinking takes away a correction gives, or takes."""
        return float((correction[inside] * lost).sum() / lost.square().sum())

    assert share(band.correction(clean, guide)) == pytest.approx(0, abs=0.03)
    # One filter for both weakens twice.
    if position == 1:
        assert share(band.of_clean(guide - clean)) < -0.04


@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), (50, 100, 160), (200, 180, 120)])
@pytest.mark.parametrize("factor", [4.0, 12.0])
def test_flat_colours_keep_their_tone(autoencoder: Autoencoder, colour: tuple[int, ...], factor: float) -> None:
    flat = torch.tensor(colour, dtype=torch.uint8)[:, None, None].expand(3, 128, 128).contiguous()
    latents = encoded(autoencoder, Array(flat))
    # At the edges an autoencoder sees no flat colour.
    correction = FittedBands(autoencoder, 8, factor, "lanczos")(1.0).correction(latents, latents)[..., 4:-4, 4:-4]
    assert float(correction.square().mean()) < 0.05**2 * float(latents[..., 4:-4, 4:-4].square().mean())


def test_synthetic_pictures_have_the_spectrum_of_photographs() -> None:
    """The power of an octave of waves falls by four from one to the next finer one; each is another picture."""
    rng = np.random.default_rng(0)
    pictures = [synthetic_picture(Size(256, 256), rng).float() for _ in range(8)]
    assert not torch.equal(pictures[0], pictures[1])
    spectrum = torch.stack([torch.fft.fft2(p - p.mean((1, 2), keepdim=True)).abs().square().mean(0) for p in pictures])
    frequencies = torch.hypot(torch.fft.fftfreq(256)[:, None], torch.fft.fftfreq(256))
    densities = [
        float(spectrum[:, (frequencies >= low) & (frequencies < 2 * low)].mean()) for low in (1 / 64, 1 / 32, 1 / 16)
    ]
    assert densities[0] / densities[1] == pytest.approx(4, rel=0.25)
    assert densities[1] / densities[2] == pytest.approx(4, rel=0.25)


def test_a_guide_like_pictures_of_its_own_size_has_their_filter(autoencoder: Autoencoder) -> None:
    latents = torch.randn(1, 16, 32, 32)
    band = FittedBands(autoencoder, 8, 4.0, "lanczos", doubled=True)(0.5)
    assert torch.equal(band.of_guide(latents), band.of_clean(latents))
