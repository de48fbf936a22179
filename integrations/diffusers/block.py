"""A block of Modular Diffusers: a picture of any size from a prompt, or from the picture of the blocks before it."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from diffusers.modular_pipelines import ComponentSpec, InputParam, ModularPipelineBlocks, OutputParam, PipelineState

from pixelsmith import PixelsmithPipeline

MODEL = "stabilityai/stable-diffusion-xl-base-1.0"
"""What is loaded where no other model is named."""


class PixelsmithBlock(ModularPipelineBlocks):
    """Makes a picture of any size. Its one component is a ``PixelsmithPipeline``, of whichever model."""

    _requirements: ClassVar[dict[str, str]] = {"pixelsmith": ">=0.1"}

    @property
    def description(self) -> str:
        return "A picture of any size from a diffusion model as it is: made from a prompt, or enlarged from a picture."

    @property
    def expected_components(self) -> list[ComponentSpec]:
        return [ComponentSpec("pixelsmith", PixelsmithPipeline, pretrained_model_name_or_path=MODEL)]

    @property
    def inputs(self) -> list[InputParam]:
        text = InputParam("prompt", str, required=True, description="What the picture should show.")
        return [
            text,
            InputParam("negative_prompt", str, default="", description="What it should not show."),
            InputParam("width", int, description="Pixels of the result; by default those of the model."),
            InputParam("height", int, description="Pixels of the result; by default those of the model."),
            InputParam("images", list, description="Pictures (PIL) to enlarge, such as those of the blocks before."),
            InputParam("slider", float, description="0..1: how much of the smaller picture is held; see the docs."),
            InputParam("preset", str, default="default", description="default, fast, or paper."),
            InputParam("num_inference_steps", int, description="Denoising steps; by default as the model recommends."),
            InputParam("generator", torch.Generator, description="Whose seed the picture has."),
            InputParam("options", dict, description="More fields of pixelsmith.Method and pixelsmith.Request."),
            InputParam("output_type", str, default="pil", description="pil, np (0..1) or pt (0..1)."),
        ]

    @property
    def intermediate_outputs(self) -> list[OutputParam]:
        return [OutputParam("images", list, description="The pictures.")]

    @torch.no_grad()
    def __call__(self, components: Any, state: PipelineState) -> tuple[Any, PipelineState]:
        block = self.get_block_state(state)
        own = {name: getattr(block, name) for name in ("slider", "num_inference_steps")}
        options = {name: value for name, value in own.items() if value is not None} | (block.options or {})
        found = [
            components.pixelsmith(
                block.prompt,
                block.width,
                block.height,
                image=image,
                preset=block.preset,
                generator=block.generator,
                output_type=block.output_type,
                negative_prompt=block.negative_prompt,
                **options,
            ).images
            for image in block.images or [None]
        ]
        block.images = [picture for pictures in found for picture in pictures]
        self.set_block_state(state, block)
        return components, state
