"""Parts that come from single files, from elsewhere, or in fewer bits."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import EulerDiscreteScheduler, FluxTransformer2DModel, TorchAoConfig
from safetensors.torch import save_file
from torchao.quantization import Int8WeightOnlyConfig

from pixelsmith import (
    Lora,
    Method,
    ModelError,
    Parts,
    Progress,
    Request,
    RunError,
    Size,
    generate,
    plan,
    resume,
)
from pixelsmith.events import Event
from pixelsmith.families import everywhere, find_model, load_family, model_files, read_facts
from pixelsmith.families.family import Family
from pixelsmith.families.loading import needs
from pixelsmith.families.loading.quiet import quiet
from tests.families.test_parts import CPU, loaded, save_lora
from tests.tiny import build_stable_diffusion
from tests.zoo.all import SPECIMENS
from tests.zoo.gguf import save_gguf
from tests.zoo.original import save_original, vae_tensors
from tests.zoo.original_3 import save_original_3
from tests.zoo.unets import BETAS, build_xl


@pytest.fixture(scope="module")
def sd3(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """A pipeline and its folder; what its first encoder projects with is what a single file stands for."""
    with quiet():
        pipeline, folder = SPECIMENS["sd3"].build(), tmp_path_factory.mktemp("sd3") / "model"
        pipeline.text_encoder.text_projection.weight.data = torch.eye(16)
        pipeline.save_pretrained(folder)
    return pipeline, folder


@pytest.fixture(scope="module")
def flux(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with quiet():
        return SPECIMENS["flux-dev"].save(tmp_path_factory.mktemp("flux") / "model")


def without_weights(folder: Path, copy: Path, *parts: str) -> Path:
    shutil.copytree(folder, copy)
    for part in parts:
        for file in (copy / part).glob("*.safetensors"):
            file.unlink()
    return copy


def same_weights(found: Any, expected: Any) -> bool:
    ours, theirs = found.state_dict(), expected.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize(
    "held", [("vae", "text_encoder", "text_encoder_3"), ("vae", "text_encoder"), ("vae",), ("text_encoder",), ()]
)
def test_parts_missing_from_a_single_file_come_from_the_configuration(
    sd3: tuple[Any, Path], tmp_path: Path, held: tuple[str, ...]
) -> None:
    pipeline, folder = sd3
    file = save_original_3(pipeline, tmp_path / "sd3.safetensors", *held)
    config = without_weights(folder, tmp_path / "config", "transformer", *held)
    found = loaded(file, Parts(config=str(config)))
    for part in ("transformer", "vae", "text_encoder", "text_encoder_2", "text_encoder_3"):
        assert same_weights(getattr(found, part), getattr(pipeline, part)), part


def test_a_single_file_of_sdxl_contains_all_parts(tmp_path: Path) -> None:
    """Its second text encoder has another width than the first, by which diffusers tells them apart."""
    with quiet():
        pipeline = build_xl(EulerDiscreteScheduler(**BETAS), second=32)
        pipeline.save_pretrained(tmp_path / "model")
    file = save_original(pipeline, tmp_path / "shared.safetensors")
    held = ("unet", "vae", "text_encoder", "text_encoder_2")
    config = without_weights(tmp_path / "model", tmp_path / "config", *held)
    found = loaded(file, Parts(config=str(config)))
    for part in held:
        assert same_weights(getattr(found, part), getattr(pipeline, part)), part


def test_an_optional_part_may_be_missing_from_a_single_file(sd3: tuple[Any, Path], tmp_path: Path) -> None:
    file = save_original_3(sd3[0], tmp_path / "sd3.safetensors", "vae", "text_encoder")
    config = without_weights(sd3[1], tmp_path / "config", "transformer", "vae", "text_encoder", "text_encoder_3")
    assert loaded(file, Parts(config=str(config))).text_encoder_3 is None
    request = Request("a sea", Size(64, 64), model=str(file), parts=Parts(config=str(config)), compute=CPU)
    assert generate(request.with_method(steps=2)).pixels.std() > 1


def test_a_single_file_without_a_required_part_is_refused_before_any_work(
    sd3: tuple[Any, Path], tmp_path: Path
) -> None:
    file = save_original_3(sd3[0], tmp_path / "sd3.safetensors", "text_encoder")
    config = without_weights(sd3[1], tmp_path / "config", "vae", "text_encoder_2", "text_encoder_3")
    request = Request("a sea", Size(64, 64), model=str(file), parts=Parts(config=str(config)))
    with pytest.raises(ModelError, match=r"it has no text_encoder_2, vae, .*--model-config.*--network"):
        plan(request)


def network_file(folder: Path, file: Path) -> Path:
    """With the names of diffusers: its converter of the first names knows Flux's full width only."""
    shutil.copy(folder / "transformer" / "diffusion_pytorch_model.safetensors", file)
    return file


