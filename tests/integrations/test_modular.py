"""The block of Modular Diffusers, loaded from its folder as from the hub."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline, ModularPipeline
from diffusers.modular_pipelines import ModularPipelineBlocks, OutputParam, SequentialPipelineBlocks
from PIL import Image

from pixelsmith import PixelsmithPipeline
from pixelsmith.families.loading.quiet import quiet
from tests.zoo.all import SPECIMENS

FOLDER = Path(__file__).parents[2] / "integrations" / "diffusers"
TOLD: dict[str, Any] = {"prompt": "a coast", "width": 144, "height": 110, "num_inference_steps": 2}


@pytest.fixture(autouse=True)
def own_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Code of folders is copied before it is run: not into the user's cache."""
    monkeypatch.setattr("diffusers.utils.dynamic_modules_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))


def modular() -> Any:
    with quiet():
        return ModularPipeline.from_pretrained(FOLDER, trust_remote_code=True)


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(3)


@pytest.mark.parametrize("name", ["sdxl", "sd3", "flux-schnell"])
def test_the_block_gives_the_picture_of_the_pipeline(name: str, tmp_path: Path) -> None:
    with quiet():
        folder = SPECIMENS[name].save(tmp_path / name)
        pipe = modular()
        pipe.load_components(pretrained_model_name_or_path=str(folder))
        stock = DiffusionPipeline.from_pretrained(folder)
        for each in (stock, pipe.pixelsmith.pipeline):
            each.set_progress_bar_config(disable=True)
        direct = PixelsmithPipeline.from_pipe(stock)(**TOLD, generator=seeded(), slider=0.5).images
        (found,) = pipe(**TOLD, generator=seeded(), slider=0.5, output="images")
    assert found.size == (144, 110)
    assert np.array_equal(found, direct[0])


def test_a_loaded_pipeline_can_be_passed_as_component(tiny_model: Path) -> None:
    with quiet():
        stock = DiffusionPipeline.from_pretrained(tiny_model)
        stock.set_progress_bar_config(disable=True)
        pipe = modular()
        pipe.update_components(pixelsmith=PixelsmithPipeline.from_pipe(stock))
    assert pipe.pixelsmith.pipeline is stock
    (found,) = pipe(**TOLD, generator=seeded(), output="images", options={"border": 1})
    assert found.size == (144, 110)


class Grey(ModularPipelineBlocks):
    """Leaves a grey picture."""

    @property
    def intermediate_outputs(self) -> list[OutputParam]:
        return [OutputParam("images", list)]

    def __call__(self, components: Any, state: Any) -> tuple[Any, Any]:
        block = self.get_block_state(state)
        block.images = [Image.new("RGB", (72, 55), (40, 90, 200))]
        self.set_block_state(state, block)
        return components, state


def test_the_block_enlarges_the_picture_of_the_previous_block(tiny_model: Path) -> None:
    with quiet():
        own = PixelsmithPipeline.from_pretrained(str(tiny_model))
        own.pipeline.set_progress_bar_config(disable=True)
        chain = SequentialPipelineBlocks.from_blocks_dict({"grey": Grey(), "pixelsmith": modular().blocks})
        pipe = chain.init_pipeline()
        pipe.update_components(pixelsmith=own)
        (found,) = pipe(**TOLD, generator=seeded(), output="images")
    expected = own(**TOLD, generator=seeded(), image=Image.new("RGB", (72, 55), (40, 90, 200))).images[0]
    assert np.array_equal(found, expected)


def test_the_configuration_equals_that_written_by_diffusers(tmp_path: Path) -> None:
    with quiet():
        modular().blocks.save_pretrained(tmp_path)
    written = json.loads((tmp_path / "modular_config.json").read_text())
    kept = json.loads((FOLDER / "modular_config.json").read_text())
    assert {**written, "_diffusers_version": None} == {**kept, "_diffusers_version": None}


def test_the_example_in_the_documentation_runs(tmp_path: Path) -> None:
    with quiet():
        runpy.run_path(str(FOLDER / "example.py"))["main"](tmp_path, 160)
    for name, width in (("city.png", 160), ("city-larger.png", 320)):
        with Image.open(tmp_path / name) as picture:
            assert picture.size == (width, width)
