"""Real pictures to compare with: as wholes, and as details."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from pixelsmith.errors import PictureError

Pixels = NDArray[np.uint8]
_T = TypeVar("_T")
MOST = 1000
"""Pictures of a set that are used, evenly taken from it."""
_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff"}


@dataclass(frozen=True, eq=False)
class Truth:
    """Real pictures (n, s, s, 3): what a whole picture should look like from afar, and what a crop at full size."""

    whole: Pixels
    patches: Pixels


def load_truth(path: Path, side: int) -> Truth:
    """Read a truth set; ``side`` is the model's own size in pixels, and that of its patches.

    ``path`` is a folder of pictures or a ``.npy`` file (n, side, side, 3) of bytes, or a folder with two of them, named
    ``whole`` and ``patches``. Pictures of a folder are scaled to the side as wholes, and cut out of their middle as
    patches. Raises ``PictureError``.
    """
    if not path.exists():
        raise PictureError(f"truth: there is no {path}; give a folder of pictures or a .npy file")
    whole, patches = (_part(path, name) for name in ("whole", "patches"))
    return Truth(_read(whole, side, _covering), _read(patches, side, _middle))


def _part(path: Path, name: str) -> Path:
    """Where wholes or patches are: in a part of the folder, or all of it."""
    return next((part for part in (path / name, path / f"{name}.npy") if part.exists()), path)


def _read(path: Path, side: int, fit: Callable[[Image.Image, int], Pixels]) -> Pixels:
    if path.is_dir():
        files = _some(sorted(file for file in path.rglob("*") if file.suffix.lower() in _SUFFIXES))
        if len(files) < 2:
            raise PictureError(f"truth: {path} holds {len(files)} pictures; a set needs two at least")
        try:
            return np.stack([fit(Image.open(file).convert("RGB"), side) for file in files])
        except (OSError, UnidentifiedImageError) as error:
            raise PictureError(f"truth: a picture in {path} cannot be read ({error})") from error
    try:
        pixels = np.load(path, mmap_mode="r")
    except (OSError, ValueError) as error:
        raise PictureError(f"truth: {path} is not a .npy file ({error})") from error
    if pixels.dtype != np.uint8 or pixels.shape[1:] != (side, side, 3) or len(pixels) < 2:
        raise PictureError(f"truth: {path}: expected bytes (n, {side}, {side}, 3), got {pixels.dtype} {pixels.shape}")
    return np.stack([pixels[i] for i in _some(range(len(pixels)))])


def _some(items: Sequence[_T]) -> list[_T]:
    return [items[i] for i in np.linspace(0, len(items) - 1, min(MOST, len(items))).astype(int)]


def _covering(image: Image.Image, side: int) -> Pixels:
    return np.asarray(ImageOps.fit(image, (side, side), Image.Resampling.LANCZOS))


def _middle(image: Image.Image, side: int) -> Pixels:
    if min(image.size) < side:
        raise PictureError(f"truth: a picture of {image.width}x{image.height} is smaller than a patch of {side}x{side}")
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return np.asarray(image.crop((left, top, left + side, top + side)))
