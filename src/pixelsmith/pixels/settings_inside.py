"""The settings stored in a picture file, and reading them back."""

from __future__ import annotations

import json
import os
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pixelsmith.errors import InputError, PictureError
from pixelsmith.pixels.metadata import is_settings, texts_of
from pixelsmith.pixels.output import tiles_of
from pixelsmith.pixels.reading import header
from pixelsmith.system.durable import open_to_read, read_object, read_whole
from pixelsmith.system.places import given_place

KEY = "pixelsmith"
"""The name of the PNG text chunk; other formats store the same JSON as the image description."""
SETTINGS_FILE = "pixelsmith.json"
"""The file of settings in a DeepZoom folder or archive."""
ARCHIVE_ERRORS = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError)
"""Errors of an archive that is damaged, encrypted, or compressed with an unknown method."""


def read_settings(path: Path) -> dict[str, Any]:
    """The settings in a picture file written by Pixelsmith. Raises ``PictureError`` if there are none."""
    try:
        settings = read_object(_text_inside(path))
    except InputError:
        raise
    except (OSError, SyntaxError, ValueError, KeyError, TypeError, *ARCHIVE_ERRORS):
        settings = {}
    if not isinstance(settings.get("request"), dict):
        raise PictureError(f"{path}: there are no Pixelsmith settings inside")
    return settings


def settings_inside(path: Path) -> dict[str, Any] | None:
    """The settings in a picture file, or ``None``."""
    try:
        return read_settings(path)
    except InputError:
        return None


def has_settings(path: Path, settings: Mapping[str, Any]) -> bool:
    """Whether the file contains these settings, and therefore the same picture."""
    return bool(settings_inside(path) == json.loads(settings_text(settings)))


def _text_inside(path: Path) -> str:
    if not given_place(path).exists():
        raise PictureError(f"{path}: there is no such file")
    suffix = path.suffix.lower()
    if suffix == ".dzi":
        return read_whole(tiles_of(path) / SETTINGS_FILE).decode()
    if suffix == ".zip":
        with os.fdopen(open_to_read(path), "rb") as file, zipfile.ZipFile(file) as archive:
            return archive.read(SETTINGS_FILE).decode()
    image = header(path)
    for name in image.get_fields():
        if name.startswith("png-comment-") and name.endswith(f"-{KEY}"):
            return str(image.get(name))
    return next(filter(is_settings, texts_of(path)), "")


def settings_text(settings: Mapping[str, Any]) -> str:
    """The settings as written into a file: JSON in ASCII, because some fields allow nothing else."""
    return json.dumps(settings, ensure_ascii=True, separators=(",", ":"))
