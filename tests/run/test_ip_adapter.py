"""Pictures that follow the pictures of IP-Adapters."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from diffusers import ControlNetModel, DiffusionPipeline, EulerDiscreteScheduler
from diffusers.models.embeddings import IPAdapterTimeImageProjection
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import save_file
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    SiglipImageProcessor,
    SiglipVisionConfig,
    SiglipVisionModel,
)

from pixelsmith import (
    Compute,
    ControlNet,
    IPAdapter,
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
from pixelsmith.cli.program import cli
from pixelsmith.config.workers import Workers
from pixelsmith.engine.prompts import _reduced
from pixelsmith.families.loading.quiet import quiet
from pixelsmith.geometry import Window
from pixelsmith.pixels.reading import read_picture
from pixelsmith.pixels.resample import Resized
from tests.stopping import stop_at
from tests.tiny import build_stable_diffusion
from tests.zoo.all import SPECIMENS
from tests.zoo.transformers import build_3, build_flux
from tests.zoo.unets import BETAS, LEADING, build_xl

STEPS, SCALE = 2, 3.0
SEEN, PATCHES = 12, 16
"""Values of the image encoder's projection, and of each of its patches."""
VISION: dict[str, int] = {
    "hidden_size": PATCHES,
    "intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 8,
}


def build_image_encoder() -> CLIPVisionModelWithProjection:
    """Of 32x32 pixels."""
    torch.manual_seed(0)
    return CLIPVisionModelWithProjection(CLIPVisionConfig(**VISION, projection_dim=SEEN))


def build_adapter(unet: Any, seed: int, plus: bool = False) -> dict[str, torch.Tensor]:
    """Random weights by the names of published files: plain ones take one vector, those called plus all patches."""
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    width = unet.config.cross_attention_dim
    found = {"proj.weight": random(4 * width, SEEN), "proj.bias": random(4 * width)}
    found |= {"norm.weight": random(width), "norm.bias": random(width)}
    if plus:
        inner = 64
        found = {
            "latents": random(1, 4, inner),
            "proj_in.weight": random(inner, PATCHES),
            "proj_in.bias": random(inner),
        }
        found |= {"proj_out.weight": random(width, inner), "proj_out.bias": random(width)}
        found |= {f"norm_out.{name}": random(width) for name in ("weight", "bias")}
        for i in range(4):
            attention, forward = f"layers.{i}.0", f"layers.{i}.1"
            found |= {
                f"{attention}.{norm}.{name}": random(inner)
                for norm in ("norm1", "norm2")
                for name in ("weight", "bias")
            }
            found |= {f"{attention}.to_q.weight": random(64, inner), f"{attention}.to_kv.weight": random(128, inner)}
            found |= {f"{attention}.to_out.weight": random(inner, 64)}
            found |= {f"{forward}.0.{name}": random(inner) for name in ("weight", "bias")}
            found |= {f"{forward}.1.weight": random(4 * inner, inner), f"{forward}.3.weight": random(inner, 4 * inner)}
    named = {f"image_proj.{name}": value for name, value in found.items()}
    # Each attention has a number; those to the prompt are the odd ones.
    cross = [name for name in unet.attn_processors if name.endswith("attn2.processor")]
    for number, name in enumerate(cross):
        attention = unet.get_submodule(name.removesuffix(".processor"))
        for kind in ("to_k_ip", "to_v_ip"):
            named[f"ip_adapter.{2 * number + 1}.{kind}.weight"] = random(attention.inner_dim, width)
    return named


