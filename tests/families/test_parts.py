"""Parts that are added to a model or replace its own files."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from diffusers import AutoencoderTiny
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from PIL import Image
from safetensors.torch import save_file

from pixelsmith import (
    Compute,
    LoadedModel,
    Lora,
    Method,
    MissingPartError,
    ModelError,
    Parts,
    Request,
    RequestError,
    RunError,
    Size,
    generate,
    plan,
    resume,
)
from pixelsmith.config.compute import DtypeName
from pixelsmith.families import Family, everywhere, find_model, load_family, model_files, read_facts
from pixelsmith.families.architecture import DiffusersFamily
from pixelsmith.families.loading import needs
from pixelsmith.families.loading.quiet import quiet
from pixelsmith.families.loading.single import read_part
from tests.stopping import stop_at
from tests.tiny import build_autoencoder, build_stable_diffusion
from tests.zoo.all import SPECIMENS
from tests.zoo.original import save_original, vae_tensors

CPU = Compute("cpu", "float32")


def loaded(model: Path, parts: Parts, dtype: DtypeName = "float32") -> Any:
    """The pipeline of a family."""
    place = find_model(str(model), parts=parts)
    family = load_family(place, read_facts(place, str(model), parts), Compute("cpu", dtype), parts)
    assert isinstance(family, DiffusersFamily)
    return family.pipeline


def save_lora(pipeline: Any, folder: Path, seed: int = 0) -> Path:
    """Random weights of rank 2 on the queries of every attention, saved as the pipeline's trainers save them."""
    part = "unet" if hasattr(pipeline, "unet") else "transformer"
    network = getattr(pipeline, part)
    network.add_adapter(LoraConfig(r=2, lora_alpha=2, target_modules=["to_q"], init_lora_weights=False))
    torch.manual_seed(seed)
    state = {name: torch.randn_like(value) for name, value in get_peft_model_state_dict(network).items()}
    pipeline.save_lora_weights(folder, **{f"{part}_lora_layers": state})
    network.delete_adapters("default")
    return folder / "pytorch_lora_weights.safetensors"


def queries(pipeline: Any) -> torch.Tensor:
    network = pipeline.unet if hasattr(pipeline, "unet") else pipeline.transformer
    found: torch.Tensor = next(v for name, v in network.state_dict().items() if name.endswith("to_q.weight"))
    return found


def parameters_of(*parts: Any) -> int:
    """Of modules and of pipelines."""
    modules = [module for part in parts for module in getattr(part, "components", {"": part}).values()]
    return sum(p.numel() for module in modules if isinstance(module, torch.nn.Module) for p in module.parameters())


def test_weights_that_are_not_loaded_are_not_counted(tmp_path: Path) -> None:
    """A cloned repository has every variant and often the whole model in one file as well."""
    pipeline = build_stable_diffusion()
    pipeline.save_pretrained(tmp_path / "model")
    save_original(pipeline, tmp_path / "model" / "whole-model.safetensors")
    pipeline.unet.save_pretrained(tmp_path / "model" / "unet", variant="non_ema")
    pipeline.unet.save_pretrained(tmp_path / "model" / "unet-of-yesterday")
    assert read_facts(tmp_path / "model", "x").parameters == parameters_of(pipeline)


def test_weights_of_added_parts_are_counted(tiny_model: Path, tmp_path: Path) -> None:
    tiny = AutoencoderTiny(
        encoder_block_out_channels=(8, 8, 8), decoder_block_out_channels=(8, 8, 8),
        num_encoder_blocks=(1, 1, 1), num_decoder_blocks=(1, 1, 1),
    )  # fmt: skip
    tiny.save_pretrained(tmp_path / "taesd")
    save_file({"rows": torch.ones(4, 5), "columns": torch.ones(7)}, tmp_path / "style.safetensors")
    own = build_stable_diffusion()
    parts = Parts(vae=str(tmp_path / "taesd"), loras=(Lora(str(tmp_path / "style.safetensors")),))
    expected = parameters_of(own.unet, own.text_encoder, tiny) + 27
    assert read_facts(tiny_model, "x", parts).parameters == expected


