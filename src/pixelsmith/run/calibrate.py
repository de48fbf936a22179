"""Calibration: how fast a loaded model denoises, encodes and decodes on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from pixelsmith.config.request import Request
from pixelsmith.engine.enlarged import LAYOUT, piece_side
from pixelsmith.engine.pieces import InPieces, UpsamplerInPieces
from pixelsmith.engine.prompts import PromptEncoder
from pixelsmith.engine.stage import batch_size_of
from pixelsmith.engine.texture import Texture
from pixelsmith.families import Family, Upsampler, everywhere
from pixelsmith.families.family import CONTROL
from pixelsmith.geometry import Size, Window
from pixelsmith.planning.forecast import Rates


@torch.inference_mode()
def measure_rates(family: Family, request: Request, known: Rates, upsampler: Upsampler | None = None) -> Rates:
    """Time a batch of patches and an encoded, a doubled, a decoded and an upsampled tile, each after a warm-up; others
    are kept.
    """
    facts, asked = family.facts, request.compute.tile
    autoencoder = InPieces(
        family.autoencoder, facts.latent_scale, lambda side: None, asked and asked // facts.latent_scale
    )
    batch_size = batch_size_of(request, family.device, facts.patch)
    # The content of pictures does not matter here, and the files may be on another machine.
    pictures = [torch.zeros(3, 8, 8, dtype=torch.uint8)] * len(request.ip_adapter_images)
    prompt, _ = PromptEncoder.of(request, family, pictures)(request.prompt, request.negative_prompt)
    if count := len(request.control_images):
        prompt = {**prompt, CONTROL: _shown(family, count)}
    denoiser = family.denoiser(everywhere(prompt), request.size, facts.recommended.guidance_scale)
    level = family.schedule(2).levels[1]
    x = torch.randn(batch_size, facts.latent_channels, facts.patch.height, facts.patch.width, device=family.device)
    windows = [facts.patch.window] * batch_size
    context = autoencoder.tiling.context
    kept = Window(context, context, *[autoencoder.tiling.side - 2 * context] * 2)
    tile = Size(autoencoder.tiling.side, autoencoder.tiling.side)
    side = autoencoder.tiling.side * facts.latent_scale
    megapixels = kept.width * kept.height * facts.latent_scale**2 / 1e6
    latents = torch.randn(1, facts.latent_channels, tile.height, tile.width)

    texture = Texture.of(family, request.seed, 1, request.method.at(1, facts.recommended).texture)

    def decode() -> None:
        pixels = autoencoder.decode(latents, kept)
        if texture:
            texture.add_to(pixels[0], kept, texture.noise_of(kept))

    double = known.double
    if network := family.latent_upsampler:
        double = _seconds(lambda: network(latents), family.device) / (tile.area * (2 * facts.latent_scale) ** 2 / 1e6)
    encode = _seconds(lambda: autoencoder.encode(torch.zeros(1, 3, side, side)), family.device) / megapixels
    return replace(
        known,
        denoise=_seconds(lambda: denoiser(x, level, windows), family.device) / batch_size,
        encode=encode,
        double=double,
        upsample=known.upsample if upsampler is None else _of_upsampler(upsampler, request, family.device),
        control=encode,
        decode=_seconds(decode, family.device) / megapixels,
    )


def _of_upsampler(upsampler: Upsampler, request: Request, device: torch.device) -> float:
    """The seconds of a tile with its context."""
    side, scale = LAYOUT.side, upsampler.scale
    pieces = UpsamplerInPieces(upsampler, scale, lambda side: None, piece_side(request.compute.tile, scale))
    return _seconds(lambda: pieces(torch.zeros(3, side, side, dtype=torch.uint8)), device)


def _shown(family: Family, count: int) -> Tensor:
    """The input of ``count`` black control pictures for a patch."""
    facts, patch = family.facts, family.facts.patch
    if facts.control_latents:
        return torch.zeros(1, count, facts.latent_channels, patch.height, patch.width)
    side = facts.latent_scale
    return torch.zeros(1, count, 3, patch.height * side, patch.width * side, dtype=torch.uint8)


def _seconds(call: Callable[[], object], device: torch.device) -> float:
    def finished() -> float:
        call()
        if device.type != "cpu":
            # Calls on a device return before it has computed.
            torch.accelerator.synchronize(device)
        return time.perf_counter()

    began = finished()
    return finished() - began
