"""What is known of a model before it is loaded."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from pixelsmith import ModelError, Parts, Request, Size
from pixelsmith.config.recommended import Recommended
from pixelsmith.config.request import EMBEDDED
from pixelsmith.families import find_model, read_facts
from pixelsmith.families.autoencoders.autoencoder import latent_space
from pixelsmith.families.registry import architectures
from pixelsmith.planning.planner import make_plan


def a_model(folder: Path, pipeline: str, **configs: dict[str, Any]) -> Path:
    """A folder with configuration files alone."""
    vae = {"_class_name": "AutoencoderKL", "block_out_channels": [128, 256, 512, 512], "latent_channels": 4}
    scheduler = {"_class_name": "FlowMatchEulerDiscreteScheduler"} | configs.get("scheduler", {})
    for part, config in ({"vae": vae} | configs | {"scheduler": scheduler}).items():
        name = "scheduler_config.json" if part == "scheduler" else "config.json"
        (folder / part).mkdir(parents=True)
        (folder / part / name).write_text(json.dumps(config))
    (folder / "model_index.json").write_text(json.dumps({"_class_name": pipeline}))
    return folder


SD_UNET = {"sample_size": 64, "block_out_channels": [320, 640, 1280, 1280]}
XL_UNET = {"sample_size": 128, "block_out_channels": [320, 640, 1280]}
EULER = {"_class_name": "EulerDiscreteScheduler"}
TRAILING = {"timestep_spacing": "trailing", "prediction_type": "epsilon"}


@pytest.mark.parametrize(
    ("pipeline", "configs", "native", "recommended"),
    [
        ("StableDiffusionPipeline", {"unet": SD_UNET, "scheduler": {"_class_name": "PNDMScheduler"}}, 512,
         Recommended(20, guidance_scale=7.5)),
        ("StableDiffusionPipeline", {"unet": {**SD_UNET, "time_cond_proj_dim": 256},
         "scheduler": {"_class_name": "LCMScheduler"}}, 512, Recommended(4, guidance_scale=8.5, guidance_told=True)),
        ("StableDiffusionXLPipeline", {"unet": XL_UNET, "scheduler": {"_class_name": "EulerDiscreteScheduler",
         "timestep_spacing": "leading"}}, 1024, Recommended(20, guidance_scale=5.0)),
        ("StableDiffusionXLPipeline", {"unet": {**XL_UNET, "sample_size": 64}, "scheduler":
         {"_class_name": "EulerAncestralDiscreteScheduler", **TRAILING}}, 512, Recommended(4, guidance_scale=1.0)),
        ("StableDiffusionXLPipeline", {"unet": XL_UNET, "scheduler": {"_class_name": "LCMScheduler"}}, 1024,
         Recommended(4, guidance_scale=1.0)),
        ("StableDiffusionXLPipeline", {"unet": XL_UNET, "scheduler": {"_class_name": "EulerDiscreteScheduler",
         **TRAILING, "prediction_type": "v_prediction"}}, 1024, Recommended(20, guidance_scale=5.0)),
        ("FluxPipeline", {"transformer": {"guidance_embeds": True}, "scheduler": {}}, 1024,
         Recommended(28, guidance_scale=3.5, guidance_told=True)),
        ("FluxPipeline", {"transformer": {"guidance_embeds": False}, "scheduler": {}}, 1024,
         Recommended(4, guidance_scale=1.0)),
        ("ZImagePipeline", {"transformer": {}, "scheduler": {"shift": 3.0}}, 1024, Recommended(8, guidance_scale=1.0)),
        ("QwenImagePipeline", {"transformer": {}, "scheduler": {}}, 1024, Recommended(50, "cfg-norm", 4.0)),
    ],
)  # fmt: skip
def test_a_model_is_recognised_from_its_configuration(
    tmp_path: Path, pipeline: str, configs: dict[str, Any], native: int, recommended: Recommended
) -> None:
    facts = read_facts(a_model(tmp_path, pipeline, **configs), "x")
    assert facts.native_size == Size(native, native)
    assert facts.latent_scale == 8
    assert facts.recommended == recommended


@pytest.mark.parametrize(
    ("config", "space"),
    [
        ({"_class_name": "AutoencoderKL", "block_out_channels": [1, 2, 4, 4], "latent_channels": 16}, (8, 16)),
        ({"_class_name": "AutoencoderTiny", "encoder_block_out_channels": [64] * 4, "latent_channels": 4}, (8, 4)),
        ({"_class_name": "AutoencoderDC", "encoder_block_out_channels": [1] * 6, "latent_channels": 32}, (32, 32)),
        ({"_class_name": "AutoencoderKLFlux2", "block_out_channels": [1] * 4, "latent_channels": 32}, (16, 128)),
        ({"_class_name": "AutoencoderKLQwenImage", "temperal_downsample": [0, 1, 1], "z_dim": 16}, (8, 16)),
    ],
)
def test_scale_and_channels_of_the_latents_of_known_autoencoders(
    config: dict[str, Any], space: tuple[int, int]
) -> None:
    assert latent_space(config) == space


def flux_model(folder: Path, guidance_embeds: bool) -> Path:
    a_model(folder, "FluxPipeline", transformer={"guidance_embeds": guidance_embeds}, scheduler={})
    parts = {"transformer": ["diffusers", "FluxTransformer2DModel"], "vae": ["diffusers", "AutoencoderKL"]}
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "FluxPipeline", **parts}))
    return folder


@pytest.mark.parametrize("told", [True, False])
def test_planning_uses_the_configuration_of_a_replaced_network(tmp_path: Path, told: bool) -> None:
    model, other = flux_model(tmp_path / "model", not told), flux_model(tmp_path / "other", told)
    found = read_facts(model, "x", Parts(network=str(other / "transformer"))).recommended
    assert found == read_facts(other, "x").recommended != read_facts(model, "x").recommended


def test_planning_uses_the_configuration_of_another_autoencoder(tmp_path: Path) -> None:
    """As of SDXL with one that needs no float32."""
    blocks = {"block_out_channels": [128, 256, 512, 512], "latent_channels": 4}
    vae = {"_class_name": "AutoencoderKL", "force_upcast": True, **blocks}
    model = a_model(tmp_path / "xl", "StableDiffusionXLPipeline", unet=XL_UNET, vae=vae, scheduler=EULER)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.json").write_text(json.dumps({**vae, "force_upcast": False}))
    tiny = {"_class_name": "AutoencoderTiny", "latent_channels": 4}
    tiny |= {f"{part}_block_out_channels": [64] * 4 for part in ("encoder", "decoder")}
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "config.json").write_text(json.dumps(tiny))
    own, other, small = (
        read_facts(model, "x", Parts(vae=place and str(tmp_path / place))) for place in (None, "other", "tiny")
    )
    assert own.float32_autoencoder
    assert replace(own, float32_autoencoder=False) == other
    assert not small.float32_autoencoder
    assert small.tile_values < own.tile_values


def test_an_autoencoder_without_known_entries_is_refused(tmp_path: Path) -> None:
    model = flux_model(tmp_path / "model", True)
    (tmp_path / "other").mkdir()
    for config, said in (
        ({"_class_name": "AutoencoderKL"}, r"other: it is no known autoencoder: .*'block_out_channels'"),
        ({"_class_name": "AutoencoderTiny", "encoder_block_out_channels": [8] * 4, "latent_channels": 4},
         "no known autoencoder: .*'decoder_block_out_channels'"),
        ({"_class_name": "AutoencoderKL", "block_out_channels": [8], "latent_channels": 4}, "of 4 channels at 1/8"),
    ):  # fmt: skip
        (tmp_path / "other" / "config.json").write_text(json.dumps(config))
        with pytest.raises(ModelError, match=said):
            read_facts(model, "x", Parts(vae=str(tmp_path / "other")))


@pytest.mark.parametrize("name", ["guidance_in.in_layer.bias", "time_text_embed.guidance_embedder.linear_1.bias", "x"])
def test_guidance_of_a_network_from_a_single_file_follows_its_configuration(tmp_path: Path, name: str) -> None:
    file = tmp_path / "network.safetensors"
    save_file({name: torch.ones(1)}, file)
    same, other = (flux_model(tmp_path / str(told), told) for told in (name != "x", name == "x"))
    assert read_facts(same, "x", Parts(network=str(file)))
    with pytest.raises(ModelError, match=r"network\.safetensors: .*guidance scale as an input"):
        read_facts(other, "x", Parts(network=str(file)))


def test_a_model_folder_can_recommend_its_own_settings(tmp_path: Path) -> None:
    folder = a_model(tmp_path, "FluxPipeline", transformer={"guidance_embeds": False}, scheduler={})
    own = {"native_size": "512x768", "method": {"steps": 9, "guidance_scale": 2.5}}
    (folder / "pixelsmith.json").write_text(json.dumps(own))
    facts = read_facts(folder, "x")
    assert facts.native_size == Size(512, 768)
    assert facts.recommended == Recommended(9, guidance_scale=2.5)
    assert make_plan(Request("a map", Size(512, 512)), facts).base.steps == 9  # type: ignore[union-attr]


@pytest.mark.parametrize("own", [{"method": {"steps": 0}}, {"method": {"colour": 1}}, {"native_size": "large"}, []])
def test_invalid_recommendations_of_a_model_folder_are_refused(tmp_path: Path, own: Any) -> None:
    folder = a_model(tmp_path, "FluxPipeline", transformer={"guidance_embeds": False}, scheduler={})
    (folder / "pixelsmith.json").write_text(json.dumps(own))
    with pytest.raises(ModelError, match=r"^\S*pixelsmith\.json: "):
        read_facts(folder, "x")


@pytest.mark.parametrize("name", ["EDMDPMSolverMultistepScheduler", "TCDScheduler"])
def test_the_error_for_an_unsupported_scheduler_names_it(tmp_path: Path, name: str) -> None:
    folder = a_model(tmp_path, "StableDiffusionXLPipeline", unet=XL_UNET, scheduler={"_class_name": name})
    with pytest.raises(ModelError, match=f"^scheduler: {name} is not supported.*--scheduler"):
        read_facts(folder, "x")
    assert read_facts(folder, "x", Parts(scheduler="LCMScheduler")).recommended == Recommended(4, guidance_scale=1.0)


def test_models_with_the_same_configuration_are_distinguished_by_their_name(tmp_path: Path) -> None:
    folder = a_model(tmp_path, "StableDiffusion3Pipeline", transformer={"sample_size": 128, "patch_size": 2})
    names = ("3-medium", "3.5-large", "3.5-large-turbo@abc", "3.5-large/sd3.5_large.safetensors")
    found = [read_facts(folder, f"stabilityai/stable-diffusion-{name}").recommended for name in names]
    told = [(best.steps, best.guidance_scale) for best in found]
    assert told == [(28, 7.0), (28, 3.5), (4, 1.0), (28, 3.5)]
    (folder / "pixelsmith.json").write_text('{"method": {"steps": 6}}')
    assert read_facts(folder, "stabilityai/stable-diffusion-3.5-large-turbo").recommended.steps == 6


@pytest.mark.parametrize("pipeline", ["ChromaPipeline", "Lumina2Pipeline", "Flux2KleinPipeline"])
def test_families_of_fixed_native_size_have_1024_pixels(tmp_path: Path, pipeline: str) -> None:
    flux_2 = {"_class_name": "AutoencoderKLFlux2", "block_out_channels": [1] * 4, "latent_channels": 32}
    parts = {"vae": flux_2} if pipeline == "Flux2KleinPipeline" else {}
    assert read_facts(a_model(tmp_path, pipeline, transformer={}, **parts), "x").native_size == Size(1024, 1024)


def test_recommended_settings_follow_from_the_chosen_scheduler(tmp_path: Path) -> None:
    """As for checkpoints of few steps, whose configuration is that of SDXL."""
    euler = {"_class_name": "EulerDiscreteScheduler", "timestep_spacing": "leading", "prediction_type": "epsilon"}
    folder = a_model(tmp_path / "xl", "StableDiffusionXLPipeline", unet=XL_UNET, scheduler=euler)
    assert read_facts(folder, "x").recommended.steps == 20
    lightning = Parts(timestep_spacing="trailing")
    assert read_facts(folder, "x", lightning).recommended == Recommended(4, guidance_scale=1.0)
    flow = a_model(tmp_path / "flux", "FluxPipeline", transformer={"guidance_embeds": False}, scheduler={})
    with pytest.raises(ModelError, match="flow matching"):
        read_facts(flow, "x", lightning)


def test_the_embedded_model_recommends_its_own_settings() -> None:
    usual, few = (read_facts(find_model(EMBEDDED), EMBEDDED, Parts(few_steps=on)).recommended for on in (False, True))
    assert usual == Recommended(
        20, "cfg", 2.0, 0.7, sampler="dpmpp-2m", epsilon_scaling=1.007, stage_guidance_scale=1.0, slider=0.2,
        slider_steps=0.35,
    )  # fmt: skip
    assert few == replace(usual, stage_steps=4, stage_sampler="ddim", stage_epsilon_scaling=0.978)


def test_each_pipeline_belongs_to_one_family() -> None:
    names = [name for architecture in architectures() for name in architecture.pipelines]
    assert len(names) == len(set(names)) >= 12


def test_planning_imports_no_diffusers() -> None:
    """Which takes seconds."""
    code = (
        "import sys; from pixelsmith import Request, Size, plan; plan(Request('a map', Size(512, 512)));"
        "sys.exit('diffusers' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