def test_a_variant_of_the_weights_is_loaded_and_counted(tmp_path: Path) -> None:
    pipeline = build_stable_diffusion()
    pipeline.save_pretrained(tmp_path / "model")
    pipeline.to(dtype=torch.float16).save_pretrained(tmp_path / "model", variant="fp16")
    whole, half = (read_facts(tmp_path / "model", "x", Parts(variant=name)) for name in (None, "fp16"))
    assert half.parameters == whole.parameters == parameters_of(pipeline)
    assert loaded(tmp_path / "model", Parts(variant="fp16")).unet is not None
    with pytest.raises(ModelError, match="cannot be loaded"):
        loaded(tmp_path / "model", Parts(variant="fp8"))


def test_a_given_part_is_loaded_in_the_variant_if_it_has_it(tiny_model: Path, tmp_path: Path) -> None:
    vae = build_autoencoder()
    vae.save_pretrained(tmp_path / "vae")
    parts = Parts(vae=str(tmp_path / "vae"), variant="other")
    vae.decoder.conv_out.bias.data += 1
    vae.save_pretrained(tmp_path / "vae", variant="other")
    assert {path.name for path in model_files(tiny_model, parts) if path.parent == tmp_path / "vae"} == {
        "config.json", "diffusion_pytorch_model.other.safetensors"
    }  # fmt: skip
    assert same(read_part(tmp_path / "vae", "vae", tiny_model, torch.float32, parts), vae)
    plain = read_part(tmp_path / "vae", "vae", tiny_model, torch.float32, Parts(variant="another"))
    assert same(plain, build_autoencoder())


def test_a_given_part_is_loaded_from_pickle_files_only_if_allowed(tiny_model: Path, tmp_path: Path) -> None:
    vae = build_autoencoder()
    vae.decoder.conv_out.bias.data += 1
    vae.save_pretrained(tmp_path / "vae", safe_serialization=False)
    torch.save(vae_tensors(vae, prefix=""), tmp_path / "vae.pt")
    for place in (tmp_path / "vae", tmp_path / "vae.pt"):
        assert same(loaded(tiny_model, Parts(vae=str(place), allow_pickle=True)).vae, vae)
        with pytest.raises(ModelError, match=r"cannot be loaded|--allow-pickle"):
            loaded(tiny_model, Parts(vae=str(place)))


def same(found: Any, expected: Any) -> bool:
    return torch.equal(found.decoder.conv_out.bias, expected.decoder.conv_out.bias)


@pytest.mark.parametrize("config", [None, "{"])
def test_a_given_folder_without_a_valid_config_is_refused(tiny_model: Path, tmp_path: Path, config: str | None) -> None:
    if config:
        (tmp_path / "config.json").write_text(config)
    for parts in (Parts(vae=str(tmp_path)), Parts(network=str(tmp_path))):
        with pytest.raises(ModelError, match=r"no config\.json: expected the folder of one part|expected an object"):
            read_facts(tiny_model, "x", parts)


@pytest.mark.parametrize(
    ("parts", "timesteps"),
    [
        (Parts(), [751, 501, 251, 1]),
        (Parts(timestep_spacing="trailing"), [999, 749, 499, 249]),
        (Parts(scheduler="LCMScheduler"), [999, 759, 499, 259]),
        (Parts(scheduler="DDIMScheduler", timestep_spacing="trailing"), [999, 749, 499, 249]),
    ],
)
def test_timesteps_are_those_of_the_chosen_scheduler_and_spacing(
    tmp_path: Path, parts: Parts, timesteps: list[int]
) -> None:
    with quiet():
        SPECIMENS["sdxl"].save(tmp_path)
    family = load_family(tmp_path, read_facts(tmp_path, "xl", parts), CPU, parts)
    assert [level.timestep for level in family.schedule(4).levels[:-1]] == timesteps


def test_pickle_files_are_loaded_only_if_allowed(tiny_model: Path, tmp_path: Path) -> None:
    pipeline = build_stable_diffusion()
    pipeline.save_pretrained(tmp_path / "model", safe_serialization=False)
    # transformers writes no other weights than safe ones.
    (tmp_path / "model" / "text_encoder").rename(tmp_path / "old")
    shutil.copytree(tiny_model / "text_encoder", tmp_path / "model" / "text_encoder")
    assert next((tmp_path / "model" / "unet").glob("*.bin"))
    with pytest.raises(ModelError, match="--allow-pickle loads them"):
        loaded(tmp_path / "model", Parts())
    found = loaded(tmp_path / "model", Parts(allow_pickle=True))
    assert torch.equal(queries(found), queries(pipeline))