def build_adapter_of_flux(network: Any, seed: int) -> dict[str, torch.Tensor]:
    """The same by the names that those of Flux.1 were published by: plain ones, for each block with two streams."""
    generator = torch.Generator().manual_seed(seed)
    width, sizes = network.config.joint_attention_dim, (network.inner_dim, network.config.joint_attention_dim)
    of_projection = {
        "proj.weight": (4 * width, SEEN),
        "proj.bias": (4 * width,),
        "norm.weight": (width,),
        "norm.bias": (width,),
    }
    shapes: dict[str, tuple[int, ...]] = {
        f"ip_adapter_proj_model.{name}": shape for name, shape in of_projection.items()
    }
    for i in range(network.config.num_layers):
        for kind in "kv":
            name = f"double_blocks.{i}.processor.ip_adapter_double_stream_{kind}_proj"
            shapes |= {f"{name}.weight": sizes, f"{name}.bias": sizes[:1]}
    return {name: torch.randn(*shape, generator=generator) for name, shape in shapes.items()}


def build_adapter_of_3(network: Any, seed: int) -> dict[str, torch.Tensor]:
    """The same for Stable Diffusion 3, whose adapters depend on the time of the step, by their published names."""
    generator = torch.Generator().manual_seed(seed)
    inner, width, head = 64, network.inner_dim, network.config.attention_head_dim
    projection = IPAdapterTimeImageProjection(PATCHES, width, inner, heads=1, num_queries=4, timestep_in_dim=8)
    published = {
        "ln0": "0.norm1", "ln1": "0.norm2", "attn.to_q": "0.to_q", "attn.to_kv": "0.to_kv", "attn.to_out.0": "0.to_out",
        "adaln_norm": "1.0", "ff.net.0.proj": "1.1", "ff.net.2": "1.3", "adaln_proj": "2.1",
    }  # fmt: skip
    shapes: dict[str, tuple[int, ...]] = {}
    for name, value in projection.state_dict().items():
        for own, other in published.items():
            name = re.sub(rf"^(layers\.\d)\.{re.escape(own)}\.", rf"\1.{other}.", name)
        shapes[f"image_proj.{name}"] = value.shape
    for number in range(len(network.attn_processors)):
        of_block = {"norm_ip.linear.weight": (2 * width, inner), "norm_ip.linear.bias": (2 * width,)}
        of_block |= {f"to_{kind}_ip.weight": (width, width) for kind in "kv"}
        of_block |= {f"norm_{kind}.weight": (head,) for kind in ("q", "k", "ip_k")}
        shapes |= {f"ip_adapter.{number}.{name}": shape for name, shape in of_block.items()}
    # Small values, or its latents attend to themselves alone; large ones, because the network's gates weaken them.
    spread = {name: 4.0 if "to_v" in name else 0.1 for name in shapes}
    return {name: spread[name] * torch.randn(*shape, generator=generator) for name, shape in shapes.items()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiny models of four families with their adapters, the image encoder beside those, and pictures."""
    root = tmp_path_factory.mktemp("ip-adapter")
    pipelines = {"sd": build_stable_diffusion(), "xl": build_xl(EulerDiscreteScheduler(**BETAS, **LEADING))}
    build_image_encoder().save_pretrained(root / "image_encoder")
    for name, pipeline in pipelines.items():
        pipeline.save_pretrained(root / name)
        save_file(build_adapter(pipeline.unet, 1), root / f"{name}-plain.safetensors")
        save_file(build_adapter(pipeline.unet, 2, plus=True), root / f"{name}-plus.safetensors")
    flux = build_flux(dev=True)
    flux.save_pretrained(root / "flux")
    (root / "flux" / "pixelsmith.json").write_text(json.dumps({"native_size": "64x64"}))
    for number, kind in enumerate(("plain", "other")):
        save_file(build_adapter_of_flux(flux.transformer, number), root / f"flux-{kind}.safetensors")
    third = build_3()
    third.save_pretrained(root / "sd3")
    for number, kind in enumerate(("plain", "other")):
        save_file(build_adapter_of_3(third.transformer, number), root / f"sd3-{kind}.safetensors")
    torch.manual_seed(0)
    siglip = SiglipVisionModel(SiglipVisionConfig(**VISION))
    for parameter in siglip.parameters():
        torch.nn.init.normal_(parameter)
    siglip.save_pretrained(root / "siglip")
    SiglipImageProcessor(size={"height": 32, "width": 32}).save_pretrained(root / "siglip")
    for number in (1, 2):
        pixels = np.random.default_rng(number).integers(0, 256, (48, 40, 3), np.uint8)
        Image.fromarray(pixels).save(root / f"{number}.png")
    return root


def request_of(folder: Path, family: str = "sd", **changes: Any) -> Request:
    """One step of each stage; ``adapters`` are kinds with their scales."""
    adapters = changes.pop("adapters", {"plain": 1.0})
    given = tuple(IPAdapter(str(folder / f"{family}-{kind}.safetensors"), scale) for kind, scale in adapters.items())
    own = Method(steps=STEPS, guidance_scale=SCALE, stage_guidance_scale=SCALE, stage_steps=1)
    request = Request(
        "a map",
        Size(64, 64),
        negative_prompt="" if family == "flux" else "roads",
        model=str(folder / family),
        parts=Parts(ip_adapters=given, image_encoder=str(folder / "siglip") if family == "sd3" and given else None),
        method=own,
        compute=Compute("cpu", "float32"),
        ip_adapter_images=tuple(str(folder / f"{i}.png") for i in range(1, len(given) + 1)),
    )
    return replace(request, **changes)


def stock(folder: Path, family: str, adapters: dict[str, float]) -> NDArray[np.uint8]:
    """What diffusers' own pipeline makes of seed 0 at the native size."""
    with quiet():
        pipeline = DiffusionPipeline.from_pretrained(folder / family)
        names = [f"{family}-{kind}.safetensors" for kind in adapters]
        noise = torch.randn(1, pipeline.vae.config.latent_channels, 16, 16, generator=torch.Generator().manual_seed(0))
        of_flux = {"image_encoder_pretrained_model_name_or_path": str(folder / "image_encoder")}
        options: dict[str, Any] = {"negative_prompt": "roads", "latents": noise}
        if family == "flux":
            options = {"latents": pipeline._pack_latents(noise, 1, 16, 16, 16)}
        alone = len(names) == 1
        if family == "sd3":
            pipeline.register_modules(
                image_encoder=SiglipVisionModel.from_pretrained(folder / "siglip"),
                feature_extractor=SiglipImageProcessor.from_pretrained(folder / "siglip"),
            )
        pipeline.load_ip_adapter(
            str(folder) if alone else [str(folder)] * len(names),
            subfolder="",
            weight_name=names[0] if alone else names,
            **(of_flux if family == "flux" else {}),
        )
        scales = list(adapters.values())
        pipeline.set_ip_adapter_scale(scales[0] if alone else scales)
        pipeline.set_progress_bar_config(disable=True)
        images = [Image.open(folder / f"{i}.png").convert("RGB") for i in range(1, len(names) + 1)]
        return np.asarray(
            pipeline(
                "a map",
                ip_adapter_image=images,
                height=64,
                width=64,
                num_inference_steps=STEPS,
                guidance_scale=SCALE,
                **options,
            ).images[0]
        )


def difference(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> int:
    return int(np.abs(one.astype(int) - other).max())


@pytest.mark.parametrize(
    ("family", "adapters"),
    [
        ("sd", {"plain": 1.0}),
        ("sd", {"plain": 0.4, "plus": 1.0}),
        ("xl", {"plus": 0.7}),
        ("xl", {"plain": 0.4, "plus": 1.0}),
        ("flux", {"plain": 0.7}),
        ("flux", {"plain": 1.0, "other": 0.3}),
        ("sd3", {"plain": 0.7}),
    ],
)
def test_a_base_is_the_stock_pipelines(folder: Path, family: str, adapters: dict[str, float]) -> None:
    request = request_of(folder, family, adapters=adapters)
    made = generate(request).pixels
    assert difference(made, stock(folder, family, adapters)) <= 1
    others = replace(
        request, ip_adapter_images=request.ip_adapter_images[::-1] if len(adapters) > 1 else (f"{folder}/2.png",)
    )
    assert difference(made, generate(others).pixels) > 3


@pytest.mark.parametrize("family", ["sd", "sd3"])
def test_stages_and_previews_follow_it(folder: Path, family: str, tmp_path: Path) -> None:
    Image.fromarray(np.full((64, 64, 3), 128, np.uint8)).save(tmp_path / "start.png")
    start: dict[str, Any] = {"size": Size(128, 96), "from_image": str(tmp_path / "start.png")}
    one, other = (
        replace(request_of(folder, family, **start), ip_adapter_images=(f"{folder}/{i}.png",)).with_method(slider=0.0)
        for i in (1, 2)
    )
    with load(one.model, one.parts, one.compute) as model:
        whole = model.generate(one).pixels
        assert difference(whole, model.generate(other).pixels) > 3
        closeup = model.preview(one, side=64, surroundings=4)
    assert difference(closeup.pictures[0], whole[closeup.window.slices]) <= 2


def test_large_pictures_are_read_in_strips(tmp_path: Path) -> None:
    wide = np.tile(np.linspace(0, 255, 2400, dtype=np.uint8)[None, :, None], (2200, 1, 3))
    Image.fromarray(wide).save(tmp_path / "wide.png")
    source = read_picture(tmp_path / "wide.png")
    found = _reduced(source)
    whole = Resized(source, source.size, Size(2234, 2048), "lanczos").read(Window(0, 0, 2048, 2234))
    assert torch.equal(found, whole)


def test_the_image_encoder_is_the_first_part_that_is_offloaded(folder: Path) -> None:
    request = request_of(folder)
    with load(request.model, request.parts, request.compute) as model:
        family: Any = model.load()
        assert family.pipeline.model_cpu_offload_seq == "image_encoder->text_encoder->unet->vae"


@pytest.mark.parametrize("family", ["sd", "sd3"])
def test_scale_zero_changes_nothing(folder: Path, family: str) -> None:
    plain = generate(request_of(folder, family, adapters={}))
    assert difference(generate(request_of(folder, family, adapters={"plain": 0.0})).pixels, plain.pixels) <= 1


def test_those_of_stable_diffusion_3_go_with_perturbed_attention(folder: Path) -> None:
    perturbed = request_of(folder, "sd3").with_method(perturbation="pag")
    made = generate(perturbed).pixels
    assert difference(made, generate(request_of(folder, "sd3")).pixels) > 3


def test_those_of_stable_diffusion_3_that_do_not_fit_are_refused(folder: Path, tmp_path: Path) -> None:
    def refused(match: str, parts: Parts) -> None:
        pictures = (f"{folder}/1.png",) * len(parts.ip_adapters)
        with pytest.raises(ModelError, match=match):
            plan(request_of(folder, "sd3", parts=parts, ip_adapter_images=pictures))

    own = request_of(folder, "sd3").parts
    refused(
        "expected one IP-Adapter for a StableDiffusion3Pipeline, got 2", replace(own, ip_adapters=own.ip_adapters * 2)
    )
    refused(
        "type siglip_vision_model, got clip_vision_model", replace(own, image_encoder=str(folder / "image_encoder"))
    )
    refused("through SigLIP", replace(own, ip_adapters=(IPAdapter(str(folder / "xl-plus.safetensors")),)))
    weights = build_adapter_of_3(build_3().transformer, 1)
    for name, changed, match in (
        ("ip_adapter.0.to_k_ip.weight", torch.zeros(16, 99), "another family: expected .* 16, got 99"),
        ("image_proj.proj_in.weight", torch.zeros(64, 99), "image encoder with a hidden_size of 99, this one has 16"),
    ):
        save_file(weights | {name: changed}, tmp_path / "other.safetensors")
        refused(match, replace(own, ip_adapters=(IPAdapter(str(tmp_path / "other.safetensors")),)))
    cut = {name: value for name, value in weights.items() if not name.startswith("ip_adapter.2")}
    save_file(cut, tmp_path / "cut.safetensors")
    with pytest.raises(ModelError, match=r"no IP-Adapter of .*: it lacks \d weights"):
        generate(
            request_of(folder, "sd3", parts=replace(own, ip_adapters=(IPAdapter(str(tmp_path / "cut.safetensors")),)))
        )
    shutil.copytree(folder / "siglip", tmp_path / "siglip")
    (tmp_path / "siglip" / "preprocessor_config.json").unlink()
    refused("expected a preprocessor_config.json", replace(own, image_encoder=str(tmp_path / "siglip")))


def test_it_goes_with_a_controlnet_and_is_calibrated(folder: Path, tmp_path: Path) -> None:
    edges = (16, 32, 32)
    with quiet():
        unet = DiffusionPipeline.from_pretrained(folder / "xl").unet
        ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=edges).save_pretrained(tmp_path / "control")
    request = request_of(folder, "xl")
    parts = replace(request.parts, controlnets=(ControlNet(str(tmp_path / "control")),))
    both = replace(request, parts=parts, control_images=(str(folder / "2.png"),))
    with load(both.model, both.parts, both.compute) as model:
        assert model.generate(both).pixels.shape == (64, 64, 3)
        assert model.plan(both, calibrate=True).seconds is not None
    assert plan(request).seconds is None, "without the ControlNet it is faster"


def test_a_run_goes_on_with_its_picture_and_no_other(folder: Path, tmp_path: Path) -> None:
    shutil.copy(folder / "1.png", tmp_path / "style.png")
    request = request_of(folder, size=Size(96, 80), ip_adapter_images=(str(tmp_path / "style.png"),))
    whole = generate(request).pixels
    with pytest.raises(KeyboardInterrupt):
        generate(request, tmp_path / "a.png", stop_at(stage=1, phase="denoise", step=1), tmp_path / "run")
    shutil.copytree(tmp_path / "run", tmp_path / "copy")
    assert np.array_equal(resume(tmp_path / "run").pixels, whole)
    shutil.copy(folder / "2.png", tmp_path / "style.png")
    with pytest.raises(RunError, match="pictures was"):
        resume(tmp_path / "copy")


def test_workers_make_the_same_picture(folder: Path) -> None:
    request = request_of(folder, size=Size(96, 80), compute=Compute(dtype="float32", batch_size=2))
    made = generate(request, workers=Workers(("cpu",))).pixels
    assert np.array_equal(made, generate(request).pixels)


def test_plans_count_it_and_settings_keep_it(folder: Path) -> None:
    request = request_of(folder)
    with_it, without = plan(request), plan(request_of(folder, adapters={}))
    assert with_it.peak_memory_bytes > without.peak_memory_bytes
    assert Request.from_dict(json.loads(json.dumps(request.to_dict()))) == request


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ip.safetensors", IPAdapter("ip.safetensors")),
        ("ip.safetensors:0.6", IPAdapter("ip.safetensors", 0.6)),
        ("C:ip.safetensors", IPAdapter("C:ip.safetensors")),
    ],
)
def test_an_option_is_read(text: str, expected: IPAdapter) -> None:
    assert IPAdapter.parse(text) == expected


