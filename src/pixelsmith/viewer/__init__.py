"""Zoom into a picture or a run directory in the browser, like a map."""

from pixelsmith.pixels.zoomable import open_file
from pixelsmith.run.shown import Shown, show, write_preview
from pixelsmith.viewer.server import PictureServer

__all__ = ["PictureServer", "Shown", "open_file", "show", "write_preview"]
