"""Count the numbers that full-size architectures hold at once, for the factors of the memory estimate.

    python -m benchmarks.footprint

Full-size networks and autoencoders are run with tensors without data, which takes seconds and no memory. The largest
sum of live tensors, without the weights, is divided by the quantity that the estimate multiplies with its factor
(``pixelsmith.families.footprint``). The workspace of kernels is not included.
"""

from __future__ import annotations

import argparse
import json
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmarks.sdxl_model import UNET
from pixelsmith.config.request import EMBEDDED
from pixelsmith.families import find_model
from pixelsmith.families.footprint import autoencoder_values, network_values


class Alive(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of all tensors created in its context; ``peak`` is the largest sum."""

    def __init__(self, weights: Sequence[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.peak = 0
        self._known = {weight.untyped_storage()._cdata: 0 for weight in weights}

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = function(*args, **(kwargs or {}))
        for value in tree_leaves(found):
            if isinstance(value, Tensor):
                self._note(value.untyped_storage())
        return found

    def _note(self, storage: Any) -> None:
        key = storage._cdata
        if key not in self._known:
            self._known[key] = storage.nbytes()
            self.now += storage.nbytes()
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._gone, key)

    def _gone(self, key: int) -> None:
        self.now -= self._known.pop(key)


@dataclass(frozen=True)
class Case:
    """An architecture of diffusers, a call of it, and the number of latents or pixels of the call."""

    kind: str
    config: Mapping[str, Any]
    call: Callable[[Any], object]
    units: int
    of: Callable[[Mapping[str, Any]], int]
    half: torch.dtype = field(default=torch.bfloat16)


def per_unit(case: Case) -> float:
    """The largest number of live values per latent or pixel."""
    import diffusers

    with FakeTensorMode(), torch.no_grad():
        torch.set_default_dtype(case.half)
        try:
            module: nn.Module = getattr(diffusers, case.kind)(**case.config).eval()
            alive = Alive([*module.parameters(), *module.buffers()])
            with alive:
                case.call(module)
        finally:
            torch.set_default_dtype(torch.float32)
    return alive.peak / case.half.itemsize / case.units


def _unet(config: Mapping[str, Any], side: int, batch: int) -> Case:
    def call(unet: Any) -> None:
        prompt = torch.empty(batch, 77, config["cross_attention_dim"])
        told = {"text_embeds": torch.empty(batch, 1280), "time_ids": torch.empty(batch, 6)}
        more = {"added_cond_kwargs": told} if config.get("addition_embed_type") else {}
        unet(torch.empty(batch, config.get("in_channels", 4), side, side), torch.empty(batch), prompt, **more)

    return Case("UNet2DConditionModel", config, call, batch * side**2, lambda known: network_values(known, 4))


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