def test_a_tiny_autoencoder_replaces_that_of_the_model(tiny_model: Path, tmp_path: Path) -> None:
    channels = {"encoder_block_out_channels": (8, 8, 8), "decoder_block_out_channels": (8, 8, 8)}
    blocks = {"num_encoder_blocks": (1, 1, 1), "num_decoder_blocks": (1, 1, 1)}
    AutoencoderTiny(**channels, **blocks).save_pretrained(tmp_path / "taesd")
    AutoencoderTiny(latent_channels=16, **channels, **blocks).save_pretrained(tmp_path / "of another model")
    request = Request("a sea", Size(150, 130), model=str(tiny_model), method=Method(steps=2), compute=CPU)
    own = generate(request).pixels
    tiny = generate(replace(request, parts=Parts(vae=str(tmp_path / "taesd")))).pixels
    assert tiny.shape == own.shape
    assert not np.array_equal(tiny, own)
    with pytest.raises(ModelError, match="4 channels at 1/4 of the size, got 16"):
        generate(replace(request, parts=Parts(vae=str(tmp_path / "of another model"))))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_single_file_has_the_weights_of_the_folder_it_was_made_of(
    tiny_model: Path, tmp_path: Path, dtype: DtypeName
) -> None:
    file = save_original(build_stable_diffusion(), tmp_path / "shared.safetensors")
    found, expected = (
        loaded(model, parts, dtype) for model, parts in ((file, Parts(config=str(tiny_model))), (tiny_model, Parts()))
    )
    for part in ("unet", "vae", "text_encoder"):
        ours, theirs = (getattr(pipeline, part).state_dict() for pipeline in (found, expected))
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
        assert getattr(found, part).dtype == getattr(torch, dtype)


def test_a_replaced_autoencoder_has_the_dtype_of_the_model(tiny_model: Path) -> None:
    found = loaded(tiny_model, Parts(vae=str(tiny_model / "vae")), "bfloat16")
    assert found.vae.dtype == found.unet.dtype == torch.bfloat16


def test_the_error_for_a_single_file_without_configuration_names_the_repository_it_needs(tmp_path: Path) -> None:
    file = save_original(build_stable_diffusion(), tmp_path / "shared.safetensors")
    with pytest.raises(ModelError, match=r"stable-diffusion-v1-5.*--model-config"):
        read_facts(file, "x")


def test_a_configuration_is_refused_for_a_model_folder(tiny_model: Path) -> None:
    with pytest.raises(ModelError, match="leave out --model-config other"):
        read_facts(tiny_model, "x", Parts(config="other"))


def test_invalid_weight_files_are_refused(tmp_path: Path) -> None:
    for name in ("model.ckpt", "model.safetensors"):
        (tmp_path / name).write_bytes(b"nonsense")
    with pytest.raises(ModelError, match="--allow-pickle"):
        find_model(str(tmp_path / "model.ckpt"))
    with pytest.raises(ModelError, match=r"no complete \.safetensors file"):
        read_facts(find_model(str(tmp_path / "model.safetensors")), "x")


def test_loras_are_summed_in_proportion_to_their_weights(tiny_model: Path, tmp_path: Path) -> None:
    pipeline = build_stable_diffusion()
    first, second = (save_lora(pipeline, tmp_path / str(seed), seed) for seed in (1, 2))
    zero = queries(loaded(tiny_model, Parts()))

    def change(*loras: Lora) -> torch.Tensor:
        return queries(loaded(tiny_model, Parts(loras=loras))) - zero

    one, other = change(Lora(str(first))), change(Lora(str(second.parent)))
    assert one.abs().max() > 0.1
    both = change(Lora(str(first), 0.5), Lora(str(second), -2.0))
    torch.testing.assert_close(both, 0.5 * one - 2 * other, atol=1e-4, rtol=1e-4)


