"""Model families: the only place that knows diffusers. A new model touches nothing else."""

from pixelsmith.families.captioners import Captioner, load_captioner
from pixelsmith.families.complete import check_complete
from pixelsmith.families.facts import read_facts
from pixelsmith.families.find import fetch, find_model, pin
from pixelsmith.families.hub import unpinned
from pixelsmith.families.load import choose_device, choose_dtype, load_family, memory_of, processor_of
from pixelsmith.families.needs import check_parts
from pixelsmith.families.protocol import Family, Prompt, PromptAt, everywhere
from pixelsmith.families.sources import model_files
from pixelsmith.families.weighting import check_weighting

__all__ = [
    "Captioner",
    "Family",
    "Prompt",
    "PromptAt",
    "check_complete",
    "check_parts",
    "check_weighting",
    "choose_device",
    "choose_dtype",
    "everywhere",
    "fetch",
    "find_model",
    "load_captioner",
    "load_family",
    "memory_of",
    "model_files",
    "pin",
    "processor_of",
    "read_facts",
    "unpinned",
]
