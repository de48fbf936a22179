"""Guidance away from a perturbed network, against the pipelines of diffusers that have it."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import accelerate
import diffusers
import pytest
import torch
from diffusers.models.attention_processor import Attention, JointAttnProcessor2_0
from torch import Tensor

from pixelsmith import PERTURBATIONS, Compute, Method, Perturbation, Request, RequestError
from pixelsmith.canvas import MemorySpace
from pixelsmith.engine.stage import Cascade
from pixelsmith.events import silent
from pixelsmith.families import everywhere, load_family, read_facts
from pixelsmith.families.architecture import DiffusersFamily, network_of
from pixelsmith.families.loading.quiet import quiet
from pixelsmith.families.shared.perturbed import forwards_of, replaced, usual_layers
from pixelsmith.planning.planner import make_plan
from tests.tiny import build_stable_diffusion, build_unet
from tests.zoo.all import SPECIMENS
from tests.zoo.specimen import NEGATIVE, PROMPT, Stock, usual_call
from tests.zoo.transformers import build_3, call_exact_size


def build_first_3() -> Any:
    """Without what 3.5 added, which diffusers' pipeline with perturbed attention does not know."""
    parts = build_3().components
    config = {**parts["transformer"].config, "qk_norm": None, "dual_attention_layers": ()}
    torch.manual_seed(0)
    parts["transformer"] = diffusers.SD3Transformer2DModel.from_config(config)
    return diffusers.StableDiffusion3Pipeline(**parts)


@dataclass(frozen=True)
class Case:
    """A tiny pipeline, the class that has perturbed attention, and how its layers are named there."""

    build: Callable[[], Any]
    stock: str
    layers: tuple[int, ...]
    named: str
    call: Callable[..., Tensor] = usual_call
    sampler: str = "ddim"


CASES = {
    "sd": Case(build_stable_diffusion, "StableDiffusionPAGPipeline", (), "mid"),
    "sdxl": Case(SPECIMENS["sdxl"].build, "StableDiffusionXLPAGPipeline", (), "mid"),
    "sd3": Case(build_first_3, "StableDiffusion3PAGPipeline", (0,), "blocks.0"),
    "pixart-sigma": Case(
        SPECIMENS["pixart-sigma"].build,
        "PixArtSigmaPAGPipeline",
        (0,),
        "blocks.0",
        call_exact_size,
        "dpmpp-2m",
    ),
    "sana": Case(SPECIMENS["sana-euler"].build, "SanaPAGPipeline", (0,), "transformer_blocks.0", call_exact_size),
}


def loaded(build: Callable[[], Any], folder: Path) -> DiffusersFamily:
    with quiet():
        build().save_pretrained(folder)
        family = load_family(folder, read_facts(folder, "tiny"), Compute("cpu", "float32"))
    assert isinstance(family, DiffusersFamily)
    return family


def own_pipeline(folder: Path) -> Any:
    """As diffusers loads it."""
    return diffusers.DiffusionPipeline.from_pretrained(folder, dtype=torch.float32)


def base_latents(family: DiffusersFamily, method: Method) -> Tensor:
    """Through the rung that makes the base picture, (1, c, h, w)."""
    native = family.facts.native_size
    # Latents are kept where the rung above needs them.
    request = Request(PROMPT, native, NEGATIVE, method=replace(method, guidance_rescale=0.0, upsampling="latent"))
    plan = make_plan(request, family.facts)
    latents = Cascade.of(request, family, plan, silent, MemorySpace()).base(native).latents
    assert latents is not None
    return latents.read(family.facts.patch.window)[None]


def stock_latents(family: DiffusersFamily, pipeline: Any, call: Callable[..., Tensor], method: Method) -> Tensor:
    facts, steps, scale = family.facts, method.steps or 0, method.guidance_scale or 0
    level = family.schedule(steps).levels[0]
    noise = math.hypot(level.alpha, level.sigma) * family.base_noise(0, facts.patch).read(facts.patch.window)
    pipeline.set_progress_bar_config(disable=True)
    return call(pipeline, Stock(noise[None], (facts.native_size.height, facts.native_size.width), steps, scale))


