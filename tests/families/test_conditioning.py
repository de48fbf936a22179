"""Inputs of networks for a patch besides its latents, against values made by hand."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest
import torch

from pixelsmith import Compute
from pixelsmith.families import everywhere, load_family, read_facts
from pixelsmith.families.architecture import DiffusersFamily, Scene
from pixelsmith.families.architectures import flux, flux_2
from pixelsmith.families.architectures.stable_diffusion_xl import time_ids
from pixelsmith.families.loading.quiet import quiet
from pixelsmith.families.shared.packing import pack, patchify, unpack, unpatchify
from pixelsmith.geometry import Size, Window
from pixelsmith.sampling.schedule import Level
from tests.zoo.all import SPECIMENS

CPU = torch.device("cpu")


def test_sdxl_receives_the_size_of_the_picture_and_the_top_left_corner_of_each_patch_in_pixels() -> None:
    """Rows first; the window (40 latents down, 100 across) at 8 pixels a latent."""
    windows = [Window(40, 100, 128, 128).scaled(8), Window(0, 0, 128, 128).scaled(8)]
    found = time_ids(Scene(windows, Size(3000, 2000), 5.0))
    assert found.tolist() == [[2000, 3000, 320, 800, 2000, 3000], [2000, 3000, 0, 0, 2000, 3000]]


@torch.inference_mode()
def test_neighbouring_patches_of_a_gigapixel_picture_differ_in_bfloat16(tmp_path: Path) -> None:
    with quiet():
        SPECIMENS["sdxl"].save(tmp_path)
    family = load_family(tmp_path, read_facts(tmp_path, "xl"), Compute("cpu", "bfloat16"))
    denoiser = family.denoiser(everywhere(family.encode("a sea", "")[0]), Size(40_000, 40_000), 5.0)
    x, level = torch.randn(1, 4, 16, 16), family.schedule(10).levels[4]
    first, second = (denoiser(x, level, [Window(0, left, 16, 16)]) for left in (7500, 7501))
    assert not torch.equal(first, second)


def test_positions_of_tokens_begin_at_the_corner_of_the_patch() -> None:
    assert flux.position_ids(2, 3, CPU).tolist() == [[0, 0, 0], [0, 0, 1], [0, 0, 2], [0, 1, 0], [0, 1, 1], [0, 1, 2]]
    assert flux_2.position_ids(2, 2, CPU)[0].tolist() == [[0, 0, 0, 0], [0, 0, 1, 0], [0, 1, 0, 0], [0, 1, 1, 0]]


TOKENS = [[0, row, column] for row in range(4) for column in range(6)]
EXPECTED: dict[str, dict[str, Any]] = {
    "flux-dev": {"timestep": [0.25, 0.25], "guidance": [5.0, 5.0], "img_ids": TOKENS, "txt_ids": [[0, 0, 0]] * 512},
    "flux-schnell": {"timestep": [0.25, 0.25], "guidance": None, "img_ids": TOKENS, "txt_ids": [[0, 0, 0]] * 256},
    "flux-2-klein": {
        "timestep": [0.25, 0.25],
        "guidance": None,
        "img_ids": [[[0, row, column, 0] for row in range(8) for column in range(12)]] * 2,
        "txt_ids": [[[0, 0, 0, token] for token in range(512)]] * 2,
    },
    # Of the text the letters of "a sea" and the ends are looked at and one token more; of the picture all.
    "chroma": {
        "timestep": [0.25, 0.25],
        "img_ids": TOKENS,
        "txt_ids": [[0, 0, 0]] * 512,
        "attention_mask": [[1.0] * 8 + [0.0] * 504 + [1.0] * 24] * 2,
    },
    "qwen-image": {"img_shapes": [[(1, 4, 6)]] * 2, "timestep": [0.25, 0.25], "guidance": None},
    "sd3": {"timestep": [250.0, 250.0]},
    "lumina-2": {"timestep": [0.75, 0.75]},
    "z-image": {"timestep": [0.75, 0.75]},
    "pixart-sigma": {"timestep": [250.0, 250.0], "added_cond_kwargs": {"resolution": None, "aspect_ratio": None}},
    "sana": {"timestep": [250.0, 250.0]},
}
"""At timestep 250 of 1000, for two patches of 8x12 latents; Lumina and Z-Image count time from noise to image."""


@torch.inference_mode()
@pytest.mark.parametrize("name", EXPECTED)
def test_the_inputs_of_transformers(tmp_path: Path, name: str) -> None:
    with quiet():
        SPECIMENS[name].save(tmp_path)
    family = load_family(tmp_path, read_facts(tmp_path, name), Compute("cpu", "float32"))
    assert isinstance(family, DiffusersFamily)
    network, told = family.pipeline.transformer, {}

    def listen(module: torch.nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        told.update(inspect.signature(module.forward).bind(*arguments, **named).arguments)

    handle = network.register_forward_pre_hook(listen, with_kwargs=True)
    x = torch.randn(2, family.facts.latent_channels, 8, 12)
    denoiser = family.denoiser(everywhere(family.encode("a sea", "")[0]), Size(4096, 4096), 5.0)
    denoiser(x, Level(0.75, 0.25, 250, 0.5), [Window(400, 80, 8, 12), Window(0, 0, 8, 12)])
    handle.remove()
    told["timestep"] = told["timestep" if "timestep" in told else "t"]
    found = {key: told.get(key) for key in EXPECTED[name]}
    plain = {key: value.tolist() if isinstance(value, torch.Tensor) else value for key, value in found.items()}
    assert plain == EXPECTED[name]


def test_a_token_contains_2_by_2_latents_channel_by_channel() -> None:
    x = torch.arange(2 * 2 * 4).view(1, 2, 2, 4).float()
    tokens = pack(x)
    assert tokens.tolist() == [[[0, 1, 4, 5, 8, 9, 12, 13], [2, 3, 6, 7, 10, 11, 14, 15]]]
    assert torch.equal(unpack(tokens, 2, 4), x)
    assert patchify(x)[0, :, 0, 1].tolist() == tokens[0, 1].tolist()


@pytest.mark.parametrize("shape", [(1, 3, 4, 8), (2, 16, 10, 6)])
def test_unpacking_reverses_packing(shape: tuple[int, ...]) -> None:
    x = torch.randn(shape)
    assert torch.equal(unpack(pack(x), *shape[2:]), x)
    assert torch.equal(unpatchify(patchify(x)), x)
    assert patchify(x).shape == (shape[0], 4 * shape[1], shape[2] // 2, shape[3] // 2)
