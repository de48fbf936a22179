"""Model families: the only place that knows diffusers. A new model touches nothing else."""

from pixelsmith.families.facts import read_facts
from pixelsmith.families.find import fetch, find_model, pin
from pixelsmith.families.load import choose_device, choose_dtype, load_family, memory_of
from pixelsmith.families.protocol import Family, Prompt
from pixelsmith.families.sources import model_files

__all__ = [
    "Family",
    "Prompt",
    "choose_device",
    "choose_dtype",
    "fetch",
    "find_model",
    "load_family",
    "memory_of",
    "model_files",
    "pin",
    "read_facts",
]
