"""A model that lacks something is refused before anything is loaded, by planning as well."""

from __future__ import annotations

import json
import os
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pixelsmith import Lora, Request, Size, plan
from pixelsmith.config.compute import Compute
from pixelsmith.config.parts import Parts
from pixelsmith.config.request import EMBEDDED
from pixelsmith.errors import ModelError
from pixelsmith.families import load_family, read_facts
from pixelsmith.families.loading import complete
from pixelsmith.families.loading.complete import check_complete, check_tokenizers
from tests.zoo.all import SPECIMENS

FAMILIES = (
    "epsilon", "sdxl", "sd3", "flux-dev", "qwen-image", "flux-2-klein", "chroma", "lumina-2", "z-image", "sana",
    "pixart-sigma",
)  # fmt: skip


@pytest.fixture(scope="module", params=FAMILIES)
def specimen(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of every family."""
    # diffusers warns its own transformer of a class that it has moved.
    with warnings.catch_warnings(action="ignore"):
        return SPECIMENS[request.param].save(tmp_path_factory.mktemp("zoo") / request.param)


def test_the_error_for_a_missing_file_of_a_model_names_it(specimen: Path) -> None:
    """Each file of every part: gone, or empty. Stable Diffusion 3 can do without its third text encoder."""
    check_complete(specimen, Parts())
    check_complete(specimen, Parts(), fetched=True)
    additional = {"generation_config.json", "chat_template.jinja", "pixelsmith.json"}
    for file in sorted(path for path in specimen.rglob("*") if path.is_file() and path.name not in additional):
        content = file.read_bytes()
        file.unlink()
        with pytest.raises(ModelError, match=file.parent.name):
            check_complete(specimen, Parts())
        file.touch()
        with pytest.raises(ModelError, match=file.parent.name):
            check_complete(specimen, Parts())
        file.write_bytes(content)
    for folder in (path for path in specimen.iterdir() if path.is_dir() and path.name != "text_encoder_3"):
        folder.rename(specimen.parent / "aside")
        with pytest.raises(ModelError, match=folder.name):
            check_complete(specimen, Parts())
        (specimen.parent / "aside").rename(folder)


def written(file: Path, content: bytes) -> Callable[[], object]:
    """A file with another content, and how to undo that."""
    before = file.read_bytes()
    file.write_bytes(content)
    return lambda: file.write_bytes(before)


def test_a_text_encoder_with_an_incomplete_or_wrong_configuration_is_refused(specimen: Path) -> None:
    """What it leaves out would be that of the family's largest model: gigabytes."""
    for file in specimen.glob("text_encoder*/config.json"):
        config = json.loads(file.read_text())
        sizes = ("vocab_size", "hidden_size", "d_model", "num_hidden_layers", "num_layers")
        inner = config.get("text_config", config)
        wrong: list[dict[str, Any]] = [{}, {"architectures": config["architectures"]}]
        for name in filter(inner.__contains__, sizes):
            without, other = {key: value for key, value in inner.items() if key != name}, {**inner, name: 10**7}
            nested = "text_config" in config
            wrong += [{**config, "text_config": values} if nested else values for values in (without, other)]
        for values in wrong:
            undo = written(file, json.dumps(values).encode())
            with pytest.raises(ModelError, match=rf"{file.parent.name}.*config\.json"):
                check_complete(specimen, Parts())
            undo()


def test_an_empty_or_truncated_file_of_a_model_is_refused(specimen: Path) -> None:
    """By its name, and by planning as well: each JSON file that a part needs, each file of weights."""
    additional = {"generation_config.json", "pixelsmith.json"}
    for file in (path for path in specimen.glob("*/*.json") if path.name not in additional):
        undo = written(file, b"{}")
        with pytest.raises(ModelError, match=rf"{file.parent.name}.*{file.name}"):
            check_complete(specimen, Parts())
        undo()
    for file in specimen.glob("*/*.safetensors"):
        content = file.read_bytes()
        for part in (b"", content[:5], content[:200], content[:-1]):
            undo = written(file, part)
            with pytest.raises(ModelError, match=f"{file}: it is {'no complete' if part else 'empty'}"):
                check_complete(specimen, Parts())
            undo()
    for file in specimen.glob("tokenizer*/tokenizer.json"):
        undo = written(file, file.read_bytes()[:500])
        with pytest.raises(ModelError, match=r"tokenizer\.json"):
            check_complete(specimen, Parts())
        undo()


@pytest.fixture
def model(tiny_model: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(tiny_model, tmp_path / "model"))


@pytest.mark.parametrize("part", ["tokenizer", "text_encoder", "scheduler", "vae", "unet"])
@pytest.mark.parametrize("value", [[None, None], None, ["transformers"], [1, 2]])
def test_a_required_part_missing_from_the_model_index_is_reported(model: Path, part: str, value: Any) -> None:
    index = json.loads((model / "model_index.json").read_text())
    (model / "model_index.json").write_text(json.dumps({**index, part: value}))
    with pytest.raises(ModelError, match=part):
        check_complete(model, Parts())


def test_the_expected_vocabulary_files_follow_from_the_tokenizer_class(model: Path) -> None:
    folder = model / "tokenizer"
    vocabulary = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    with pytest.raises(ModelError, match=r"a CLIPTokenizer, lacks tokenizer\.json, or vocab\.json and merges\.txt"):
        check_complete(model, Parts())
    (folder / "merges.txt").write_text("#version: 0.2\n")
    family = load_family(model, read_facts(model, "x"), Compute("cpu", "float32"))
    (one, _), (other, _) = family.encode("sea", ""), family.encode("ice", "")
    assert not one["encoder_hidden_states"].equal(other["encoder_hidden_states"])


def test_a_class_unknown_to_transformers_is_refused(model: Path) -> None:
    index = (model / "model_index.json").read_text()
    (model / "model_index.json").write_text(index.replace("CLIPTokenizer", "RuneTokenizer"))
    with pytest.raises(ModelError, match="class RuneTokenizer, which transformers here does not have"):
        check_complete(model, Parts())


@pytest.mark.parametrize(
    ("part", "said", "expected"),
    [
        ("vae", ["diffusers", "AutoencoderVast"], "class AutoencoderVast, which diffusers here does not have"),
        ("vae", ["diffusers", "AutoencoderTiny"], "vae of this model is of the class AutoencoderTiny, its config.json"),
        ("unet", ["diffusers", "AutoencoderKL"], "unet of this model is of the class AutoencoderKL, its config.json"),
        ("unet", ["transformers", "CLIPTextModel"], "is of the class CLIPTextModel, its config.json"),
        ("unet", ["os", "system"], "unet is of the library 'os'"),
        ("text_encoder", ["transformers", "Nonsense"], "text_encoder is of the class Nonsense, which transformers"),
        ("text_encoder", ["transformers", "CLIPTokenizer"], "text_encoder of this model, a CLIPTokenizer, lacks"),
        ("tokenizer", ["transformers", "CLIPTextModel"], "tokenizer of this model, a CLIPTextModel, lacks"),
        ("scheduler", ["transformers", "DDIMScheduler"], "scheduler is of the class DDIMScheduler, which transformers"),
        ("scheduler", ["diffusers", "CLIPTextModel"], "scheduler is of the class CLIPTextModel, which diffusers"),
    ],
)
def test_a_part_of_an_unexpected_class_is_refused(model: Path, part: str, said: list[str], expected: str) -> None:
    index = json.loads((model / "model_index.json").read_text())
    (model / "model_index.json").write_text(json.dumps({**index, part: said}))
    with pytest.raises(ModelError, match=expected):
        check_complete(model, Parts())


def test_classes_that_are_assumed_to_exist_do_exist() -> None:
    from diffusers.pipelines.pipeline_loading_utils import simple_get_class_obj

    for library, kinds in complete._USUAL.items():
        for kind in kinds:
            assert simple_get_class_obj(library, kind)


def test_planning_checks_added_parts(tiny_model: Path, tmp_path: Path) -> None:
    missing, empty = tmp_path / "missing.safetensors", tmp_path / "empty.safetensors"
    empty.touch()
    for name in (str(missing), str(empty)):
        for parts in (Parts(loras=(Lora(name),)), Parts(textual_inversions=(name,)), Parts(vae=name)):
            for model in (EMBEDDED, str(tiny_model)):
                with pytest.raises(ModelError, match=f"{Path(name).stem}.safetensors"):
                    plan(Request("x", Size(64, 64), model=model, parts=parts))


def spoilt(change: Callable[[Any], object]) -> Any:
    pipeline = SPECIMENS["sdxl"].build()
    change(pipeline)
    return pipeline


@pytest.mark.parametrize("specimen_name", list(SPECIMENS))
def test_tokenizers_of_all_families_fit_their_text_encoders(specimen_name: str) -> None:
    with warnings.catch_warnings(action="ignore"):
        pipeline = SPECIMENS[specimen_name].build()
    check_tokenizers(pipeline, "x")
    for name in ("text_encoder", "text_encoder_2", "text_encoder_3"):
        if encoder := getattr(pipeline, name, None):
            rows = encoder.get_input_embeddings().weight.shape[0]
            encoder.resize_token_embeddings(rows + rows // 12)
            check_tokenizers(pipeline, "x")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda pipeline: pipeline.tokenizer.add_tokens(["river"]), "its tokenizer has 515 tokens, its text_encoder"),
        (lambda pipeline: pipeline.tokenizer_2.add_tokens(["river"]), "its tokenizer_2 has 515 tokens"),
        (lambda pipeline: pipeline.text_encoder_2.resize_token_embeddings(700), "text_encoder_2 knows 700"),
        (lambda pipeline: setattr(pipeline.tokenizer, "model_max_length", 10**30), "its text_encoder reads 16"),
        (lambda pipeline: setattr(pipeline.tokenizer, "model_max_length", -5), "leaves no room for words"),
        (lambda pipeline: setattr(pipeline.tokenizer_2, "model_max_length", 2), "at least 3 in its tokenizer_config"),
    ],
)
def test_a_tokenizer_of_another_text_encoder_is_refused(change: Callable[[Any], object], said: str) -> None:
    with pytest.raises(ModelError, match=said):
        check_tokenizers(spoilt(change), "x")