@torch.inference_mode()
@pytest.mark.parametrize("scale", [3.0, 1.0])
@pytest.mark.parametrize("name", CASES)
def test_perturbed_attention_guidance_equals_that_of_diffusers(tmp_path: Path, name: str, scale: float) -> None:
    """With and without classifier-free guidance."""
    case = CASES[name]
    family = loaded(case.build, tmp_path)
    perturbation = replace(PERTURBATIONS["pag"], scale=2.0, layers=case.layers)
    method = Method(4, case.sampler, guidance_scale=scale, perturbation=perturbation)
    with quiet():
        kind = getattr(diffusers, case.stock)
        parts = own_pipeline(tmp_path).components | {"requires_safety_checker": False, "add_watermarker": False}
        taken = parts.keys() & inspect.signature(kind.__init__).parameters
        stock = kind(**{part: parts[part] for part in taken}, pag_applied_layers=case.named)
        expected = stock_latents(family, stock, partial(case.call, pag_scale=2.0), method)
    found = base_latents(family, method)
    # CPUs round batches of other sizes otherwise: up to 2.4e-4 was seen.
    torch.testing.assert_close(found, expected, atol=4e-4, rtol=4e-4)
    assert (found - base_latents(family, replace(method, perturbation=None))).abs().max() > 1e-3


@torch.inference_mode()
def test_skip_layer_guidance_equals_that_of_diffusers_for_stable_diffusion_3(tmp_path: Path) -> None:
    """In three of four steps."""
    family = loaded(build_3, tmp_path)
    perturbation = Perturbation("slg", 2.8, (0.2, 0.8), (0,))
    method = Method(steps=4, guidance_scale=3.0, perturbation=perturbation)
    options: Any = {"skip_guidance_layers": [0], "skip_layer_guidance_start": 0.2, "skip_layer_guidance_stop": 0.8}
    with quiet():
        expected = stock_latents(family, own_pipeline(tmp_path), partial(usual_call, **options), method)
    found = base_latents(family, method)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    assert (found - base_latents(family, replace(method, perturbation=None))).abs().max() > 1e-3


@torch.inference_mode()
@pytest.mark.parametrize("with_text", [True, False])
def test_perturbed_image_tokens_attend_to_themselves_and_the_text_only(with_text: bool) -> None:
    """With normalised queries and keys, and without text, as blocks of 3.5 also attend."""
    torch.manual_seed(0)
    added = {"added_kv_proj_dim": 16, "context_pre_only": False} if with_text else {}
    attention = Attention(
        16, heads=2, dim_head=8, bias=True, qk_norm="rms_norm", processor=JointAttnProcessor2_0(), **added
    )
    (forward,) = forwards_of_block(attention)
    image, text = torch.randn(1, 5, 16), torch.randn(1, 3, 16)
    other = image.clone()
    other[:, 2] += 1

    def seen(tokens: Tensor, words: Tensor) -> Tensor:
        with replaced({attention: forward}):
            return tokens_of(attention(tokens, words if with_text else None))

    changed = (seen(image, text) - seen(other, text)).abs().amax(1) > 1e-5
    assert changed.tolist() == [False, False, True, False, False]
    assert (seen(image, text) - seen(image, text + 1)).abs().amax(1).gt(1e-5).all() == with_text
    plain = tokens_of(attention(image, text if with_text else None))
    assert not torch.allclose(plain, seen(image, text), atol=1e-3)


def tokens_of(found: Any) -> Tensor:
    """The image's; where there is text it comes second."""
    tokens: Tensor = (found[0] if isinstance(found, tuple) else found)[0]
    return tokens


def forwards_of_block(attention: Attention) -> list[Callable[..., Any]]:
    """Of a transformer of one block with this attention."""
    network = torch.nn.Module()
    network.transformer_blocks = torch.nn.ModuleList([attention])
    return list(forwards_of(network, PERTURBATIONS["pag"]).values())


