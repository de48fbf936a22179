"""Arrays of (channels, height, width), in memory or on disk, read window by window."""

from pixelsmith.canvas.array import Array
from pixelsmith.canvas.mosaic import Mosaic
from pixelsmith.canvas.slots import DiskSlots, MemorySlots, Slots
from pixelsmith.canvas.space import DiskSpace, MemorySpace, Space

__all__ = ["Array", "DiskSlots", "DiskSpace", "MemorySlots", "MemorySpace", "Mosaic", "Slots", "Space"]
