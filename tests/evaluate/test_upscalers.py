"""Other upscalers of a base picture, in the real classes with random weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from pixelsmith import ModelError, Size
from pixelsmith.evaluate.unavailable import UnavailableError
from pixelsmith.evaluate.upscalers import UPSCALERS, UpscalerWeights, load_upscaler
from tests.tiny import build_tokenizer

# Of little contrast: Pillow cuts at 0 and 255 between its two passes.
BASE = np.random.default_rng(0).integers(96, 160, (64, 64, 3), np.uint8)


class Doubled(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.interpolate(x, scale_factor=2.0, mode="nearest")


def save_latent_upscaler(folder: Path) -> None:
    from diffusers import (
        AutoencoderKL,
        EulerDiscreteScheduler,
        StableDiffusionLatentUpscalePipeline,
        UNet2DConditionModel,
    )
    from transformers import CLIPTextConfig, CLIPTextModel

    torch.manual_seed(0)
    tokenizer = build_tokenizer()
    unet = UNet2DConditionModel(
        act_fn="gelu", attention_head_dim=8, norm_num_groups=None, block_out_channels=(32, 32, 64, 64),
        time_cond_proj_dim=160,
        conv_in_kernel=1, conv_out_kernel=1, cross_attention_dim=32, in_channels=8, out_channels=5, mid_block_type=None,
        down_block_types=("KDownBlock2D", *("KCrossAttnDownBlock2D",) * 3), only_cross_attention=False,
        up_block_types=(*("KCrossAttnUpBlock2D",) * 3, "KUpBlock2D"), resnet_time_scale_shift="scale_shift",
        time_embedding_type="fourier", timestep_post_act="gelu",
    )  # fmt: skip
    vae = AutoencoderKL(
        block_out_channels=(8, 8, 8, 8), down_block_types=("DownEncoderBlock2D",) * 4, latent_channels=4,
        up_block_types=("UpDecoderBlock2D",) * 4, norm_num_groups=4,
    )  # fmt: skip
    text = CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=37, num_hidden_layers=1, num_attention_heads=4,
        max_position_embeddings=16, bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    StableDiffusionLatentUpscalePipeline(
        vae=vae,
        text_encoder=CLIPTextModel(text),
        tokenizer=tokenizer,
        unet=unet,
        scheduler=EulerDiscreteScheduler(prediction_type="sample"),
    ).save_pretrained(folder)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> UpscalerWeights:
    folder = tmp_path_factory.mktemp("upscalers")
    save_latent_upscaler(folder / "latent")
    torch.export.save(torch.export.export(Doubled(), (torch.zeros(1, 3, 32, 32),)), folder / "doubled.pt2")
    return UpscalerWeights(str(folder / "latent"), str(folder / "doubled.pt2"))


@pytest.mark.parametrize("name", UPSCALERS)
def test_every_upscaler_reaches_the_size_and_is_deterministic(weights: UpscalerWeights, name: str) -> None:
    """A size that is not two or four times the base's, so that the result has to be scaled down."""
    size = Size(100, 100)
    found = [load_upscaler(name, weights)(BASE, "a sea", 3, size).read(size.window) for _ in range(2)]
    assert found[0].shape == (3, 100, 100)
    assert torch.equal(*found)


@pytest.mark.parametrize("name", ["lanczos", "bicubic"])
def test_kernels_equal_pillows(weights: UpscalerWeights, name: str) -> None:
    size = Size(128, 128)
    found = load_upscaler(name, weights)(BASE, "", 0, size).read(size.window).permute(1, 2, 0)
    expected = np.asarray(Image.fromarray(BASE).resize((128, 128), Image.Resampling[name.upper()]))
    inside = (slice(8, -8), slice(8, -8))
    assert np.abs(found.numpy().astype(int) - expected)[inside].max() <= 2


def test_super_resolution_in_tiles_equals_the_whole(weights: UpscalerWeights) -> None:
    """For a network that sees only one pixel: tiles of 32 of a picture of 64, for two passes."""
    size = Size(256, 256)
    found = load_upscaler("super-resolution", weights)(BASE, "", 0, size).read(size.window).permute(1, 2, 0)
    assert np.array_equal(found, BASE.repeat(4, axis=0).repeat(4, axis=1))


def test_missing_weights_leave_out_a_row_and_invalid_ones_are_an_error(tmp_path: Path) -> None:
    for name, said in (("latent", "--latent-upscaler"), ("super-resolution", "--super-resolution")):
        with pytest.raises(UnavailableError, match=said):
            load_upscaler(name, UpscalerWeights())
        with pytest.raises(ModelError):
            load_upscaler(name, UpscalerWeights(str(tmp_path), str(tmp_path)))


def test_a_model_without_a_network_for_latents_is_a_reason(tiny_model: Path) -> None:
    with pytest.raises(UnavailableError, match="no network that enlarges latents"):
        load_upscaler("learned", UpscalerWeights(model=str(tiny_model)))


def test_latents_are_doubled_until_they_reach_the_size(enlarging_model: Path) -> None:
    """The mean colour stays near, and the network makes something of its own."""
    larger = load_upscaler("learned", UpscalerWeights(model=str(enlarging_model)))
    found, size = larger(BASE, "", 0, Size(250, 256)), Size(250, 256)
    smooth = load_upscaler("lanczos", UpscalerWeights())(BASE, "", 0, size)
    assert found.size == size
    assert found.read(size.window).dtype == torch.uint8
    assert (found.read(size.window).int() - smooth.read(size.window).int()).abs().float().mean() > 3


def test_the_digest_depends_on_the_content_of_used_weights_only(tmp_path: Path) -> None:
    file, other = tmp_path / "a.pt2", tmp_path / "b.pt2"
    file.write_bytes(b"one")
    other.write_bytes(b"two")
    weights = UpscalerWeights(super_resolution=str(file))
    before = weights.digest("super-resolution")
    assert before != UpscalerWeights(super_resolution=str(other)).digest("super-resolution")
    assert weights.digest("lanczos") == UpscalerWeights(super_resolution=str(other)).digest("lanczos") == ""
    file.write_bytes(b"three")
    assert weights.digest("super-resolution") != before
