"""Arrays of (channels, height, width), in memory or on disk, read window by window."""

from pixelsmith.canvas.array import Array
from pixelsmith.canvas.mosaic import Mosaic, WithOverview
from pixelsmith.canvas.slots import DiskSlots, MemorySlots, Slots, WatchedSlots
from pixelsmith.canvas.space import DiskSpace, MemorySpace, Space, watch
from pixelsmith.canvas.windowed import Part, PartlyFilled, Placed

__all__ = [
    "Array",
    "DiskSlots",
    "DiskSpace",
    "MemorySlots",
    "MemorySpace",
    "Mosaic",
    "Part",
    "PartlyFilled",
    "Placed",
    "Slots",
    "Space",
    "WatchedSlots",
    "WithOverview",
    "watch",
]
