"""Sources of pixels for the viewer: pyramid files, DeepZoom, and the canvases of a run that may still be in progress.

A source has one main method, which renders a box of the picture at a given size.
"""

from __future__ import annotations

import math
import os
import re
import shutil
import tempfile
import weakref
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Protocol, runtime_checkable

import pyvips
from PIL import Image

from pixelsmith.canvas import Mosaic, WatchedSlots, watch
from pixelsmith.errors import PictureError
from pixelsmith.geometry import Size, Window, tiles
from pixelsmith.pixels.depth import as_bytes
from pixelsmith.pixels.reading import levels, reason, upright_bytes
from pixelsmith.pixels.settings_inside import ARCHIVE_ERRORS
from pixelsmith.system.durable import open_to_read, read_whole

SMALL = 1024
"""The side in pixels up to which a file needs no pyramid."""
STEP = 4
"""The largest factor between a level's width and that of the next smaller level, or ``SMALL`` for the smallest."""
BLOCK = 512
"""The side in pixels of the blocks that a view is composed of, which bounds its memory."""
Box = tuple[float, float, float, float]
"""Left, top, right and bottom in pixels of the full picture, inside it."""


@runtime_checkable
class Zoomable(Protocol):
    """A picture that can be rendered at any scale."""

    @property
    def size(self) -> Size: ...

    @property
    def version(self) -> int:
        """A number that changes when the visible content changes."""
        ...

    def look(self, box: Box, size: Size) -> Image.Image:
        """The box, scaled to ``size``."""
        ...


def changed(path: Path) -> int:
    """The modification time of a file in milliseconds, which is the version of its content."""
    return path.stat().st_mtime_ns // 1_000_000


class PyramidFile:
    """The levels of a picture, opened by libvips, in descending order of size.

    ``folder``: a folder with a temporary pyramid, which is removed with this object.
    """

    def __init__(self, levels: list[pyvips.Image], version: int = 0, folder: Path | None = None) -> None:
        self.version = version
        if folder is not None:
            weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        self.levels = levels
        self.size = Size(levels[0].width, levels[0].height)

    @classmethod
    def of(cls, path: Path) -> PyramidFile:
        """The levels of a file; if it has too few, a temporary pyramid is made for the lifetime of this object.

        Raises ``PictureError`` if it is no picture.
        """
        found, version = levels(path), changed(path)
        steps = [above.width / below.width for above, below in pairwise(found)]
        steps.append(max(found[-1].width, found[-1].height) / SMALL)
        try:
            return cls(found, version) if max(steps) <= STEP else cls._made(found[0], version)
        except pyvips.Error as error:
            raise PictureError(f"{path}: the picture cannot be read{reason(error)}") from error

    @classmethod
    def _made(cls, image: pyvips.Image, version: int) -> PyramidFile:
        folder = Path(tempfile.mkdtemp(prefix="pixelsmith-"))
        try:
            path = folder / "pyramid.tif"
            image.tiffsave(str(path), tile=True, pyramid=True, bigtiff=True, compression="jpeg", Q=92)
            made = levels(path)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        # On systems that allow it, the open file is removed now, so that it never outlives this process.
        shutil.rmtree(folder, ignore_errors=True)
        return cls(made, version, folder)

    def look(self, box: Box, size: Size) -> Image.Image:
        """The box, from the smallest level that has all the detail of ``size``."""
        level = _smallest([Size(image.width, image.height) for image in self.levels], self.size, box, size)
        image = self.levels[level]
        return _scaled(box, self.size, Size(image.width, image.height), size, lambda window: _cropped(image, window))


