"""Model families: the only place that knows diffusers. A new model touches nothing else."""

from pixelsmith.families.load import choose_device, choose_dtype, find_model, load_family, read_facts
from pixelsmith.families.protocol import Family

__all__ = ["Family", "choose_device", "choose_dtype", "find_model", "load_family", "read_facts"]
