"""Picture files: written by libvips, read by Pillow; the request that made a picture travels inside it."""

from __future__ import annotations

import json
import os
import shutil
import warnings
import zipfile
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

import pyvips
import torch
from PIL import ExifTags, Image, UnidentifiedImageError
from torch import Tensor

from pixelsmith.durable import settle
from pixelsmith.errors import OutputError, PictureError
from pixelsmith.geometry import Size, Window
from pixelsmith.pixels.stream import OnRows, streamed
from pixelsmith.sampling.readable import Readable

KEY = "pixelsmith"
"""The name of the PNG text chunk; the other formats carry the same JSON as their image description."""
_SETTINGS_FILE = "pixelsmith.json"
"""Where they are in a DeepZoom folder or archive, which has no place for a description."""
_PIXELS_PER_MM = 300 / 25.4
"""What print shops expect where nothing else is said: 300 dpi."""
_EXIF_LIMIT = 60_000
"""Characters that EXIF takes: one segment of 64 KiB with the other fields in it."""
# A picture of a gigapixel is what this project is for, not an attack.
Image.MAX_IMAGE_PIXELS = None


@dataclass(frozen=True)
class Format:
    """How libvips writes a kind of file.

    - ``pixel_bytes``: what a pixel takes at most, with the smaller levels of a pyramid.
    - ``settings``: the metadata field that carries them.
    - ``side_limit``: the most pixels on a side that the format has, 0 for more than any picture here.
    - ``byte_limit``: how long a file of it can be, 0 for longer than any here.
    """

    options: Mapping[str, Any]
    pixel_bytes: float
    settings: str = "image-description"
    side_limit: int = 0
    byte_limit: int = 0

    @property
    def in_exif(self) -> bool:
        return self.settings.startswith("exif")


_EXIF = "exif-ifd0-ImageDescription"
_PYRAMID = {"tile": True, "tile_width": 256, "tile_height": 256, "pyramid": True, "bigtiff": True}
_DEEP_ZOOM = {"tile_size": 254, "overlap": 1, "suffix": ".jpg[Q=90]"}
# The format has room for 65,535, the libraries that write and read it stop at this.
_JPEG = Format({"Q": 95}, 2, _EXIF, 65_500)
_LOSSLESS = {"compression": "deflate", "predictor": "horizontal"}
_TIFF = Format({**_PYRAMID, **_LOSSLESS}, 4.2)
_LARGE_TIFF = Format({**_PYRAMID, "compression": "jpeg", "Q": 92}, 2)
_PLAIN_TIFF = Format(_LOSSLESS, 3.1, byte_limit=2**32)
LARGE = 100_000_000
"""Pixels from which a TIFF is compressed as JPEG: lossless, a gigapixel takes gigabytes and many minutes."""
FORMATS: dict[str, Format] = {
    ".png": Format({"compression": 6}, 3.1, f"png-comment-0-{KEY}"),
    ".jpg": _JPEG,
    ".jpeg": _JPEG,
    ".webp": Format({"Q": 95}, 2, _EXIF, 16_383),
    ".tif": _TIFF,
    ".tiff": _PLAIN_TIFF,
    ".dzi": Format(_DEEP_ZOOM, 2),
    ".zip": Format({**_DEEP_ZOOM, "container": "zip"}, 2),
}
"""The kinds of file that can be written, by suffix; ``.tif`` is a pyramid, ``.tiff`` a plain picture for programs that
know no BigTIFF; ``.zip`` is a DeepZoom folder in one file."""


def format_of(path: Path, size: Size) -> Format:
    """How a picture of this size is written there. Raises ``KeyError`` for a suffix that is none of ``FORMATS``."""
    found = FORMATS[path.suffix.lower()]
    return _LARGE_TIFF if found is _TIFF and size.area >= LARGE else found


