"""Reading picture files: the size, orientation, colours and pixels of a picture in one place.

libvips decodes them. A picture is read upright, as 8-bit sRGB and, except for a picture to start from, composited over
white. Only the header is read until pixels are needed.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from textwrap import shorten
from threading import get_ident
from typing import Any

import pyvips
import torch
from torch import Tensor

from pixelsmith.errors import PictureError
from pixelsmith.geometry import Size, Window
from pixelsmith.pixels.colours import srgb, srgb_and_alpha
from pixelsmith.pixels.tiff import TiffPage, tiff_pages
from pixelsmith.pixels.transparency import WithAlpha, with_colours_spread
from pixelsmith.system.durable import FileState, open_to_read, state_of

Colour = tuple[int, int, int]
"""Red, green and blue of sRGB, 0 to 255."""
_EXPECTED = "expected PNG, JPEG, TIFF, WebP, GIF or AVIF"
_ORIENTATIONS = range(1, 9)
_HEAD = 32
"""The first bytes of a file, which identify its format."""


@dataclass(frozen=True)
class _Kind:
    """A file format: its first bytes, and the loader of libvips, which not every build has."""

    name: str
    begins: re.Pattern[bytes]
    loader: str | None = None

    @classmethod
    def of(cls, head: bytes) -> _Kind | None:
        return next((kind for kind in _KINDS if kind.begins.match(head)), None)

    @property
    def known(self) -> bool:
        """Whether this build of libvips can read it."""
        return self.loader is not None and bool(pyvips.type_find("VipsOperation", self.loader))


# Formats are identified by a file's content, not by its name, and only pictures of the many formats that libvips reads.
_KINDS = tuple(
    _Kind(name, re.compile(begins, re.DOTALL), loader)
    for name, begins, loader in (
        ("PNG", rb"\x89PNG\r\n\x1a\n", "pngload"),
        ("JPEG", rb"\xff\xd8\xff", "jpegload"),
        ("TIFF", rb"II[*+]\0|MM\0[*+]", "tiffload"),
        ("WebP", rb"RIFF.{4}WEBP", "webpload"),
        ("GIF", rb"GIF8[79]a", "gifload"),
        ("AVIF or HEIC", rb".{4}ftyp(avi|hei|hev|mif1|msf1)", "heifload"),
        ("JPEG 2000", rb"\0\0\0\x0cjP {2}|\xff\x4f\xff\x51", "jp2kload"),
        ("JPEG XL", rb"\xff\x0a|\0\0\0\x0cJXL ", "jxlload"),
        ("PPM", rb"P[1-7Ff]\s", "ppmload"),
        ("BMP", rb"BM.{4}\0{4}", None),
        ("ICO", rb"\0\0[\1\2]\0[^\0]\0", None),
        ("Photoshop", rb"8BPS", None),
    )
)


def picture_size(path: Path) -> Size:
    """The size of an upright picture file. Raises ``PictureError`` as ``read_picture`` does."""
    image = upright(path)
    return Size(image.width, image.height)


def read_picture(path: Path) -> FilePicture:
    """A picture, upright, as 8-bit sRGB, composited over white.

    It is read completely once to find damage. A large picture in a format without random access is kept uncompressed in
    a temporary file by libvips. Raises ``PictureError``.
    """
    image = upright(path)
    try:
        image.avg()
    except pyvips.Error as error:
        raise PictureError(f"{path}: the picture is damaged{reason(error)}") from error
    return FilePicture(image)


def read_start(path: Path, background: Colour | None = None) -> tuple[FilePicture, FilePicture | None]:
    """A picture to start from, as ``read_picture`` reads it, and its alpha (1, H, W) if it is transparent anywhere.

    ``background``: the colour to composite it over, which removes the alpha. Without it, colours are extended into
    transparent areas (``with_colours_spread``). Raises ``PictureError`` as ``read_picture`` does.
    """
    colours, alpha = _parted(path)
    try:
        if alpha is None or not is_transparent(path):
            colours.avg()
            return FilePicture(colours), None
        if background is None:
            return FilePicture(with_colours_spread(colours, alpha)), FilePicture(alpha)
        joined = colours.bandjoin(alpha).copy(interpretation="srgb")
        return FilePicture(joined.flatten(background=list(background))), None
    except pyvips.Error as error:
        raise PictureError(f"{path}: the picture is damaged{reason(error)}") from error


def read_with_alpha(path: Path) -> WithAlpha:
    """A transparent picture as stored in its file: (4, H, W) uint8, not premultiplied. Raises ``PictureError``."""
    colours, alpha = _parted(path)
    if alpha is None:
        raise PictureError(f"{path}: it has no transparency")
    return WithAlpha(FilePicture(colours), FilePicture(alpha))


def is_transparent(path: Path) -> bool:
    """Whether a picture file is transparent anywhere. A file with alpha is read completely; the result is cached.

    Raises ``PictureError``.
    """
    return _is_transparent(path, state_of(path))


@lru_cache(maxsize=64)
def _is_transparent(path: Path, state: FileState | None) -> bool:
    alpha = _parted(path)[1]
    try:
        return alpha is not None and bool(alpha.min() < 255)
    except pyvips.Error as error:
        raise PictureError(f"{path}: the picture is damaged{reason(error)}") from error


def _parted(path: Path) -> tuple[pyvips.Image, pyvips.Image | None]:
    """The colours and the alpha of a picture file, upright."""
    pages = tiff_pages(path)
    parts = _checked(path, header(path), pages[0] if pages else None, srgb_and_alpha)
    colours, alpha = (None if part is None else part.autorot() for part in parts)
    return colours, alpha


def upright(path: Path) -> pyvips.Image:
    """An upright picture file, of several pages the first. Its pixels are read on access.

    Raises ``PictureError`` if the file is no picture, or has unsupported types of pixels or channels.
    """
    pages = tiff_pages(path)
    return _seen(path, header(path), pages[0] if pages else None)


def levels(path: Path) -> list[pyvips.Image]:
    """The picture of a file and its smaller versions in descending order, all as ``upright`` reads them.

    The smaller versions are the pages of a TIFF that are marked as such and have the picture's aspect ratio, in the
    list of pages or in the first page's ``SubIFDs``. Raises ``PictureError``.
    """
    pages, image = tiff_pages(path), header(path)
    if not pages:
        return [_seen(path, image, None)]
    first = pages[0]
    found: list[tuple[Mapping[str, int], TiffPage]] = [
        *(({"page": i}, page) for i, page in enumerate(pages[1:], start=1) if page.reduced),
        *(({"subifd": i}, page) for i, page in enumerate(first.inner) if page.reduced),
    ]
    seen, last = [_seen(path, image, first)], first.size
    for place, page in sorted(found, key=lambda pair: pair[1].size.area, reverse=True):
        if _is_smaller(page.size, last, first.size):
            seen.append(_seen(path, _like(header(path, **place), image), page))
            last = page.size
    return seen


def _is_smaller(size: Size, last: Size, full: Size) -> bool:
    """Whether this is the size of a smaller version: smaller than ``last``, with the aspect ratio of ``full``."""
    across, down = full.width / size.width, full.height / size.height
    # Each level may have rounded up or down.
    tolerance = 1.5 * max(across / size.width, down / size.height)
    return size.width < last.width and size.fits_in(last) and abs(across - down) <= tolerance


def _like(level: pyvips.Image, full: pyvips.Image) -> pyvips.Image:
    """A level with the orientation and the colour profile of the full picture, which levels often lack."""
    level = level.copy()
    for name in ("orientation", "icc-profile-data"):
        if full.get_typeof(name):
            level.set_type(full.get_typeof(name), name, full.get(name))
        elif level.get_typeof(name):
            level.remove(name)
    return level


def header(path: Path, **place: int) -> pyvips.Image:
    """The picture as stored in the file, of which only the header is read. ``place``: a page of a TIFF.

    Raises ``PictureError`` if the file is no picture.
    """
    try:
        with os.fdopen(_descriptor(path), "rb") as file:
            head = file.read(_HEAD)
    except OSError as error:
        raise PictureError(f"{path}: it cannot be read ({error.strerror})") from error
    if not head:
        raise PictureError(f"{path}: it is empty")
    kind = _Kind.of(head)
    if kind is None:
        raise PictureError(f"{path}: it is not a picture of a known kind; {_EXPECTED}")
    if not kind.known:
        raise PictureError(f"{path}: {kind.name} is not supported; {_EXPECTED}")
    load = getattr(pyvips.Image, f"{kind.loader}_source")
    try:
        # Headers of many intact files cause warnings; warnings about pixels mean damage.
        with _warned() as warnings:
            load(_source(path), fail_on="error", **place)
        image = load(_source(path), fail_on="error" if warnings else "warning", **place)
    except pyvips.Error as error:
        message = f"{path}: the {kind.name} is damaged, or not of a supported kind{reason(error)}"
        raise PictureError(message) from error
    _check_codec(path, image)
    return image


@contextmanager
def _warned() -> Iterator[list[str]]:
    """Collect libvips's warnings in this thread and context; those of a JPEG come when its image is deleted."""
    found: list[str] = []

    class _Listening(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.thread == get_ident():
                found.append(record.getMessage())

    handler, logger = _Listening(logging.WARNING), logging.getLogger("pyvips")
    logger.addHandler(handler)
    try:
        yield found
    finally:
        logger.removeHandler(handler)


def upright_bytes(content: bytes, name: str) -> pyvips.Image:
    """Like ``upright``, for a file in memory; ``name``: its name in error messages."""
    kind = _Kind.of(content[:_HEAD])
    if kind is None or not kind.known:
        raise PictureError(f"{name}: it is not a picture of a known kind; {_EXPECTED}")
    try:
        image = getattr(pyvips.Image, f"{kind.loader}_buffer")(content, fail_on="error")
        return _seen(Path(name), image, None)
    except pyvips.Error as error:
        raise PictureError(f"{name}: the picture is damaged{reason(error)}") from error


def _check_codec(path: Path, image: pyvips.Image) -> None:
    """Check that libvips has the codec of an HEIC file, by decoding it; the container allows several codecs."""
    if not image.get_typeof("heif-compression") or image.get("heif-compression") == "av1":
        return
    try:
        image.avg()
    except pyvips.Error as error:
        raise PictureError(f"{path}: HEIC is not supported{reason(error)}; {_EXPECTED}") from error


def _seen(path: Path, image: pyvips.Image, page: TiffPage | None) -> pyvips.Image:
    return _checked(path, image, page, srgb).autorot()


def _checked(
    path: Path, image: pyvips.Image, page: TiffPage | None, convert: Callable[[pyvips.Image, TiffPage | None], Any]
) -> Any:
    """Convert the colours of a picture, after checks that it can be read."""
    if page is not None and page.orientation not in _ORIENTATIONS:
        # libtiff would report damage when pixels are read.
        raise PictureError(f"{path}: its orientation is {page.orientation}; expected one of 1 to 8")
    # For random access libvips keeps any format except TIFF uncompressed, in memory or in a temporary file.
    needed, free = image.width * image.height * image.bands, shutil.disk_usage(tempfile.gettempdir()).free
    if page is None and needed > free:
        raise PictureError(
            f"{path}: reading its {image.width}x{image.height} pixels takes {needed / 1e9:,.0f} GB of temporary space, "
            f"there are {free / 1e9:,.0f} GB in {tempfile.gettempdir()}; convert it to a tiled TIFF"
        )
    try:
        return convert(image, page)
    except ValueError as error:
        raise PictureError(f"{path}: {error}") from error
    except pyvips.Error as error:
        raise PictureError(f"{path}: its colours cannot be read{reason(error)}") from error


def _source(path: Path) -> pyvips.Source:
    if os.name != "posix":
        # File descriptors belong to one C runtime, and on Windows libvips may use another one.
        return pyvips.Source.new_from_file(str(path))
    # By its descriptor, because libvips accepts file names in UTF-8 only.
    descriptor = _descriptor(path)
    try:
        return pyvips.Source.new_from_descriptor(descriptor)
    finally:
        os.close(descriptor)


def _descriptor(path: Path) -> int:
    try:
        return open_to_read(path)
    except FileNotFoundError as error:
        raise PictureError(f"{path}: there is no such file") from error
    except (OSError, ValueError) as error:
        raise PictureError(f"{path}: it cannot be read ({getattr(error, 'strerror', None) or error})") from error


def reason(error: pyvips.Error) -> str:
    """The reason that libvips gives for an error, in parentheses, or an empty text."""
    lines = [" ".join(line.split()) for line in str(error).splitlines()[1:]]
    said = [line for line in dict.fromkeys(lines) if line and not line.endswith("load error")]
    # The last line is the newest one; earlier ones may be of other files.
    return f" ({shorten(said[-1], 200, placeholder=' ...')})" if said else ""


class FilePicture:
    """A picture that libvips reads window by window: (3, H, W) uint8 of sRGB, or an alpha (1, H, W)."""

    def __init__(self, image: pyvips.Image) -> None:
        self._image = image

    @property
    def size(self) -> Size:
        return Size(self._image.width, self._image.height)

    def read(self, window: Window) -> Tensor:
        """The pixels of a window inside the picture."""
        pixels: Any = self._image.crop(window.left, window.top, window.width, window.height).numpy()
        return torch.from_numpy(pixels.reshape(window.height, window.width, -1)).permute(2, 0, 1)