def test_a_network_is_loaded_from_a_single_file_or_a_folder(flux: Path, tmp_path: Path) -> None:
    network = FluxTransformer2DModel.from_pretrained(flux / "transformer")
    for value in network.parameters():
        value.data = torch.randn_like(value)
    network.save_pretrained(tmp_path / "mine")
    file = tmp_path / "mine" / "diffusion_pytorch_model.safetensors"
    for place in (tmp_path / "mine", file):
        parts = Parts(network=str(place))
        assert same_weights(loaded(flux, parts).transformer, network)
        files = model_files(flux, parts)
        assert file in files
        assert flux / "transformer" / file.name not in files
    alone = loaded(file, Parts(config=str(flux)))
    assert same_weights(alone.transformer, network)
    assert same_weights(alone.text_encoder_2, loaded(flux, Parts()).text_encoder_2)


def test_a_file_that_is_not_a_network_of_the_model_is_refused(flux: Path, tmp_path: Path) -> None:
    save_file({"style.lora_up.weight": torch.ones(4, 4)}, tmp_path / "style.safetensors")
    weights = {name: torch.ones(shape) for name, shape in (("proj_out.weight", (64, 32)), ("proj_out.bias", (64,)))}
    save_file(weights, tmp_path / "some.safetensors")
    for name in ("style", "some"):
        with pytest.raises(ModelError, match=rf"{name}\.safetensors|transformer lacks"):
            loaded(flux, Parts(network=str(tmp_path / f"{name}.safetensors")))
    (tmp_path / "model.gguf").touch()
    with pytest.raises(ModelError, match="--network"):
        find_model(str(tmp_path / "model.gguf"))


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"network": "flux/transformer"}, 'expected _class_name "UNet2DConditionModel", got "FluxTransformer2DModel"'),
        ({"network": "xl/unet"}, "expected cross_attention_dim 16, got 32"),
        ({"network": "xl/vae"}, 'got "AutoencoderKL"'),
        ({"vae": "xl/unet"}, "no known autoencoder"),
        ({"vae": "flux/text_encoder"}, "no known autoencoder"),
        ({"vae": "flux/vae"}, "4 channels at 1/4 of the size, got 16"),
    ],
)
def test_an_incompatible_part_is_refused_before_anything_is_loaded(
    tiny_model: Path, flux: Path, tmp_path: Path, parts: dict[str, str], message: str
) -> None:
    with quiet():
        SPECIMENS["sdxl"].save(tmp_path / "xl")
    shutil.copytree(flux, tmp_path / "flux")
    given = Parts(**{name: str(tmp_path / place) for name, place in parts.items()})  # type: ignore[arg-type]
    with pytest.raises(ModelError, match=message):
        plan(Request("a sea", Size(64, 64), model=str(tiny_model), parts=given))


def test_an_autoencoder_is_loaded_from_a_single_file(tiny_model: Path, tmp_path: Path) -> None:
    vae = build_stable_diffusion().vae
    vae.decoder.conv_out.bias.data += 1
    tensors = vae_tensors(vae, prefix="")
    save_file({name: value.contiguous() for name, value in tensors.items()}, tmp_path / "vae.safetensors")
    assert same_weights(loaded(tiny_model, Parts(vae=str(tmp_path / "vae.safetensors"))).vae, vae)
    save_file({"decoder.conv_in.weight": torch.ones(3)}, tmp_path / "other.safetensors")
    with pytest.raises(ModelError, match=r"other\.safetensors"):
        loaded(tiny_model, Parts(vae=str(tmp_path / "other.safetensors")))


def family_of(folder: Path, parts: Parts) -> Family:
    return load_family(folder, read_facts(folder, "x", parts), CPU, parts)


