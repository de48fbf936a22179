"""Pictures of any size in ComfyUI, with the models that are loaded there."""

from __future__ import annotations

from comfy_api.latest import ComfyExtension, io

from .nodes import NODES

WEB_DIRECTORY = "./web"
"""Where the pages of the nodes are."""


class Pixelsmith(ComfyExtension):
    """The nodes of this folder."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return NODES


async def comfy_entrypoint() -> Pixelsmith:
    """What ComfyUI calls."""
    return Pixelsmith()


__all__ = ["WEB_DIRECTORY", "comfy_entrypoint"]
