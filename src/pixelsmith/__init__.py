"""Pixelsmith: a sentence becomes a picture of any size, with a diffusion model trained at 256 to 1024 pixels.

Implements "Is One GPU Enough? Pushing Image Generation at Higher-Resolutions with Foundation Models" (NeurIPS 2024,
arXiv 2406.07251).
"""

from pixelsmith.system import interrupt  # isort: skip  # noqa: F401 (before what takes seconds to import)
from pixelsmith.api.functions import generate, plan, resume
from pixelsmith.api.held import HeldModel
from pixelsmith.api.loaded import LoadedModel, load
from pixelsmith.api.pipeline import PipelineOutput, PixelsmithPipeline
from pixelsmith.config.compute import Compute, Placement
from pixelsmith.config.method import PRESETS, Method
from pixelsmith.config.parts import ControlNet, IPAdapter, Lora, Parts
from pixelsmith.config.plans import Plan, StagePlan
from pixelsmith.config.recommended import PERTURBATIONS, Perturbation
from pixelsmith.config.regions import Region
from pixelsmith.config.request import Request
from pixelsmith.config.workers import Workers
from pixelsmith.engine.cancel import CancelToken
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
from pixelsmith.geometry import Size
from pixelsmith.run.closeup import Closeup
from pixelsmith.run.job import Result
from pixelsmith.version import __version__

__all__ = [
    "PERTURBATIONS",
    "PRESETS",
    "CancelToken",
    "CancelledError",
    "Closeup",
    "Compute",
    "ControlNet",
    "DeviceError",
    "Event",
    "HeldModel",
    "IPAdapter",
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
    "Region",
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
    "Workers",
    "__version__",
    "generate",
    "load",
    "plan",
    "resume",
]