def estimate(family: Family) -> torch.Tensor:
    """Of one patch."""
    x = torch.randn(1, family.facts.latent_channels, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        denoise = family.denoiser(everywhere(family.encode("a sea", "")[0]), family.facts.native_size, 3.0)
        return denoise(x, family.schedule(4).levels[1], [Size(16, 16).window])


@pytest.fixture(scope="module")
def gguf_file(flux: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    network = FluxTransformer2DModel.from_pretrained(flux / "transformer")
    return save_gguf(network, tmp_path_factory.mktemp("gguf") / "flux.gguf")


def test_a_gguf_network_is_smaller_and_close_to_its_original(flux: Path, gguf_file: Path) -> None:
    whole, small = (family_of(flux, parts) for parts in (Parts(), Parts(network=str(gguf_file))))
    expected, found = estimate(whole), estimate(small)
    assert 0 < (found - expected).abs().max() < 0.02 * expected.abs().max()
    assert small.facts.quantised_bytes == gguf_file.stat().st_size
    network = whole.pipeline.transformer  # type: ignore[attr-defined]
    own = sum(value.numel() for value in network.parameters())
    assert small.facts.parameters == whole.facts.parameters - own
    request = Request("a sea", Size(64, 64), model=str(flux), compute=CPU)
    plans = [plan(Request(**{**vars(request), "parts": parts})) for parts in (Parts(), Parts(network=str(gguf_file)))]
    assert plans[0].peak_memory_bytes - plans[1].peak_memory_bytes == 4 * own - gguf_file.stat().st_size


def test_a_lora_is_not_merged_into_quantised_weights(flux: Path, gguf_file: Path, tmp_path: Path) -> None:
    with quiet():
        lora = Lora(str(save_lora(SPECIMENS["flux-dev"].build(), tmp_path)), 0.5)
    plain, fused, beside = (
        estimate(family_of(flux, parts))
        for parts in (Parts(), Parts(loras=(lora,)), Parts(loras=(lora,), network=str(gguf_file)))
    )
    assert (fused - plain).abs().max() > 5 * (fused - beside).abs().max() > 0
    with pytest.raises(ModelError, match=r"quantised network; leave out :stages"):
        family_of(flux, Parts(loras=(replace(lora, stages_only=True),), network=str(gguf_file)))


def test_a_run_is_not_resumed_with_another_gguf_network(flux: Path, gguf_file: Path, tmp_path: Path) -> None:
    file = Path(shutil.copy(gguf_file, tmp_path / "flux.gguf"))
    request = Request(
        "a sea", Size(80, 64), model=str(flux), method=Method(steps=2), compute=CPU, parts=Parts(network=str(file))
    )
    expected = generate(request).pixels

    def stop(event: Event) -> None:
        if isinstance(event, Progress) and event.stage == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate(request, observer=stop, run_dir=tmp_path / "run")
    good = file.read_bytes()
    file.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    with pytest.raises(RunError, match="model was"):
        resume(tmp_path / "run")
    file.write_bytes(good)
    assert np.array_equal(resume(tmp_path / "run").pixels, expected)


@pytest.mark.parametrize("name", ["int8", "float8"])
def test_a_network_is_quantised_when_it_is_loaded(flux: Path, name: Any) -> None:
    expected, found = (estimate(family_of(flux, parts)) for parts in (Parts(), Parts(quantize=name)))
    assert 0 < (found - expected).abs().max() < 0.1 * expected.abs().max()


def test_a_quantised_model_is_not_quantised_again(flux: Path, gguf_file: Path) -> None:
    parts = Parts(network=str(gguf_file), quantize="int8")
    with pytest.raises(ModelError, match="quantised already"):
        needs.check_parts(parts)
    with pytest.raises(ModelError, match="quantised already"):
        loaded(flux, parts)


def test_a_folder_saved_quantised_is_loaded_quantised_and_counted(flux: Path, tmp_path: Path) -> None:
    with quiet():
        shutil.copytree(flux, tmp_path / "model")
        config = TorchAoConfig(Int8WeightOnlyConfig())
        network = FluxTransformer2DModel.from_pretrained(flux / "transformer", quantization_config=config)
        shutil.rmtree(tmp_path / "model" / "transformer")
        network.save_pretrained(tmp_path / "model" / "transformer")
    whole, small = (family_of(folder, Parts()) for folder in (flux, tmp_path / "model"))
    expected, found = estimate(whole), estimate(small)
    assert 0 < (found - expected).abs().max() < 0.1 * expected.abs().max()
    (file,) = (tmp_path / "model" / "transformer").glob("*.safetensors")
    assert small.facts.quantised_bytes == file.stat().st_size
