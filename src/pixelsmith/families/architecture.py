"""The protocol of a model family, and ``DiffusersFamily``, which implements ``Family`` with it and a pipeline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from pixelsmith.config.model_facts import ModelFacts
from pixelsmith.config.parts import ControlNet
from pixelsmith.config.recommended import Perturbation, Recommended
from pixelsmith.families.autoencoders.autoencoder import DiffusersAutoencoder
from pixelsmith.families.family import (
    CONTROL,
    IMAGE,
    LatentUpsampler,
    Prompt,
    PromptAt,
    TextureNetwork,
    base_noise,
    named,
)
from pixelsmith.families.loading.placing import release_encoders
from pixelsmith.families.loading.quiet import quiet
from pixelsmith.families.shared.image_prompts import encoded_images
from pixelsmith.families.shared.perturbed import Perturbed, forwards_of
from pixelsmith.families.shared.schedules import clean_estimate, config_of, prediction_of
from pixelsmith.families.shared.stage_weights import StageWeights
from pixelsmith.families.shared.weighting import encode_weighted
from pixelsmith.geometry import Size, Window
from pixelsmith.sampling.denoiser import Batch, Denoiser
from pixelsmith.sampling.noise import Noise
from pixelsmith.sampling.readable import Readable
from pixelsmith.sampling.schedule import Level, Schedule
from pixelsmith.system.device import staged

Configs = Mapping[str, Mapping[str, Any]]
"""The JSON configurations of a diffusers folder by part (``unet``, ``vae``, ``scheduler``); ``index`` is
``model_index.json``."""


@dataclass(frozen=True)
class Traits:
    """What a family reads from the configurations.

    - ``native``: the size it was trained at, in latents; ``multiple``: the sides of a patch are multiples of this.
    - ``recommended``: the settings that it works best with.
    - ``float16_safe``: whether activations stay in the range of float16; if not, float32 is used without bfloat16.
    - ``controlnet``: diffusers' class of its ControlNets, if they can be used.
    - ``image_encoder``: transformers' ``model_type`` of the image encoder of its IP-Adapters, if they can be used.
    - ``perturbable``: whether its network can be perturbed (``pixelsmith.families.shared.perturbed``).
    - ``stock_seeds``: whether a seed gives the picture that diffusers' own pipeline makes from it.
    """

    native: Size
    multiple: int
    recommended: Recommended
    float16_safe: bool = True
    perturbable: bool = False
    controlnet: str | None = None
    image_encoder: str | None = None
    stock_seeds: bool = True


@dataclass(frozen=True)
class LoadedControlNet:
    """``network``: a ControlNet of diffusers; ``said``: its scale and its interval."""

    network: Any
    said: ControlNet


@dataclass(frozen=True)
class Control:
    """A ControlNet that is on, and its control picture at each patch.

    ``picture``: pixels (b, 3, H, W) in 0..1, or latents (b, c, h, w) at the denoiser's scale.
    """

    network: Any
    picture: Tensor
    scale: float


@dataclass(frozen=True)
class Scene:
    """The positions of the patches of a call, and other values that a network may be conditioned on.

    - ``windows``: of each patch, in pixels; ``picture``: the size in pixels of the whole picture.
    - ``guidance_scale``: for networks that take it as an input. ``controls``: the ControlNets that are on.
    - ``images``: what each IP-Adapter sees of its picture, for each patch.
    """

    windows: Sequence[Window]
    picture: Size
    guidance_scale: float
    controls: Sequence[Control] = ()
    images: Sequence[Tensor] = ()


@runtime_checkable
class Architecture(Protocol):
    """A model family as pure functions of a diffusers pipeline. ``architectures/`` has one in each file."""

    @property
    def name(self) -> str:
        """The name shown to users."""
        ...

    @property
    def pipelines(self) -> tuple[str, ...]:
        """The pipeline classes it supports, as named in ``model_index.json``."""
        ...

    @property
    def native(self) -> str:
        """The sizes that its models were trained at, as text for users."""
        ...

    @property
    def needs(self) -> str:
        """What is loaded, with published parameter counts, as text for users."""
        ...

    @property
    def upcasts_vae(self) -> bool:
        """Whether an autoencoder whose configuration says ``force_upcast`` overflows in float16."""
        ...

    @property
    def optional(self) -> tuple[str, ...]:
        """Optional parts of the pipeline, which a folder may lack."""
        ...

    def traits(self, configs: Configs) -> Traits:
        """Read from the JSON configurations alone. Raises ``KeyError`` for a missing entry."""
        ...

    def reader(self, pipeline: Any) -> tuple[Any, int]:
        """The tokenizer with the highest token limit, and that limit."""
        ...

    def encode(self, pipeline: Any, prompt: str, negative_prompt: str | None) -> tuple[Prompt, Prompt]:
        """Encode the prompt and the negative prompt as the pipeline does; ``None`` is its default."""
        ...

    def schedule(self, scheduler: Any, steps: int, patch: Size) -> Schedule:
        """The levels, from a scheduler's configuration; ``patch`` is the native size in latents."""
        ...

    def predict(self, pipeline: Any, x: Batch, level: Level, prompt: Prompt, scene: Scene) -> Batch:
        """The network's output for patches in its dtype; ``prompt`` has the batch size of ``x``."""
        ...


