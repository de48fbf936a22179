"""PixArt-Σ: a small diffusion transformer with T5 as text encoder; ε prediction with a learned variance."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from pixelsmith.config.recommended import Recommended
from pixelsmith.families.architecture import Configs, Scene, Traits, repeated
from pixelsmith.families.family import Prompt, named
from pixelsmith.families.shared.schedules import schedule_of
from pixelsmith.geometry import Size
from pixelsmith.sampling.denoiser import Batch
from pixelsmith.sampling.schedule import Level, Schedule

ROOM = 300
"""The pipeline's token limit of T5."""


class PixArtSigma:
    name = "PixArt-Σ"
    pipelines = ("PixArtSigmaPipeline",)
    native = "256, 512, 1024 or 2048 pixels"
    needs = "transformer of 0.6 billion parameters, T5-XXL"
    upcasts_vae = True
    optional = ()

    def traits(self, configs: Configs) -> Traits:
        network = configs["transformer"]
        side = network["sample_size"]
        return Traits(Size(side, side), network["patch_size"], Recommended(20, guidance_scale=4.5), perturbable=True)

    def reader(self, pipeline: Any) -> tuple[Any, int]:
        return pipeline.tokenizer, ROOM

    def encode(self, pipeline: Any, prompt: str, negative_prompt: str | None) -> tuple[Prompt, Prompt]:
        # Captions are cleaned, the pipeline's default, if the libraries for it are installed.
        found = pipeline.encode_prompt(
            prompt, negative_prompt=negative_prompt or "", max_sequence_length=ROOM, clean_caption=True
        )
        return named(("encoder_hidden_states", "encoder_attention_mask"), found[:2], found[2:])

    def schedule(self, scheduler: Any, steps: int, patch: Size) -> Schedule:
        return schedule_of(scheduler, steps)

    def predict(self, pipeline: Any, x: Batch, level: Level, prompt: Prompt, scene: Scene) -> Batch:
        conditions = {"resolution": None, "aspect_ratio": None}
        output: Tensor = pipeline.transformer(
            x, timestep=repeated(level.timestep, x), added_cond_kwargs=conditions, **prompt, return_dict=False
        )[0]
        # The second half of the channels is the learned variance, which a deterministic step does not use.
        return output[:, : x.shape[1]]


ARCHITECTURE = PixArtSigma()
