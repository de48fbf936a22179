"""ControlNets of Stable Diffusion 3 and Flux.1, which see the latents of their pictures."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    FluxControlNetModel,
    FluxControlNetPipeline,
    SD3ControlNetModel,
    StableDiffusion3ControlNetPipeline,
)
from numpy.typing import NDArray
from PIL import Image

from pixelsmith import Compute, ControlNet, Method, ModelError, Parts, Request, Size, generate, load, plan, resume
from pixelsmith.config.workers import Workers
from pixelsmith.families.loading.quiet import quiet
from tests.run.test_control import difference
from tests.stopping import stop_at
from tests.zoo.transformers import build_3, build_flux

STEPS, SCALE = 2, 3.0
KINDS: dict[str, Any] = {"sd3": SD3ControlNetModel, "flux": FluxControlNetModel}
PIPELINES: dict[str, Any] = {"sd3": StableDiffusion3ControlNetPipeline, "flux": FluxControlNetPipeline}


def build_controlnet(family: str, network: Any, seed: int, **changes: Any) -> Any:
    """Of one block, with random weights."""
    torch.manual_seed(seed)
    made = KINDS[family].from_config({**network.config, "num_layers": 1, **changes})
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return made


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("control")
    for family, pipeline in (("sd3", build_3()), ("flux", build_flux(dev=True))):
        # The stock pipelines sample the latents of the control picture, this one takes their mean: so, no variance.
        last = pipeline.vae.encoder.conv_out
        with torch.no_grad():
            last.weight[16:], last.bias[16:] = 0, -30
        pipeline.save_pretrained(root / family)
        (root / family / "pixelsmith.json").write_text(json.dumps({"native_size": "64x64"}))
        # The last is as those of Stable Diffusion 3.5 large.
        of_large = {"use_pos_embed": False, "joint_attention_dim": None, "force_zeros_for_pooled_projection": False}
        changes: dict[str, list[dict[str, Any]]] = {
            "sd3": [{}, {"force_zeros_for_pooled_projection": False}, of_large],
            "flux": [{}, {"num_single_layers": 0}],
        }
        for number, own in enumerate(changes[family], start=1):
            with quiet():
                network = build_controlnet(family, pipeline.transformer, number, **own)
            network.save_pretrained(root / f"{family}-{number}")
    for number in (1, 2, 3):
        pixels = np.random.default_rng(number).integers(0, 256, (64, 64, 3), np.uint8)
        Image.fromarray(pixels).save(root / f"{number}.png")
    return root


def request_of(folder: Path, family: str, nets: dict[int, dict[str, Any]], **changes: Any) -> Request:
    request = Request(
        "a map",
        Size(64, 64),
        model=str(folder / family),
        parts=Parts(controlnets=tuple(ControlNet(str(folder / f"{family}-{i}"), **said) for i, said in nets.items())),
        method=Method(steps=STEPS, guidance_scale=SCALE, stage_guidance_scale=SCALE, stage_steps=1),
        compute=Compute("cpu", "float32"),
        control_images=tuple(str(folder / f"{i}.png") for i in nets),
    )
    return replace(request, **changes)


def stock(folder: Path, family: str, nets: dict[int, dict[str, Any]]) -> NDArray[np.uint8]:
    """What diffusers' own pipeline makes of seed 0 at the native size."""
    noise = torch.randn(1, 16, 16, 16, generator=torch.Generator().manual_seed(0))
    with quiet():
        controlnets = [KINDS[family].from_pretrained(folder / f"{family}-{i}") for i in nets]
        pipeline = PIPELINES[family].from_pretrained(
            folder / family, controlnet=controlnets[0] if len(nets) == 1 else controlnets
        )
        pipeline.set_progress_bar_config(disable=True)
        images = [Image.open(folder / f"{i}.png").convert("RGB") for i in nets]
        scales = [said.get("conditioning_scale", 1.0) for said in nets.values()]
        one = len(nets) == 1
        return np.asarray(
            pipeline(
                "a map",
                control_image=images[0] if one else images,
                height=64,
                width=64,
                num_inference_steps=STEPS,
                guidance_scale=SCALE,
                latents=noise if family == "sd3" else pipeline._pack_latents(noise, 1, 16, 16, 16),
                controlnet_conditioning_scale=scales[0] if one else scales,
            ).images[0]
        )