@pytest.mark.parametrize("text", ["ip:11", "ip:-1", "ip:nan", ""])
def test_scales_out_of_range_are_refused(text: str) -> None:
    with pytest.raises(RequestError, match="IP-Adapter"):
        IPAdapter.parse(text)


def test_what_does_not_fit_is_refused_before_anything_is_made(folder: Path, tmp_path: Path) -> None:
    def adapter(name: str, **tensors: torch.Tensor) -> Parts:
        save_file(tensors, tmp_path / name)
        shutil.copytree(folder / "image_encoder", tmp_path / "image_encoder", dirs_exist_ok=True)
        return Parts(ip_adapters=(IPAdapter(str(tmp_path / name)),))

    def refused(match: str, kind: type[Exception] = ModelError, **changes: Any) -> None:
        with pytest.raises(kind, match=match):
            plan(request_of(folder, **changes))

    weights = build_adapter(build_stable_diffusion().unet, 1)
    (tmp_path / "bad.png").write_bytes(b"no picture")
    refused("expected a --ip-adapter-image for each --ip-adapter, got 0 for 1", RequestError, ip_adapter_images=())
    refused("bad.png", PictureError, ip_adapter_images=(str(tmp_path / "bad.png"),))
    refused("tensors of image_proj and ip_adapter", parts=adapter("lora.safetensors", weight=torch.zeros(2)))
    faces = {name: value for name, value in weights.items() if "proj.weight" not in name}
    refused("sees pictures through CLIP", parts=adapter("faces.safetensors", **faces))
    wide = {name: torch.zeros(8, 99) if "to_k" in name else value for name, value in weights.items()}
    refused("another family: expected cross_attention_dim 16, got 99", parts=adapter("wide.safetensors", **wide))
    other = weights | {"image_proj.proj.weight": torch.zeros(64, 99)}
    refused("image encoder with a projection_dim of 99, this one has 12", parts=adapter("other.safetensors", **other))
    text = Parts(
        ip_adapters=(IPAdapter(str(folder / "sd-plain.safetensors")),),
        image_encoder=str(folder / "sd" / "text_encoder"),
    )
    refused("type clip_vision_model, got clip_text_model", parts=text)
    shutil.rmtree(tmp_path / "image_encoder")
    with pytest.raises(RequestError, match="only IP-Adapters use it"):
        Parts(image_encoder=str(folder / "image_encoder"))
    alone = Parts(ip_adapters=(IPAdapter(str(tmp_path / "other.safetensors")),))
    refused("give its folder, or .* on the hub, with --image-encoder", parts=alone)
    refused("how an IP-Adapter prompts a", model=str(SPECIMENS["pixart-sigma"].save(tmp_path / "pixart")))
    cut = {name: value for name, value in weights.items() if not name.startswith("ip_adapter.3")}
    with pytest.raises(ModelError, match="no IP-Adapter of"):
        generate(request_of(folder, parts=adapter("cut.safetensors", **cut)))


