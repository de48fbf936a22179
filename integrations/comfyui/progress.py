"""Progress, previews and interruption through ComfyUI's API."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import comfy.model_management
import comfy.utils
import latent_preview
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from pixelsmith import Event, Progress, Size, Warned
from pixelsmith.extension import Window

UNITS = 1000
"""The length of the progress bar."""
SIDE = 128
"""The most latents on the longer side of a preview."""


class Shown:
    """An observer that advances the bar and shows a preview of the current canvas from the estimates so far."""

    def __init__(self, patcher: Any) -> None:
        self._bar = comfy.utils.ProgressBar(UNITS)
        self._previewer = latent_preview.get_previewer(patcher.load_device, patcher.model.latent_format)
        self._canvas: Size | None = None
        self._estimates = torch.empty(0)

    def watch(self, clean: Tensor, windows: Sequence[Window], canvas: Size) -> None:
        """Keep the estimates (b, c, h, w) of patches for the preview, at its size; windows and canvas in latents."""
        if self._previewer is None:
            return
        shrunk = min(1.0, SIDE / max(canvas.width, canvas.height))
        if canvas != self._canvas:
            small = (max(1, round(canvas.height * shrunk)), max(1, round(canvas.width * shrunk)))
            self._canvas, self._estimates = canvas, clean.new_zeros(1, clean.shape[1], *small)
        for patch, window in zip(clean, windows, strict=True):
            top, left = int(window.top * shrunk), int(window.left * shrunk)
            target = self._estimates[..., top : round(window.bottom * shrunk), left : round(window.right * shrunk)]
            if target.numel():
                target.copy_(interpolate(patch[None], size=target.shape[-2:], mode="area"))

    def __call__(self, event: Event) -> None:
        comfy.model_management.throw_exception_if_processing_interrupted()
        if isinstance(event, Warned):
            logging.warning("Pixelsmith: %s", event.message)
        if isinstance(event, Progress):
            self._bar.update_absolute(round(event.share * UNITS), UNITS, self._preview())

    def _preview(self) -> Any:
        if self._previewer is None or self._canvas is None:
            return None
        return self._previewer.decode_latent_to_preview_image("JPEG", self._estimates)
