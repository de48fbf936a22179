"""Generation with a model that is loaded in ComfyUI: ComfyUI prepares the model, Pixelsmith makes the picture."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import comfy.samplers
import torch
from PIL import Image
from torch import Tensor

from pixelsmith import PRESETS, HeldModel, Method, Request, Size
from pixelsmith.extension import ModelFacts

from .autoencoder import ComfyAutoencoder
from .family import ComfyFamily, check_conditioning, facts_of
from .identity import digest_of, model_digest
from .progress import Shown

PROMPT = "conditioning of ComfyUI"
"""A placeholder for a prompt that is already encoded."""


@dataclass(frozen=True)
class Wanted:
    """The inputs of a node, which do not depend on how the nodes are connected.

    - ``model``, ``vae``, ``positive``, ``negative``: ComfyUI's objects; ``scheduler``: the name of a ComfyUI scheduler.
    - ``image`` (n, H, W, 3), ``slider_map``, ``mask`` (n, h, w): in 0..1, or ``None``; only the first of each is used.
    - ``native``: pixels on a side that the model was trained at, 0 for the known size.
    """

    model: Any
    vae: Any
    positive: Any
    negative: Any
    size: Size
    seed: int
    steps: int
    cfg: float
    scheduler: str
    slider: float
    method: Method = field(default_factory=lambda: PRESETS["default"])
    image: Tensor | None = None
    slider_map: Tensor | None = None
    mask: Tensor | None = None
    native: int = 0
    batch_size: int | None = None

    @property
    def facts(self) -> ModelFacts:
        return facts_of(self.model, self.vae, self.steps, self.cfg, self.native)

    @property
    def digest(self) -> str:
        """A digest that differs between pictures. All weights are read once."""
        pictures = (self.image, self.slider_map, self.mask)
        settings = (str(self.size), self.seed, self.steps, self.cfg, self.scheduler, self.slider, repr(self.method))
        return digest_of(self.model_digest, pictures, settings, self.native)

    @property
    def model_digest(self) -> str:
        return digest_of(model_digest(self.model, self.vae), self.positive, self.negative, self.scheduler)

    def request(self, model: HeldModel, folder: Path) -> Request:
        """The request of these inputs, with their pictures as files in a folder."""
        named: Mapping[str, Tensor | None] = {"from_image": self.image, "mask": self.mask, "map": self.slider_map}
        files = {name: _written(value, folder / f"{name}.png") for name, value in named.items() if value is not None}
        # Guidance is an input of the network (``facts_of``), so stages have no separate scale.
        method = replace(
            self.method,
            steps=self.steps,
            guidance_scale=self.cfg,
            stage_guidance_scale=None,
            slider=self.slider,
            slider_map=files.pop("map", self.method.slider_map),
        )
        made = model.request(PROMPT, self.size, seed=self.seed, method=method, **files)
        return replace(made, compute=replace(made.compute, batch_size=self.batch_size))


def make(wanted: Wanted, use: Callable[[HeldModel, Shown], None]) -> None:
    """Prepare the model for sampling, and call ``use`` with it and the observer of its progress.

    Raises ``RequestError`` for conditioning of one whole picture, and the errors of ``use``.
    """
    for conditioning in (wanted.positive, wanted.negative):
        check_conditioning(conditioning)
    facts, shown = wanted.facts, Shown(wanted.model)
    guider = comfy.samplers.CFGGuider(wanted.model)
    guider.set_conds(wanted.positive, wanted.negative)
    guider.set_cfg(wanted.cfg)
    video = (1,) * (wanted.model.model.latent_format.latent_dimensions - 2)
    empty = torch.zeros(1, facts.latent_channels, *video, facts.patch.height, facts.patch.width)
    sigmas = comfy.samplers.calculate_sigmas(
        wanted.model.get_model_object("model_sampling"), wanted.scheduler, wanted.steps
    )
    guider.sample(empty, empty, _Cascade(wanted, facts, shown, use), sigmas, seed=wanted.seed)


@dataclass(frozen=True)
class _Cascade(comfy.samplers.Sampler):
    """A ComfyUI sampler that calls ``use`` instead of sampling: while it runs, the guider accepts any patch."""

    wanted: Wanted
    facts: ModelFacts
    shown: Shown
    use: Callable[[HeldModel, Shown], None]

    def sample(
        self, model_wrap: Any, sigmas: Tensor, extra_args: Mapping[str, Any], callback: Any, noise: Tensor, *rest: Any
    ) -> Tensor:
        """Call ``use``; the returned latents are unused."""
        wanted = self.wanted
        family = ComfyFamily(
            self.facts,
            model_wrap,
            extra_args["model_options"],
            model_wrap.conds,
            ComfyAutoencoder(wanted.vae, model_wrap.inner_model),
            wanted.scheduler,
            self.shown.watch,
        )
        dtype = wanted.model.model_dtype()
        self.use(HeldModel(family, dtype, partial(getattr, wanted, "model_digest")), self.shown)
        return noise


def _written(picture: Tensor, path: Path) -> str:
    """Write the first picture (n, H, W, 3) or mask (n, h, w) of a batch in 0..1 to a file."""
    values = (picture[0].clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
    Image.fromarray(values[..., :3] if values.ndim == 3 else values).save(path, compress_level=1)
    return str(path)
