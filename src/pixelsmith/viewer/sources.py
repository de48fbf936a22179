"""Where the viewer gets pixels from: pyramid files, DeepZoom, and the mosaics of a run that may still be growing.

A source answers one question: what does this box look like at that size?
"""

from __future__ import annotations

import math
import re
import shutil
import weakref
import zipfile
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import pyvips
from PIL import Image

from pixelsmith.canvas import Mosaic, WatchedSlots, watch
from pixelsmith.errors import PictureError
from pixelsmith.geometry import Size, Window

Box = tuple[float, float, float, float]
"""Left, top, right and bottom in pixels of the full picture, inside it."""


@runtime_checkable
class Source(Protocol):
    """A picture that can be looked at from near and from afar."""

    @property
    def size(self) -> Size: ...

    @property
    def version(self) -> int:
        """It changes when there is more to see than before."""
        ...

    def look(self, box: Box, size: Size) -> Image.Image:
        """The box, scaled to ``size``."""
        ...


class PyramidFile:
    """A picture file that libvips opens; a TIFF's pages are levels, each half as large as the one before.

    ``folder`` is removed with this object: it holds the file where that was made for looking at only.
    """

    version = 0

    def __init__(self, path: Path, folder: Path | None = None) -> None:
        if folder is not None:
            weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        first = pyvips.Image.new_from_file(str(path))
        pages = first.get("n-pages") if first.get_typeof("n-pages") else 1
        self._levels = [first, *(pyvips.Image.new_from_file(str(path), page=i) for i in range(1, pages))]
        self.size = Size(first.width, first.height)

    @property
    def depth(self) -> int:
        """The number of levels."""
        return len(self._levels)

    def look(self, box: Box, size: Size) -> Image.Image:
        """The box, from the smallest level that has all the detail of ``size``."""
        level = _smallest([Size(image.width, image.height) for image in self._levels], self.size, box, size)
        image = self._levels[level]
        return _scaled(box, self.size, Size(image.width, image.height), size, lambda window: _cropped(image, window))


