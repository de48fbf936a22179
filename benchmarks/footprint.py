"""Count the numbers that full-size architectures hold at once, for the factors of the memory estimate.

    python -m benchmarks.footprint

Full-size networks and autoencoders are run with tensors without data, which takes seconds and no memory. The largest
sum of live tensors, without the weights, is divided by the quantity that the estimate multiplies with its factor
(``pixelsmith.families.footprint``). The workspace of kernels is not included.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from benchmarks.sdxl_model import UNET
from pixelsmith.config.request import EMBEDDED
from pixelsmith.families import find_model
from pixelsmith.families.architecture import Control, Scene
from pixelsmith.families.footprint import autoencoder_values, controlnet_values, network_values
from pixelsmith.families.live_tensors import LiveTensors
from pixelsmith.families.shared.unet import controlled
from pixelsmith.geometry import Size

SEEN = 1280
"""Values of an image encoder's projection."""


@dataclass(frozen=True)
class Case:
    """An architecture of diffusers, a call of it, and the number of latents or pixels of the call.

    ``beside``: adds to the network, and returns others that are called with it.
    """

    kind: str
    config: Mapping[str, Any]
    call: Callable[..., object]
    units: int
    of: Callable[[Mapping[str, Any]], int]
    half: torch.dtype = field(default=torch.bfloat16)
    beside: Callable[[Any], Sequence[nn.Module]] = field(default=lambda network: ())


def per_unit(case: Case) -> float:
    """The largest number of live values per latent or pixel."""
    import diffusers

    with FakeTensorMode(), torch.no_grad():
        torch.set_default_dtype(case.half)
        try:
            module: nn.Module = getattr(diffusers, case.kind)(**case.config).eval()
            others = case.beside(module)
            weights = [value for part in (module, *others) for value in (*part.parameters(), *part.buffers())]
            alive = LiveTensors(weights)
            with alive:
                case.call(module, *others)
        finally:
            torch.set_default_dtype(torch.float32)
    return alive.peak / case.half.itemsize / case.units


def _unet(config: Mapping[str, Any], side: int, batch: int, controlnets: int = 0, ip_adapter: bool = False) -> Case:
    def call(unet: Any, *nets: Any) -> None:
        x, time = torch.empty(batch, config.get("in_channels", 4), side, side), torch.empty(batch)
        prompt = torch.empty(batch, 77, config["cross_attention_dim"])
        told = {"text_embeds": torch.empty(batch, 1280), "time_ids": torch.empty(batch, 6)}
        more: dict[str, Any] = {"added_cond_kwargs": told} if config.get("addition_embed_type") else {}
        controls = [Control(net, torch.empty(batch, 3, 8 * side, 8 * side), 1.0) for net in nets]
        scene = Scene([], Size(8 * side, 8 * side), 1.0, controls)
        more |= controlled(scene, x, time, encoder_hidden_states=prompt, **more)
        if ip_adapter:
            more["added_cond_kwargs"] = told | {"image_embeds": [torch.empty(batch, 1, SEEN)]}
        unet(x, time, prompt, **more)

    def beside(unet: Any) -> list[nn.Module]:
        from diffusers import ControlNetModel

        if ip_adapter:
            # At its end the weights would be moved to where they are, which these cannot be.
            with patch.object(type(unet), "to", lambda self, **_: self):
                unet._load_ip_adapter_weights([_ip_adapter(unet)], low_cpu_mem_usage=False)
        return [ControlNetModel.from_unet(unet, load_weights_from_unet=False).eval() for _ in range(controlnets)]

    units = batch * side**2

    def values(known: Mapping[str, Any]) -> int:
        return network_values(known, 4) + controlnets * controlnet_values(known, 4)

    return Case("UNet2DConditionModel", config, call, units, values, beside=beside)


