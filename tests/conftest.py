"""Shared fixtures: a tiny Stable Diffusion in the true classes and the true folder format, with random weights."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from hypothesis import settings

import tests.checked  # noqa: F401 (the import hook looks it up as an attribute)

os.environ["HF_HUB_OFFLINE"] = "1"
settings.register_profile("pixelsmith", derandomize=True, deadline=None, max_examples=25)
settings.load_profile("pixelsmith")


SLOW = (
    "tests/contracts/",
    "tests/workers/",
    "tests/studio/",
    "tests/viewer/",
    "tests/run/",
    "tests/evaluate/test_experiment.py",
)
"""What takes longest, file by file: begun last, one of these would be waited for by all other processes."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: not item.nodeid.startswith(SLOW))


def pytest_collection_finish() -> None:
    # The modules of torch, diffusers and transformers stay: no collection of garbage need look at them again.
    gc.freeze()


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that ``StableDiffusionPipeline.save_pretrained`` wrote: native 64x64, ε-prediction, KL autoencoder."""
    from tests.tiny import build_stable_diffusion

    folder = tmp_path_factory.mktemp("models") / "tiny"
    build_stable_diffusion().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def enlarging_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with a network that enlarges its latents."""
    from tests.tiny import build_latent_upsampler, save_with_network

    folder = tmp_path_factory.mktemp("models") / "enlarging"
    save_with_network(folder, "latent_upsampler", build_latent_upsampler())
    return folder


@pytest.fixture(scope="session")
def caches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A new folder each time: to number one pytest would look at all of them, of which there are thousands."""
    root = tmp_path_factory.mktemp("caches")
    return (root / str(number) for number in count())


@pytest.fixture(autouse=True)
def own_cache(caches: Iterator[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees what another one measured, or what the user's machine did."""
    folder = next(caches)
    folder.mkdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))


@pytest.fixture(scope="session", autouse=True)
def shared_fits() -> Iterator[None]:
    """Equal autoencoders, which tests load again and again, share the bands that are fitted to them."""
    from pixelsmith.engine.bands import FittedBands
    from tests.fits import remembered

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FittedBands, "_fit", remembered(FittedBands._fit))
        yield