@dataclass(frozen=True)
class DiffusersFamily:
    """A loaded diffusers pipeline as a ``Family``.

    ``device`` is where the network computes; ``releases_encoders``: the text encoders are freed once prompts are
    encoded, and only then the other parts are moved to the device. ``texture`` adds texture to decoded pixels,
    ``latent_upsampler`` enlarges latents. ``controlnets``: those whose control pictures come with prompts
    (``CONTROL``), in their order. ``stage_weights``: what the stages have instead of the base's weights.
    """

    architecture: Architecture
    pipeline: Any
    facts: ModelFacts
    device: torch.device
    releases_encoders: bool = False
    texture: TextureNetwork | None = None
    controlnets: Sequence[LoadedControlNet] = ()
    latent_upsampler: LatentUpsampler | None = None
    stage_weights: StageWeights | None = None
    autoencoder: DiffusersAutoencoder = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "autoencoder", DiffusersAutoencoder(self.pipeline.vae, self.device, self.facts.tiling))

    def schedule(self, steps: int) -> Schedule:
        return self.architecture.schedule(config_of(self.pipeline.scheduler), steps, self.facts.patch)

    def unread(self, prompt: str) -> str:
        tokenizer, room = self.architecture.reader(self.pipeline)
        with quiet():
            specials = len(tokenizer("").input_ids)
            ids = tokenizer(prompt, add_special_tokens=False).input_ids
            return str(tokenizer.decode(ids[room - specials :]))

    def encode(self, prompt: str, negative_prompt: str, weighted: bool = False) -> tuple[Prompt, Prompt]:
        encode = partial(encode_weighted, device=self.device) if weighted else self.architecture.encode
        with quiet():
            prompts = encode(self.pipeline, prompt, negative_prompt or None)
        if self.releases_encoders:
            release_encoders(self.pipeline, self.device)
        return prompts

    def encode_images(self, pictures: Sequence[Tensor]) -> tuple[Prompt, Prompt]:
        with quiet():
            found = encoded_images(self.pipeline, pictures, self.device)
        return named([f"{IMAGE}{i}" for i in range(len(pictures))], *found)

    def base_noise(self, seed: int, canvas: Size) -> Noise:
        return base_noise(self.facts, seed, canvas)

    def refuses(self, picture: Readable) -> bool:
        if getattr(self.pipeline, "safety_checker", None) is None:
            return False
        pixels = picture.read(picture.size.window)[None].float().to(self.device) / 127.5 - 1
        with quiet():
            _, flagged = self.pipeline.run_safety_checker(pixels, self.device, self.pipeline.safety_checker.dtype)
        return bool(flagged[0])

    def denoiser(
        self,
        prompt_at: PromptAt,
        picture: Size,
        guidance_scale: float,
        perturbation: Perturbation | None = None,
        in_stages: bool = False,
    ) -> Denoiser:
        prediction = prediction_of(config_of(self.pipeline.scheduler))
        network = _Network(self, prompt_at, picture, guidance_scale, prediction, in_stages)
        if perturbation is None:
            return network
        return Perturbed(network, forwards_of(network_of(self.pipeline), perturbation))


