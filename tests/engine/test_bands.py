"""The frequency bands of smaller pictures, in the latents of real autoencoders."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks.spread import ThreadLinks
from pixelsmith.canvas import Array
from pixelsmith.config.compute import Compute
from pixelsmith.engine.bands import _FITS, FittedBands, low_pass_bands, synthetic_picture
from pixelsmith.engine.crew import Crew
from pixelsmith.engine.shipping import Receiver, Sender
from pixelsmith.families import find_model, load_family, read_facts
from pixelsmith.families.family import Autoencoder
from pixelsmith.geometry import Size
from pixelsmith.pixels.resample import Resized
from pixelsmith.workers.remote import RemoteAutoencoder


@pytest.fixture(autouse=True)
def own_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other tests share theirs."""
    monkeypatch.setattr(FittedBands, "_fit", FittedBands._fit.__wrapped__)  # type: ignore[attr-defined]


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


@pytest.fixture(scope="module")
def autoencoder() -> Autoencoder:
    model = find_model("embedded")
    return load_family(model, read_facts(model, "embedded"), Compute(device="cpu", dtype="float32")).autoencoder


def encoded(autoencoder: Autoencoder, picture: Array, shrunk: float = 1) -> Tensor:
    """The latents of a picture, or of the picture scaled down and up again."""
    seen, small = picture.read(picture.size.window), Size(*(round(side / shrunk) for side in (128, 128)))
    if shrunk > 1:
        below = Array(Resized(picture, picture.size, small, "lanczos").read(small.window))
        seen = Resized(below, small, picture.size, "lanczos").read(picture.size.window)
    return autoencoder.encode(seen.float()[None] / 127.5 - 1)


@pytest.mark.parametrize(("factor", "position"), [(4.0, 1.0), (4.0, 0.5), (8.0, 1.0), (4.0, 0.25)])
def test_the_fitted_band_matches_latents_of_the_downscaled_picture(
    autoencoder: Autoencoder, factor: float, position: float
) -> None:
    """On a picture that was not used for the fit, less than a tenth of the removed power is left over."""
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


def test_a_fit_is_deterministic(autoencoder: Autoencoder) -> None:
    clean, guide = torch.randn(2, 1, 16, 12, 12, generator=torch.Generator().manual_seed(0))
    first = FittedBands(autoencoder, 8, 4.0, "lanczos")(0.7).correction(clean, guide)
    _FITS.clear()
    again = FittedBands(autoencoder, 8, 4.0, "lanczos")(0.7).correction(clean, guide)
    assert torch.equal(first, again)


def test_pictures_of_a_loaded_autoencoder_share_its_fits(
    autoencoder: Autoencoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit, fitted = FittedBands._fit, list[float]()

    def counted(self: FittedBands, shrunk: float) -> Any:
        fitted.append(shrunk)
        return fit(self, shrunk)

    monkeypatch.setattr(FittedBands, "_fit", counted)
    _FITS.clear()
    for _ in range(2):
        FittedBands(autoencoder, 8, 4.0, "lanczos")(1.0)
    assert fitted == [4.0]
    FittedBands(autoencoder, 8, 2.0, "lanczos")(1.0)
    assert fitted == [4.0, 2.0]


def test_a_worker_fits_the_bands_once_for_all_steps(autoencoder: Autoencoder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each step sends it the bands again, with a reference to the autoencoder that it has loaded itself."""
    fit, fitted = FittedBands._fit, list[float]()

    def counted(self: FittedBands, shrunk: float) -> Any:
        fitted.append(shrunk)
        return fit(self, shrunk)

    monkeypatch.setattr(FittedBands, "_fit", counted)
    with Crew(ThreadLinks([])) as crew:
        bands = FittedBands(RemoteAutoencoder(autoencoder.tiling, crew), 8, 4.0, "lanczos")
    _FITS.clear()
    for _ in range(2):
        step = Sender().pack(bands)
        Receiver(lambda part, statistics: autoencoder, torch.device("cpu")).unpack(step)(1.0)
    assert fitted == [4.0]


@pytest.mark.parametrize("position", [1.0, 0.7, 0.25])
def test_an_exact_estimate_is_not_changed(autoencoder: Autoencoder, position: float) -> None:
    """Also at frequencies that scaling down only attenuates: they are not attenuated again."""
    picture = Array(synthetic_picture(Size(128, 128), np.random.default_rng(1)))
    clean, guide = encoded(autoencoder, picture), encoded(autoencoder, picture, 4.0)
    band = FittedBands(autoencoder, 8, 4.0, "lanczos")(position)
    inside = (..., slice(2, -2), slice(2, -2))
    lost = (clean - guide)[inside]

    def share(correction: Tensor) -> float:
        """The share of the frequencies removed by scaling down that a correction adds or removes."""
        return float((correction[inside] * lost).sum() / lost.square().sum())

    assert share(band.correction(clean, guide)) == pytest.approx(0, abs=0.03)
    # One filter for both weakens twice.
    if position == 1:
        assert share(band.of_clean(guide - clean)) < -0.04


@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), (50, 100, 160), (200, 180, 120)])
@pytest.mark.parametrize("factor", [4.0, 12.0])
def test_flat_colours_keep_their_mean(autoencoder: Autoencoder, colour: tuple[int, ...], factor: float) -> None:
    flat = torch.tensor(colour, dtype=torch.uint8)[:, None, None].expand(3, 128, 128).contiguous()
    latents = encoded(autoencoder, Array(flat))
    # At the edges an autoencoder sees no flat colour.
    correction = FittedBands(autoencoder, 8, factor, "lanczos")(1.0).correction(latents, latents)[..., 4:-4, 4:-4]
    assert float(correction.square().mean()) < 0.05**2 * float(latents[..., 4:-4, 4:-4].square().mean())


def test_synthetic_pictures_have_the_spectrum_of_photographs() -> None:
    """Power falls by a factor of four from one octave to the next finer one; each picture is different."""
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