def test_a_lora_changes_the_picture(tiny_model: Path, tmp_path: Path) -> None:
    file = save_lora(build_stable_diffusion(), tmp_path)
    request = Request("a sea", Size(64, 64), model=str(tiny_model), method=Method(steps=2), compute=CPU)
    pictures = [
        generate(replace(request, parts=Parts(loras=(Lora(str(file), weight),)))).pixels for weight in (0.0, 1.0)
    ]
    assert np.array_equal(pictures[0], generate(request).pixels)
    assert (pictures[0] != pictures[1]).mean() > 0.1


OF_PIPELINES = {specimen.pipeline: name for name, specimen in SPECIMENS.items()}
"""One specimen for each class of pipelines."""


def family_of(folder: Path, parts: Parts) -> Family:
    place = find_model(str(folder), parts=parts)
    return load_family(place, read_facts(place, str(folder), parts), CPU, parts)


@torch.inference_mode()
def prediction(family: Family, in_stages: bool = False) -> torch.Tensor:
    """What it takes for the clean latents of a patch."""
    patch, level = family.facts.patch, family.schedule(10).levels[4]
    shape = (1, family.facts.latent_channels, patch.height, patch.width)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    prompt_at = everywhere(family.encode("a sea", "")[0])
    return family.denoiser(prompt_at, family.facts.native_size, 3.0, None, in_stages)(x, level, [patch.window])


@pytest.mark.parametrize("pipeline", [name for name in OF_PIPELINES if hasattr(getattr(diffusers, name), "fuse_lora")])
def test_a_lora_changes_the_prediction_of_every_family_that_supports_it(pipeline: str, tmp_path: Path) -> None:
    with quiet():
        model = SPECIMENS[OF_PIPELINES[pipeline]].build()
        model.save_pretrained(tmp_path / "model")
        file = save_lora(model, tmp_path / "lora")
    plain, off, on = (
        prediction(family_of(tmp_path / "model", Parts(loras=loras)))
        for loras in ((), (Lora(str(file), 0.0),), (Lora(str(file)),))
    )
    torch.testing.assert_close(off, plain, atol=1e-5, rtol=1e-5)
    assert (on - plain).abs().max() > 1e-3
    family = family_of(tmp_path / "model", Parts(loras=(Lora(str(file), stages_only=True),)))
    for in_stages, expected in ((False, plain), (True, on), (False, plain), (True, on)):
        assert torch.equal(prediction(family, in_stages), expected)


def test_loras_of_the_stages_alone_are_added_to_the_others(tiny_model: Path, tmp_path: Path) -> None:
    pipeline = build_stable_diffusion()
    first, second = (str(save_lora(pipeline, tmp_path / str(seed), seed)) for seed in (1, 2))
    together = prediction(family_of(tiny_model, Parts(loras=(Lora(first, 0.5), Lora(second, -1.0)))))
    family = family_of(tiny_model, Parts(loras=(Lora(second, -1.0, stages_only=True), Lora(first, 0.5))))
    alone = prediction(family_of(tiny_model, Parts(loras=(Lora(first, 0.5),))))
    assert torch.equal(prediction(family, False), alone)
    torch.testing.assert_close(prediction(family, True), together, atol=1e-5, rtol=1e-5)


def test_the_base_is_made_without_loras_of_the_stages_alone(tiny_model: Path, tmp_path: Path) -> None:
    """Also of a second picture, after the stages of the first one."""
    lora = Lora(str(save_lora(build_stable_diffusion(), tmp_path)), stages_only=True)
    request = Request("a sea", Size(128, 128), model=str(tiny_model), method=Method(steps=2), compute=CPU)
    Image.fromarray(base := LoadedModel.of(request).base(request)).save(tmp_path / "base.png")
    above = replace(request, from_image=str(tmp_path / "base.png"), method=Method(steps=2, slider=0.5))
    expected = generate(replace(above, parts=Parts(loras=(replace(lora, stages_only=False),)))).pixels
    staged = replace(request, parts=Parts(loras=(lora,)), method=Method(steps=2, slider=0.5))
    with LoadedModel.of(staged) as model:
        for _ in range(2):
            assert np.array_equal(model.base(staged), base)
            assert np.array_equal(model.generate(staged).pixels, expected)


