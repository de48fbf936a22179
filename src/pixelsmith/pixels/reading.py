"""The one reader of picture files: it decides size, orientation, colours and pixels for all that look at pictures.

libvips decodes. A file is upright, 8 bits a channel of sRGB and, but for a picture to start from, over white
whatever it was; only its header is read until pixels are asked for.
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
from pixelsmith.system.durable import open_to_read

Colour = tuple[int, int, int]
"""Red, green and blue of sRGB, 0 to 255."""
_EXPECTED = "expected PNG, JPEG, TIFF, WebP, GIF or AVIF"
_ORIENTATIONS = range(1, 9)
_HEAD = 32
"""Bytes that tell what a file is."""


@dataclass(frozen=True)
class _Kind:
    """A kind of file: how it begins, and what of libvips reads it, if this build of it does."""

    name: str
    begins: re.Pattern[bytes]
    loader: str | None = None

    @classmethod
    def of(cls, head: bytes) -> _Kind | None:
        return next((kind for kind in _KINDS if kind.begins.match(head)), None)

    @property
    def known(self) -> bool:
        """Whether this build of libvips reads it."""
        return self.loader is not None and bool(pyvips.type_find("VipsOperation", self.loader))


# By what a file holds, never by its name: and so that nothing but pictures is read, of what else libvips can read.
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
    """The size of a picture file as it is meant to be seen. Raises ``PictureError`` as ``read_picture`` does."""
    image = upright(path)
    return Size(image.width, image.height)


def read_picture(path: Path) -> FilePicture:
    """A picture to start from, upright, 8 bits a channel of sRGB, transparency over white.

    It is read once from end to end to see that it is whole; a large one that cannot be read window by window is kept
    uncompressed in a temporary file by libvips. Raises ``PictureError``.
    """
    image = upright(path)
    try:
        image.avg()
    except pyvips.Error as error:
        raise PictureError(f"{path}: the picture is damaged{reason(error)}") from error
    return FilePicture(image)


def read_start(path: Path, background: Colour | None = None) -> tuple[FilePicture, FilePicture | None]:
    """A picture to start from as ``read_picture`` has it, and its alpha (1, H, W), where it is transparent anywhere.

    ``background``: the colour that transparency is laid over: then there is none. Without it colours go on where
    nothing is seen (``with_colours_spread``). Raises ``PictureError`` as ``read_picture`` does.
    """
    colours, alpha = _parted(path)
    try:
        if alpha is None or alpha.min() == 255:
            colours.avg()
            return FilePicture(colours), None
        if background is None:
            return FilePicture(with_colours_spread(colours, alpha)), FilePicture(alpha)
        joined = colours.bandjoin(alpha).copy(interpretation="srgb")
        return FilePicture(joined.flatten(background=list(background))), None
    except pyvips.Error as error:
        raise PictureError(f"{path}: the picture is damaged{reason(error)}") from error


def read_with_alpha(path: Path) -> WithAlpha:
    """A transparent picture as its file has it: (4, H, W) uint8, not premultiplied. Raises ``PictureError``."""
    colours, alpha = _parted(path)
    if alpha is None:
        raise PictureError(f"{path}: it has no transparency")
    return WithAlpha(FilePicture(colours), FilePicture(alpha))


def is_transparent(path: Path) -> bool:
    """Whether a picture file is transparent anywhere. All of it is read if it can be. Raises ``PictureError``."""
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
    """A picture file as it is meant to be seen; of several pages the first. Its pixels are read when asked for.

    Raises ``PictureError`` for what is no picture, or has pixels without a range or channels without colours.
    """
    pages = tiff_pages(path)
    return _seen(path, header(path), pages[0] if pages else None)


def levels(path: Path) -> list[pyvips.Image]:
    """The picture of a file and its smaller versions, each smaller than the one before, all as ``upright`` has them.

    Which pages are smaller versions the format says: those of a TIFF that are marked so and have the picture's shape,
    in its list of pages or in the first one's own (``SubIFDs``). Raises ``PictureError``.
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
    """Whether this is the size of a smaller version: smaller than the last one, of the shape of the full one."""
    across, down = full.width / size.width, full.height / size.height
    # Each level may have rounded up or down.
    tolerance = 1.5 * max(across / size.width, down / size.height)
    return size.width < last.width and size.fits_in(last) and abs(across - down) <= tolerance


def _like(level: pyvips.Image, full: pyvips.Image) -> pyvips.Image:
    """A level with the orientation and the colour profile of the full picture, which alone may say them."""
    level = level.copy()
    for name in ("orientation", "icc-profile-data"):
        if full.get_typeof(name):
            level.set_type(full.get_typeof(name), name, full.get(name))
        elif level.get_typeof(name):
            level.remove(name)
    return level


def header(path: Path, **place: int) -> pyvips.Image:
    """The picture as the file has it: only its header is read. ``place`` is a page of a TIFF.

    Raises ``PictureError`` for what is no picture.
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
        # There are warnings of the headers of many sound files, and of the pixels of damaged ones only.
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
    """What libvips warns of in this thread and context, of a JPEG when its image is gone."""
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
    """As ``upright`` has a file, one in memory; ``name`` is what errors call it."""
    kind = _Kind.of(content[:_HEAD])
    if kind is None or not kind.known:
        raise PictureError(f"{name}: it is not a picture of a known kind; {_EXPECTED}")
    try:
        image = getattr(pyvips.Image, f"{kind.loader}_buffer")(content, fail_on="error")
        return _seen(Path(name), image, None)
    except pyvips.Error as error:
        raise PictureError(f"{name}: the picture is damaged{reason(error)}") from error


def _check_codec(path: Path, image: pyvips.Image) -> None:
    """HEIC is a box for several codecs, of which libvips can lack one: only decoding tells."""
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
    """What ``convert`` makes of the colours of a picture that can be read."""
    if page is not None and page.orientation not in _ORIENTATIONS:
        # libtiff takes it for damage, as soon as pixels are read.
        raise PictureError(f"{path}: its orientation is {page.orientation}; expected one of 1 to 8")
    # All but TIFF libvips has to keep uncompressed, if not in memory then in a file, to read it at any place.
    needed, free = image.width * image.height * image.bands, shutil.disk_usage(tempfile.gettempdir()).free
    if page is None and needed > free:
        raise PictureError(
            f"{path}: its {image.width}x{image.height} pixels take {needed / 1e9:,.0f} GB for the time that they are "
            f"read, there are {free / 1e9:,.0f} GB in {tempfile.gettempdir()}; make it a tiled TIFF"
        )
    try:
        return convert(image, page)
    except ValueError as error:
        raise PictureError(f"{path}: {error}") from error
    except pyvips.Error as error:
        raise PictureError(f"{path}: its colours cannot be read{reason(error)}") from error


def _source(path: Path) -> pyvips.Source:
    if os.name != "posix":
        # A descriptor means nothing to another C library, of which Windows has several.
        return pyvips.Source.new_from_file(str(path))
    # By its descriptor: libvips takes names in UTF-8 only.
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
    """What libvips says of a failure, in parentheses; nothing where it says only that something failed."""
    lines = [" ".join(line.split()) for line in str(error).splitlines()[1:]]
    said = [line for line in dict.fromkeys(lines) if line and not line.endswith("load error")]
    # The last is the newest: it keeps what earlier ones, of other files, left.
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
