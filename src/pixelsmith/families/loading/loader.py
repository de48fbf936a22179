"""Load a model: its weights, additions such as LoRAs, and their placement on devices."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pixelsmith.config.compute import Compute
from pixelsmith.config.model_facts import ModelFacts
from pixelsmith.config.parts import Parts
from pixelsmith.errors import InputError, ModelError, RequestError, reason_of
from pixelsmith.families.architecture import Architecture, DiffusersFamily, network_of
from pixelsmith.families.autoencoders.autoencoder import compile_blocks
from pixelsmith.families.family import Family
from pixelsmith.families.latent_upsamplers import NetworkLatentUpsampler, latent_upsampler_of, load_latent_upsampler
from pixelsmith.families.loading.adapters import add_loras, add_textual_inversions
from pixelsmith.families.loading.attention import set_attention
from pixelsmith.families.loading.complete import check_complete, check_tokenizers
from pixelsmith.families.loading.controlnets import load_controlnets
from pixelsmith.families.loading.find import NO_PARTS, config_folder, with_few_steps
from pixelsmith.families.loading.ip_adapters import add_ip_adapters
from pixelsmith.families.loading.placing import bring, bring_beside, to_channels_last
from pixelsmith.families.loading.quantised import quantize
from pixelsmith.families.loading.quiet import quiet
from pixelsmith.families.loading.single import read_part
from pixelsmith.families.loading.sources import sources_of, usual_source
from pixelsmith.families.registry import architecture_of
from pixelsmith.families.shared.schedules import put_scheduler
from pixelsmith.families.textures import NetworkTexture, load_texture, texture_of


def load_family(place: Path, facts: ModelFacts, compute: Compute, parts: Parts = NO_PARTS) -> Family:
    """Load a model onto its device. Raises ``ModelError``, and ``RequestError`` if the device is not available."""
    architecture = architecture_of(facts.pipeline, facts.name)
    parts = with_few_steps(config_folder(place, parts), parts)
    device = choose_device(compute.device)
    dtype = choose_dtype(compute.dtype, device, facts.float16_safe)
    if device.type == "cpu" and compute.memory in ("offload", "sequential"):
        raise RequestError(
            f"memory: {compute.memory} moves the model between an accelerator and the CPU; there is none"
        )
    check_complete(place, parts, fetched=True)
    try:
        with quiet():
            pipeline = _read(place, facts, dtype, parts)
            _check_whole(pipeline, facts.name)
            check_tokenizers(pipeline, facts.name)
            controlnets = load_controlnets(parts, network_of(pipeline), dtype)
            add_ip_adapters(pipeline, parts, facts.name, dtype)
            stage_weights = add_loras(pipeline, parts, facts.name)
            add_textual_inversions(pipeline, parts, facts.name)
            put_scheduler(pipeline, parts)
            quantize(network_of(pipeline), parts, facts.name)
            # This fails if the tokenizer is incomplete, for example without a chat template.
            architecture.reader(pipeline)
    except InputError:
        raise
    except Exception as error:
        # Each library raises its own errors for damaged files.
        raise ModelError(f"{facts.name}: it cannot be loaded: {reason_of(error)}") from error
    if overflows(architecture, pipeline.vae):
        pipeline.vae.to(torch.float32)
    _prepare(pipeline, compute, device)
    bring(pipeline, device, compute.memory)
    for net in controlnets:
        bring_beside(net.network, device, compute.memory)
    texture, doubler = load_own_networks(config_folder(place, parts), parts, facts, device, pipeline.vae.dtype)
    released = compute.memory == "encoders-released"
    return DiffusersFamily(
        architecture, pipeline, facts, device, released, texture, controlnets, doubler, stage_weights
    )


def load_own_networks(
    folder: Path, parts: Parts, facts: ModelFacts, device: torch.device, dtype: torch.dtype
) -> tuple[NetworkTexture | None, NetworkLatentUpsampler | None]:
    """Load the texture network and the latent upsampler of the model in a folder, if it has them.

    Raises ``ModelError``.
    """
    texture, doubler = texture_of(folder, parts), latent_upsampler_of(folder, parts)
    return (
        None if texture is None else load_texture(texture, device, dtype),
        None if doubler is None else load_latent_upsampler(doubler, facts.latent_channels, device, dtype),
    )


def overflows(architecture: Architecture, vae: Any) -> bool:
    """Whether an autoencoder overflows in its dtype, so that float32 is used."""
    return bool(architecture.upcasts_vae and vae.dtype == torch.float16 and vae.config.get("force_upcast"))


def _read(place: Path, facts: ModelFacts, dtype: torch.dtype, parts: Parts) -> Any:
    import diffusers

    folder = config_folder(place, parts)
    others: dict[str, Any] = {
        name: source and read_part(source, name, folder, dtype, parts)
        for name, source in sources_of(place, parts).items()
        if source != usual_source(name, place, folder)
    }
    if place.is_file():
        kind = getattr(diffusers, facts.pipeline)
        if not hasattr(kind, "from_single_file"):
            raise ModelError(f"{place}: a {facts.pipeline} is not read from one file; give this one with --network")
        return kind.from_single_file(str(place), config=str(folder), dtype=dtype, local_files_only=True, **others)
    safe = None if parts.allow_pickle else True
    return diffusers.DiffusionPipeline.from_pretrained(
        place, dtype=dtype, variant=parts.variant, use_safetensors=safe, local_files_only=True, **others
    )


def _check_whole(pipeline: Any, model: str) -> None:
    """Check that a single file has all weights of its part, which diffusers does not report."""
    for part, module in pipeline.components.items():
        values = module.named_parameters() if isinstance(module, nn.Module) else ()
        if missing := [name for name, value in values if value.is_meta]:
            raise ModelError(
                f"{model}: the file given for its {part} lacks {len(missing)} weights, such as {missing[0]}"
            )


def _prepare(pipeline: Any, compute: Compute, device: torch.device) -> None:
    network = network_of(pipeline)
    if compute.attention is not None:
        set_attention(network, compute.attention, device)
    if device.type == "cuda" if compute.channels_last is None else compute.channels_last:
        to_channels_last(network)
        to_channels_last(pipeline.vae)
    if compute.compile:
        # All patches have the same shape, so one graph is used for all stages.
        network.compile(dynamic=False)
        compile_blocks(pipeline.vae)


def choose_device(name: str) -> torch.device:
    """The requested device, or the best one. Raises ``RequestError`` if it is not available."""
    available = [kind for kind in ("cuda", "mps", "xpu") if getattr(torch, kind).is_available()] + ["cpu"]
    if name == "rocm" and torch.version.hip:
        # PyTorch's ROCm build uses the names of CUDA.
        name = "cuda"
    if name != "auto" and name not in available:
        raise RequestError(f"device: {name} is not available here; expected auto or one of {', '.join(available)}")
    return torch.device(available[0] if name == "auto" else name)


def processor_of(device: torch.device) -> str:
    """The name of an accelerator, or the CPU's instruction set; others may round differently."""
    if device.type in ("cuda", "xpu"):
        return str(getattr(torch, device.type).get_device_name(device))
    return torch.backends.cpu.get_cpu_capability() if device.type == "cpu" else device.type


