"""A page on this machine that zooms into a picture or a run directory like a map."""

from pixelsmith.viewer.server import PictureServer
from pixelsmith.viewer.shown import Shown, show

__all__ = ["PictureServer", "Shown", "show"]
