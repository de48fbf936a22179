"""Pictures that follow control pictures."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from diffusers import (
    ControlNetModel,
    EulerDiscreteScheduler,
    StableDiffusionControlNetPipeline,
    StableDiffusionXLControlNetPipeline,
)
from numpy.typing import NDArray
from PIL import Image

from pixelsmith import (
    Compute,
    ControlNet,
    InputError,
    Method,
    ModelError,
    Parts,
    PictureError,
    Request,
    RequestError,
    RunError,
    Size,
    generate,
    load,
    plan,
    resume,
)
from pixelsmith.canvas import Array
from pixelsmith.cli.program import cli
from pixelsmith.config.workers import Workers
from pixelsmith.engine.control import Controlled, Shown
from pixelsmith.families.family import CONTROL, everywhere
from pixelsmith.families.loading.quiet import quiet
from pixelsmith.geometry import Window, Wrap
from pixelsmith.pixels.resample import LaidOver, Resized
from tests.stopping import stop_at
from tests.tiny import build_stable_diffusion
from tests.zoo.all import SPECIMENS
from tests.zoo.unets import BETAS, LEADING, build_xl

EDGES = (16, 32, 32)
"""Channels of a ControlNet's own reduction: a quarter of the sides, as the tiny autoencoder's."""
STEPS, SCALE = 4, 3.0


def build_controlnet(unet: Any, seed: int) -> ControlNetModel:
    """Begun from a U-Net, with random weights where a training begins with 0, and large ones where it looks at its
    picture: so that what it says depends on that."""
    torch.manual_seed(seed)
    network = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=EDGES)
    for parameter in network.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    for parameter in network.controlnet_cond_embedding.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return network


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiny models of two families, each with two ControlNets, and control pictures."""
    root = tmp_path_factory.mktemp("control")
    pipelines = {"sd": build_stable_diffusion(), "xl": build_xl(EulerDiscreteScheduler(**BETAS, **LEADING))}
    for name, pipeline in pipelines.items():
        pipeline.save_pretrained(root / name)
        for number in (1, 2):
            build_controlnet(pipeline.unet, number).save_pretrained(root / f"{name}-control-{number}")
    for number in (1, 2):
        pixels = np.random.default_rng(number).integers(0, 256, (64, 64, 3), np.uint8)
        Image.fromarray(pixels).save(root / f"{number}.png")
    return root


def request_of(folder: Path, family: str = "sd", **changes: Any) -> Request:
    """One step of each stage with one ControlNet; ``controlnets`` are numbers with what is said of each."""
    nets = changes.pop("controlnets", {1: {}})
    controlnets = tuple(ControlNet(str(folder / f"{family}-control-{i}"), **said) for i, said in nets.items())
    own = Method(steps=STEPS, guidance_scale=SCALE, stage_guidance_scale=SCALE, stage_steps=2)
    request = Request(
        "a map",
        Size(64, 64),
        negative_prompt="roads",
        model=str(folder / family),
        parts=Parts(controlnets=controlnets),
        method=own,
        compute=Compute("cpu", "float32"),
        control_images=tuple(str(folder / f"{i}.png") for i in nets),
    )
    return replace(request, **changes)


def stock(folder: Path, family: str, nets: dict[int, dict[str, Any]]) -> NDArray[np.uint8]:
    """What diffusers' own pipeline makes of seed 0 at the native size."""
    kind = {"sd": StableDiffusionControlNetPipeline, "xl": StableDiffusionXLControlNetPipeline}[family]
    with quiet():
        controlnets = [ControlNetModel.from_pretrained(folder / f"{family}-control-{i}") for i in nets]
        pipeline = kind.from_pretrained(folder / family, controlnet=controlnets)
        pipeline.set_progress_bar_config(disable=True)
        return np.asarray(
            pipeline(
                "a map",
                image=[Image.open(folder / f"{i}.png").convert("RGB") for i in nets],
                height=64,
                width=64,
                num_inference_steps=STEPS,
                guidance_scale=SCALE,
                negative_prompt="roads",
                generator=torch.Generator().manual_seed(0),
                controlnet_conditioning_scale=[said.get("conditioning_scale", 1.0) for said in nets.values()],
                control_guidance_start=[said.get("guidance_start", 0.0) for said in nets.values()],
                control_guidance_end=[said.get("guidance_end", 1.0) for said in nets.values()],
            ).images[0]
        )


