"""A page on this machine that zooms into a picture or a run directory like a map."""

from pixelsmith.viewer.server import PictureServer
from pixelsmith.viewer.shown import Shown, show, write_preview

__all__ = ["PictureServer", "Shown", "show", "write_preview"]
