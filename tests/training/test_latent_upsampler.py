"""The training of the network that doubles latents: pairs show the same place, and it learns from them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from pixelsmith.families import find_model
from pixelsmith.families.latent_upsampler_network import LatentUpsamplerModel
from tests.training.test_texture import build
from training.autoencoder import as_input
from training.checkpoints import save_checkpoint
from training.data import is_held_out, load_pixels
from training.export import export_latent_upsampler
from training.latent_upsampler import HALF, Pairs, Trainer, Weights, Zoomed, halved, joined, zoomed


def ramp(left: float, top: float, step: float, side: int = 256) -> np.ndarray:
    """A picture whose red and green say where each pixel is, in units of the coarser tile's pixels."""
    x, y = (start + step * np.arange(side) for start in (left, top))
    red, green = np.meshgrid(x, y)
    return np.stack([red, green, 0 * red], axis=-1).round().astype(np.uint8)


def test_both_pictures_of_a_training_pair_show_the_same_place() -> None:
    fine = [ramp(128 * x, 128 * y, 0.5) for y in (0, 1) for x in (0, 1)]
    pixels = np.stack([ramp(0, 0, 1), *fine])
    pairs = Pairs(pixels, np.array([1.0, 0, 0, 0, 0]), [Zoomed(0, (1, 2, 3, 4))])
    small, large = pairs.zooms(np.random.default_rng(0), 3)
    assert small.shape == (3, HALF, HALF, 3)
    assert large.shape == (3, 2 * HALF, 2 * HALF, 3)
    for coarse, mosaic in zip(small, large, strict=True):
        assert np.abs(halved(mosaic).astype(int) - coarse)[8:-8, 8:-8].max() <= 1
    half, chosen = pairs.halves(np.random.default_rng(0), 2)
    assert list(chosen) == [0, 0]
    assert np.array_equal(half[0], halved(pixels[0]))
    assert np.array_equal(joined(pixels, (1, 2, 3, 4))[:256, 256:], fine[1])


def rows(zoom: int, places: list[tuple[int, int]], style: str = "satellite") -> list[dict[str, str]]:
    return [{"style": style, "file": f"{zoom}_{x}_{y}.jpg", "caption": "a sea", "zoom": str(zoom)} for x, y in places]


@pytest.mark.parametrize("style", ["satellite", "watercolor"])
def test_pairs_of_zooms_are_of_satellite_photos_and_split_by_held_out_places(style: str) -> None:
    coarse = [(x, 3) for x in range(16)]
    inner = [(2 * x + i, 6 + j) for x, _ in coarse[:-1] for j in (0, 1) for i in (0, 1)]
    table = [*rows(4, coarse, style), *rows(5, inner, style)]
    found, kept = zoomed(table, held_out=False), zoomed(table, held_out=True)
    out = [is_held_out(style, f"4_{x}_{y}.jpg") for x, y in coarse[:-1]]
    assert [len(found), len(kept)] == ([out.count(False), out.count(True)] if style == "satellite" else [0, 0])
    for pair in found:
        column, row = coarse[pair.coarse]
        places = [inner[index - len(coarse)] for index in pair.fine]
        assert places == [(2 * column + x, 2 * row + y) for y in (0, 1) for x in (0, 1)]


def trained(work: Path, steps: int) -> tuple[LatentUpsamplerModel, list[float]]:
    torch.manual_seed(0)
    pixels, model = load_pixels(work), LatentUpsamplerModel(4, width=16, blocks=1)
    with torch.no_grad():
        latents = build().encode(as_input(pixels)).latent.numpy().astype(np.float16)
    pairs = Pairs(pixels, np.full(len(pixels), 1 / len(pixels)), [Zoomed(0, (1, 2, 3, 4))])
    trainer, losses = Trainer(model, build(), pairs, latents, Weights(), (2, 1)), []
    for group in trainer.optimizer.param_groups:
        group["lr"] = 3e-3
    for step in range(steps):
        trainer.optimizer.zero_grad()
        losses.append(trainer.step(step, 0.0)["latents"])
        trainer.optimizer.step()
    return model, losses


def test_training_approaches_the_latents_of_the_larger_picture(work: Path) -> None:
    _, losses = trained(work, 60)
    assert np.mean(losses[-5:]) < 0.95 * np.mean(losses[:5])


def test_the_exported_network_equals_the_trained_one(tmp_path: Path) -> None:
    model = LatentUpsamplerModel(4)
    torch.nn.init.normal_(model.last.weight, std=0.1)
    save_checkpoint(tmp_path / "latent_upsampler.pt", {"model": model.state_dict()})
    export_latent_upsampler(tmp_path, tmp_path / "out")
    found = LatentUpsamplerModel.from_pretrained(tmp_path / "out" / "latent_upsampler")
    x = torch.randn(1, 4, 6, 5)
    assert torch.allclose(found.float()(x), model(x), atol=0.05)


def test_the_weights_in_the_package_take_less_than_3_mb() -> None:
    (weights,) = (find_model("embedded") / "latent_upsampler").glob("*.safetensors")
    assert weights.stat().st_size < 3e6