def test_a_vocabulary_without_words_is_refused_when_loaded(model: Path) -> None:
    file = model / "tokenizer" / "tokenizer.json"
    values = json.loads(file.read_text())
    ends = {"<|startoftext|>": 0, "<|endoftext|>": 1}
    file.write_text(json.dumps({**values, "model": {**values["model"], "vocab": ends}}))
    with pytest.raises(ModelError, match="do not belong together, or the tokenizer's files are damaged"):
        load_family(model, read_facts(model, "x"), Compute("cpu"))


@pytest.mark.parametrize(("template", "said"), [(None, "lacks chat_template"), ("{{ 1 }}", "leaves out the prompt")])
def test_a_chat_model_without_a_usable_chat_template_is_refused(
    tmp_path: Path, template: str | None, said: str
) -> None:
    folder = SPECIMENS["z-image"].save(tmp_path / "model")
    file = folder / "tokenizer" / "chat_template.jinja"
    file.unlink()
    if template is not None:
        file.write_text(template)
    with pytest.raises(ModelError, match=said):
        load_family(folder, read_facts(folder, "x"), Compute("cpu", "float32"))


def test_weight_files_are_found_by_variant_format_and_shard(model: Path) -> None:
    weights = model / "unet" / "diffusion_pytorch_model.safetensors"
    half = weights.rename(weights.with_name("diffusion_pytorch_model.fp16.safetensors"))
    with pytest.raises(ModelError, match=r"unet of this model has no weights there.*--variant fp16 loads"):
        check_complete(model, Parts())
    check_complete(model, Parts(variant="fp16"))
    pickle = half.rename(weights.with_name("diffusion_pytorch_model.bin"))
    with pytest.raises(ModelError, match="--allow-pickle loads them"):
        check_complete(model, Parts())
    first, second = (f"diffusion_pytorch_model-0000{i}-of-00002.safetensors" for i in (1, 2))
    pickle.rename(weights.with_name(first))
    index = {"weight_map": {"conv_in.weight": first, "conv_out.weight": second}}
    weights.with_name("diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelError, match=f"the unet of this model lacks {second}"):
        check_complete(model, Parts())


@pytest.mark.parametrize(
    ("file", "values", "said"),
    [
        ("unet/config.json", {"sample_size": 10**12}, "sample size: expected at most"),
        ("unet/config.json", {"sample_size": None}, "a size needs whole numbers"),
        (
            "scheduler/scheduler_config.json",
            {"num_train_timesteps": 10**9},
            "train timesteps: expected at most",
        ),
        ("vae/config.json", {"latent_channels": 0}, "latent channels: expected a whole number"),
        (
            "scheduler/scheduler_config.json",
            {"num_train_timesteps": "many"},
            "train timesteps: expected a whole number",
        ),
        ("scheduler/scheduler_config.json", {"num_train_timesteps": -1}, "train timesteps: expected a whole number"),
    ],
)
def test_the_error_for_an_impossible_number_in_a_configuration_names_the_model(
    model: Path, file: str, values: dict[str, Any], said: str
) -> None:
    config = json.loads((model / file).read_text())
    (model / file).write_text(json.dumps(config | values))
    with pytest.raises(ModelError, match=f"mine: its configuration cannot be used: {said}"):
        read_facts(model, "mine")


def test_an_unknown_prediction_type_is_refused(model: Path) -> None:
    file = model / "scheduler" / "scheduler_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"prediction_type": "velocity"}))
    with pytest.raises(ModelError, match=r"prediction_type: expected one of epsilon, .*, got 'velocity'"):
        read_facts(model, "x")


def test_a_class_name_that_is_not_a_string_is_refused(model: Path) -> None:
    file = model / "vae" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"_class_name": ["AutoencoderKL"]}))
    with pytest.raises(ModelError, match=r"config\.json says \['AutoencoderKL'\]"):
        check_complete(model, Parts())