def choose_dtype(name: str, device: torch.device, float16_safe: bool = True) -> torch.dtype:
    """The requested dtype; for ``auto``, half precision if the hardware supports it efficiently, otherwise float32.

    ``float16_safe``: whether the model's activations stay in the range of float16 (``ModelFacts``).
    """
    if name != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[name]
    if _computes_bfloat16(device):
        return torch.bfloat16
    return torch.float32 if device.type == "cpu" or not float16_safe else torch.float16


def _computes_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "xpu":
        return bool(torch.xpu.is_bf16_supported(including_emulation=False))
    if device.type == "mps":
        return bool(torch.backends.mps.is_macos_or_newer(14, 0))
    # bfloat16 is faster with matrix units, and twice as fast with AMD's AVX-512. With Intel's AVX-512 alone a network
    # was measured at 0.7 times the speed of float32; without any bfloat16 instructions it is several times slower.
    able = torch.cpu.get_capabilities()
    return bool(able.get("amx_bf16") or (able.get("avx512_bf16") and "AMD" in able.get("cpu_name", "")))


def memory_of(device: torch.device) -> int | None:
    """The total memory of a device in bytes; ``None`` if unknown."""
    if device.type == "mps":
        return torch.mps.recommended_max_memory()
    if device.type != "cpu":
        return torch.accelerator.get_memory_info(device)[1]
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else None
