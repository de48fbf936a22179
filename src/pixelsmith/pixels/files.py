"""Writing picture files with libvips, band by band, with their settings inside."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import pyvips

from pixelsmith.config.sizes import PRINT_DPI
from pixelsmith.errors import OutputError, PictureError
from pixelsmith.geometry import Size
from pixelsmith.pixels.depth import Encoding
from pixelsmith.pixels.formats import ALL_FORMATS, EXIF_COMMENT, FORMATS, JPEG, PROFILES, Format, format_of
from pixelsmith.pixels.metadata import (
    IPTC,
    NO_METADATA,
    USER_COMMENT,
    XMP,
    Metadata,
    comment_of,
)
from pixelsmith.pixels.output import Output, tiles_of
from pixelsmith.pixels.settings_inside import SETTINGS_FILE, settings_text
from pixelsmith.pixels.stream import EIGHT, OnRows, channels_of, streamed
from pixelsmith.pixels.tags import EXIF, Tags, Value, add_tags, exif_of
from pixelsmith.sampling.readable import Readable
from pixelsmith.system.durable import write_new

_MM_PER_INCH = 25.4
_EXIF_LIMIT = 60_000
"""The most characters of a text in EXIF, which is one segment of 64 KiB together with other fields."""
_DATED = "vips-properties.xml"
"""A file that libvips adds to a DeepZoom folder, with the date and otherwise known values; it is removed."""
_ZIP_TIME = (1980, 1, 1, 0, 0, 0)
"""The time of all files in an archive, so that the same picture has the same bytes."""


def check_output(
    path: Path,
    size: Size,
    settings: Mapping[str, Any],
    about: Metadata = NO_METADATA,
    alpha: bool = False,
    bits: int = 8,
) -> None:
    """Raise ``PictureError`` unless a file with this suffix can hold a picture of this size with these contents.

    ``Output`` checks whether the file can be written.
    """
    kind = FORMATS.get(path.suffix.lower())
    if kind is None:
        if path.suffix.lower() in ALL_FORMATS:
            raise PictureError(f"{path}: this libvips cannot write {path.suffix}; choose {', '.join(FORMATS)}")
        raise PictureError(f"{path}: expected a name that ends in {', '.join(FORMATS)}")
    if alpha and not kind.alpha:
        with_alpha = ", ".join(suffix for suffix, one in FORMATS.items() if one.alpha)
        raise PictureError(
            f"{path}: the picture to start from is transparent, which {path.suffix} files cannot be; write "
            f"{with_alpha}, or composite it over a colour (--background white)"
        )
    if bits > kind.bits:
        deep = ", ".join(suffix for suffix, one in FORMATS.items() if one.bits >= bits)
        raise PictureError(f"{path}: {path.suffix} files have {kind.bits} bits per channel; for {bits} write {deep}")
    if limit := _limit_passed(format_of(path, size, alpha, bits), size):
        raise PictureError(f"{path}: a {path.suffix} has at most {limit}, not {size}; write a .tif, .dzi, .zip or .png")
    try:
        _check_place(path)
    except OSError as error:
        raise PictureError(f"{path}: it cannot be written ({error.strerror}); choose another name or place") from error
    if kind.in_exif and len(settings_text(settings)) > _EXIF_LIMIT:
        raise PictureError(f"{path}: the prompt is too long for this format; write a .png or a .tif")
    if kind.in_exif and len(settings_text(settings)) + len(exif_of(about.exif)) > _EXIF_LIMIT:
        raise PictureError(f"{path}: the picture's EXIF is too long for it; write a .png or a .tif, or --strip")
    if kind is JPEG and max(len(about.xmp), len(about.iptc)) > _EXIF_LIMIT:
        raise PictureError(f"{path}: the picture's XMP or IPTC is too long for it; write a .png or a .tif, or --strip")


def lost_place(about: Metadata, path: Path) -> str | None:
    """A warning if the file will lack the geotransform of the given picture, or ``None``."""
    if not about.has_place and not about.unplaced:
        return None
    if about.unplaced:
        return "the geotransform is left out: the picture to start from is rotated, or its GeoTIFF tags are damaged"
    if FORMATS[path.suffix.lower()].metadata != "tags":
        return f"the geotransform is left out: {path.suffix} files cannot hold it; .tif and .tiff files can"
    return None


def _check_place(path: Path) -> None:
    if path.is_dir() or not path.parent.is_dir():
        raise PictureError(f"{path}: expected a file in a folder that exists")
    tiles = tiles_of(path)
    if path.suffix.lower() == ".dzi" and tiles.exists() and not (tiles / SETTINGS_FILE).exists():
        raise PictureError(f"{path}: its tiles must be written to {tiles}, where there is something else already")


def _limit_passed(kind: Format, size: Size) -> str | None:
    """The limit of a format that a picture of this size exceeds, for messages."""
    if kind.side_limit and max(size.width, size.height) > kind.side_limit:
        return f"{kind.side_limit:,} pixels a side"
    if kind.byte_limit and size.area * kind.pixel_bytes > kind.byte_limit:
        return f"{kind.byte_limit / kind.pixel_bytes / 1e6:,.0f} megapixels"
    return None


def write_picture(
    picture: Readable,
    path: Path,
    settings: Mapping[str, Any],
    on_rows: OnRows = lambda done, total: None,
    about: Metadata = NO_METADATA,
    encoding: Encoding = EIGHT,
) -> None:
    """Write pixels (3 or 4, H, W) to a file, replacing an existing one, as ``write_into`` does."""
    with Output(path, overwrite=True) as output:
        write_into(output, picture, settings, on_rows, about, encoding)


def write_into(
    output: Output,
    picture: Readable,
    settings: Mapping[str, Any],
    on_rows: OnRows = lambda done, total: None,
    about: Metadata = NO_METADATA,
    encoding: Encoding = EIGHT,
) -> None:
    """Write pixels (3 or 4, H, W) of sRGB in 0..255 with their settings, atomically.

    ``about``: other metadata, of which the format may support only a part; without a resolution ``PRINT_DPI`` is
    written. ``encoding``: how pixels are stored; floats are in sRGB.

    The picture is read in bands from top to bottom, so memory does not grow with its height, except for WebP and AVIF,
    which are compressed as a whole. ``on_rows`` is called after each band, from a thread of libvips, and so is the end
    by Ctrl-C. Raises ``OutputError`` if the file cannot be written.
    """
    text, stop = settings_text(settings), Event()

    def observe(done: int, total: int) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        on_rows(done, total)

    try:
        kind = format_of(output.path, picture.size, channels_of(picture) == 4, encoding.bits)
        # libvips parses EXIF only when it loads an image, so the picture is loaded together with it.
        exif = exif_of(about.exif) if about.exif and kind.metadata == "fields" else b""
        with streamed(picture, observe, exif, encoding) as pixels:
            dots = (about.dpi or PRINT_DPI) / _MM_PER_INCH
            image = _converted(pixels, encoding).copy(xres=dots, yres=dots)
            # JPEG stores integers only; per inch they equal the requested resolution.
            image.set_type(pyvips.GValue.gstr_type, "resolution-unit", "in")
            _apart(lambda: _write(image, output.partial, kind, text, about, PROFILES[encoding.profile]), stop)
        if output.partial.suffix == ".zip":
            _pack(output.partial, os.fsencode(output.path.stem).decode(errors="replace"), text)
        output.put_in_place()
    except (OSError, pyvips.Error) as error:
        raise OutputError(f"{output.path}: it could not be written ({error})") from error


def _apart(work: Callable[[], None], stop: Event) -> None:
    """Run libvips in another thread, because the exception of Ctrl-C is lost in a thread that is executing C code."""
    with ThreadPoolExecutor(1) as thread:
        try:
            thread.submit(work).result()
        except KeyboardInterrupt:
            stop.set()
            raise


def _converted(image: pyvips.Image, encoding: Encoding) -> pyvips.Image:
    """Convert pixels of sRGB to the colour profile of a file."""
    profile = PROFILES[encoding.profile]
    if profile == "srgb":
        return image
    return image.icc_transform(profile, input_profile="srgb", intent="relative", depth=encoding.bits)


def _write(image: pyvips.Image, path: Path, kind: Format, text: str, about: Metadata, profile: str) -> None:
    # libvips expects UTF-8, whatever the encoding of file names.
    name = os.fsencode(path).decode()
    if kind.tiled_folder:
        image.dzsave(name.removesuffix(path.suffix), suffix=f".jpg[Q=90,profile={profile}]", **kind.options)
        (tiles_of(path) / _DATED).unlink(missing_ok=True)
        write_new(tiles_of(path) / SETTINGS_FILE, text.encode())
        return
    tags: dict[int, Value | Tags] = {}
    if kind.metadata == "tags":
        tags = _tags(about, text)
    else:
        for field, content in (("xmp-data", about.xmp), ("iptc-data", about.photoshop)):
            if content:
                image.set_type(pyvips.GValue.blob_type, field, content)
    described = kind.in_exif and about.description
    image.set_type(pyvips.GValue.gstr_type, EXIF_COMMENT if described else kind.settings, text)
    image.write_to_file(name, profile=profile, **kind.options)
    if tags:
        add_tags(path, tags)


def _tags(about: Metadata, text: str) -> dict[int, Value | Tags]:
    """The tags that are added to a TIFF, because libvips does not write them."""
    tags = {**about.exif, **about.geo}
    if about.description:
        inner = tags.get(EXIF)
        tags[EXIF] = {**(inner if isinstance(inner, Mapping) else {}), USER_COMMENT: comment_of(text)}
    if about.xmp:
        tags[XMP] = Value.blob(about.xmp, kind=1)
    if about.iptc:
        tags[IPTC] = Value.blob(about.iptc)
    return tags


def _pack(path: Path, name: str, text: str) -> None:
    """Move a DeepZoom folder into an archive under this name; each file is deleted as soon as it is packed."""
    folder = path.parent
    with zipfile.ZipFile(path, "x") as archive:

        def add(place: str, content: bytes) -> None:
            archive.writestr(zipfile.ZipInfo(place, _ZIP_TIME), content)

        add(SETTINGS_FILE, text.encode())
        for file in sorted([path.with_suffix(".dzi"), *tiles_of(path).rglob("*.jpg")]):
            inside = file.relative_to(folder).as_posix().removeprefix(path.stem)
            add(f"{name}/{name}{inside}", file.read_bytes())
            file.unlink()
