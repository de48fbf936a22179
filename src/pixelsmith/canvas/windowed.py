"""Parts of canvases: a window as a canvas, a canvas of which a part is known, and a partly filled mosaic."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pixelsmith.canvas.mosaic import Mosaic, counting, groups_of
from pixelsmith.geometry import NO_WRAP, Size, Window, Wrap
from pixelsmith.sampling.readable import Readable, deferred


@dataclass(frozen=True)
class Part:
    """A window of a source as a source of its own."""

    whole: Readable
    window: Window

    @property
    def size(self) -> Size:
        return Size(self.window.width, self.window.height)

    def read(self, window: Window) -> Tensor:
        """The values (c, h, w) of a window, relative to the top left corner of the part."""
        return self.whole.read(window.within(self.window))

    def deferred(self, window: Window, device: torch.device) -> Callable[[], Tensor]:
        """Read a window on the host; the returned function computes it on a device."""
        return deferred(self.whole, window.within(self.window), device)


@dataclass(frozen=True)
class Placed:
    """A canvas whose window ``known`` is read from ``part``, and everything else from ``elsewhere``.

    ``part`` has the position ``origin`` on the canvas, and contains ``known``. On axes that wrap, both may reach over
    the edges.
    """

    part: Readable
    origin: Window
    known: Window
    elsewhere: Readable
    wrap: Wrap = NO_WRAP

    @property
    def size(self) -> Size:
        return self.elsewhere.size

    def read(self, window: Window) -> Tensor:
        """The values (c, h, w) of a window of the canvas."""
        images = [image for image in self.wrap.images(window, self.size, self.known) if image.overlaps(self.known)]
        if not images:
            return self.elsewhere.read(window)
        found, known = [], torch.zeros(window.height, window.width, dtype=torch.bool)
        for image in images:
            common = image.common(self.known)
            values = self.part.read(common.relative_to(self.origin))
            if common == image:
                return values
            place = common.relative_to(image).slices
            known[place] = True
            found.append((place, values))
        # ``elsewhere`` may not be readable, so it is read only if needed.
        whole = found[0][1].new_empty(len(values), *known.shape) if known.all() else self.elsewhere.read(window).clone()
        for place, values in found:
            whole[(..., *place)] = values
        return whole


@dataclass(frozen=True)
class PartlyFilled:
    """A mosaic of which only the patches with a weight in a window are filled; elsewhere another source is read."""

    mosaic: Mosaic
    window: Window
    elsewhere: Readable
    wrap: Wrap = NO_WRAP

    @property
    def size(self) -> Size:
        return self.mosaic.size

    def read(self, window: Window) -> Tensor:
        """The values (c, h, w) of a window of the canvas."""
        return Placed(self.mosaic, self.size.window, self.window, self.elsewhere, self.wrap).read(window)

    def put(self, index: int, values: Tensor) -> None:
        """Store a patch."""
        self.mosaic.put(index, values)

    def missing(self, group: int = 1, even: bool = False) -> Iterator[Sequence[int]]:
        """The groups of patches with a weight in the window of which any is missing."""
        there = counting(self.mosaic.tiling, self.window)
        for places in groups_of(len(there), group, even):
            indices = there[places.start : places.stop]
            if not all(index in self.mosaic for index in indices):
                yield indices

    @property
    def complete(self) -> bool:
        return next(self.missing(), None) is None

    def sync(self) -> None:
        self.mosaic.sync()
