"""The contract of model families: the embedded model, and tiny pipelines in the real format."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from torch import Tensor

from pixelsmith import (
    PERTURBATIONS,
    Compute,
    Method,
    Perturbation,
    Request,
    RequestError,
    Size,
    generate,
    load,
    resume,
)
from pixelsmith.canvas import Array
from pixelsmith.config.compute import DeviceName
from pixelsmith.config.request import EMBEDDED
from pixelsmith.engine.bands import low_pass_bands
from pixelsmith.engine.denoise import Denoising, Guide
from pixelsmith.families import Family, everywhere, find_model, load_family, read_facts
from pixelsmith.families.architecture import DiffusersFamily, network_of
from pixelsmith.families.loading.quiet import quiet
from pixelsmith.geometry import Window
from pixelsmith.planning.planner import make_plan
from pixelsmith.sampling.denoiser import Denoiser
from pixelsmith.sampling.grid import ShiftedGrid
from pixelsmith.sampling.guidance import Away, Guided
from pixelsmith.sampling.guidances import GUIDANCES
from pixelsmith.sampling.merging import MERGES, Lead
from pixelsmith.sampling.noise import NoiseField
from pixelsmith.sampling.samplers import SAMPLERS
from pixelsmith.sampling.slider import guide_weights
from tests.devices import DEVICES
from tests.kept import KeptSteps
from tests.stopping import stop_at
from tests.zoo.all import SPECIMENS
from tests.zoo.specimen import NEGATIVE, PROMPT, Specimen, Stock, usual_call

CPU = Compute("cpu", "float32")
LONG = "a coast with cliffs, " * 40
"""More than any text encoder has room for here."""
PROMPTS: dict[str, tuple[str, str | None]] = {"short": (PROMPT, NEGATIVE), "long-and-none": (LONG, None)}
"""A prompt and a negative one, which may be left to the pipeline."""
OWN = Specimen("embedded", "StableDiffusionPipeline", lambda: None, usual_call, steps=5)


@dataclass(frozen=True)
class Case:
    """A specimen, its folder, loaded as a family and as a pipeline."""

    specimen: Specimen
    folder: Path
    family: Family
    pipeline: Any

    def canvas_noise(self) -> Tensor:
        """The initial noise of the base canvas, (1, c, h, w)."""
        patch, level = self.family.facts.patch, self.family.schedule(self.specimen.steps).levels[0]
        return math.hypot(level.alpha, level.sigma) * self.family.base_noise(0, patch).read(patch.window)[None]

    def stock(self, output: str, noise: Tensor | None, prompts: tuple[str, str | None] = PROMPTS["short"]) -> Tensor:
        """The stock pipeline's result for this noise, or for that of seed 0, at its native size."""
        size, specimen = self.family.facts.native_size, self.specimen
        stock = Stock(noise, (size.height, size.width), specimen.steps, specimen.scale, output, *prompts)
        return specimen.call(self.pipeline, stock)

    def denoisers(
        self, picture: Size | None = None, prompt: str = PROMPT, negative: str | None = NEGATIVE
    ) -> list[Denoiser]:
        """With the prompt and with the negative prompt."""
        prompts = self.family.encode(prompt, negative or "")
        size = picture or self.family.facts.native_size
        return [self.family.denoiser(everywhere(told), size, self.specimen.scale) for told in prompts]

    def guided(self, prompt: str, negative: str | None) -> Denoiser:
        """With the recommended guidance, at the specimen's scale."""
        best, scale = self.family.facts.recommended, self.specimen.scale
        positive, other = self.denoisers(None, prompt, negative)
        if best.guidance_told or scale <= 1:
            return positive
        return Guided(positive, [Away(other, scale, lambda _: True, GUIDANCES[best.guidance].combine)])