def test_an_encoder_elsewhere_is_taken(folder: Path, tmp_path: Path) -> None:
    shutil.copy(folder / "sd-plain.safetensors", tmp_path / "ip.safetensors")
    parts = Parts(
        ip_adapters=(IPAdapter(str(tmp_path / "ip.safetensors")),), image_encoder=str(folder / "image_encoder")
    )
    request = request_of(folder)
    made = generate(request).pixels
    assert np.array_equal(generate(replace(request, parts=parts)).pixels, made)
    # Or the half of a model that reads texts as well.
    vision = build_image_encoder()
    text = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "vocab_size": 9}
    whole = CLIPModel(CLIPConfig(text_config=text, vision_config=vision.config.to_dict(), projection_dim=SEEN))
    whole.load_state_dict(vision.state_dict(), strict=False)
    whole.save_pretrained(tmp_path / "clip")
    parts = replace(parts, image_encoder=str(tmp_path / "clip"))
    assert np.array_equal(generate(replace(request, parts=parts)).pixels, made)


def test_the_command_line_takes_it(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.png"
    said = ["--model", str(folder / "sd"), "--size", "64", "--steps", "1", "--device", "cpu", "-o", str(out)]
    adapter, picture = f"{folder / 'sd-plain.safetensors'}:0.5", str(folder / "1.png")
    result = CliRunner().invoke(
        cli, ["generate", "a map", *said, "--ip-adapter", adapter, "--ip-adapter-image", picture]
    )
    assert result.exit_code == 0, result.output
    shown = CliRunner().invoke(cli, ["info", str(out)])
    assert "sd-plain.safetensors" in shown.output
