"""Shared fixtures: a tiny Stable Diffusion in the true classes and the true folder format, with random weights."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

import tests.checked  # noqa: F401 (the import hook looks it up as an attribute)

os.environ["HF_HUB_OFFLINE"] = "1"
settings.register_profile("pixelsmith", derandomize=True, deadline=None, max_examples=25)
settings.load_profile("pixelsmith")


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that ``StableDiffusionPipeline.save_pretrained`` wrote: native 64x64, ε-prediction, KL autoencoder."""
    from tests.tiny import build_stable_diffusion

    folder = tmp_path_factory.mktemp("models") / "tiny"
    build_stable_diffusion().save_pretrained(folder)
    return folder


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees what another one measured, or what the user's machine did."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