def _ip_adapter(unet: Any) -> dict[str, dict[str, torch.Tensor]]:
    """The tensors of a plain IP-Adapter: four tokens for each attention to the prompt."""
    width = unet.config.cross_attention_dim
    shapes: dict[str, tuple[int, ...]] = {
        "proj.weight": (4 * width, SEEN), "proj.bias": (4 * width,), "norm.weight": (width,), "norm.bias": (width,)
    }  # fmt: skip
    attentions = [unet.get_submodule(name[: -len(".processor")]) for name in unet.attn_processors if "attn2" in name]
    keys = {
        f"{2 * number + 1}.to_{kind}_ip.weight": torch.empty(attention.inner_dim, width)
        for number, attention in enumerate(attentions)
        for kind in "kv"
    }
    return {"image_proj": {name: torch.empty(shape) for name, shape in shapes.items()}, "ip_adapter": keys}


def _autoencoder(kind: str, config: Mapping[str, Any], scale: int, channels: int, decodes: bool) -> Case:
    side, video = 512, "Wan" in kind or "Qwen" in kind

    def call(vae: Any) -> None:
        small = (1, channels, *((1,) if video else ()), side // scale, side // scale)
        large = (1, 3, *((1,) if video else ()), side, side)
        vae.decode(torch.empty(small)) if decodes else vae.encode(torch.empty(large))

    return Case(kind, config, call, side**2, lambda known: autoencoder_values({**known, "_class_name": kind}))


def _flux(batch: int) -> Case:
    def call(transformer: Any) -> None:
        transformer(
            hidden_states=torch.empty(batch, 4096, 64),
            encoder_hidden_states=torch.empty(batch, 512, 4096),
            pooled_projections=torch.empty(batch, 768),
            timestep=torch.empty(batch),
            img_ids=torch.empty(4096, 3),
            txt_ids=torch.empty(512, 3),
            guidance=torch.empty(batch),
        )

    config = {"guidance_embeds": True}
    return Case("FluxTransformer2DModel", config, call, batch * 128**2, lambda known: network_values(known, 16))


def _own(part: str) -> dict[str, Any]:
    """A configuration of the embedded model, without entries that its class does not accept."""
    known = json.loads((find_model(EMBEDDED) / part / "config.json").read_text())
    return {name: value for name, value in known.items() if name[0] != "_"}


def cases() -> dict[str, Case]:
    """The cases by name; all autoencoders have inputs of 512 pixels a side."""
    kl = {"block_out_channels": (128, 256, 512, 512), "layers_per_block": 2, "latent_channels": 4}
    kl |= {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
    sd = {"block_out_channels": (320, 640, 1280, 1280), "attention_head_dim": 8, "cross_attention_dim": 768}
    own = _own("vae")
    own.pop("block_out_channels", None)
    found = {f"SDXL, {n} patches": _unet(UNET, 128, n) for n in (1, 8)}
    found |= {f"SDXL, ControlNets: {n}": _unet(UNET, 128, 1, controlnets=n) for n in (1, 3)}
    found["SDXL, an IP-Adapter"] = _unet(UNET, 128, 1, ip_adapter=True)
    found |= {"SD 1.5": _unet(sd, 64, 1), "the embedded model": _unet(_own("unet"), 32, 8), "Flux.1": _flux(1)}
    for name, decodes in (("encoder", False), ("decoder", True)):
        found[f"SDXL's {name}"] = _autoencoder("AutoencoderKL", kl, 8, 4, decodes)
        found[f"the embedded model's {name}"] = _autoencoder("AutoencoderDC", own, 8, 16, decodes)
        found[f"Qwen-Image's {name}"] = _autoencoder("AutoencoderKLQwenImage", {}, 8, 16, decodes)
        found[f"a tiny one's {name}"] = _autoencoder("AutoencoderTiny", {}, 8, 4, decodes)
    return found


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args(argv)
    print("| | counted | estimate |\n| --- | --- | --- |")
    for name, case in cases().items():
        print(f"| {name} | {per_unit(case):,.0f} | {case.of(_full(case)):,} |", flush=True)


def _full(case: Case) -> Mapping[str, Any]:
    """The configuration with the defaults of its class."""
    import inspect

    import diffusers

    signature = inspect.signature(getattr(diffusers, case.kind).__init__).parameters.values()
    return {item.name: item.default for item in signature if item.default is not item.empty} | dict(case.config)


if __name__ == "__main__":
    main()
