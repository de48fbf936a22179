"""Where a model lives while it works."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import CLIPConfig, CLIPImageProcessor

from pixelsmith import Compute, Method, RefusedError, Request, RequestError, Size, Warned, generate
from pixelsmith.events import Event
from pixelsmith.families import load_family, read_facts
from pixelsmith.families.architecture import DiffusersFamily
from pixelsmith.families.quiet import quiet
from tests.tiny import build_stable_diffusion
from tests.zoo.all import SPECIMENS


def request_of(model: Path, **compute: Any) -> Request:
    return Request(
        "a sea", Size(100, 90), model=str(model), method=Method(steps=2), compute=Compute("cpu", "float32", **compute)
    )


def loaded(model: Path, **compute: Any) -> DiffusersFamily:
    family = load_family(model, read_facts(model, str(model)), Compute(device="cpu", **compute))
    assert isinstance(family, DiffusersFamily)
    return family


def test_text_encoders_are_released_once_they_have_read_the_prompt(tiny_model: Path) -> None:
    family = loaded(tiny_model, memory="encoders-released")
    assert family.pipeline.text_encoder is not None
    family.encode("a sea", "")
    assert family.pipeline.text_encoder is None
    kept, released = (generate(request_of(tiny_model, memory=mode)).pixels for mode in ("all", "encoders-released"))
    assert np.array_equal(kept, released)


@pytest.mark.parametrize("memory", ["offload", "sequential"])
def test_offloading_needs_somewhere_to_load_to(tiny_model: Path, memory: str) -> None:
    with pytest.raises(RequestError, match=f"memory: {memory}"):
        loaded(tiny_model, memory=memory)


def test_another_order_of_values_gives_the_same_picture_but_for_rounding(tiny_model: Path) -> None:
    assert loaded(tiny_model, channels_last=True).pipeline.unet.conv_in.weight.is_contiguous(
        memory_format=torch.channels_last
    )
    usual, other = (generate(request_of(tiny_model, channels_last=value)).pixels.astype(int) for value in (False, True))
    assert abs(usual - other).max() <= 2


@pytest.mark.parametrize("upcast", [True, False])
def test_the_autoencoder_of_xl_is_float32_where_half_precision_overflows(tmp_path: Path, upcast: bool) -> None:
    with quiet():
        pipeline = SPECIMENS["sdxl"].build()
        pipeline.vae.register_to_config(force_upcast=upcast)
        pipeline.save_pretrained(tmp_path)
    found = loaded(tmp_path, dtype="float16").pipeline
    assert found.unet.dtype == torch.float16
    assert found.vae.dtype == (torch.float32 if upcast else torch.float16)


def test_a_device_without_room_for_a_batch_goes_on_with_less_and_says_so_once(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from diffusers import UNet2DConditionModel

    whole, forward = generate(request_of(tiny_model, batch_size=4)).pixels, UNet2DConditionModel.forward

    def with_little_room(self: Any, sample: torch.Tensor, *args: Any, **options: Any) -> Any:
        if len(sample) > 2:
            raise torch.OutOfMemoryError("out of memory")
        return forward(self, sample, *args, **options)

    monkeypatch.setattr(UNet2DConditionModel, "forward", with_little_room)
    heard: list[Event] = []
    found = generate(request_of(tiny_model, batch_size=4), observer=heard.append).pixels
    assert [event.message for event in heard if isinstance(event, Warned)] == [
        "the device has no memory for so many patches at once; going on with 2"
    ]
    assert abs(found.astype(int) - whole.astype(int)).max() <= 2


@pytest.mark.parametrize("strict", [True, False])
def test_a_models_own_safety_checker_is_asked(tmp_path: Path, strict: bool) -> None:
    """Its thresholds are set so that it refuses all or nothing."""
    from diffusers.pipelines.stable_diffusion import StableDiffusionSafetyChecker

    small: dict[str, Any] = {
        "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
    }  # fmt: skip
    with quiet():
        config = CLIPConfig(
            text_config=small, vision_config=small | {"image_size": 32, "patch_size": 16}, projection_dim=8
        )
        checker = StableDiffusionSafetyChecker(config)
        checker.concept_embeds_weights.fill_(-2 if strict else 2)
        checker.special_care_embeds_weights.fill_(-2 if strict else 2)
        pipeline = build_stable_diffusion()
        size = {"height": 32, "width": 32}
        pipeline.register_modules(
            safety_checker=checker, feature_extractor=CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=size)
        )
        pipeline.save_pretrained(tmp_path)
    request = replace(request_of(tmp_path), size=Size(64, 64))
    if strict:
        with pytest.raises(RefusedError, match="safety checker") as refused:
            generate(request, run_dir=tmp_path / "run")
        assert not (tmp_path / "run").exists(), "going on would be refused again"
        assert not hasattr(refused.value, "__notes__")
    else:
        assert generate(request).pixels.shape == (64, 64, 3)
