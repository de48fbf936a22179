"""Picture files: written by libvips, read by Pillow; the request that made a picture travels inside it."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyvips
import torch
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from pixelsmith.canvas import MemoryCanvas
from pixelsmith.errors import OutputError, PictureError
from pixelsmith.geometry import Size, Window
from pixelsmith.sampling.denoise import Readable

KEY = "pixelsmith"
"""The name of the PNG text chunk; JPEG and TIFF carry the same JSON as their image description."""
_PIXELS_PER_MM = 300 / 25.4
"""What print shops expect where nothing else is said: 300 dpi."""
_SIDE_LIMITS = {".jpg": 65_535, ".jpeg": 65_535}
_EXIF_LIMIT = 60_000
"""Characters that a JPEG's metadata takes: one segment of 64 KiB with the other fields in it."""
SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
# A picture of a gigapixel is what this project is for, not an attack.
Image.MAX_IMAGE_PIXELS = None


def check_output(path: Path, size: Size, settings: Mapping[str, Any]) -> None:
    """Raise ``PictureError`` unless a picture of this size can be written there with these settings inside."""
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise PictureError(f"{path}: expected a name that ends in {', '.join(SUFFIXES)}")
    limit = _SIDE_LIMITS.get(suffix)
    if limit is not None and max(size.width, size.height) > limit:
        raise PictureError(f"{path}: a JPEG has at most {limit} pixels a side, not {size}; write a .tif")
    folder = path.parent
    if path.is_dir() or not folder.is_dir():
        raise PictureError(f"{path}: expected a file in a folder that exists")
    if suffix in _SIDE_LIMITS and len(_settings_text(settings)) > _EXIF_LIMIT:
        raise PictureError(f"{path}: a JPEG has no room for a prompt as long as this; write a .png or a .tif")
    if not os.access(folder, os.W_OK) or (path.exists() and not os.access(path, os.W_OK)):
        raise PictureError(f"{path}: it cannot be written; check its permissions or choose another place")


def picture_size(path: Path) -> Size:
    """The size of a picture file as it is meant to be seen. Raises ``PictureError`` where it is no picture."""
    with _opened(path) as image:
        try:
            turned = image.getexif().get(ExifTags.Base.Orientation, 1) in (5, 6, 7, 8)
        except (OSError, SyntaxError, ValueError) as error:
            raise PictureError(f"{path}: the picture is damaged ({error})") from error
        return Size(*(image.size[::-1] if turned else image.size))


def read_picture(path: Path) -> MemoryCanvas:
    """Pixels (3, H, W) uint8, turned upright, transparency over white. Raises ``PictureError``."""
    try:
        with _opened(path) as image:
            upright = _eight_bit(ImageOps.exif_transpose(image))
            if upright.has_transparency_data:
                upright = Image.alpha_composite(Image.new("RGBA", upright.size, "white"), upright.convert("RGBA"))
            pixels = np.array(upright.convert("RGB"))
    except (OSError, SyntaxError, ValueError) as error:
        raise PictureError(f"{path}: the picture is damaged ({error})") from error
    return MemoryCanvas.holding(torch.from_numpy(pixels).permute(2, 0, 1).contiguous())


def write_picture(picture: Readable, path: Path, settings: Mapping[str, Any]) -> None:
    """Write pixels (3, H, W) uint8 with their settings inside; the file appears whole or not at all.

    Raises ``OutputError`` where it cannot be written.
    """
    size = picture.size
    pixels = picture.read(Window(0, 0, size.height, size.width)).permute(1, 2, 0).contiguous().numpy()
    image = pyvips.Image.new_from_array(pixels, interpretation="srgb").copy(xres=_PIXELS_PER_MM, yres=_PIXELS_PER_MM)
    text = _settings_text(settings)
    suffix = path.suffix.lower()
    if suffix == ".png":
        image.set_type(pyvips.GValue.gstr_type, f"png-comment-0-{KEY}", text)
        options: dict[str, Any] = {"compression": 6}
    elif suffix in (".jpg", ".jpeg"):
        image.set_type(pyvips.GValue.gstr_type, "exif-ifd0-ImageDescription", text)
        options = {"Q": 95}
    else:
        image.set_type(pyvips.GValue.gstr_type, "image-description", text)
        options = {"compression": "deflate", "predictor": "horizontal", "tile": True, "bigtiff": size.area > 10**9}
    partial = path.with_name(f".pixelsmith-{os.getpid()}{suffix}")
    try:
        image.write_to_file(str(partial), **options)
        partial.replace(path)
    except (OSError, pyvips.Error) as error:
        raise OutputError(f"{path}: it could not be written ({error})") from error
    finally:
        partial.unlink(missing_ok=True)


def read_settings(path: Path) -> dict[str, Any]:
    """The settings inside a picture that Pixelsmith wrote. Raises ``PictureError`` where there are none."""
    try:
        with _opened(path) as image:
            settings = json.loads(image.info.get(KEY) or image.getexif().get(ExifTags.Base.ImageDescription, ""))
    except (OSError, SyntaxError, ValueError, TypeError):
        settings = None
    if not isinstance(settings, dict) or "request" not in settings:
        raise PictureError(f"{path}: there are no Pixelsmith settings inside")
    return settings


def _settings_text(settings: Mapping[str, Any]) -> str:
    return json.dumps(settings, ensure_ascii=True, separators=(",", ":"))


def _eight_bit(image: Image.Image) -> Image.Image:
    """Pictures of 16 bits scaled to 8; Pillow would cut them off. Raises ``ValueError`` for those without a range."""
    if image.mode in ("I", "F"):
        raise ValueError(f"its pixels are of mode {image.mode}; expected 8 or 16 bits a channel")
    if not image.mode.startswith("I;16"):
        return image
    return Image.fromarray((np.asarray(image).astype(np.float32) / 257).round().astype(np.uint8))


def _opened(path: Path) -> Image.Image:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return Image.open(path)
    except FileNotFoundError as error:
        raise PictureError(f"{path}: there is no such file") from error
    except (OSError, UnidentifiedImageError) as error:
        raise PictureError(f"{path}: it is not a picture that can be read; expected PNG, JPEG, TIFF or WebP") from error
