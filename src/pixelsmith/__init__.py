"""Pixelsmith: a sentence becomes a picture of any size, with a diffusion model trained at 256 to 1024 pixels.

Implements "Is One GPU Enough? Pushing Image Generation at Higher-Resolutions with Foundation Models" (NeurIPS 2024,
arXiv 2406.07251).
"""

from pixelsmith import interrupt  # isort: skip  # noqa: F401 (before what takes seconds to import)
from pixelsmith.cancel import CancelToken
from pixelsmith.closeup import Closeup
from pixelsmith.errors import (
    CancelledError,
    DeviceError,
    InputError,
    MissingPartError,
    ModelError,
    OutputError,
    PictureError,
    PixelsmithError,
    RefusedError,
    RequestError,
    RunError,
)
from pixelsmith.events import Event, Observer, PhaseFinished, Progress, RunFinished, RunStarted, StageStarted, Warned
from pixelsmith.generate import generate, plan, resume
from pixelsmith.geometry import Size
from pixelsmith.held import HeldModel
from pixelsmith.job import Result
from pixelsmith.loaded import LoadedModel, load
from pixelsmith.parts import Lora, Parts
from pixelsmith.pipeline import PipelineOutput, PixelsmithPipeline
from pixelsmith.plan import Plan, StagePlan
from pixelsmith.recommended import PERTURBATIONS, Perturbation
from pixelsmith.request import PRESETS, Compute, Method, Placement, Request
from pixelsmith.version import __version__

__all__ = [
    "PERTURBATIONS",
    "PRESETS",
    "CancelToken",
    "CancelledError",
    "Closeup",
    "Compute",
    "DeviceError",
    "Event",
    "HeldModel",
    "InputError",
    "LoadedModel",
    "Lora",
    "Method",
    "MissingPartError",
    "ModelError",
    "Observer",
    "OutputError",
    "Parts",
    "Perturbation",
    "PhaseFinished",
    "PictureError",
    "PipelineOutput",
    "PixelsmithError",
    "PixelsmithPipeline",
    "Placement",
    "Plan",
    "Progress",
    "RefusedError",
    "Request",
    "RequestError",
    "Result",
    "RunError",
    "RunFinished",
    "RunStarted",
    "Size",
    "StagePlan",
    "StageStarted",
    "Warned",
    "__version__",
    "generate",
    "load",
    "plan",
    "resume",
]
