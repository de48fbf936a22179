"""Real pictures for comparison, whole and as full-size crops."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from pixelsmith.errors import PictureError
from pixelsmith.system.places import given_place

Pixels = NDArray[np.uint8]
_T = TypeVar("_T")
MOST = 1000
"""The largest number of pictures of a set that are used, evenly spaced."""
_BATCH = 32
_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff"}


class Photos(Protocol):
    """A sequence of pictures (s, s, 3) of one size, such as an array (n, s, s, 3)."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


@dataclass(frozen=True, eq=False)
class Truth:
    """Real pictures to compare whole pictures and full-size crops with."""

    whole: Photos
    patches: Photos

    @property
    def side(self) -> int:
        """The side of the patches in pixels."""
        return int(self.patches[0].shape[0])


def batches(photos: Photos, side: int | None = None) -> Iterator[Pixels]:
    """Batches (b, s, s, 3), so that memory does not grow with the set; ``side``: crop each picture to its middle."""
    for first in range(0, len(photos), _BATCH):
        some = np.stack([photos[i] for i in range(first, min(first + _BATCH, len(photos)))])
        cut = 0 if side is None else (some.shape[1] - side) // 2
        yield some[:, cut : some.shape[1] - cut, cut : some.shape[2] - cut][:, :side, :side]


def load_truth(path: Path, side: int, factor: float) -> Truth:
    """Open a truth set for pictures of ``factor`` times the model's native sides; ``side``: that of a patch in pixels.

    ``path`` is a folder of pictures or a ``.npy`` file (n, side, side, 3) of bytes, or a folder with several of these:
    ``whole``, and ``patches``, or ``patches-2x``, ``patches-4x`` and so on for one factor each, because a picture of
    twice the size should have twice the resolution. At a factor of 1 the whole pictures are the patches. Pictures of a
    folder are loaded on access, and scaled to the side as wholes or cropped to their middle as patches. Raises
    ``PictureError``.
    """
    path = given_place(path)
    if not path.exists():
        raise PictureError(f"truth: there is no {path}; give a folder of pictures or a .npy file")
    whole = _opened(_part(path, "whole"), side, _covering)
    patches = whole if factor == 1 else _opened(_part(path, f"patches-{factor:g}x", "patches"), side, _middle)
    truth = Truth(whole, patches)
    # One picture of each is read now to find errors early; the others are read by the metrics.
    _ = truth.whole[0], truth.side
    return truth


_PART = re.compile(r"(whole|patches(-[\d.]+x)?)(\.npy)?")


def _part(path: Path, *names: str) -> Path:
    """The first existing one of these parts of a folder, or the folder itself if it has no named parts.

    Raises ``PictureError`` if it has named parts but none of these.
    """
    parts = [part for name in names for part in (path / name, path / f"{name}.npy") if part.exists()]
    others = sorted(part.name for part in path.iterdir() if _PART.fullmatch(part.name)) if path.is_dir() else []
    if not parts and others:
        raise PictureError(f"truth: {path} has {', '.join(others)} and no {names[0]}")
    return parts[0] if parts else path


@dataclass(frozen=True)
class _Files:
    """Pictures of a folder, read on access."""

    files: Sequence[Path]
    side: int
    fit: Callable[[Image.Image, int], Pixels]

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Pixels:
        file = self.files[index]
        try:
            with Image.open(file) as image:
                return self.fit(image.convert("RGB"), self.side)
        except (OSError, UnidentifiedImageError) as error:
            raise PictureError(f"truth: {file} cannot be read ({error})") from error


@dataclass(frozen=True)
class _Rows:
    """Some rows of an array on disk."""

    pixels: NDArray[np.uint8]
    rows: Sequence[int]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Pixels:
        # A copy, because PyTorch warns about arrays that are not writable.
        return np.array(self.pixels[self.rows[index]])


def _opened(path: Path, side: int, fit: Callable[[Image.Image, int], Pixels]) -> Photos:
    if path.is_dir():
        files = _some(sorted(file for file in path.rglob("*") if file.suffix.lower() in _SUFFIXES and file.is_file()))
        if len(files) < 2:
            raise PictureError(f"truth: {path} holds {len(files)} pictures; a set needs two at least")
        return _Files(files, side, fit)
    try:
        pixels: Any = np.load(path, mmap_mode="r")
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise PictureError(f"truth: {path} is not a .npy file ({error})") from error
    if not isinstance(pixels, np.ndarray):
        raise PictureError(f"truth: {path} holds several arrays; give a .npy file of one")
    if pixels.dtype != np.uint8 or pixels.shape[1:] != (side, side, 3) or len(pixels) < 2:
        raise PictureError(f"truth: {path}: expected bytes (n, {side}, {side}, 3), got {pixels.dtype} {pixels.shape}")
    return _Rows(pixels, _some(range(len(pixels))))


def _some(items: Sequence[_T]) -> list[_T]:
    return [items[i] for i in np.linspace(0, len(items) - 1, min(MOST, len(items))).astype(int)]


def _covering(image: Image.Image, side: int) -> Pixels:
    return np.asarray(ImageOps.fit(image, (side, side), Image.Resampling.LANCZOS))


def _middle(image: Image.Image, side: int) -> Pixels:
    if min(image.size) < side:
        raise PictureError(f"truth: a picture of {image.width}x{image.height} is smaller than a patch of {side}x{side}")
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return np.asarray(image.crop((left, top, left + side, top + side)))
