"""What every model family must do, on the embedded model and on tiny pipelines in the true format."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DiffusionPipeline

from pixelsmith.families import Family, find_model, load_family, read_facts
from pixelsmith.geometry import Size
from pixelsmith.request import EMBEDDED, Compute
from pixelsmith.sampling.denoise import Denoising
from pixelsmith.sampling.guidance import ClassifierFreeGuidance
from pixelsmith.sampling.noise import NoiseField
from pixelsmith.sampling.patches import ShiftedGrid
from tests.kept import KeptSteps
from tests.tiny import build_stable_diffusion

MODELS = ["embedded", "epsilon", "v_prediction", "sample"]


@pytest.fixture(scope="module", params=MODELS)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if request.param == "embedded":
        return find_model(EMBEDDED)
    target: Path = tmp_path_factory.mktemp("family") / request.param
    build_stable_diffusion(prediction_type=request.param).save_pretrained(target)
    return target


@pytest.fixture(scope="module")
def family(folder: Path) -> Family:
    return load_family(folder, read_facts(folder, str(folder)), Compute(dtype="float32"))


@pytest.fixture(scope="module")
def pipeline(folder: Path) -> Any:
    return DiffusionPipeline.from_pretrained(folder, dtype=torch.float32)


def test_facts_are_those_of_the_loaded_parts(family: Family, pipeline: Any) -> None:
    facts = family.facts
    assert facts.latent_channels == pipeline.unet.config.in_channels
    assert facts.latent_scale == pipeline.vae_scale_factor
    assert facts.patch == Size(pipeline.unet.config.sample_size, pipeline.unet.config.sample_size)
    parameters = sum(
        p.numel() for part in (pipeline.unet, pipeline.vae, pipeline.text_encoder) for p in part.parameters()
    )
    assert 2 * parameters <= facts.weight_bytes <= 4.2 * parameters + 2**20


@pytest.mark.parametrize("steps", [1, 4, 20])
def test_levels_fall_from_noise_to_clean(family: Family, steps: int) -> None:
    levels = family.schedule(steps).levels
    assert len(levels) == steps + 1
    sigmas = [level.sigma for level in levels]
    assert sigmas == sorted(sigmas, reverse=True)
    assert levels[-1].sigma < 0.05
    assert [level.progress for level in levels] == pytest.approx([i / steps for i in range(steps + 1)])
    assert all(level.alpha**2 + level.sigma**2 == pytest.approx(1, abs=1e-5) for level in levels)


@torch.inference_mode()
def test_one_patch_without_a_guide_equals_the_stock_pipeline(family: Family, pipeline: Any) -> None:
    """Same noise, same prompt, same guidance, five steps of DDIM: the latents that diffusers gives."""
    patch, steps, scale = family.facts.patch, 5, 3.0
    noise = NoiseField(0, 0, family.facts.latent_channels).read(patch.window)[None]
    guided = ClassifierFreeGuidance(
        family.denoiser("a coast", Size(64, 64)), family.denoiser("roads", Size(64, 64)), scale, 0.0, lambda _: True
    )
    field = NoiseField(0, 0, family.facts.latent_channels)
    job = Denoising(guided, family.schedule(steps), ShiftedGrid(patch, patch, 0, 0, 0), field, seed=0, stage=0)
    canvas = job.run(KeptSteps(job.channels), 1, family.device)
    pipeline.set_progress_bar_config(disable=True)
    expected = pipeline(
        "a coast", negative_prompt="roads", latents=noise, num_inference_steps=steps, guidance_scale=scale,
        output_type="latent",
    ).images  # fmt: skip
    torch.testing.assert_close(canvas.read(patch.window), expected[0], atol=1e-4, rtol=1e-4)


@torch.inference_mode()
def test_a_batch_gives_what_its_patches_give_one_by_one(family: Family) -> None:
    patch, level = family.facts.patch, family.schedule(10).levels[4]
    denoiser = family.denoiser("islands", Size(64, 64))
    x = torch.randn(
        3, family.facts.latent_channels, patch.height, patch.width, generator=torch.Generator().manual_seed(0)
    )
    together = denoiser(x, level, [patch.window] * 3)
    one_by_one = torch.cat([denoiser(x[i : i + 1], level, [patch.window]) for i in range(3)])
    torch.testing.assert_close(together, one_by_one, atol=1e-4, rtol=1e-4)


@torch.inference_mode()
def test_the_autoencoder_goes_both_ways_at_its_scale(family: Family) -> None:
    pixels = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(0)) * 2 - 1
    scale = family.facts.latent_scale
    latents = family.autoencoder.encode(pixels)
    assert latents.shape == (1, family.facts.latent_channels, 64 // scale, 96 // scale)
    assert family.autoencoder.decode(latents).shape == pixels.shape
    assert torch.equal(family.autoencoder.encode(pixels), latents)


def test_bfloat16_runs_and_is_close(folder: Path, family: Family) -> None:
    low = load_family(folder, family.facts, Compute(dtype="bfloat16"))
    patch, level = family.facts.patch, family.schedule(10).levels[4]
    x = torch.randn(
        1, family.facts.latent_channels, patch.height, patch.width, generator=torch.Generator().manual_seed(0)
    )
    with torch.inference_mode():
        found, expected = (m.denoiser("sea", Size(64, 64))(x, level, [patch.window]) for m in (low, family))
    assert found.dtype == torch.float32
    assert (found - expected).abs().mean() < 0.1 * expected.abs().mean()