@pytest.mark.parametrize(
    ("family", "nets"),
    [
        ("sd3", {1: {}}),
        ("sd3", {2: {"conditioning_scale": 0.5}}),
        ("sd3", {3: {}}),
        ("flux", {1: {}}),
        ("flux", {1: {"conditioning_scale": 0.5}, 2: {}}),
    ],
    ids=["sd3", "sd3 with its pooled prompt", "sd3.5 large", "flux", "two of flux"],
)
def test_a_base_is_the_stock_pipelines(folder: Path, family: str, nets: dict[int, dict[str, Any]]) -> None:
    request = request_of(folder, family, nets)
    made = generate(request).pixels
    assert difference(made, stock(folder, family, nets)) <= 1
    other = tuple(f"{folder}/{3 - i or 1}.png" for i in nets)
    assert difference(made, generate(replace(request, control_images=other)).pixels) > 3


@pytest.mark.parametrize("family", ["sd3", "flux"])
def test_stages_follow_it_and_previews_and_runs_that_go_on_are_the_same(
    folder: Path, family: str, tmp_path: Path
) -> None:
    request = request_of(folder, family, {1: {}}, size=Size(112, 96))
    other = replace(request, control_images=(f"{folder}/2.png",))
    with load(request.model, request.parts, request.compute) as model:
        whole = model.generate(request).pixels
        assert difference(whole, model.generate(other).pixels) > 3
        closeup = model.preview(request, side=64, surroundings=4)
    assert difference(closeup.pictures[0], whole[closeup.window.slices]) <= 2
    with pytest.raises(KeyboardInterrupt):
        generate(request, tmp_path / "a.png", stop_at(stage=1, phase="denoise", step=1), tmp_path / "run")
    assert np.array_equal(resume(tmp_path / "run").pixels, whole)


def test_another_process_makes_the_same_picture(folder: Path) -> None:
    """It encodes the control picture tile by tile, and gets the windows of its latents with their patches."""
    compute = Compute(dtype="float32", batch_size=2)
    request = request_of(folder, "sd3", {1: {}}, size=Size(112, 96), compute=compute)
    made = generate(request, workers=Workers(("cpu",))).pixels
    assert np.array_equal(made, generate(request).pixels)


def test_plans_count_its_latents(folder: Path) -> None:
    with_it, without = plan(request_of(folder, "sd3", {1: {}})), plan(request_of(folder, "sd3", {}))
    assert with_it.canvas_bytes == without.canvas_bytes + 4 * 16 * 16 * 16


@pytest.mark.parametrize(
    ("family", "changes", "match"),
    [
        ("sd3", {"extra_conditioning_channels": 1}, "needs a mask"),
        ("flux", {"num_mode": 3}, "ControlNet-Union"),
        ("flux", {"conditioning_embedding_channels": 4}, "its input is pixels"),
        ("flux", {"joint_attention_dim": 48}, "another family: expected joint_attention_dim 16, got 48"),
        (
            "sd3",
            {"_class_name": "ControlNetModel"},
            "expected a SD3ControlNetModel for this model, got a ControlNetModel",
        ),
    ],
)
def test_what_does_not_fit_is_refused(
    folder: Path, family: str, changes: dict[str, Any], match: str, tmp_path: Path
) -> None:
    config = json.loads((folder / f"{family}-1" / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, **changes}))
    with pytest.raises(ModelError, match=match):
        plan(request_of(folder, family, {1: {}}, parts=Parts(controlnets=(ControlNet(str(tmp_path)),))))