@dataclass(frozen=True)
class _Network:
    """The network conditioned on a prompt for each patch."""

    family: DiffusersFamily
    prompt_at: PromptAt
    picture: Size
    guidance_scale: float
    prediction: str
    in_stages: bool

    def __call__(self, x: Batch, level: Level, windows: Sequence[Window]) -> Batch:
        if self.family.stage_weights is not None:
            self.family.stage_weights.use(self.in_stages)
        prompts = [self.prompt_at(window) for window in windows]
        groups = alike(prompts)
        if len(groups) == 1:
            return self._estimate(x, level, windows, stacked(prompts))
        found = torch.empty_like(x)
        for group in groups:
            prompt = stacked([prompts[i] for i in group])
            found[group] = self._estimate(x[group], level, [windows[i] for i in group], prompt)
        return found

    def _estimate(self, x: Batch, level: Level, windows: Sequence[Window], prompt: Prompt) -> Batch:
        family = self.family
        pixels = [window.scaled(family.facts.latent_scale) for window in windows]
        typed = x.to(self._dtype)
        prompt = dict(prompt)
        controls = self._controls(prompt.pop(CONTROL, None), typed, level)
        images = [prompt.pop(name) for name in list(prompt) if name.startswith(IMAGE)]
        scene = Scene(pixels, self.picture, self.guidance_scale, controls, images)
        output = family.architecture.predict(family.pipeline, typed, level, prompt, scene)
        return clean_estimate(output.float(), x, level, self.prediction)

    @cached_property
    def _dtype(self) -> torch.dtype:
        """The network's dtype, read once: diffusers searches all modules for it, which takes 5 ms for SDXL's."""
        dtype: torch.dtype = network_of(self.family.pipeline).dtype
        return dtype

    def _controls(self, shown: Tensor | None, like: Tensor, level: Level) -> list[Control]:
        """The ControlNets that are on at this level, with their control pictures."""
        if shown is None:
            return []
        values = brought(shown, like.device)
        pictures = (values if values.is_floating_point() else values.float() / 255).to(like.dtype)
        return [
            Control(net.network, own, net.said.conditioning_scale)
            for net, own in zip(self.family.controlnets, pictures.unbind(1), strict=True)
            if net.said.is_on(level.progress)
        ]


def alike(prompts: Sequence[Prompt]) -> list[list[int]]:
    """The indices of prompts that can be stacked: without padding, shapes depend on the number of tokens."""
    groups: dict[Any, list[int]] = {}
    for i, prompt in enumerate(prompts):
        groups.setdefault(tuple((name, value.shape) for name, value in prompt.items()), []).append(i)
    return list(groups.values())


def stacked(prompts: Sequence[Prompt]) -> Prompt:
    """Prompts of the same shapes as one for a batch of them all."""

    def of_all(name: str) -> Tensor:
        values = [prompt[name] for prompt in prompts]
        if all(value is values[0] for value in values):
            return values[0].expand(len(values), *values[0].shape[1:])
        return torch.cat(values)

    return {name: of_all(name) for name in prompts[0]}


def network_of(pipeline: Any) -> Any:
    """The U-Net or transformer of a pipeline."""
    return pipeline.unet if hasattr(pipeline, "unet") else pipeline.transformer


def brought(values: Tensor, device: torch.device) -> Tensor:
    """Copy values to a device without making this thread wait for the device's queued work."""
    return staged(values, device).to(device, non_blocking=True)


def repeated(value: float, like: Tensor) -> Tensor:
    """A number for each patch of a batch, float32."""
    return torch.full((len(like),), value, dtype=torch.float32, device=like.device)