def check_output(path: Path, size: Size, settings: Mapping[str, Any]) -> None:
    """Raise ``PictureError`` unless a picture of this size can be written there with these settings inside."""
    kind = FORMATS.get(path.suffix.lower())
    if kind is None:
        raise PictureError(f"{path}: expected a name that ends in {', '.join(FORMATS)}")
    if limit := _limit_passed(kind, size):
        raise PictureError(f"{path}: a {path.suffix} has at most {limit}, not {size}; write a .tif, .dzi, .zip or .png")
    folder = path.parent
    if path.is_dir() or not folder.is_dir():
        raise PictureError(f"{path}: expected a file in a folder that exists")
    if path.suffix.lower() == ".dzi" and tiles_of(path).exists() and not (tiles_of(path) / _SETTINGS_FILE).exists():
        raise PictureError(f"{path}: its tiles belong into {tiles_of(path)}, and there is something else")
    if kind.in_exif and len(_settings_text(settings)) > _EXIF_LIMIT:
        raise PictureError(f"{path}: it has no room for a prompt as long as this; write a .png or a .tif")
    if not os.access(folder, os.W_OK) or (path.exists() and not os.access(path, os.W_OK)):
        raise PictureError(f"{path}: it cannot be written; check its permissions or choose another place")


def _limit_passed(kind: Format, size: Size) -> str | None:
    """What of a format a picture of this size has too much of, in words."""
    if kind.side_limit and max(size.width, size.height) > kind.side_limit:
        return f"{kind.side_limit:,} pixels a side"
    if kind.byte_limit and size.area * kind.pixel_bytes > kind.byte_limit:
        return f"{kind.byte_limit / kind.pixel_bytes / 1e6:,.0f} megapixels"
    return None


def picture_size(path: Path) -> Size:
    """The size of a picture file as it is meant to be seen. Raises ``PictureError`` where it is no picture."""
    with _opened(path) as image:
        try:
            turned = image.getexif().get(ExifTags.Base.Orientation, 1) in (5, 6, 7, 8)
        except (OSError, SyntaxError, ValueError) as error:
            raise PictureError(f"{path}: the picture is damaged ({error})") from error
        return Size(*(image.size[::-1] if turned else image.size))


def read_picture(path: Path) -> FilePicture:
    """A picture to start from, turned upright, 8 bits a channel, transparency over white.

    It is read once from end to end to see that it is whole; a large one that cannot be read window by window is kept
    uncompressed in a temporary file by libvips. Raises ``PictureError``.
    """
    try:
        image = upright(path)
        image.avg()
    except pyvips.Error as error:
        raise PictureError(f"{path}: the picture is damaged ({error})") from error
    return FilePicture(image)


def upright(path: Path) -> pyvips.Image:
    """A picture file as it is meant to be seen: turned, 8 bits a channel of sRGB, transparency over white.

    Raises ``PictureError`` for what is no picture, or has pixels without a range.
    """
    picture_size(path)
    image = pyvips.Image.new_from_file(str(path), fail_on="truncated").autorot()
    if image.format not in ("uchar", "ushort"):
        raise PictureError(f"{path}: its pixels are of type {image.format}; expected 8 or 16 bits a channel")
    if image.hasalpha():
        image = image.flatten(background=65535 if image.format == "ushort" else 255)
    if image.format == "ushort":
        image = (image / 257).rint().cast("uchar").copy(interpretation="srgb" if image.bands > 2 else "b-w")
    return image.colourspace("srgb")


class FilePicture:
    """An sRGB picture that libvips reads window by window: (3, H, W) uint8."""

    def __init__(self, image: pyvips.Image) -> None:
        self._image = image

    @property
    def size(self) -> Size:
        return Size(self._image.width, self._image.height)

    def read(self, window: Window) -> Tensor:
        """The pixels of a window inside the picture."""
        pixels = self._image.crop(window.left, window.top, window.width, window.height).numpy()
        return torch.from_numpy(pixels).permute(2, 0, 1)


