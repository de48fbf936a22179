"""Settings for graphics cards, computed from full-size architectures, without running or downloading anything.

    python -m benchmarks.machines

For each model and card it selects the fastest settings that fit: the whole model on the card, its text encoders
released, one part at a time, the network in int8, one layer at a time; with batches of 8 patches down to 1, and the
autoencoder's usual tiles or tiles of 512 pixels. The memory is that of ``pixelsmith plan`` (weights, libraries, the
larger of a batch and a tile), in half precision; a tenth of the card is reserved for other programs.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from torch import nn

from benchmarks.sdxl_model import UNET, VAE
from pixelsmith.engine.stage import batch_size_on
from pixelsmith.families.autoencoders.autoencoder import usual_tiling
from pixelsmith.families.footprint import autoencoder_values, network_values
from pixelsmith.geometry import Size
from pixelsmith.planning.planner import LIBRARIES

CARDS = (8, 12, 24, 80)
"""Memory of the cards in GB."""
USABLE = 0.9
"""The share of a card's memory that is used."""
HALF = 2
"""Bytes per number."""
SCALE = 8
"""Pixels per latent of all these models."""
CLIP_L = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
CLIP_G = {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 20}
T5_XXL = {"d_model": 4096, "d_kv": 64, "d_ff": 10240, "num_layers": 24, "num_heads": 64} | {
    "feed_forward_proj": "gated-gelu"
}


@dataclass(frozen=True)
class Weights:
    """A model: the bytes of its parts' weights, and of their activations.

    - ``encoders``: of each text encoder; ``network`` and its largest ``layer``; ``autoencoder``.
    - ``patch``: bytes of the network's activations per patch; ``pixel``: of the autoencoder's per pixel of a tile.
    - ``default_batch``: the default batch size.
    """

    encoders: tuple[int, ...]
    network: int
    layer: int
    autoencoder: int
    patch: int
    pixel: int
    default_batch: int

    @property
    def all(self) -> int:
        return sum(self.encoders) + self.network + self.autoencoder


@dataclass(frozen=True)
class Way:
    """Settings, as on the command line."""

    memory: str
    batch_size: int
    tile: int | None
    int8: bool = False

    def needs(self, model: Weights) -> int:
        """Bytes on the card at the peak."""
        side = usual_tiling(SCALE).side * SCALE if self.tile is None else self.tile
        batch, tile = self.batch_size * model.patch, side**2 * model.pixel
        network = model.network // (HALF if self.int8 else 1)
        most = {
            "all": sum(model.encoders) + network + model.autoencoder + max(batch, tile),
            "encoders-released": max(sum(model.encoders), network + model.autoencoder + max(batch, tile)),
            "offload": max(*model.encoders, network + batch, model.autoencoder + tile),
            "sequential": model.layer + max(batch, tile),
        }
        return LIBRARIES + most[self.memory]

    def options(self, model: Weights) -> str:
        """The options of the command line that differ from the defaults."""
        said = [
            "" if self.memory == "all" else f"--memory {self.memory}",
            "--quantize int8" if self.int8 else "",
            "" if self.batch_size == model.default_batch else f"--batch-size {self.batch_size}",
            "" if self.tile is None else f"--tile {self.tile}",
        ]
        return " ".join(word for word in said if word)


def ways() -> Iterator[Way]:
    """All settings, the fastest first."""
    memories = [("all", False), ("encoders-released", False), ("offload", False)]
    memories += [("all", True), ("encoders-released", True), ("offload", True), ("sequential", False)]
    for (memory, int8), tile, batch in product(memories, (None, 512), (8, 4, 2, 1)):
        yield Way(memory, batch, tile, int8)


def best(model: Weights, card: int) -> Way | None:
    """The first settings that fit a card of ``card`` GB."""
    return next((way for way in ways() if way.needs(model) <= USABLE * card * 1e9), None)


def models() -> dict[str, Weights]:
    """The models by name, from their published configurations."""
    import diffusers
    from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

    with torch.device("meta"):
        clip_l = CLIPTextModel(CLIPTextConfig(**CLIP_L))
        clip_g = CLIPTextModel(CLIPTextConfig(**CLIP_G))
        t5 = T5EncoderModel(T5Config(vocab_size=32128, **T5_XXL))
        vae = diffusers.AutoencoderKL(**VAE)
        sd: dict[str, Any] = {"cross_attention_dim": 768, "attention_head_dim": 8}
        sd |= {"block_out_channels": (320, 640, 1280, 1280)}
        unets = [diffusers.UNet2DConditionModel(**config) for config in (sd, UNET)]
        flux = diffusers.FluxTransformer2DModel(guidance_embeds=True)
    return {
        "Stable Diffusion 1.5": _weights([clip_l], unets[0], vae, 64, 4),
        "SDXL": _weights([clip_l, clip_g], unets[1], vae, 128, 4),
        "Flux.1": _weights([clip_l, t5], flux, vae, 128, 16),
    }


def _weights(encoders: Sequence[nn.Module], network: Any, vae: Any, side: int, channels: int) -> Weights:
    layers = (module for part in (*encoders, network, vae) for module in part.modules() if not any(module.children()))
    return Weights(
        tuple(map(_bytes, encoders)),
        _bytes(network),
        max(map(_bytes, layers)),
        _bytes(vae),
        network_values(network.config, channels) * side**2 * HALF,
        autoencoder_values({**vae.config, "_class_name": type(vae).__name__}) * HALF,
        batch_size_on("cuda", Size(side, side)),
    )


def _bytes(part: nn.Module) -> int:
    return HALF * sum(parameter.numel() for parameter in part.parameters())


def table() -> Iterator[str]:
    """Lines of Markdown, with a row for each model and card."""
    yield "| model | card | options | at the peak | all weights |"
    yield "| --- | --- | --- | --- | --- |"
    for (name, model), card in product(models().items(), CARDS):
        way = best(model, card)
        if way is None:
            yield f"| {name} | {card} GB | does not fit | | |"
            continue
        options = way.options(model)
        said = f"`{options}`" if options else "as it is"
        yield f"| {name} | {card} GB | {said} | {way.needs(model) / 1e9:.1f} GB | {model.all / 1e9:.1f} GB |"


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args(argv)
    for line in table():
        print(line, flush=True)


if __name__ == "__main__":
    main()
