"""Parts of canvases: one seen by itself, one seen in its place, and one that is all that is filled of a mosaic."""

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
    """A window of something, read as if it were all there is."""

    whole: Readable
    window: Window

    @property
    def size(self) -> Size:
        return Size(self.window.width, self.window.height)

    def read(self, window: Window) -> Tensor:
        """The values (c, h, w) of a window, counted from the top left corner of the part."""
        return self.whole.read(window.within(self.window))

    def deferred(self, window: Window, device: torch.device) -> Callable[[], Tensor]:
        """The same, read on the host, to be computed on a device."""
        return deferred(self.whole, window.within(self.window), device)


@dataclass(frozen=True)
class Placed:
    """A canvas of which a part is known: ``known`` of it is read from ``part``, all else from ``elsewhere``.

    ``part``: what lies at ``origin`` on the canvas; ``known`` is a window inside of that. Where the canvas wraps both
    may lie over its edges.
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
        # Beyond what is known there may be nothing to read.
        whole = found[0][1].new_empty(len(values), *known.shape) if known.all() else self.elsewhere.read(window).clone()
        for place, values in found:
            whole[(..., *place)] = values
        return whole


@dataclass(frozen=True)
class PartlyFilled:
    """A mosaic that is filled where its patches count in a window, and shows something else beyond that."""

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
        """Keep a patch."""
        self.mosaic.put(index, values)

    def missing(self, group: int = 1, even: bool = False) -> Iterator[Sequence[int]]:
        """The groups of patches that count in the window of which one or more are missing."""
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
