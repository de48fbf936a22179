"""Prompts whose words have weights, and prompts of any length. The specimens' text encoders read 14 letters."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from pixelsmith import (
    Compute,
    Method,
    MissingPartError,
    Parts,
    Request,
    RequestError,
    Size,
    Warned,
    generate,
    plan,
    resume,
)
from pixelsmith.config.compute import DtypeName
from pixelsmith.config.request import EMBEDDED
from pixelsmith.events import Event
from pixelsmith.families import Family, everywhere, find_model, load_family, read_facts
from pixelsmith.families.loading.quiet import quiet
from pixelsmith.families.shared import weighting
from tests.stopping import stop_at
from tests.zoo.all import SPECIMENS

LONG = "a coast, snowy mountains far behind it, "
Load = Callable[..., Family]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    with quiet():
        saved = {name: SPECIMENS[name].save(root / name) for name in ("epsilon", "lcm", "sdxl", "flux-dev")}
    return {**saved, EMBEDDED: find_model(EMBEDDED)}


@pytest.fixture
def load(folders: dict[str, Path]) -> Load:
    def loaded(name: str, dtype: DtypeName = "float32", parts: Parts | None = None) -> Family:
        parts = parts or Parts()
        return load_family(folders[name], read_facts(folders[name], name, parts), Compute("cpu", dtype), parts)

    return loaded


def embeddings(family: Family, prompt: str, weighted: bool = True) -> torch.Tensor:
    with torch.inference_mode():
        return family.encode(prompt, "roads", weighted)[0]["encoder_hidden_states"]


@torch.inference_mode()
@pytest.mark.parametrize("negative", ["roads", ""])
@pytest.mark.parametrize("name", ["epsilon", "lcm", "sdxl", EMBEDDED])
def test_a_prompt_without_weights_is_encoded_as_by_the_pipeline(load: Load, name: str, negative: str) -> None:
    family = load(name)
    plain, weighted = (family.encode("a coast", negative, flag) for flag in (False, True))
    for expected, found in zip(plain, weighted, strict=True):
        assert found.keys() == expected.keys()
        for key in found:
            torch.testing.assert_close(found[key], expected[key], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ["epsilon", "sdxl"])
@pytest.mark.parametrize(("mark", "weight"), [("1.0", 1.0), ("1.3", 1.3), ("++", 1.21)])
def test_a_weight_scales_the_difference_from_the_empty_prompt(load: Load, name: str, mark: str, weight: float) -> None:
    """After the start and "a" come the letters of the word, then the end and the padding."""
    family = load(name)
    plain, empty = (embeddings(family, text, weighted=False) for text in ("a coast", ""))
    expected = plain.clone()
    expected[:, 2:7] = empty[:, 2:7] + weight * (plain - empty)[:, 2:7]
    torch.testing.assert_close(embeddings(family, f"a (coast){mark}"), expected, atol=1e-4, rtol=1e-4)


def test_a_smaller_weight_moves_the_encoding_farther_from_the_unweighted_one(load: Load) -> None:
    family = load("epsilon")
    plain = embeddings(family, "a coast", weighted=False)
    distances = [float((embeddings(family, f"a (coast){w}") - plain).norm()) for w in (1.0, 0.9, 0.5, 0.1)]
    assert distances[0] == 0
    assert distances == sorted(set(distances))


@torch.inference_mode()
@pytest.mark.parametrize("name", ["epsilon", "sdxl"])
def test_a_long_prompt_is_encoded_to_its_end(load: Load, name: str) -> None:
    family = load(name)
    prompts = (LONG + "in fog", LONG + "in sun")
    assert torch.equal(*(embeddings(family, text, weighted=False) for text in prompts))
    first, second = (embeddings(family, text) for text in prompts)
    assert first.shape[1] == second.shape[1] == 64
    assert (first - second)[:, -16:].abs().max() > 0.1
    for negative in ("", "roads", LONG + LONG):
        positive, other = family.encode(LONG, negative, True)
        for key, value in positive.items():
            assert other[key].shape == value.shape


@torch.inference_mode()
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", ["epsilon", "sdxl"])
def test_patches_with_a_long_prompt_do_not_depend_on_their_batch(load: Load, name: str, dtype: DtypeName) -> None:
    family = load(name, dtype)
    denoiser = family.denoiser(everywhere(family.encode(LONG + "(fog)1.3", "", True)[0]), Size(512, 512), 5.0)
    patch, level = family.facts.patch, family.schedule(10).levels[4]
    x = torch.randn(3, family.facts.latent_channels, patch.height, patch.width)
    windows = [replace(patch.window, left=8 * i) for i in range(3)]
    one_by_one = [denoiser(x[i : i + 1], level, windows[i : i + 1]) for i in range(3)]
    near = 1e-4 if dtype == "float32" else 5e-2
    torch.testing.assert_close(denoiser(x, level, windows), torch.cat(one_by_one), atol=near, rtol=near)


def test_a_textual_inversion_of_two_vectors_is_encoded_as_by_the_pipeline(load: Load, tmp_path: Path) -> None:
    file = tmp_path / "glacier.safetensors"
    save_file({"emb_params": torch.randn(2, 16)}, file)
    family = load("epsilon", parts=Parts(textual_inversions=(str(file),)))
    plain = embeddings(family, "a glacier", weighted=False)
    torch.testing.assert_close(embeddings(family, "a glacier"), plain, atol=1e-4, rtol=1e-4)
    assert not torch.equal(embeddings(family, "a (glacier)1.3"), plain)


def request_of(folder: Path, prompt: str) -> Request:
    compute = Compute("cpu", "float32", memory="encoders-released")
    return Request(
        prompt, Size(150, 130), prompt_weighting=True, model=str(folder), method=Method(steps=2), compute=compute
    )


def test_a_resumed_run_keeps_the_weights_of_words(folders: dict[str, Path], tmp_path: Path) -> None:
    request = request_of(folders["sdxl"], LONG + "(fog)1.5")
    heard: list[Event] = []
    whole = generate(request, observer=heard.append).pixels
    assert not [event for event in heard if isinstance(event, Warned)], "all of it is read"
    assert not np.array_equal(generate(replace(request, prompt=LONG + "(fog)0.5")).pixels, whole)

    with pytest.raises(KeyboardInterrupt):
        generate(request, observer=stop_at(stage=1, phase="denoise"), run_dir=tmp_path / "run")
    kept = json.loads((tmp_path / "run" / "run.json").read_text())["identity"]
    assert kept["settings"]["request"]["prompt_weighting"] is True
    assert "compel" in kept["versions"]
    assert np.array_equal(resume(tmp_path / "run").pixels, whole)


def test_unsupported_uses_of_prompt_weighting_are_refused_before_any_work(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(RequestError, match=r"prompt weighting: it is for .* SDXL; .* is a FluxPipeline"):
        plan(request_of(folders["flux-dev"], "a (coast)1.3"))
    with pytest.raises(RequestError, match=r"prompt weighting: .* cannot be read"):
        plan(request_of(folders["sdxl"], '("a coast", "a sea").blend(1)'))
    monkeypatch.setattr(weighting, "find_spec", lambda name: None)
    with pytest.raises(MissingPartError, match=r"pip install 'pixelsmith\[prompts\]'"):
        plan(request_of(folders["sdxl"], "a (coast)1.3"))