@torch.inference_mode()
@pytest.mark.parametrize("perturbation", PERTURBATIONS.values(), ids=PERTURBATIONS.keys())
@pytest.mark.parametrize("name", ["sd3", "pixart-sigma"])
def test_an_offloaded_network_is_perturbed_in_the_same_way(
    tmp_path: Path, name: str, perturbation: Perturbation
) -> None:
    family = loaded(SPECIMENS[name].build, tmp_path)
    network, facts = network_of(family.pipeline), family.facts
    denoiser = family.denoiser(everywhere(family.encode(PROMPT, "")[0]), facts.native_size, 3.0, perturbation)
    x, level = (
        torch.randn(1, facts.latent_channels, facts.patch.height, facts.patch.width),
        family.schedule(10).levels[4],
    )
    expected = denoiser(x, level, [facts.patch.window])
    accelerate.cpu_offload(network, torch.device("cpu"))
    own = {part: vars(part).get("forward") for part in network.modules()}
    denoiser = family.denoiser(everywhere(family.encode(PROMPT, "")[0]), facts.native_size, 3.0, perturbation)
    torch.testing.assert_close(denoiser(x, level, [facts.patch.window]), expected)
    assert {part: vars(part).get("forward") for part in network.modules()} == own


def test_a_network_is_restored_after_an_error() -> None:
    network = build_unet()
    with pytest.raises(ValueError, match="stop"), replaced(forwards_of(network, PERTURBATIONS["pag"])):
        raise ValueError("stop")
    assert not any("forward" in vars(part) for part in network.modules())


def test_perturbing_layers_that_do_not_exist_is_refused() -> None:
    with pytest.raises(RequestError, match="perturbed layers: expected numbers from 0 to 0, got 0, 7"):
        forwards_of(build_unet(), replace(PERTURBATIONS["slg"], layers=(0, 7)))


@pytest.mark.parametrize("name", ["pag", "slg"])
def test_perturbing_a_network_without_blocks_is_refused(name: str) -> None:
    for network in (build_unet(mid_block_type=None), torch.nn.Linear(1, 1)):
        with pytest.raises(RequestError, match="no blocks to perturb"):
            forwards_of(network, PERTURBATIONS[name])


class UnknownAttention(JointAttnProcessor2_0):  # type: ignore[misc]
    """Computes otherwise than by PyTorch's function."""

    def __call__(self, attention: Any, image: Tensor, text: Tensor, **_: Any) -> tuple[Tensor, Tensor]:
        return image, text


def test_perturbing_an_attention_that_cannot_be_masked_is_refused() -> None:
    """Or the perturbed network would be the network, and the guidance nothing, without a word."""
    attention = Attention(16, heads=2, dim_head=8, added_kv_proj_dim=16, processor=UnknownAttention())
    (forward,) = forwards_of_block(attention)
    with replaced({attention: forward}), pytest.raises(RequestError, match="PyTorch's own attention"):
        attention(torch.zeros(1, 5, 16), torch.zeros(1, 3, 16))


def test_a_unet_without_attention_in_the_middle_cannot_be_perturbed(tmp_path: Path) -> None:
    pipeline = build_stable_diffusion()
    pipeline.unet = build_unet(mid_block_type=None)
    pipeline.save_pretrained(tmp_path)
    assert not read_facts(tmp_path, "tiny").perturbable


def test_default_layers_of_perturbations() -> None:
    """Of the 24 blocks of Stable Diffusion 3.5 medium 7, 8 and 9 are skipped; its own pipeline recommends them."""
    assert list(usual_layers("slg", 24, in_unet=False)) == [7, 8, 9]
    assert list(usual_layers("slg", 1, in_unet=False)) == [0]
    assert list(usual_layers("pag", 24, in_unet=False)) == [12]
    assert list(usual_layers("pag", 10, in_unet=True)) == list(range(10))