class DeepZoomFile:
    """A ``.dzi`` with its folder of tiles, or both in a ``.zip``."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self.version = changed(path)
            self._archive = self._opened(path) if path.suffix.lower() == ".zip" else None
            names = [] if self._archive is None else self._archive.namelist()
            found = next((name for name in names if name.endswith(".dzi")), path.name)
            self._folder = found.removesuffix(".dzi") + "_files"
            description = self._bytes(found).decode()
            self._tile, self._overlap = (_number(description, name) for name in ("TileSize", "Overlap"))
            self._format = _said(description, "Format", r"\w+")
            self.size = Size(_number(description, "Width"), _number(description, "Height"))
            if self._tile < 1:
                raise ValueError("its tiles have no size")
        except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
            raise PictureError(f"{path}: it is not a DeepZoom picture ({error})") from error
        last = math.ceil(math.log2(max(self.size.width, self.size.height)))
        self._sizes = [
            Size(-(-self.size.width // 2 ** (last - level)), -(-self.size.height // 2 ** (last - level)))
            for level in range(last + 1)
        ]

    def _opened(self, path: Path) -> zipfile.ZipFile:
        file = os.fdopen(open_to_read(path), "rb")
        weakref.finalize(self, file.close)
        return zipfile.ZipFile(file)

    def look(self, box: Box, size: Size) -> Image.Image:
        """The box, composed of tiles of the smallest level that has all the detail of ``size``."""
        level = _smallest(self._sizes, self.size, box, size)
        return _scaled(box, self.size, self._sizes[level], size, lambda window: self._window(level, window))

    def _window(self, level: int, window: Window) -> Image.Image:
        picture = Image.new("RGB", (window.width, window.height))
        for row in range(window.top // self._tile, (window.bottom - 1) // self._tile + 1):
            for column in range(window.left // self._tile, (window.right - 1) // self._tile + 1):
                name = f"{self._folder}/{level}/{column}_{row}.{self._format}"
                tile = Image.fromarray(upright_bytes(self._bytes(name), name).numpy())
                left = column * self._tile - (self._overlap if column else 0)
                top = row * self._tile - (self._overlap if row else 0)
                picture.paste(tile, (left - window.left, top - window.top))
        return picture

    def _bytes(self, name: str) -> bytes:
        if self._archive is None:
            return read_whole(self._path.parent / name)
        try:
            return self._archive.read(name)
        except ARCHIVE_ERRORS as error:
            raise PictureError(f"{self._path}: the archive is damaged ({error})") from error


@dataclass(frozen=True)
class StagePicture:
    """The picture of a stage in a run directory; missing parts are shown from the previous stage."""

    levels: tuple[tuple[Mosaic, WatchedSlots], ...]
    below: Zoomable | None

    @classmethod
    def of(cls, folder: Path, below: Zoomable | None) -> StagePicture:
        """The picture of the stage in ``folder``. Raises ``LookupError`` if it has none yet."""
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
            return Image.fromarray(as_bytes(mosaic.read(window)).permute(1, 2, 0).numpy())

        window = _window_of(box, self.size, mosaic.size)
        if mosaic.has(window):
            return _scaled(box, self.size, mosaic.size, size, read, window)
        image = self._guess(box, size)
        for place, part, kept in self._there(mosaic, box, size):
            scaled = _scaled(part, self.size, mosaic.size, Size(place.width, place.height), read, kept)
            image.paste(scaled, (place.left, place.top))
        return image

    def _there(self, mosaic: Mosaic, box: Box, size: Size) -> Iterator[tuple[Window, Box, Window]]:
        """The finished parts of a box: the window of each in an image of ``size``, its box, and its pixels."""
        across, down = size.width / (box[2] - box[0]), size.height / (box[3] - box[1])
        fine = self.size.width / mosaic.size.width, self.size.height / mosaic.size.height
        window = _window_of(box, self.size, mosaic.size)
        side = max(8, min(mosaic.tiling.largest.width, mosaic.tiling.largest.height) // 4)
        for kept in _parts_there(mosaic, window, side):
            left, right = (max(round((x * fine[0] - box[0]) * across), 0) for x in (kept.left, kept.right))
            top, bottom = (max(round((y * fine[1] - box[1]) * down), 0) for y in (kept.top, kept.bottom))
            place = Window(top, left, min(bottom, size.height) - top, min(right, size.width) - left)
            if place.height > 0 and place.width > 0:
                corner = box[0] + place.left / across, box[1] + place.top / down
                # Finished pixels around the part are used too, so that scaling leaves no edge.
                around = kept.grown(side, mosaic.size)
                seen = around if mosaic.has(around) else kept
                yield place, (*corner, corner[0] + place.width / across, corner[1] + place.height / down), seen

    def _guess(self, box: Box, size: Size) -> Image.Image:
        """The box as the previous stage shows it, whose middle covers this picture; grey if there is none."""
        if self.below is None:
            return Image.new("RGB", (size.width, size.height), "grey")
        small = self.below.size
        scale = min(small.width / self.size.width, small.height / self.size.height)
        left, top = ((small.width - scale * self.size.width) / 2, (small.height - scale * self.size.height) / 2)
        corners = (left + scale * box[0], top + scale * box[1], left + scale * box[2], top + scale * box[3])
        return self.below.look(corners, size)


def _parts_there(mosaic: Mosaic, window: Window, side: int) -> Iterator[Window]:
    """The finished parts of a window: whole tiles, and blocks of ``side`` pixels of tiles with missing neighbours.

    If neighbouring tiles are averaged, the border of a tile is finished only together with its neighbour.
    """
    for index in mosaic.tiling.touching(window):
        tile = mosaic.tiling.kept(index)
        if index not in mosaic or not tile.overlaps(window):
            continue
        shared = tile.common(window)
        if mosaic.has(shared):
            yield shared
            continue
        for cell in tiles(Size(shared.width, shared.height), side):
            part = Window(shared.top + cell.top, shared.left + cell.left, cell.height, cell.width)
            if mosaic.has(part):
                yield part


def _smallest(levels: list[Size], full: Size, box: Box, size: Size) -> int:
    """The index of the smallest level that has all the detail of a box rendered at ``size``."""
    wanted = min(1.0, max(size.width / (box[2] - box[0]), size.height / (box[3] - box[1])))
    fine = [i for i, level in enumerate(levels) if level.width / full.width >= 0.99 * wanted]
    return min(fine or range(len(levels)), key=lambda i: levels[i].area if fine else -levels[i].area)


def _window_of(box: Box, full: Size, level: Size) -> Window:
    """The pixels of a level under a box of the full picture."""
    across, down = level.width / full.width, level.height / full.height
    left, top = max(0, math.floor(box[0] * across)), max(0, math.floor(box[1] * down))
    right, bottom = min(level.width, math.ceil(box[2] * across)), min(level.height, math.ceil(box[3] * down))
    return Window(top, left, bottom - top, right - left)


def _scaled(
    box: Box,
    full: Size,
    level: Size,
    size: Size,
    read: Callable[[Window], Image.Image],
    bounds: Window | None = None,
) -> Image.Image:
    """A box of the full picture, read from a level of it (inside ``bounds``) and scaled to ``size``, block by block."""
    image = Image.new("RGB", (size.width, size.height))
    fine = level.width / full.width, level.height / full.height
    x, y = box[0] * fine[0], box[1] * fine[1]
    across, down = (box[2] - box[0]) * fine[0] / size.width, (box[3] - box[1]) * fine[1] / size.height
    for place in tiles(size, BLOCK):
        left, top = x + place.left * across, y + place.top * down
        part = (left, top, left + place.width * across, top + place.height * down)
        block = _block(part, bounds or level.window, Size(place.width, place.height), read)
        image.paste(block, (place.left, place.top))
    return image


def _block(box: Box, bounds: Window, size: Size, read: Callable[[Window], Image.Image]) -> Image.Image:
    left, top, right, bottom = box
    # With a margin, so that the kernel reads the picture beyond the box's edges.
    reach = 2 * math.ceil(max(1.0, (right - left) / size.width))
    x, y = max(bounds.left, math.floor(left) - reach), max(bounds.top, math.floor(top) - reach)
    width = min(bounds.right, math.ceil(right) + reach) - x
    height = min(bounds.bottom, math.ceil(bottom) + reach) - y
    inside = (max(left - x, 0), max(top - y, 0), min(right - x, width), min(bottom - y, height))
    return read(Window(y, x, height, width)).resize((size.width, size.height), Image.Resampling.BILINEAR, box=inside)


def _cropped(image: pyvips.Image, window: Window) -> Image.Image:
    return Image.fromarray(image.crop(window.left, window.top, window.width, window.height).numpy())


def open_file(path: Path) -> PyramidFile | DeepZoomFile:
    """Open a picture file for viewing. Raises ``PictureError`` if it is no picture."""
    if path.suffix.lower() not in (".dzi", ".zip"):
        return PyramidFile.of(path)
    if not path.exists():
        raise PictureError(f"{path}: there is no such file")
    return DeepZoomFile(path)


def _number(description: str, name: str) -> int:
    return int(_said(description, name, r"\d+"))


def _said(description: str, name: str, pattern: str) -> str:
    """The value of an attribute of the description."""
    match = re.search(rf'\b{name}\s*=\s*(["\'])({pattern})\1', description)
    if match is None:
        raise ValueError(f"no {name}")
    return match.group(2)
