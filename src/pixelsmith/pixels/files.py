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
from pixelsmith.errors import PictureError
from pixelsmith.geometry import Size, Window
from pixelsmith.sampling.denoise import Readable

KEY = "pixelsmith"
"""The name of the PNG text chunk; JPEG and TIFF carry the same JSON as their image description."""
_PIXELS_PER_MM = 300 / 25.4
"""What print shops expect where nothing else is said: 300 dpi."""
_SIDE_LIMITS = {".jpg": 65_535, ".jpeg": 65_535}
SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
# A picture of a gigapixel is what this project is for, not an attack.
Image.MAX_IMAGE_PIXELS = None


def check_output(path: Path, size: Size) -> None:
    """Raise ``PictureError`` unless a picture of this size can be written there."""
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise PictureError(f"{path}: expected a name that ends in {', '.join(SUFFIXES)}")
    limit = _SIDE_LIMITS.get(suffix)
    if limit is not None and max(size.width, size.height) > limit:
        raise PictureError(f"{path}: a JPEG has at most {limit} pixels a side, not {size}; write a .tif")
    folder = path.parent
    if path.is_dir() or not folder.is_dir():
        raise PictureError(f"{path}: expected a file in a folder that exists")
    if not os.access(path if path.exists() else folder, os.W_OK):
        raise PictureError(f"{path}: it cannot be written; check its permissions or choose another place")


def picture_size(path: Path) -> Size:
    """The size of a picture file as it is meant to be seen. Raises ``PictureError`` where it is no picture."""
    with _opened(path) as image:
        turned = image.getexif().get(ExifTags.Base.Orientation, 1) >= 5
        return Size(*(image.size[::-1] if turned else image.size))


def read_picture(path: Path) -> MemoryCanvas:
    """Pixels (3, H, W) uint8, turned upright, transparency over white. Raises ``PictureError``."""
    try:
        with _opened(path) as image:
            upright = ImageOps.exif_transpose(image)
            if upright.has_transparency_data:
                upright = Image.alpha_composite(Image.new("RGBA", upright.size, "white"), upright.convert("RGBA"))
            pixels = np.array(upright.convert("RGB"))
    except (OSError, SyntaxError, ValueError) as error:
        raise PictureError(f"{path}: the picture is damaged ({error})") from error
    return MemoryCanvas.holding(torch.from_numpy(pixels).permute(2, 0, 1).contiguous())


def write_picture(picture: Readable, path: Path, settings: Mapping[str, Any]) -> None:
    """Write pixels (3, H, W) uint8 with their settings inside; the file appears whole or not at all.

    Raises ``PictureError`` where it cannot be written.
    """
    size = picture.size
    pixels = picture.read(Window(0, 0, size.height, size.width)).permute(1, 2, 0).contiguous().numpy()
    image = pyvips.Image.new_from_array(pixels, interpretation="srgb").copy(xres=_PIXELS_PER_MM, yres=_PIXELS_PER_MM)
    text = json.dumps(settings, ensure_ascii=True, separators=(",", ":"))
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
    partial = path.with_name(f".{path.stem}.partial{suffix}")
    try:
        image.write_to_file(str(partial), **options)
        partial.replace(path)
    except (OSError, pyvips.Error) as error:
        raise PictureError(f"{path}: it could not be written ({error})") from error
    finally:
        partial.unlink(missing_ok=True)


def read_settings(path: Path) -> dict[str, Any]:
    """The settings inside a picture that Pixelsmith wrote. Raises ``PictureError`` where there are none."""
    with _opened(path) as image:
        text = image.info.get(KEY) or image.getexif().get(ExifTags.Base.ImageDescription, "")
    try:
        settings = json.loads(text)
    except ValueError:
        settings = None
    if not isinstance(settings, dict) or "request" not in settings:
        raise PictureError(f"{path}: there are no Pixelsmith settings inside")
    return settings


def _opened(path: Path) -> Image.Image:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return Image.open(path)
    except FileNotFoundError as error:
        raise PictureError(f"{path}: there is no such file") from error
    except (OSError, UnidentifiedImageError) as error:
        raise PictureError(f"{path}: it is not a picture that can be read; expected PNG, JPEG, TIFF or WebP") from error