def difference(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> int:
    return int(np.abs(one.astype(int) - other).max())


@pytest.mark.parametrize("family", ["sd", "xl"])
@pytest.mark.parametrize(
    "nets",
    [
        {1: {}},
        {1: {"conditioning_scale": 0.5}, 2: {"conditioning_scale": 2.0}},
        {1: {"guidance_start": 0.5}, 2: {"guidance_end": 0.5}},
    ],
    ids=["one", "two", "intervals"],
)
def test_a_base_is_the_stock_pipelines(folder: Path, family: str, nets: dict[int, dict[str, Any]]) -> None:
    request = request_of(folder, family, controlnets=nets)
    made = generate(request).pixels
    assert difference(made, stock(folder, family, nets)) <= 1
    others = replace(request, control_images=request.control_images[::-1] if len(nets) > 1 else (f"{folder}/2.png",))
    assert difference(made, generate(others).pixels) > 8


def test_a_control_picture_is_followed_where_it_lies(folder: Path, tmp_path: Path) -> None:
    pixels = np.zeros((64, 256, 3), np.uint8)
    pixels[:, 192:] = 255
    Image.fromarray(pixels).save(tmp_path / "right.png")
    Image.fromarray(np.zeros_like(pixels)).save(tmp_path / "none.png")
    # The stages alone: no base, of which a patch sees everything.
    Image.fromarray(np.full_like(pixels, 128)).save(tmp_path / "start.png")
    start: dict[str, Any] = {"size": Size(256, 64), "from_image": str(tmp_path / "start.png")}
    right, none = (
        generate(request_of(folder, **start, control_images=(str(tmp_path / name),)).with_method(slider=0.0)).pixels
        for name in ("right.png", "none.png")
    )
    here, far = (difference(right[:, columns], none[:, columns]) for columns in (slice(200, None), slice(40)))
    # A little comes from patch to patch, and through the statistics by which tiles are decoded.
    assert here > 40
    assert far < here / 5


def test_a_run_goes_on_with_its_control_pictures(folder: Path, tmp_path: Path) -> None:
    request = request_of(folder, size=Size(150, 130))
    whole = generate(request).pixels
    with pytest.raises(KeyboardInterrupt):
        generate(request, tmp_path / "a.png", stop_at(stage=1, phase="denoise", step=2), tmp_path / "run")
    assert np.array_equal(resume(tmp_path / "run").pixels, whole)


def test_a_run_does_not_go_on_with_another_control_picture(folder: Path, tmp_path: Path) -> None:
    shutil.copy(folder / "1.png", tmp_path / "edges.png")
    request = request_of(folder, size=Size(150, 130), control_images=(str(tmp_path / "edges.png"),))
    with pytest.raises(KeyboardInterrupt):
        generate(request, tmp_path / "a.png", stop_at(stage=1, phase="denoise", step=2), tmp_path / "run")
    shutil.copy(folder / "2.png", tmp_path / "edges.png")
    with pytest.raises(RunError, match="pictures was"):
        resume(tmp_path / "run")


def test_a_family_without_control_says_so(folder: Path, tmp_path: Path) -> None:
    model = SPECIMENS["pixart-sigma"].save(tmp_path / "pixart")
    with pytest.raises(ModelError, match="ControlNets for a PixArtSigmaPipeline are not supported"):
        plan(request_of(folder, model=str(model)))


def test_a_preview_is_that_of_the_whole_picture(folder: Path) -> None:
    request = request_of(folder, size=Size(150, 130))
    with load(request.model, request.parts, request.compute) as model:
        closeup = model.preview(request, side=64, surroundings=4)
        whole = model.generate(request).pixels
    assert difference(closeup.pictures[0], whole[closeup.window.slices]) <= 2


def test_strength_zero_changes_nothing(folder: Path) -> None:
    plain = generate(request_of(folder, controlnets={}))
    assert np.array_equal(generate(request_of(folder, controlnets={1: {"conditioning_scale": 0}})).pixels, plain.pixels)


def test_plans_count_the_control_network_and_its_pictures(folder: Path) -> None:
    with_it, without = plan(request_of(folder)), plan(request_of(folder, controlnets={}))
    assert with_it.peak_memory_bytes > without.peak_memory_bytes
    assert with_it.canvas_bytes == without.canvas_bytes + 3 * 64 * 64


def test_requests_keep_control_in_their_settings(folder: Path) -> None:
    request = request_of(folder, controlnets={1: {"guidance_end": 0.7}})
    assert Request.from_dict(json.loads(json.dumps(request.to_dict()))) == request


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("tile", ControlNet("tile")),
        ("tile:0.6", ControlNet("tile", 0.6)),
        ("tile:0.6:0.1:0.8", ControlNet("tile", 0.6, 0.1, 0.8)),
        ("C:tile", ControlNet("C:tile")),
    ],
)
def test_an_option_is_read(text: str, expected: ControlNet) -> None:
    assert ControlNet.parse(text) == expected