@pytest.fixture(scope="module", params=["embedded", *SPECIMENS])
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Case]:
    specimen = OWN if request.param == "embedded" else SPECIMENS[request.param]
    folder = find_model(EMBEDDED)
    with quiet():
        if specimen is not OWN:
            folder = specimen.save(tmp_path_factory.mktemp("family") / specimen.name)
        family = load_family(folder, read_facts(folder, specimen.name), CPU)
        pipeline = DiffusionPipeline.from_pretrained(
            folder, dtype=torch.float32, **dict.fromkeys(missing_parts(folder))
        )
        pipeline.set_progress_bar_config(disable=True)
        yield Case(specimen, folder, family, pipeline)


def missing_parts(folder: Path) -> list[str]:
    """Optional parts that this folder does not have."""
    return [name for name in ("text_encoder_3", "tokenizer_3") if "without-t5" in folder.name]


def patches_of(family: Family, count: int) -> Tensor:
    patch = family.facts.patch
    shape = (count, family.facts.latent_channels, patch.height, patch.width)
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def test_its_facts_equal_those_of_the_loaded_parts(case: Case) -> None:
    facts, pipeline = case.family.facts, case.pipeline
    assert facts.pipeline == type(pipeline).__name__ == case.specimen.pipeline
    native = case.specimen.native or facts.native_size.width
    assert facts.native_size == Size(native, native)
    pixels = torch.zeros(1, 3, native, native)
    assert case.family.autoencoder.encode(pixels).shape[1:] == (
        facts.latent_channels,
        facts.patch.height,
        facts.patch.width,
    )
    modules = [part for part in pipeline.components.values() if isinstance(part, torch.nn.Module)]
    kept = [value for part in modules for value in part.state_dict().values()]
    assert facts.parameters == sum({value.data_ptr(): value.numel() for value in kept}.values())


@pytest.mark.parametrize("steps", [2, 4, 20])
def test_levels_decrease_from_noise_to_clean(case: Case, steps: int) -> None:
    levels = case.family.schedule(steps).levels
    assert len(levels) == steps + 1
    sigmas = [level.sigma for level in levels]
    assert sigmas == sorted(sigmas, reverse=True)
    assert sigmas[0] > (0.9 if steps == 20 else 0.5)
    assert sigmas[-1] < 0.05
    assert [level.progress for level in levels] == pytest.approx([i / steps for i in range(steps + 1)])
    flow = all(level.alpha + level.sigma == pytest.approx(1, abs=1e-5) for level in levels)
    assert flow or all(level.alpha**2 + level.sigma**2 == pytest.approx(1, abs=1e-5) for level in levels)


@torch.inference_mode()
@pytest.mark.parametrize(("prompt", "negative"), PROMPTS.values(), ids=PROMPTS.keys())
def test_one_patch_without_a_guide_equals_the_stock_pipeline(case: Case, prompt: str, negative: str | None) -> None:
    """The same canvas, prompts, guidance and steps give the latents of diffusers."""
    family, patch = case.family, case.family.facts.patch
    job = Denoising(
        denoiser=case.guided(prompt, negative),
        schedule=family.schedule(case.specimen.steps),
        coverage=ShiftedGrid(patch, patch, 0, 0, 0),
        noise=family.base_noise(0, patch),
        seed=0,
        stage=0,
        rule=SAMPLERS[case.specimen.sampler],
    )
    canvas = job.run(KeptSteps(job.channels), 1, family.device)
    expected = case.stock("latent", case.canvas_noise(), (prompt, negative))[0]
    torch.testing.assert_close(canvas.read(patch.window), expected, atol=1e-4, rtol=1e-4)


