"""Names for programs that supply their own model: the protocols of a ``Family``, and building blocks for one.

Such a family is handed to ``HeldModel``. The ComfyUI nodes (``integrations/comfyui``) are made so.
"""

from __future__ import annotations

from pixelsmith.config.model_facts import ModelFacts
from pixelsmith.config.recommended import Recommended
from pixelsmith.config.settings import settings_of
from pixelsmith.families import Family, Prompt, PromptAt
from pixelsmith.families.autoencoders.autoencoder import usual_tiling
from pixelsmith.families.autoencoders.steady import steady
from pixelsmith.families.family import Autoencoder
from pixelsmith.geometry import Window
from pixelsmith.pixels.zoomable import open_file
from pixelsmith.run.directory import RunDirectory
from pixelsmith.sampling.denoiser import Denoiser
from pixelsmith.sampling.noise import DrawnNoise, Noise
from pixelsmith.sampling.readable import Readable
from pixelsmith.sampling.schedule import CLEAN, Level, Schedule

__all__ = [
    "CLEAN",
    "Autoencoder",
    "Denoiser",
    "DrawnNoise",
    "Family",
    "Level",
    "ModelFacts",
    "Noise",
    "Prompt",
    "PromptAt",
    "Readable",
    "Recommended",
    "RunDirectory",
    "Schedule",
    "Window",
    "open_file",
    "settings_of",
    "steady",
    "usual_tiling",
]
