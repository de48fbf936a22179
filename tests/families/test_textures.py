"""Texture networks: their receptive field, how they are found, and the errors for damaged ones."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from pixelsmith import Compute, ModelError, Parts, Request, RequestError, Size, generate, load
from pixelsmith.engine.texture import Texture
from pixelsmith.families import load_family, read_facts
from pixelsmith.families.loading.sources import model_files
from pixelsmith.families.texture_layers import MARGIN
from pixelsmith.families.textures import NetworkTexture, texture_of
from tests.tiny import build_texture, save_with_network

CPU = Compute("cpu", "float32")


@pytest.fixture(scope="module")
def textured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("textured") / "model"
    save_with_network(folder, "texture", build_texture())
    return folder


def test_the_pixels_of_a_latent_do_not_depend_on_pixels_beyond_the_margin() -> None:
    model, side = build_texture(), 128
    pixels, noise = torch.randn(1, 3, side, side, requires_grad=True), torch.randn(1, 2, side, side)
    first, last = 56, 63
    (gradient,) = torch.autograd.grad(model(pixels, noise)[0, :, first : last + 1].square().sum(), pixels)
    seen = gradient.abs().amax((0, 1, 3)).nonzero().flatten()
    assert first - MARGIN <= seen.min() < first - MARGIN // 2
    assert last + MARGIN // 2 < seen.max() <= last + MARGIN


def test_texture_does_not_change_local_means() -> None:
    """Colours do not drift, whatever the weights are."""
    model = build_texture()
    drawn = model(torch.randn(1, 3, 256, 256), torch.randn(1, 2, 256, 256)).detach()
    means = torch.nn.functional.avg_pool2d(drawn, 32)
    assert means.abs().max() < 0.1 * drawn.std()


def test_a_texture_network_with_an_initial_last_layer_adds_nothing() -> None:
    model = build_texture()
    torch.nn.init.zeros_(model.last.weight)
    drawn = NetworkTexture(model, torch.device("cpu"))(torch.randn(1, 3, 16, 16), torch.randn(1, 2, 16, 16))
    assert drawn.dtype == torch.float32
    assert drawn.abs().max() == 0


def test_texture_depends_on_the_seed_and_strength_0_turns_it_off(textured: Path) -> None:
    request = Request("a lake", Size(128, 96), model=str(textured), compute=CPU).with_method(steps=2)
    drawn, again, off, half = (
        generate(request.with_method(texture=strength)).pixels.astype(int) for strength in (None, 1.0, 0.0, 0.5)
    )
    assert np.array_equal(drawn, again)
    assert np.abs(drawn - off).mean() > np.abs(half - off).mean() > 0.5
    other = generate(Request("a lake", Size(128, 96), seed=1, model=str(textured), compute=CPU).with_method(steps=2))
    assert not np.array_equal(other.pixels, drawn)


def test_tiles_of_a_model_with_texture_have_more_context(textured: Path, tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    shutil.copytree(textured, plain)
    (plain / "pixelsmith.json").unlink()
    with_it, without = (read_facts(place, "x") for place in (textured, plain))
    more = -(-MARGIN // with_it.latent_scale)
    assert with_it.tiling == without.tiling.seeing_more(more)
    assert load_family(textured, with_it, CPU).autoencoder.tiling == with_it.tiling
    assert load_family(plain, without, CPU).texture is None
    kept = with_it.tiling.side - 2 * with_it.tiling.context
    assert kept == without.tiling.side - 2 * without.tiling.context


def test_files_of_the_texture_network_are_among_the_files_of_the_model(textured: Path) -> None:
    assert textured / "texture" / "diffusion_pytorch_model.safetensors" in model_files(textured, Parts())


def test_the_texture_network_is_not_used_with_another_autoencoder(textured: Path) -> None:
    assert texture_of(textured, Parts(vae=str(textured / "vae"))) is None


def test_a_missing_or_damaged_texture_network_gives_a_one_line_error(textured: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(textured, model)
    weights = model / "texture" / "diffusion_pytorch_model.safetensors"
    request = Request("a lake", Size(64, 64), model=str(model), compute=CPU).with_method(steps=1)
    tensors = load_file(weights)
    save_file({name: value for name, value in tensors.items() if name != "last.bias"}, weights)
    with pytest.raises(ModelError, match=r"lacks 1 weights, such as last\.bias"):
        generate(request)
    weights.write_bytes(b"no tensors")
    with pytest.raises(ModelError, match="texture network cannot be loaded"):
        generate(request)
    (model / "pixelsmith.json").write_text(json.dumps({"texture": "nowhere"}))
    with pytest.raises(ModelError, match=r"texture: expected a folder with a config\.json, got nowhere"):
        generate(request)


def test_the_strength_of_texture_must_be_between_0_and_1() -> None:
    with pytest.raises(RequestError, match="texture"):
        Request("a lake", Size(64, 64)).with_method(texture=1.5)


def test_a_calibration_adds_texture_like_a_run(textured: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[float] = []
    monkeypatch.setattr(Texture, "add_to", lambda self, *_: drawn.append(self.strength))
    with load(str(textured), compute=CPU) as model:
        request = model.request("a lake", Size(128, 96))
        model.plan(request.with_method(texture=0), calibrate=True)
        assert not drawn
        model.plan(request.with_method(texture=0.5), calibrate=True)
        assert set(drawn) == {0.5}
