"""A page on this machine that zooms into a picture or a run directory like a map."""

from pixelsmith.viewer.server import PictureServer
from pixelsmith.viewer.shown import Shown, show, write_preview
from pixelsmith.viewer.sources import open_file

__all__ = ["PictureServer", "Shown", "open_file", "show", "write_preview"]