@torch.inference_mode()
@pytest.mark.parametrize("merge", ["hold", "phase"])
def test_a_larger_canvas_follows_the_guide_as_set_by_the_slider(case: Case, merge: str) -> None:
    """In patches, for a canvas that is not square."""
    family, patch = case.family, case.family.facts.patch
    canvas = Size(2 * patch.width, 3 * patch.height // 2)
    values = torch.randn(
        family.facts.latent_channels, canvas.height, canvas.width, generator=torch.Generator().manual_seed(1)
    )
    job = Denoising(
        denoiser=case.denoisers(canvas.scaled(family.facts.latent_scale))[0],
        schedule=family.schedule(4),
        coverage=ShiftedGrid(canvas, patch, 1, 0, 1),
        noise=NoiseField(0, 1, family.facts.latent_channels),
        seed=0,
        stage=1,
    )

    def far(slider: float) -> float:
        positions = Array(torch.full((1, canvas.height, canvas.width), slider))
        lead = Lead(guide_weights(4, 1.0 if merge == "hold" else slider), positions, low_pass_bands(2.0), factor=2.0)
        led = replace(job, guide=Guide(Array(values), MERGES[merge].made_of(lead)))
        found = led.run(KeptSteps(job.channels), 4, family.device).read(canvas.window)
        return float((found - values).norm())

    free, half, guided = (far(slider) for slider in (0.0, 0.5, 1.0))
    assert free > half > guided


@torch.inference_mode()
def test_the_base_picture_is_the_stock_pipelines_of_that_seed(case: Case) -> None:
    """Through everything that generate does, to the last byte but rounding.

    An Euler schedule that trails makes a little less than noise of what it draws, so there the noise is given.
    """
    if case.specimen is OWN:
        pytest.skip("diffusers' own StableDiffusionPipeline cannot decode with an AutoencoderDC")
    specimen = case.specimen
    method = Method(specimen.steps, specimen.sampler, guidance_scale=specimen.scale, guidance_rescale=0.0)
    request = Request(
        PROMPT, case.family.facts.native_size, NEGATIVE, model=str(case.folder), method=method, compute=CPU
    )
    found = generate(request).pixels.astype(float)
    noise = None if specimen.draws else case.canvas_noise()
    expected = (case.stock("pt", noise)[0].permute(1, 2, 0).float().clamp(0, 1) * 255).numpy()
    assert np.abs(found - expected).max() < 0.75


@torch.inference_mode()
def test_a_batch_equals_its_patches_one_by_one(case: Case) -> None:
    patch, level = case.family.facts.patch, case.family.schedule(10).levels[4]
    denoiser = case.denoisers(Size(4096, 2048))[0]
    x = patches_of(case.family, 3)
    windows = [Window(8 * i, 4 * i, patch.height, patch.width) for i in range(3)]
    together = denoiser(x, level, windows)
    one_by_one = torch.cat([denoiser(x[i : i + 1], level, windows[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(together, one_by_one, atol=1e-4, rtol=1e-4)


@torch.inference_mode()
def test_patches_of_a_batch_have_their_own_prompts(case: Case) -> None:
    """Also of different lengths, which some encoders do not pad."""
    patch, level = case.family.facts.patch, case.family.schedule(10).levels[4]
    prompts = [case.family.encode(text, NEGATIVE)[0] for text in (PROMPT, "ice", PROMPT + " with a bay", "ice")]
    windows = [Window(0, 4 * i, patch.height, patch.width) for i in range(len(prompts))]
    prompt_of = dict(zip(windows, prompts, strict=True))
    denoiser = case.family.denoiser(prompt_of.__getitem__, Size(4096, 2048), case.specimen.scale)
    x = patches_of(case.family, 1).repeat(len(prompts), 1, 1, 1)
    together = denoiser(x, level, windows)
    one_by_one = torch.cat([denoiser(x[:1], level, [window]) for window in windows])
    torch.testing.assert_close(together, one_by_one, atol=1e-4, rtol=1e-4)
    assert (together[0] - together[1]).abs().max() > 1e-5


@torch.inference_mode()
@pytest.mark.parametrize("perturbation", PERTURBATIONS.values(), ids=PERTURBATIONS.keys())
def test_a_perturbation_affects_its_own_calls_only_or_is_refused(case: Case, perturbation: Perturbation) -> None:
    """Each patch of a batch independently."""
    family, patch = case.family, case.family.facts.patch
    request = Request(PROMPT, family.facts.native_size, method=Method(perturbation=perturbation))
    if not family.facts.perturbable:
        with pytest.raises(RequestError, match="perturbation: how to perturb the network"):
            make_plan(request, family.facts)
        return
    prompt, size = family.encode(PROMPT, NEGATIVE)[0], Size(4096, 2048)
    plain = family.denoiser(everywhere(prompt), size, case.specimen.scale)
    perturbed = family.denoiser(everywhere(prompt), size, case.specimen.scale, perturbation)
    x, level, windows = patches_of(family, 2), family.schedule(10).levels[4], [patch.window] * 2
    before, together, after = plain(x, level, windows), perturbed(x, level, windows), plain(x, level, windows)
    assert torch.equal(before, after)
    assert (together - before).abs().max() > 1e-5
    one_by_one = torch.cat([perturbed(x[i : i + 1], level, windows[:1]) for i in range(2)])
    torch.testing.assert_close(together, one_by_one, atol=1e-4, rtol=1e-4)


@torch.inference_mode()
def test_the_prompt_changes_the_estimate(case: Case) -> None:
    x, level = patches_of(case.family, 1), case.family.schedule(10).levels[4]
    window = case.family.facts.patch.window
    positive, negative = (denoiser(x, level, [window]) for denoiser in case.denoisers())
    assert (positive - negative).abs().max() > 1e-5


@torch.inference_mode()
def test_the_autoencoder_encodes_and_decodes_at_its_scale(case: Case) -> None:
    pixels = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(0)) * 2 - 1
    scale, autoencoder = case.family.facts.latent_scale, case.family.autoencoder
    latents = autoencoder.encode(pixels)
    assert latents.shape == (1, case.family.facts.latent_channels, 64 // scale, 96 // scale)
    assert autoencoder.decode(latents).shape == pixels.shape
    assert torch.equal(autoencoder.encode(pixels), latents)


def test_the_unread_end_of_a_prompt_is_reported(case: Case) -> None:
    assert case.family.unread("a coast") == ""
    end = case.family.unread("a " * 1500 + "zebra")
    assert end.strip().endswith("zebra")


@pytest.mark.parametrize("device", DEVICES)
def test_bfloat16_runs_and_is_close(case: Case, device: DeviceName) -> None:
    """To float32 on the CPU, on any device."""
    low = load_family(case.folder, case.family.facts, Compute(device, "bfloat16"))
    window, level, x = case.family.facts.patch.window, case.family.schedule(10).levels[4], patches_of(case.family, 1)
    with torch.inference_mode():
        found, expected = (
            denoiser(x.to(model.device), level, [window]).cpu()
            for model, denoiser in (
                (model, model.denoiser(everywhere(model.encode("sea", "")[0]), Size(64, 64), 2.0))
                for model in (low, case.family)
            )
        )
    assert isinstance(low, DiffusersFamily)
    assert network_of(low.pipeline).dtype == torch.bfloat16
    assert found.dtype == torch.float32
    assert not torch.equal(found, expected)
    assert (found - expected).abs().mean() < 0.15 * expected.abs().mean()


def test_a_cascade_to_twice_the_size_can_be_resumed(case: Case, tmp_path: Path) -> None:
    """For a canvas that is not square, guided by the previous stage."""
    if case.specimen is OWN:
        pytest.skip("tests/families/test_embedded.py and tests/run/test_directory.py have it")
    side = case.family.facts.native_size.width
    size = Size(2 * side, 3 * side // 2 + 6)
    request = Request(
        PROMPT,
        size,
        model=str(case.folder),
        cascade=(size,),
        method=Method(steps=2),
        compute=Compute("cpu", "float32", batch_size=4),
    )
    with load(str(case.folder), compute=request.compute) as model:
        whole = model.generate(request).pixels
        assert whole.shape == (size.height, size.width, 3)
        assert whole.std() > 0
        with pytest.raises(KeyboardInterrupt):
            model.generate(request, observer=stop_at(stage=1, phase="denoise", step=2), run_dir=tmp_path / "run")
    assert np.array_equal(resume(tmp_path / "run").pixels, whole)
