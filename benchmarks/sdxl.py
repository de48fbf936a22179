"""SDXL's true architecture at full size with random weights: speed and memory do not depend on what weights say.

python -m benchmarks.sdxl                      # on a GPU: 1024 -> 2048 -> 4096 -> 8192, beside the published seconds
python -m benchmarks.sdxl --compile            # the same, with a second row for each that is compiled
python -m benchmarks.sdxl --one-patch          # one call of the network in bf16, on the CPU if there is no GPU
python -m benchmarks.sdxl --tiny --device cpu  # the same program, shrunk: shows that it works
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from diffusers import AutoencoderKL, EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
from torch import nn

from pixelsmith import PRESETS, Compute, Method, Request, Size
from pixelsmith.canvas import MemorySpace
from pixelsmith.events import Event, PhaseFinished
from pixelsmith.families import Prompt, choose_device
from pixelsmith.families.architecture import DiffusersFamily, network_of
from pixelsmith.families.quiet import quiet
from pixelsmith.families.registry import architecture_of
from pixelsmith.plan import ModelFacts, make_plan
from pixelsmith.recommended import Recommended
from pixelsmith.stage import Cascade

UNET: dict[str, Any] = {
    "sample_size": 128,
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (5, 10, 20),
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
    "cross_attention_dim": 2048,
}
VAE: dict[str, Any] = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "scaling_factor": 0.13025,
}
TINY_UNET = UNET | {
    "sample_size": 16,
    "block_out_channels": (16, 32),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 1),
    "attention_head_dim": (2, 4),
    "norm_num_groups": 8,
}
TINY_VAE = VAE | {"block_out_channels": (8, 8, 8, 8), "layers_per_block": 1, "norm_num_groups": 4}
BETAS: dict[str, Any] = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
TOKENS, POOLED = 77, 1280
PUBLISHED = {
    "SDXL direct": {2: 71, 4: 515},
    "ScaleCrafter": {2: 80, 4: 1257},
    "DemoFusion": {2: 219, 4: 1632},
    "HiDiffusion": {2: 50, 4: 255},
    "FouriScale": {2: 162},
    "AccDiffusion": {2: 231, 4: 1710},
    "Pixelsmith (the paper's code)": {2: 130, 4: 549},
}
"""Seconds for 2048² and 4096², by factor: RTX 3090, SDXL, 50 steps (arXiv 2406.07251, table 1)."""


@dataclass
class Timed:
    """One cascade: seconds of each phase of each stage, patches, and the most memory that the device held."""

    seconds: dict[tuple[int, str], float]
    patches: float
    peak_bytes: int

    def upto(self, stage: int) -> float:
        return sum(seconds for (at, _), seconds in self.seconds.items() if at <= stage)

    def of_phase(self, phase: str) -> float:
        """Over all stages, without the base."""
        return sum(seconds for (at, what), seconds in self.seconds.items() if at and what == phase)


def build(tiny: bool, device: torch.device, dtype: torch.dtype) -> DiffusersFamily:
    """Made without memory on the meta device, then given memory and random weights where it is to run."""
    with torch.device("meta"):
        unet = UNet2DConditionModel(**(TINY_UNET if tiny else UNET))
        vae = AutoencoderKL(**(TINY_VAE if tiny else VAE))
    parts = {"unet": _filled(unet, device, dtype), "vae": _filled(vae, device, dtype)}
    scheduler = EulerDiscreteScheduler(**BETAS, timestep_spacing="leading", steps_offset=1)
    text = dict.fromkeys(("text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2"))
    pipeline = StableDiffusionXLPipeline(scheduler=scheduler, add_watermarker=False, **parts, **text)
    parameters = sum(p.numel() for part in parts.values() for p in part.parameters())
    native, multiple = 8 * unet.config.sample_size, 2 ** (len(unet.config.block_out_channels) - 1)
    facts = ModelFacts(
        "random SDXL", "StableDiffusionXLPipeline", Size(native, native), 8, 4, multiple, 1000, parameters,
        Recommended(20, guidance_scale=5.0),
    )  # fmt: skip
    return DiffusersFamily(architecture_of(facts.pipeline, facts.name), pipeline, facts, device)


def _filled(module: nn.Module, device: torch.device, dtype: torch.dtype) -> nn.Module:
    with quiet():
        module.to(dtype).to_empty(device=device)
    torch.manual_seed(0)
    for layer in module.modules():
        reset = getattr(layer, "reset_parameters", None)
        if callable(reset):
            reset()
    return module.eval()


def prompts(family: DiffusersFamily) -> tuple[Prompt, Prompt]:
    """Random embeddings of the true shapes: the text encoders take no time worth measuring."""
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator).to(family.device, family.pipeline.unet.dtype)

    positive, negative = (
        {"encoder_hidden_states": random(1, TOKENS, 2048), "text_embeds": random(1, POOLED)} for _ in range(2)
    )
    return positive, negative


@torch.inference_mode()
def one_patch(family: DiffusersFamily) -> tuple[float, bool]:
    """Seconds of one call for one patch in the middle of a picture of 4096², and whether all it gives is finite."""
    patch, level = family.facts.patch, family.schedule(20).levels[10]
    denoiser = family.denoiser(prompts(family)[0], Size(4096, 4096), 5.0)
    x = torch.randn(1, family.facts.latent_channels, patch.height, patch.width, device=family.device)
    began = time.perf_counter()
    found = denoiser(x, level, [patch.window]).cpu()
    return time.perf_counter() - began, bool(found.isfinite().all())


@torch.inference_mode()
def cascade(family: DiffusersFamily, method: Method, compute: Compute, factors: Sequence[int]) -> Timed:
    """From the base to these multiples of the native size."""
    native = family.facts.native_size
    sizes = tuple(native.scaled(factor) for factor in factors)
    request = Request("x", sizes[-1], cascade=sizes, method=method, compute=compute)
    the_plan, seconds = make_plan(request, family.facts), defaultdict[tuple[int, str], float](float)

    def observe(event: Event) -> None:
        if isinstance(event, PhaseFinished):
            seconds[event.stage, event.phase] += event.seconds

    if family.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    methods = {rung: method.at(rung, family.facts.recommended) for rung in range(len(sizes) + 1)}
    schedules = {rung: family.schedule(own.schedule_steps).last(own.steps) for rung, own in methods.items()}
    work = Cascade(request, family, schedules, prompts(family), observe, MemorySpace())
    rung = work.base(native)
    for number, size in enumerate(sizes, start=1):
        rung = work.stage(number, rung, size)
    peak = torch.cuda.max_memory_allocated() if family.device.type == "cuda" else 0
    return Timed(seconds, sum(stage.patches_per_step * stage.steps for stage in the_plan.stages), peak)


def timed(family: DiffusersFamily, method: Method, compute: Compute, factors: Sequence[int]) -> Timed:
    """A cascade after a short one that meets every shape: kernels are chosen and graphs compiled by then."""
    cascade(family, replace(method, steps=1, stage_steps=None), compute, factors[:1])
    return cascade(family, method, compute, factors)


def rows(
    family: DiffusersFamily, batch_sizes: list[int], methods: dict[str, Method], factors: Sequence[int], compiled: bool
) -> Iterator[str]:
    """For each method and batch size: seconds up to each size, then those of each phase of the stages."""
    if compiled:
        network_of(family.pipeline).compile(dynamic=False)
    for name, method in methods.items():
        for batch_size in batch_sizes:
            found = timed(family, method, Compute(batch_size=batch_size, compile=compiled), factors)
            denoise, encode, decode = (found.of_phase(phase) for phase in ("denoise", "encode", "decode"))
            cells = [found.upto(stage) for stage in range(len(factors) + 1)] + [denoise, encode, decode]
            yield (
                f"| {name}, batch {batch_size}, {'compiled' if compiled else 'eager'} | "
                + " | ".join(f"{seconds:.1f}" for seconds in cells)
                + f" | {found.patches / denoise:.2f} | {found.peak_bytes / 1e9:.1f} |"
            )


def heading(native: int, factors: Sequence[int]) -> Iterator[str]:
    sizes = " | ".join(f"to {factor * native}², s" for factor in (1, *factors))
    yield (
        f"| what | {sizes} | of it stages: denoise, s | encode, s | decode, s | denoising patches/s | peak memory, GB |"
    )
    yield "| --- |" + " --- |" * (len(factors) + 6)


def published(factors: Sequence[int]) -> Iterator[str]:
    for name, seconds in PUBLISHED.items():
        cells = [f"{seconds.get(factor, '–')}" for factor in factors]
        yield f"| {name}, RTX 3090, published | | {' | '.join(cells)} | | | | | |"


def table(
    family: DiffusersFamily, batch_sizes: list[int], methods: dict[str, Method], factors: Sequence[int], compiled: bool
) -> Iterator[str]:
    """All rows, eager ones first; compiled ones last, because a network stays compiled."""
    native = family.facts.native_size.width
    yield from heading(native, factors)
    for state in (False, True) if compiled else (False,):
        yield from rows(family, batch_sizes, methods, factors, state)
    if native == 1024:
        yield from published(factors)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--one-patch", action="store_true")
    parser.add_argument("--compile", action="store_true", help="add rows with the network compiled")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--factors", type=int, nargs="+", default=[2, 4, 8], help="the stages, in native sizes")
    parser.add_argument("--presets", nargs="+", choices=list(PRESETS), default=list(PRESETS))
    parser.add_argument("--steps", type=int, help="in the place of the presets' own")
    args = parser.parse_args()
    device = choose_device(args.device)
    began = time.perf_counter()
    family = build(args.tiny, device, torch.bfloat16)
    took, size = time.perf_counter() - began, 2 * family.facts.parameters / 1e9
    print(f"built on {device} in {took:.1f} s, {size:.2f} GB of weights")
    if args.one_patch:
        seconds, finite = one_patch(family)
        print(f"one patch of {family.facts.native_size} in bf16: {seconds:.1f} s, {'' if finite else 'NOT '}all finite")
        return
    changes = {} if args.steps is None else {"steps": args.steps, "stage_steps": None}
    # The paper's border is wider than the small patch has room for.
    changes |= {"border": None} if args.tiny else {}
    methods = {name: replace(PRESETS[name], **changes) for name in args.presets}
    for line in table(family, args.batch_sizes, methods, args.factors, args.compile):
        print(line, flush=True)


if __name__ == "__main__":
    main()
