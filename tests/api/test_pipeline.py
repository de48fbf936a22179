"""Pixelsmith as a diffusers pipeline, built from tiny pipelines in the real classes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDPMPipeline, DDPMScheduler, DiffusionPipeline, UNet2DModel
from PIL import Image

from pixelsmith import (
    CancelledError,
    Compute,
    Method,
    ModelError,
    PixelsmithPipeline,
    Progress,
    Request,
    RequestError,
    RunError,
    Size,
    generate,
)
from pixelsmith.api.pipeline import seed_of
from pixelsmith.families import read_facts
from pixelsmith.families.loading.pipelines import family_of
from pixelsmith.families.loading.quiet import quiet
from tests.zoo.all import SPECIMENS

NAMES = ["sdxl", "sd3", "flux-dev"]
SIZE = Size(144, 110)


@pytest.fixture(scope="module", params=NAMES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    with quiet():
        return SPECIMENS[request.param].save(tmp_path_factory.mktemp("pipelines") / request.param)


@pytest.fixture(scope="module")
def stock(folder: Path) -> Iterator[Any]:
    """The model as diffusers loads it."""
    with quiet():
        pipeline = DiffusionPipeline.from_pretrained(folder, dtype=torch.float32)
        pipeline.set_progress_bar_config(disable=True)
        yield pipeline


def pointers(pipeline: Any) -> dict[str, int]:
    """The memory address of each weight."""
    parts = {name: part for name, part in pipeline.components.items() if isinstance(part, torch.nn.Module)}
    return {
        f"{part}.{name}": value.untyped_storage().data_ptr()
        for part, module in parts.items()
        for name, value in module.state_dict(keep_vars=True).items()
    }


def seeded(seed: int = 3) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def call(pipe: PixelsmithPipeline, **options: Any) -> Any:
    usual: dict[str, Any] = {
        "prompt": "a coast",
        "width": SIZE.width,
        "height": SIZE.height,
        "num_inference_steps": 2,
        "generator": seeded(),
        "output_type": "np",
    }
    return pipe(**(usual | options)).images


def test_the_weights_of_a_loaded_pipeline_are_not_copied(stock: Any, folder: Path) -> None:
    before = pointers(stock)
    pipe = PixelsmithPipeline.from_pipe(stock)
    found = call(pipe, slider=0.4, negative_prompt="roads")
    assert pointers(stock) == before == pointers(pipe.pipeline)
    with family_of(stock) as family:
        assert pointers(family.pipeline) == before
    request = Request(
        "a coast",
        SIZE,
        "roads",
        seed=3,
        model=str(folder),
        method=Method(steps=2, slider=0.4),
        compute=Compute("cpu", "float32"),
    )
    assert found.shape == (1, SIZE.height, SIZE.width, 3)
    assert np.array_equal(np.round(found[0] * 255), generate(request).pixels)


def test_from_pretrained_equals_from_pipe_of_the_loaded_pipeline(stock: Any, folder: Path) -> None:
    pipe = PixelsmithPipeline.from_pretrained(str(folder), dtype=torch.float32)
    pipe.pipeline.set_progress_bar_config(disable=True)
    assert type(pipe.pipeline) is type(stock)
    assert np.array_equal(call(pipe), call(PixelsmithPipeline.from_pipe(stock)))


def test_the_facts_equal_those_of_the_files(stock: Any, folder: Path) -> None:
    with PixelsmithPipeline.from_pipe(stock).loaded() as model:
        expected = read_facts(folder, str(folder))
        assert replace(model.facts, parameters=0) == replace(expected, parameters=0)
        assert model.facts.parameters == expected.parameters


def test_the_step_callback_is_called_and_can_interrupt(stock: Any) -> None:
    told = list[tuple[int, float, dict[str, Any]]]()
    pipe = PixelsmithPipeline.from_pipe(stock)

    def listen(given: PixelsmithPipeline, step: int, timestep: float, known: dict[str, Any]) -> None:
        assert given is pipe
        told.append((step, timestep, known))

    call(pipe, callback_on_step_end=listen)
    assert [step for step, _, _ in told] == list(range(len(told)))
    stages = [known["stage"] for _, _, known in told]
    assert stages == sorted(stages)
    assert {0, told[0][2]["stages"]} <= set(stages)
    assert told[0][1] > told[1][1] >= 0
    assert told[0][2]["share"] < told[-1][2]["share"] <= 1

    def interrupt(given: PixelsmithPipeline, *_: object) -> None:
        told.append((0, 0.0, {}))
        given._interrupt = True

    told.clear()
    with pytest.raises(CancelledError):
        call(pipe, callback_on_step_end=interrupt)
    assert len(told) == 1
    assert call(pipe).shape[0] == 1, "and it can be called again"


def test_another_scheduler_changes_the_picture(stock: Any) -> None:
    pipe, usual = PixelsmithPipeline.from_pipe(stock), stock.scheduler
    before = call(pipe)
    key = "shift" if "shift" in usual.config else "beta_end"
    value = 6.0 if key == "shift" else 0.02
    try:
        changes = {key: value, "use_dynamic_shifting": False} if key == "shift" else {key: value}
        stock.scheduler = type(usual).from_config(usual.config, **changes)
        assert not np.array_equal(call(pipe), before)
    finally:
        stock.scheduler = usual


@pytest.fixture(scope="module")
def pipe(tiny_model: Path) -> PixelsmithPipeline:
    with quiet():
        made = PixelsmithPipeline.from_pretrained(str(tiny_model))
    made.pipeline.set_progress_bar_config(disable=True)
    return made


def test_pictures_of_any_mode_are_taken_or_refused_with_a_reason(pipe: PixelsmithPipeline) -> None:
    start = Image.new("RGB", (64, 64), "teal")
    made = call(pipe, image=start.convert("CMYK"))
    assert made.shape == call(pipe, image=start).shape
    with pytest.raises(RequestError, match="from_image: a PIL image of mode F cannot be used; convert it to RGB"):
        call(pipe, image=start.convert("F"))
    with pytest.raises(RequestError, match="from_image: expected a PIL image or a path, got ndarray"):
        call(pipe, image=np.asarray(start))


def test_the_default_size_is_the_models_native_size(pipe: PixelsmithPipeline) -> None:
    (picture,) = pipe("a coast", num_inference_steps=1).images
    assert isinstance(picture, Image.Image)
    assert picture.size == (64, 64)
    (images,) = pipe("a coast", num_inference_steps=1, output_type="pt", return_dict=False)
    assert images.shape == (1, 3, 64, 64)
    assert 0 <= images.min() < images.max() <= 1


def test_prompts_and_generators_in_lists(pipe: PixelsmithPipeline) -> None:
    two = call(pipe, prompt=["a coast", "a hill"], generator=[seeded(1), seeded(2)])
    for index, (prompt, seed) in enumerate((("a coast", 1), ("a hill", 2))):
        assert np.array_equal(two[index], call(pipe, prompt=prompt, generator=seeded(seed))[0])
    with pytest.raises(RequestError, match="generator: expected one, or 2"):
        call(pipe, prompt=["a", "b"], generator=[seeded(1)])


def test_a_generator_gives_its_seed_first_and_then_other_seeds() -> None:
    generator = seeded(7)
    assert seed_of(generator) == 7
    second, third = seed_of(generator), seed_of(generator)
    assert len({7, second, third}) == 3
    again = seeded(7)
    seed_of(again)
    assert seed_of(again) == second
    torch.manual_seed(0)
    assert seed_of(None) != seed_of(None)


def test_start_pictures_and_masks_are_pil_images(pipe: PixelsmithPipeline, tmp_path: Path) -> None:
    rows, columns = np.mgrid[0:55, 0:72]
    start = Image.fromarray(np.stack([rows * 4, columns * 3, rows + columns], -1).astype(np.uint8))
    mask = Image.fromarray(np.where(columns < 36, 0, 255).astype(np.uint8))
    start.save(tmp_path / "start.png")
    found = call(pipe, image=start, mask=mask, mask_feather=0)
    assert np.array_equal(found, call(pipe, image=tmp_path / "start.png", mask=mask, mask_feather=0))
    enlarged = np.asarray(start.resize((144, 110), Image.Resampling.LANCZOS)) / 255
    left, right = (np.abs(found[0] - enlarged)[:, part].mean() for part in (slice(0, 60), slice(84, None)))
    assert left < 0.01 < right
    painted = call(pipe, image=start, slider_map=mask)
    assert not np.array_equal(painted, call(pipe, image=start))


def test_a_picture_too_large_for_memory_uses_a_run_directory(
    pipe: PixelsmithPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = call(pipe)
    monkeypatch.setattr(sys.modules["pixelsmith.planning.planner"], "MEMORY_LIMIT", 1000)
    assert np.array_equal(call(pipe), expected)


def test_the_loaded_model_writes_files_and_resumes_runs(pipe: PixelsmithPipeline, tmp_path: Path) -> None:
    with pipe.loaded() as model:
        request = model.request("a coast", SIZE, method=Method(steps=2))
        assert model.plan(request).stages

        def stop(event: object) -> None:
            if isinstance(event, Progress) and event.stage == 1:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            model.generate(request, tmp_path / "x.png", stop, tmp_path / "run")
    with pipe.loaded() as model:
        model.resume(tmp_path / "run")
        expected = model.generate(request).pixels
    with Image.open(tmp_path / "x.png") as picture:
        assert np.array_equal(np.asarray(picture), expected)


def test_a_run_of_changed_weights_is_not_resumed(tiny_model: Path, tmp_path: Path) -> None:
    with quiet():
        own = PixelsmithPipeline.from_pretrained(str(tiny_model))
    with own.loaded() as model:
        model.generate(model.request("a coast", Size(64, 64), method=Method(steps=1)), run_dir=tmp_path / "run")
    with torch.no_grad():
        next(own.pipeline.unet.parameters()).add_(1)
    with own.loaded() as model, pytest.raises(RunError, match="it cannot go on here: model was"):
        model.resume(tmp_path / "run")


def test_unsupported_calls_are_refused(pipe: PixelsmithPipeline) -> None:
    with pytest.raises(RequestError, match="sldier: there is no such option"):
        pipe("a coast", sldier=0.5)
    with pytest.raises(RequestError, match="output type: expected one of pil, np, pt, got 'latent'"):
        pipe("a coast", output_type="latent")
    with pytest.raises(RequestError, match="preset: expected one of default, paper, fast, got 'slow'"):
        pipe("a coast", preset="slow")
    network = UNet2DModel(
        16,
        block_out_channels=(8,),
        down_block_types=("DownBlock2D",),
        up_block_types=("UpBlock2D",),
        norm_num_groups=4,
    )
    with pytest.raises(ModelError, match="its pipeline is DDPMPipeline; supported are"):
        PixelsmithPipeline.from_pipe(DDPMPipeline(network, DDPMScheduler()))


def test_an_overflowing_autoencoder_is_in_float32_during_the_call_only() -> None:
    stock = SPECIMENS["sdxl"].build()
    stock.vae.to(torch.float16)
    with family_of(stock):
        assert stock.vae.dtype == torch.float32
    assert stock.vae.dtype == torch.float16
