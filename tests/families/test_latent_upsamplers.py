"""Networks that enlarge latents: how they are found, and the errors for missing and damaged ones."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from pixelsmith import Compute, ModelError, Parts, Request, RequestError, Size, generate, plan
from pixelsmith.families import load_family, read_facts
from pixelsmith.families.latent_upsamplers import NetworkLatentUpsampler, latent_upsampler_of
from pixelsmith.families.loading.sources import model_files
from tests.tiny import build_latent_upsampler

CPU = Compute("cpu", "float32")


def request_of(model: Path) -> Request:
    request = Request("a lake", Size(128, 96), model=str(model), compute=CPU)
    return request.with_method(steps=1, upsampling="learned")


def test_the_embedded_model_has_a_latent_upsampler() -> None:
    from pixelsmith.families import find_model

    place = find_model("embedded")
    facts = read_facts(place, "embedded")
    found = load_family(place, facts, CPU).latent_upsampler
    assert facts.doubles_latents
    assert found is not None
    assert found(torch.randn(1, facts.latent_channels, 6, 5)).shape == (1, facts.latent_channels, 12, 10)


def test_the_result_of_a_latent_upsampler_is_float32_in_any_dtype() -> None:
    network = NetworkLatentUpsampler(build_latent_upsampler().bfloat16(), torch.device("cpu"))
    assert network(torch.randn(1, 4, 5, 4)).dtype == torch.float32


def test_files_of_the_latent_upsampler_are_among_the_files_of_the_model(enlarging_model: Path) -> None:
    weights = enlarging_model / "latent_upsampler" / "diffusion_pytorch_model.safetensors"
    assert weights in model_files(enlarging_model, Parts())


def test_planning_refuses_learned_upsampling_for_a_model_without_a_latent_upsampler(tiny_model: Path) -> None:
    with pytest.raises(RequestError, match="has no network that enlarges latents"):
        plan(request_of(tiny_model))


def test_a_latent_upsampler_is_not_used_with_another_autoencoder(enlarging_model: Path) -> None:
    other = Parts(vae=str(enlarging_model / "vae"))
    assert latent_upsampler_of(enlarging_model, other) is None
    assert not read_facts(enlarging_model, "x", other).doubles_latents


def test_a_missing_or_damaged_latent_upsampler_gives_a_one_line_error(enlarging_model: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(enlarging_model, model)
    weights = model / "latent_upsampler" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(weights)
    save_file({name: value for name, value in tensors.items() if name != "last.bias"}, weights)
    with pytest.raises(ModelError, match=r"the latent upsampler lacks 1 weights, such as last\.bias"):
        generate(request_of(model))
    weights.write_bytes(b"no tensors")
    with pytest.raises(ModelError, match="latent upsampler cannot be loaded"):
        generate(request_of(model))
    build_latent_upsampler(16).save_pretrained(model / "latent_upsampler")
    with pytest.raises(ModelError, match="expected a latent upsampler for 4 channels, got one for 16"):
        generate(request_of(model))
    (model / "pixelsmith.json").write_text(json.dumps({"latent_upsampler": "nowhere"}))
    with pytest.raises(ModelError, match=r"latent_upsampler: expected a folder with a config\.json, got nowhere"):
        generate(request_of(model))