@pytest.mark.parametrize("text", ["tile:11", "tile:-1", "tile:1:0.5:0.5", "tile:1:0:2", "tile:nan", "tile:0.6:0.2", ""])
def test_numbers_out_of_range_are_refused(text: str) -> None:
    with pytest.raises(RequestError, match="controlnet"):
        ControlNet.parse(text)


def test_what_does_not_fit_is_refused_before_anything_is_made(folder: Path, tmp_path: Path) -> None:
    def refused(kind: type[InputError], match: str, **changes: Any) -> None:
        with pytest.raises(kind, match=match):
            plan(request_of(folder, **changes))

    (tmp_path / "bad.png").write_bytes(b"no picture")
    refused(RequestError, "expected a --control-image for each --controlnet, got 0 for 1", control_images=())
    refused(PictureError, "bad.png", control_images=(str(tmp_path / "bad.png"),))
    of_another = Parts(controlnets=(ControlNet(str(folder / "xl-control-1")),))
    refused(ModelError, "ControlNet of another family: expected cross_attention_dim", parts=of_another)
    refused(
        ModelError, "expected a ControlNetModel", parts=Parts(controlnets=(ControlNet(str(folder / "sd" / "vae")),))
    )
    refused(ModelError, "config.json", parts=Parts(controlnets=(ControlNet(str(tmp_path)),)))
    demofusion = request_of(folder, size=Size(128, 128)).with_method(strategy="demofusion").method
    refused(RequestError, "demofusion", size=Size(128, 128), method=demofusion)


def test_damaged_weights_are_named(folder: Path, tmp_path: Path) -> None:
    place = tmp_path / "control"
    shutil.copytree(folder / "sd-control-1", place)
    (place / "diffusion_pytorch_model.safetensors").write_bytes(b"0")
    with pytest.raises(ModelError, match="no complete"):
        generate(request_of(folder, parts=Parts(controlnets=(ControlNet(str(place)),))))


def test_another_process_makes_the_same_picture(folder: Path) -> None:
    nets: dict[int, dict[str, Any]] = {1: {}, 2: {"guidance_end": 0.5}}
    of_two = Compute(dtype="float32", batch_size=2)
    request = request_of(folder, controlnets=nets, size=Size(152, 130), wrap="x", compute=of_two)
    with load(request.model, request.parts, of_two, workers=Workers(("cpu",))) as model:
        made = model.generate(request).pixels
        assert np.array_equal(made, generate(request).pixels)
        other = replace(request, control_images=request.control_images[::-1])
        assert difference(model.generate(other).pixels, made) > 8


def test_the_command_line_takes_control(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.png"
    said = ["--model", str(folder / "sd"), "--size", "64", "--steps", "1", "--device", "cpu", "-o", str(out)]
    net, picture = f"{folder / 'sd-control-1'}:0.5", str(folder / "1.png")
    result = CliRunner().invoke(cli, ["generate", "a map", *said, "--controlnet", net, "--control-image", picture])
    assert result.exit_code == 0, result.output
    result = CliRunner().invoke(cli, ["generate", "a map", *said, "--controlnet", net, "--overwrite"])
    assert isinstance(result.exception, RequestError)
    assert "expected a --control-image for each --controlnet" in str(result.exception)


def test_a_picture_is_seen_as_far_as_it_lies_over_the_last_one() -> None:
    pixels = torch.arange(8 * 64).reshape(1, 8, 64).expand(3, -1, -1) % 256
    source = Array(pixels.to(torch.uint8))
    plain = Resized(source, source.size, Size(128, 16), "lanczos")
    same = LaidOver(source, source.size, Size(128, 16), "lanczos", after=(Size(256, 32),))
    window = Window(3, 20, 9, 40)
    assert torch.equal(same.read(window), plain.read(window))
    # A base of 4:1 of which a picture of 8:1 is the middle: half of its rows.
    base = LaidOver(source, source.size, Size(64, 16), "lanczos", after=(Size(128, 16),))
    assert torch.equal(base.read(Window(4, 0, 8, 64)), source.read(source.size.window))


def test_patches_over_the_edge_follow_what_is_at_the_other_one(folder: Path) -> None:
    pixels = torch.arange(3 * 32 * 48).reshape(3, 32, 48).to(torch.uint8)
    around = LaidOver(Array(pixels), Size(48, 32), Size(48, 32), "lanczos", wrap=Wrap(x=True))
    controlled = Controlled(everywhere({}), Shown([around], 4))
    seen = controlled(Window(0, 8, 8, 8))[CONTROL]
    assert torch.equal(seen[0, 0], pixels.roll(-32, 2)[..., :32])
    assert generate(replace(request_of(folder), size=Size(96, 96), wrap="x")).pixels.shape == (96, 96, 3)
