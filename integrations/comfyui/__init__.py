"""Pictures of any size in ComfyUI, with the models that are loaded there."""

from __future__ import annotations

import logging

from comfy_api.latest import ComfyExtension, io

from .nodes import NODES

# ComfyUI shows all log messages, and libvips logs each of its thread pools.
logging.getLogger("pyvips").setLevel(logging.WARNING)
WEB_DIRECTORY = "./web"
"""The folder of the nodes' help pages."""


class Pixelsmith(ComfyExtension):
    """The nodes of this folder."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return NODES


async def comfy_entrypoint() -> Pixelsmith:
    """The entry point that ComfyUI calls."""
    return Pixelsmith()


__all__ = ["WEB_DIRECTORY", "comfy_entrypoint"]
