"""Model families: the only package that imports diffusers. Support for a new model is added here alone."""

from pixelsmith.families.captioners import Captioner, load_captioner
from pixelsmith.families.family import Family, Prompt, PromptAt, everywhere
from pixelsmith.families.loading.complete import check_complete
from pixelsmith.families.loading.facts import read_facts
from pixelsmith.families.loading.find import check_exchange, fetch, find_model, pin
from pixelsmith.families.loading.hub import unpinned
from pixelsmith.families.loading.loader import choose_device, choose_dtype, load_family, memory_of, processor_of
from pixelsmith.families.loading.needs import check_parts
from pixelsmith.families.loading.sources import model_files
from pixelsmith.families.shared.weighting import check_weighting
from pixelsmith.families.upsamplers import Upsampler, UpsamplerFacts, load_upsampler, read_upsampler

__all__ = [
    "Captioner",
    "Family",
    "Prompt",
    "PromptAt",
    "Upsampler",
    "UpsamplerFacts",
    "check_complete",
    "check_exchange",
    "check_parts",
    "check_weighting",
    "choose_device",
    "choose_dtype",
    "everywhere",
    "fetch",
    "find_model",
    "load_captioner",
    "load_family",
    "load_upsampler",
    "memory_of",
    "model_files",
    "pin",
    "processor_of",
    "read_facts",
    "read_upsampler",
    "unpinned",
]
