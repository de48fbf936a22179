"""The command line."""

from pixelsmith.cli.program import main

__all__ = ["main"]
