"""The safety checker of Stable Diffusion, which people leave out, and which single files do not contain."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from transformers import CLIPConfig, CLIPImageProcessor

from pixelsmith import Compute, Method, Parts, RefusedError, Request, Size, generate
from pixelsmith.families.catalogue import inspect_model
from pixelsmith.families.loading.quiet import quiet
from tests.tiny import build_stable_diffusion
from tests.zoo.original import save_original


def save_checked(folder: Path, threshold: float) -> Any:
    """Save a tiny model with a safety checker, which refuses all at a threshold of −2 and nothing at 2."""
    from diffusers.pipelines.stable_diffusion import StableDiffusionSafetyChecker

    small: dict[str, Any] = {
        "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
    }  # fmt: skip
    with quiet():
        config = CLIPConfig(
            text_config=small, vision_config=small | {"image_size": 32, "patch_size": 16}, projection_dim=8
        )
        checker = StableDiffusionSafetyChecker(config)
        checker.concept_embeds_weights.fill_(threshold)
        checker.special_care_embeds_weights.fill_(threshold)
        pipeline = build_stable_diffusion()
        size = {"height": 32, "width": 32}
        pipeline.register_modules(
            safety_checker=checker, feature_extractor=CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=size)
        )
        pipeline.save_pretrained(folder)
    return pipeline


def request_of(model: Path, parts: Parts = Parts()) -> Request:  # noqa: B008
    compute = Compute("cpu", "float32")
    return Request("a sea", Size(64, 64), model=str(model), parts=parts, method=Method(steps=2), compute=compute)


@pytest.mark.parametrize("strict", [True, False])
def test_the_safety_checker_of_a_model_is_used(tmp_path: Path, strict: bool) -> None:
    save_checked(tmp_path, -2 if strict else 2)
    request = request_of(tmp_path)
    if strict:
        with pytest.raises(RefusedError, match="safety checker") as refused:
            generate(request, run_dir=tmp_path / "run")
        assert not (tmp_path / "run").exists(), "going on would be refused again"
        assert not hasattr(refused.value, "__notes__")
    else:
        assert generate(request).pixels.shape == (64, 64, 3)


def test_a_folder_without_its_safety_checker_is_not_checked(tmp_path: Path) -> None:
    save_checked(tmp_path, -2)
    shutil.rmtree(tmp_path / "safety_checker")
    assert generate(request_of(tmp_path)).pixels.shape == (64, 64, 3)


@pytest.mark.parametrize("weights", [True, False])
def test_a_single_file_has_no_safety_checker(tmp_path: Path, weights: bool) -> None:
    """Its configuration names one, usually without weights, and diffusers does not load it."""
    pipeline = save_checked(tmp_path / "model", -2)
    file = save_original(pipeline, tmp_path / "one.safetensors")
    if not weights:
        (tmp_path / "model" / "safety_checker" / "model.safetensors").unlink()
    parts = Parts(config=str(tmp_path / "model"))
    assert not inspect_model(str(file), parts)["safety_checker"]
    assert generate(request_of(file, parts)).pixels.shape == (64, 64, 3)