def test_loras_of_the_stages_alone_are_refused_where_weights_cannot_be_exchanged(
    tiny_model: Path, tmp_path: Path
) -> None:
    lora = Lora(str(save_lora(build_stable_diffusion(), tmp_path)), stages_only=True)
    with pytest.raises(RequestError, match=r"quantize: .*leave out :stages"):
        Parts(loras=(lora,), quantize="int8")
    request = Request("a sea", Size(64, 64), model=str(tiny_model), parts=Parts(loras=(lora,)))
    with pytest.raises(RequestError, match=r"memory: sequential .*leave out :stages"):
        plan(replace(request, compute=replace(CPU, memory="sequential")))


def test_a_plan_counts_both_values_of_weights_that_are_exchanged(tiny_model: Path, tmp_path: Path) -> None:
    lora = Lora(str(save_lora(build_stable_diffusion(), tmp_path)))
    request = Request("a sea", Size(64, 64), model=str(tiny_model), compute=CPU)
    usual, staged = (
        plan(replace(request, parts=Parts(loras=(replace(lora, stages_only=only),)))).peak_memory_bytes
        for only in (False, True)
    )
    assert staged - usual == 4 * parameters_of(loaded(tiny_model, Parts()).unet)


def test_every_family_but_pixart_supports_lora() -> None:
    without = {name for name in OF_PIPELINES if not hasattr(getattr(diffusers, name), "load_lora_weights")}
    assert without == {"PixArtSigmaPipeline"}


def foreign_lora(folder: Path) -> Path:
    with quiet():
        return save_lora(SPECIMENS["flux-dev"].build(), folder / "foreign")


def nonsense(folder: Path) -> Path:
    (folder / "nonsense.safetensors").write_bytes(b"nonsense")
    return folder / "nonsense.safetensors"


@pytest.mark.parametrize("make", [foreign_lora, nonsense, lambda folder: folder / "missing.safetensors"])
def test_an_invalid_lora_or_one_of_another_model_is_refused(
    tiny_model: Path, tmp_path: Path, make: Callable[[Path], Path]
) -> None:
    file = make(tmp_path)
    with pytest.raises(ModelError, match=file.name):
        loaded(tiny_model, Parts(loras=(Lora(str(file)),)))


def test_loras_are_refused_by_a_family_that_does_not_support_them(tmp_path: Path) -> None:
    with quiet():
        SPECIMENS["pixart-sigma"].save(tmp_path / "model")
    file = str(tmp_path / "any.safetensors")
    save_file({"any": torch.zeros(1)}, file)
    with pytest.raises(ModelError, match="does not support LoRA"):
        loaded(tmp_path / "model", Parts(loras=(Lora(file),)))
    with pytest.raises(ModelError, match="does not support textual inversion"):
        loaded(tmp_path / "model", Parts(textual_inversions=(file,)))