@pytest.mark.parametrize("few", [{"lora": 5}, {"lora": "few.safetensors", "stages_only": True, "method": 5}])
def test_an_invalid_few_step_variant_is_refused(model: Path, few: dict[str, Any]) -> None:
    (model / "pixelsmith.json").write_text(json.dumps({"few_steps": few}))
    with pytest.raises(ModelError, match="few_steps: expected lora"):
        check_complete(model, Parts(few_steps=True))


@pytest.mark.parametrize("of_base", [{"method": {"steps": 4}}, {"scheduler": "LCMScheduler"}])
def test_a_few_step_variant_of_the_stages_alone_sets_nothing_of_the_base(model: Path, of_base: dict[str, Any]) -> None:
    few = {"lora": "few.safetensors", "stages_only": True, **of_base}
    (model / "pixelsmith.json").write_text(json.dumps({"few_steps": few}))
    with pytest.raises(ModelError, match=r"nothing of the base, but it sets (steps|scheduler)"):
        check_complete(model, Parts(few_steps=True))


def test_a_named_pipe_in_place_of_a_file_is_refused_without_waiting(model: Path) -> None:
    (model / "model_index.json").unlink()
    os.mkfifo(model / "model_index.json")
    with pytest.raises(ModelError, match=r"model_index\.json: expected a file"):
        check_complete(model, Parts())
