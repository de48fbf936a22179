"""Protocols of sources whose windows can be read."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from pixelsmith.geometry import Size, Window, Wrap
from pixelsmith.system.device import staged


@runtime_checkable
class Readable(Protocol):
    """Anything whose windows can be read as tensors (c, h, w)."""

    @property
    def size(self) -> Size: ...

    def read(self, window: Window) -> Tensor: ...


@runtime_checkable
class Deferring(Readable, Protocol):
    """A readable whose windows are computed from what it reads, and can be computed on another device."""

    def deferred(self, window: Window, device: torch.device) -> Callable[[], Tensor]:
        """Read a window on the host; the returned function computes the result of ``read`` on the device."""
        ...


def read_wrapped(read: Callable[[Window], Tensor], window: Window, size: Size, wrap: Wrap) -> Tensor:
    """A window (c, h, w) of a source of this size, which may reach over the edges on axes that wrap."""
    rows = [[read(piece) for piece in pieces] for pieces in wrap.pieces(window, size)]
    if len(rows) == len(rows[0]) == 1:
        return rows[0][0]
    return torch.cat([torch.cat(row, dim=-1) for row in rows], dim=-2)


def deferred(source: Readable, window: Window, device: torch.device) -> Callable[[], Tensor]:
    """Read a window on the host; the returned function gives it, (c, h, w), computed on the device if possible."""
    if isinstance(source, Deferring):
        return source.deferred(window, device)
    return partial(staged(source.read(window), device).to, device, non_blocking=True)