@pytest.mark.parametrize(
    ("parts", "library", "extra"),
    [
        (Parts(quantize="int8"), "torchao", "quantized"),
        (Parts(network="a.gguf"), "gguf", "quantized"),
        (Parts(upsampler="a.safetensors"), "spandrel", "upsampler"),
    ],
)
def test_the_error_for_a_missing_library_contains_the_command_that_installs_it(
    tiny_model: Path, parts: Parts, library: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(needs, "find_spec", lambda name: None)
    # The file is not there: nothing of it is looked at.
    request = Request("a sea", Size(64, 64), model=str(tiny_model), parts=parts)
    with pytest.raises(MissingPartError, match=rf"needs {library}.*pip install 'pixelsmith\[{extra}\]'"):
        generate(request)


def test_a_textual_inversion_changes_the_encoding_of_its_word_only(tiny_model: Path, tmp_path: Path) -> None:
    file = tmp_path / "glacier.safetensors"
    save_file({"emb_params": torch.randn(2, 16)}, file)
    before, after = (loaded(tiny_model, parts) for parts in (Parts(), Parts(textual_inversions=(str(file),))))
    found, expected = (
        pipeline.encode_prompt(text, "cpu", 1, False)[0]
        for pipeline, text in ((after, "a glacier"), (before, "a glacier"))
    )
    assert not torch.equal(found, expected)
    tokens = after.tokenizer("glacier_1", add_special_tokens=False).input_ids
    assert len(tokens) == 1, "the second vector has a token of its own"
    same = [pipeline.encode_prompt("a sea", "cpu", 1, False)[0] for pipeline in (before, after)]
    torch.testing.assert_close(*same)


@pytest.mark.parametrize(("name", "second"), [("sdxl", "clip_g"), ("flux-dev", "t5")])
def test_a_textual_inversion_has_vectors_for_each_of_two_text_encoders(tmp_path: Path, name: str, second: str) -> None:
    with quiet():
        SPECIMENS[name].save(tmp_path / "model")
    file = tmp_path / "glacier.safetensors"
    save_file({"clip_l": torch.randn(1, 16), second: torch.randn(1, 16)}, file)
    before, after = (
        family_of(tmp_path / "model", parts).encode("a glacier", "a sea")
        for parts in (Parts(), Parts(textual_inversions=(str(file),)))
    )
    for key, value in before[0].items():
        # SDXL's encoders have half of the channels each.
        changes = (after[0][key] - value).abs().flatten(0, -2).amax(0)
        assert (changes > 1e-3).all(), key
        assert torch.equal(after[1][key], before[1][key]), "the other prompt does not have the word"
    save_file({"any": torch.zeros(1)}, file)
    with pytest.raises(ModelError, match="no textual inversion"):
        loaded(tmp_path / "model", Parts(textual_inversions=(str(file),)))


VECTORS = {"StableDiffusionXLPipeline": ("clip_l", "clip_g"), "FluxPipeline": ("clip_l", "t5")}
TAKE_WORDS = [name for name in OF_PIPELINES if hasattr(getattr(diffusers, name), "load_textual_inversion")]


@pytest.mark.parametrize("pipeline", TAKE_WORDS)
def test_a_textual_inversion_changes_the_prediction_of_every_family_that_supports_it(
    pipeline: str, tmp_path: Path
) -> None:
    with quiet():
        SPECIMENS[OF_PIPELINES[pipeline]].save(tmp_path / "model")
    file = tmp_path / "sea.safetensors"
    save_file({name: torch.randn(1, 16) for name in VECTORS.get(pipeline, ("emb_params",))}, file)
    plain, new = (
        prediction(family_of(tmp_path / "model", parts)) for parts in (Parts(), Parts(textual_inversions=(str(file),)))
    )
    assert (new - plain).abs().max() > 1e-4


def test_a_textual_inversion_of_another_model_is_refused(tmp_path: Path) -> None:
    with quiet():
        SPECIMENS["sdxl"].save(tmp_path / "model")
    save_file({"emb_params": torch.randn(1, 16)}, tmp_path / "glacier.safetensors")
    with pytest.raises(ModelError, match="no textual inversion"):
        loaded(tmp_path / "model", Parts(textual_inversions=(str(tmp_path / "glacier.safetensors"),)))


def test_the_error_of_a_library_is_cut_to_one_line(tiny_model: Path, tmp_path: Path) -> None:
    """diffusers prints all tensors of a file that is no textual inversion."""
    save_file({f"layer-{i}": torch.randn(50, 50) for i in range(20)}, tmp_path / "style.safetensors")
    with pytest.raises(ModelError, match="no textual inversion") as refused:
        loaded(tiny_model, Parts(textual_inversions=(str(tmp_path / "style.safetensors"),)))
    assert len(str(refused.value)) < len(2 * str(tmp_path)) + 500


def test_a_run_is_not_resumed_with_a_changed_lora(tiny_model: Path, tmp_path: Path) -> None:
    """Resumed with another file instead of the LoRA that it was begun with, it is refused."""
    pipeline = build_stable_diffusion()
    file = save_lora(pipeline, tmp_path / "lora")
    request = Request(
        "a sea", Size(150, 130), model=str(tiny_model), method=Method(steps=2), compute=CPU,
        parts=Parts(loras=(Lora(str(file)),)),
    )  # fmt: skip
    expected = generate(request).pixels

    with pytest.raises(KeyboardInterrupt):
        generate(request, observer=stop_at(stage=1), run_dir=tmp_path / "run")
    good = file.read_bytes()
    save_lora(pipeline, tmp_path / "lora", seed=5)
    with pytest.raises(RunError, match="model was"):
        resume(tmp_path / "run")
    file.write_bytes(good)
    assert np.array_equal(resume(tmp_path / "run").pixels, expected)
