"""Picture files are written by libvips, band by band, with what made them inside."""

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
"""Characters that EXIF takes: one segment of 64 KiB with the other fields in it."""
_DATED = "vips-properties.xml"
"""What libvips adds to a DeepZoom folder: the date, and nothing that is not known."""
_ZIP_TIME = (1980, 1, 1, 0, 0, 0)
"""Of all in an archive: the same picture is the same bytes."""


def check_output(
    path: Path,
    size: Size,
    settings: Mapping[str, Any],
    about: Metadata = NO_METADATA,
    alpha: bool = False,
    bits: int = 8,
) -> None:
    """Raise ``PictureError`` unless a file of this name can hold a picture of this size with all of this inside.

    Whether one can be written there ``Output`` finds out.
    """
    kind = FORMATS.get(path.suffix.lower())
    if kind is None:
        if path.suffix.lower() in ALL_FORMATS:
            raise PictureError(f"{path}: this build of libvips writes no {path.suffix}; choose {', '.join(FORMATS)}")
        raise PictureError(f"{path}: expected a name that ends in {', '.join(FORMATS)}")
    if alpha and not kind.alpha:
        with_alpha = ", ".join(suffix for suffix, one in FORMATS.items() if one.alpha)
        raise PictureError(
            f"{path}: the picture to start from is transparent in places, for which a {path.suffix} has no room; write "
            f"{with_alpha}, or lay it over a colour (--background white)"
        )
    if bits > kind.bits:
        deep = ", ".join(suffix for suffix, one in FORMATS.items() if one.bits >= bits)
        raise PictureError(f"{path}: a {path.suffix} has {kind.bits} bits a channel here; for {bits} write {deep}")
    if limit := _limit_passed(format_of(path, size, alpha, bits), size):
        raise PictureError(f"{path}: a {path.suffix} has at most {limit}, not {size}; write a .tif, .dzi, .zip or .png")
    try:
        _check_place(path)
    except OSError as error:
        raise PictureError(f"{path}: it cannot be written ({error.strerror}); choose another name or place") from error
    if kind.in_exif and len(settings_text(settings)) > _EXIF_LIMIT:
        raise PictureError(f"{path}: it has no room for a prompt as long as this; write a .png or a .tif")
    if kind.in_exif and len(settings_text(settings)) + len(exif_of(about.exif)) > _EXIF_LIMIT:
        raise PictureError(f"{path}: it has no room for all of the picture's EXIF; write a .png or a .tif, or --strip")
    if kind is JPEG and max(len(about.xmp), len(about.iptc)) > _EXIF_LIMIT:
        raise PictureError(f"{path}: it has no room for all of the picture's XMP; write a .png or a .tif, or --strip")


def lost_place(about: Metadata, path: Path) -> str | None:
    """What to say where the place of a map on earth will not be in the file; ``None`` where there is nothing to say."""
    if not about.has_place and not about.unplaced:
        return None
    if about.unplaced:
        return "the place on earth is left out: the picture to start from is turned, or its GeoTIFF tags are damaged"
    if FORMATS[path.suffix.lower()].metadata != "tags":
        return f"the place on earth is left out: {path.suffix} has no room for it; .tif and .tiff do"
    return None


def _check_place(path: Path) -> None:
    if path.is_dir() or not path.parent.is_dir():
        raise PictureError(f"{path}: expected a file in a folder that exists")
    tiles = tiles_of(path)
    if path.suffix.lower() == ".dzi" and tiles.exists() and not (tiles / SETTINGS_FILE).exists():
        raise PictureError(f"{path}: its tiles belong into {tiles}, and there is something else")


def _limit_passed(kind: Format, size: Size) -> str | None:
    """What of a format a picture of this size has too much of, in words."""
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
    """Write pixels (3 or 4, H, W) of sRGB in 0..255 with their settings inside; the file appears whole or not at all.

    ``about``: what else the file says, as far as its format can; ``PRINT_DPI`` where it has no resolution.
    ``encoding``: how it stores the pixels; floats are in sRGB.

    The picture is read in bands from top to bottom, so memory does not grow with its height, but for WebP and AVIF,
    which are compressed as a whole. ``on_rows`` is called after each band, by a thread of libvips; Ctrl-C ends it
    there. Raises ``OutputError`` where it cannot be written.
    """
    text, stop = settings_text(settings), Event()

    def observe(done: int, total: int) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        on_rows(done, total)

    try:
        kind = format_of(output.path, picture.size, channels_of(picture) == 4, encoding.bits)
        # libvips takes EXIF apart when it reads it: so the picture comes with it.
        exif = exif_of(about.exif) if about.exif and kind.metadata == "fields" else b""
        with streamed(picture, observe, exif, encoding) as pixels:
            dots = (about.dpi or PRINT_DPI) / _MM_PER_INCH
            image = _converted(pixels, encoding).copy(xres=dots, yres=dots)
            # JPEG has whole numbers only: of inches they are those that were asked for.
            image.set_type(pyvips.GValue.gstr_type, "resolution-unit", "in")
            _apart(lambda: _write(image, output.partial, kind, text, about, PROFILES[encoding.profile]), stop)
        if output.partial.suffix == ".zip":
            _pack(output.partial, os.fsencode(output.path.stem).decode(errors="replace"), text)
        output.put_in_place()
    except (OSError, pyvips.Error) as error:
        raise OutputError(f"{output.path}: it could not be written ({error})") from error


def _apart(work: Callable[[], None], stop: Event) -> None:
    """Work of libvips, in a thread of its own: what Ctrl-C raises in a thread that C has is lost there."""
    with ThreadPoolExecutor(1) as thread:
        try:
            thread.submit(work).result()
        except KeyboardInterrupt:
            stop.set()
            raise


def _converted(image: pyvips.Image, encoding: Encoding) -> pyvips.Image:
    """Pixels of sRGB in the colour profile of a file."""
    profile = PROFILES[encoding.profile]
    if profile == "srgb":
        return image
    return image.icc_transform(profile, input_profile="srgb", intent="relative", depth=encoding.bits)


def _write(image: pyvips.Image, path: Path, kind: Format, text: str, about: Metadata, profile: str) -> None:
    # libvips takes UTF-8, whatever the encoding of names is here.
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
    """What a TIFF says of a picture: libvips writes none of it."""
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
    """Move a DeepZoom folder into an archive, where its picture has this name; what is packed is gone at once."""
    folder = path.parent
    with zipfile.ZipFile(path, "x") as archive:

        def add(place: str, content: bytes) -> None:
            archive.writestr(zipfile.ZipInfo(place, _ZIP_TIME), content)

        add(SETTINGS_FILE, text.encode())
        for file in sorted([path.with_suffix(".dzi"), *tiles_of(path).rglob("*.jpg")]):
            inside = file.relative_to(folder).as_posix().removeprefix(path.stem)
            add(f"{name}/{name}{inside}", file.read_bytes())
            file.unlink()
