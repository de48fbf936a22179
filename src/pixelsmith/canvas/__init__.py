"""Arrays of (channels, height, width) behind one protocol, ``pixelsmith.sampling.denoise.Canvas``."""

from pixelsmith.canvas.memory import MemoryCanvas

__all__ = ["MemoryCanvas"]