def write_picture(
    picture: Readable, path: Path, settings: Mapping[str, Any], on_rows: OnRows = lambda done, total: None
) -> None:
    """Write pixels (3, H, W) uint8 with their settings inside; the file appears whole or not at all.

    The picture is read in bands from top to bottom, so memory does not grow with its height, but for WebP, which is
    compressed as a whole. ``on_rows`` is called after each band, by a thread of libvips; Ctrl-C ends it there. Raises
    ``OutputError`` where it cannot be written.
    """
    suffix, size = path.suffix.lower(), picture.size
    kind = format_of(path, size)
    # Named by the output alone: what a crash left here is written over by the next try.
    partial = path.with_name(f".{path.stem}.partial{suffix}")
    text = _settings_text(settings)
    stop = Event()

    def observe(done: int, total: int) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        on_rows(done, total)

    try:
        with streamed(picture, observe) as pixels:
            image = pixels.copy(xres=_PIXELS_PER_MM, yres=_PIXELS_PER_MM)
            _apart(lambda: _write(image, partial, path.stem, kind, text), stop)
        _put_in_place(partial, path)
    except (OSError, pyvips.Error) as error:
        raise OutputError(f"{path}: it could not be written ({error})") from error
    finally:
        partial.unlink(missing_ok=True)
        shutil.rmtree(tiles_of(partial), ignore_errors=True)


def _apart(work: Callable[[], None], stop: Event) -> None:
    """Work of libvips, in a thread of its own: what Ctrl-C raises in a thread that C has is lost there."""
    with ThreadPoolExecutor(1) as thread:
        try:
            thread.submit(work).result()
        except KeyboardInterrupt:
            stop.set()
            raise


def _write(image: pyvips.Image, path: Path, name: str, kind: Format, text: str) -> None:
    if path.suffix == ".zip":
        image.dzsave(str(path), imagename=name, **kind.options)
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr(_SETTINGS_FILE, text)
    elif path.suffix == ".dzi":
        shutil.rmtree(tiles_of(path), ignore_errors=True)
        image.dzsave(str(path.with_suffix("")), **kind.options)
        (tiles_of(path) / _SETTINGS_FILE).write_text(text, encoding="utf-8")
    else:
        image.set_type(pyvips.GValue.gstr_type, kind.settings, text)
        image.write_to_file(str(path), **kind.options)


def _put_in_place(partial: Path, path: Path) -> None:
    """Rename a finished file, and a folder of tiles beside it, once a power loss could not take them back."""
    if path.suffix.lower() == ".dzi":
        settle(*tiles_of(partial).rglob("*"), partial)
        old = tiles_of(path).with_name(f".{path.stem}.old_files")
        if tiles_of(path).exists():
            # Left by a process that ended between here and the last line.
            shutil.rmtree(old, ignore_errors=True)
            tiles_of(path).replace(old)
        tiles_of(partial).replace(tiles_of(path))
        partial.replace(path)
        shutil.rmtree(old, ignore_errors=True)
    else:
        settle(partial)
        partial.replace(path)
    settle(path.parent)


def tiles_of(path: Path) -> Path:
    """The folder of tiles beside a ``.dzi``."""
    return path.with_name(f"{path.stem}_files")


def read_settings(path: Path) -> dict[str, Any]:
    """The settings inside a picture that Pixelsmith wrote. Raises ``PictureError`` where there are none."""
    try:
        settings = json.loads(_settings_inside(path))
    except (OSError, SyntaxError, ValueError, TypeError, KeyError, zipfile.BadZipFile):
        settings = None
    if not isinstance(settings, dict) or "request" not in settings:
        raise PictureError(f"{path}: there are no Pixelsmith settings inside")
    return settings


def _settings_inside(path: Path) -> str:
    suffix = path.suffix.lower()
    if suffix == ".dzi" and path.exists():
        return (tiles_of(path) / _SETTINGS_FILE).read_text(encoding="utf-8")
    if suffix == ".zip" and path.exists():
        with zipfile.ZipFile(path) as archive:
            return archive.read(_SETTINGS_FILE).decode()
    with _opened(path) as image:
        return str(image.info.get(KEY) or image.getexif().get(ExifTags.Base.ImageDescription, ""))


def _settings_text(settings: Mapping[str, Any]) -> str:
    return json.dumps(settings, ensure_ascii=True, separators=(",", ":"))


def _opened(path: Path) -> Image.Image:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return Image.open(path)
    except FileNotFoundError as error:
        raise PictureError(f"{path}: there is no such file") from error
    except (OSError, UnidentifiedImageError) as error:
        raise PictureError(f"{path}: it is not a picture that can be read; expected PNG, JPEG, TIFF or WebP") from error