class DeepZoomFile:
    """A ``.dzi`` with its folder of tiles, or both in a ``.zip``."""

    version = 0

    def __init__(self, path: Path) -> None:
        self._path = path
        self._archive = zipfile.ZipFile(path) if path.suffix.lower() == ".zip" else None
        if self._archive is not None:
            weakref.finalize(self, self._archive.close)
        names = [] if self._archive is None else self._archive.namelist()
        found = next((name for name in names if name.endswith(".dzi")), path.name)
        self._folder = found.removesuffix(".dzi") + "_files"
        try:
            description = self._bytes(found).decode()
            self._tile, self._overlap = (_number(description, name) for name in ("TileSize", "Overlap"))
            self.size = Size(_number(description, "Width"), _number(description, "Height"))
        except (OSError, KeyError, ValueError) as error:
            raise PictureError(f"{path}: it is not a DeepZoom picture ({error})") from error
        last = math.ceil(math.log2(max(self.size.width, self.size.height)))
        self._sizes = [
            Size(-(-self.size.width // 2 ** (last - level)), -(-self.size.height // 2 ** (last - level)))
            for level in range(last + 1)
        ]

    def look(self, box: Box, size: Size) -> Image.Image:
        """The box, put together from the tiles of the smallest level that has all the detail of ``size``."""
        level = _smallest(self._sizes, self.size, box, size)
        return _scaled(box, self.size, self._sizes[level], size, lambda window: self._window(level, window))

    def _window(self, level: int, window: Window) -> Image.Image:
        picture = Image.new("RGB", (window.width, window.height))
        for row in range(window.top // self._tile, (window.bottom - 1) // self._tile + 1):
            for column in range(window.left // self._tile, (window.right - 1) // self._tile + 1):
                tile = Image.open(BytesIO(self._bytes(f"{self._folder}/{level}/{column}_{row}.jpg")))
                left = column * self._tile - (self._overlap if column else 0)
                top = row * self._tile - (self._overlap if row else 0)
                picture.paste(tile, (left - window.left, top - window.top))
        return picture

    def _bytes(self, name: str) -> bytes:
        return (self._path.parent / name).read_bytes() if self._archive is None else self._archive.read(name)


@dataclass(frozen=True)
class StagePicture:
    """The picture of a stage in a run directory; where it is not there yet, the one of the stage below."""

    levels: tuple[tuple[Mosaic, WatchedSlots], ...]
    below: Source | None

    @classmethod
    def of(cls, folder: Path, below: Source | None) -> StagePicture:
        """The stage that works in ``folder``. Raises ``LookupError`` where it has no picture yet."""
        return cls((watch(folder / "overview"), watch(folder / "picture")), below)

    @property
    def size(self) -> Size:
        return self.levels[-1][0].size

    @property
    def version(self) -> int:
        return self.levels[-1][1].refresh()

    @property
    def complete(self) -> bool:
        return self.levels[-1][0].complete

    def look(self, box: Box, size: Size) -> Image.Image:
        """The box as it is now."""
        for _, slots in self.levels:
            slots.refresh()
        mosaic = self.levels[_smallest([mosaic.size for mosaic, _ in self.levels], self.size, box, size)][0]

        def read(window: Window) -> Image.Image:
            return Image.fromarray(mosaic.read(window).permute(1, 2, 0).numpy())

        try:
            return _scaled(box, self.size, mosaic.size, size, read)
        except LookupError:
            return Image.new("RGB", (size.width, size.height), "grey") if self.below is None else self._guess(box, size)

    def _guess(self, box: Box, size: Size) -> Image.Image:
        """From below, whose middle covers this picture."""
        if self.below is None:
            raise ValueError("there is no stage below")
        small = self.below.size
        scale = min(small.width / self.size.width, small.height / self.size.height)
        left, top = ((small.width - scale * self.size.width) / 2, (small.height - scale * self.size.height) / 2)
        corners = (left + scale * box[0], top + scale * box[1], left + scale * box[2], top + scale * box[3])
        return self.below.look(corners, size)


def _smallest(levels: list[Size], full: Size, box: Box, size: Size) -> int:
    """The index of the level with the fewest pixels that is no coarser than what is asked for."""
    wanted = min(1.0, max(size.width / (box[2] - box[0]), size.height / (box[3] - box[1])))
    fine = [i for i, level in enumerate(levels) if level.width / full.width >= 0.99 * wanted]
    return min(fine or range(len(levels)), key=lambda i: levels[i].area if fine else -levels[i].area)


def _scaled(box: Box, full: Size, level: Size, size: Size, read: Any) -> Image.Image:
    """A box of the full picture, read from a level of it and scaled to ``size``."""
    across, down = level.width / full.width, level.height / full.height
    left, top, right, bottom = box[0] * across, box[1] * down, box[2] * across, box[3] * down
    # A margin, so that what the kernel sees at the box's edges is the picture.
    reach = 2 * math.ceil(max(1.0, (right - left) / size.width))
    x, y = max(0, math.floor(left) - reach), max(0, math.floor(top) - reach)
    width = min(level.width, math.ceil(right) + reach) - x
    height = min(level.height, math.ceil(bottom) + reach) - y
    inside = (max(left - x, 0), max(top - y, 0), min(right - x, width), min(bottom - y, height))
    image: Image.Image = read(Window(y, x, height, width))
    return image.resize((size.width, size.height), Image.Resampling.BILINEAR, box=inside)


def _cropped(image: pyvips.Image, window: Window) -> Image.Image:
    return Image.fromarray(image.crop(window.left, window.top, window.width, window.height).numpy()).convert("RGB")


def _number(description: str, name: str) -> int:
    match = re.search(rf'\b{name}\s*=\s*"(\d+)"', description)
    if match is None:
        raise ValueError(f"no {name}")
    return int(match.group(1))
