"""Real pictures to compare with: as wholes, and as details."""

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
"""Pictures of a set that are used, evenly taken from it."""
_BATCH = 32
_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff"}


class Photos(Protocol):
    """Pictures (s, s, 3) of one size by number; an array (n, s, s, 3) is such."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


@dataclass(frozen=True, eq=False)
class Truth:
    """Real pictures: what a whole picture should look like from afar, and what a crop at full size."""

    whole: Photos
    patches: Photos

    @property
    def side(self) -> int:
        """Pixels a side of the patches."""
        return int(self.patches[0].shape[0])


def batches(photos: Photos, side: int | None = None) -> Iterator[Pixels]:
    """A few at a time (b, s, s, 3), so that memory does not grow with the set; ``side``: of each the middle."""
    for first in range(0, len(photos), _BATCH):
        some = np.stack([photos[i] for i in range(first, min(first + _BATCH, len(photos)))])
        cut = 0 if side is None else (some.shape[1] - side) // 2
        yield some[:, cut : some.shape[1] - cut, cut : some.shape[2] - cut][:, :side, :side]


def load_truth(path: Path, side: int, factor: float) -> Truth:
    """Open a truth set for pictures of ``factor`` times the sides of the model's own, ``side`` pixels, as are patches.

    ``path`` is a folder of pictures or a ``.npy`` file (n, side, side, 3) of bytes, or a folder with some of them:
    ``whole``, and ``patches``, or ``patches-2x``, ``patches-4x`` and so on for one factor each: what is twice as large
    should be twice as fine. At a factor of 1 the wholes are the patches. Pictures of a folder are scaled to the side
    as wholes, and cut out of their middle as patches, each when it is needed. Raises ``PictureError``.
    """
    path = given_place(path)
    if not path.exists():
        raise PictureError(f"truth: there is no {path}; give a folder of pictures or a .npy file")
    whole = _opened(_part(path, "whole"), side, _covering)
    patches = whole if factor == 1 else _opened(_part(path, f"patches-{factor:g}x", "patches"), side, _middle)
    truth = Truth(whole, patches)
    # One of each is looked at now; the others are when a metric begins.
    _ = truth.whole[0], truth.side
    return truth


_PART = re.compile(r"(whole|patches(-[\d.]+x)?)(\.npy)?")


def _part(path: Path, *names: str) -> Path:
    """Where wholes or patches are: in the first of these parts of the folder that is there, or all of it.

    A folder that has named parts, but none of these, is not a folder of pictures. Raises ``PictureError``.
    """
    parts = [part for name in names for part in (path / name, path / f"{name}.npy") if part.exists()]
    others = sorted(part.name for part in path.iterdir() if _PART.fullmatch(part.name)) if path.is_dir() else []
    if not parts and others:
        raise PictureError(f"truth: {path} has {', '.join(others)} and no {names[0]}")
    return parts[0] if parts else path


@dataclass(frozen=True)
class _Files:
    """Pictures of a folder, read when they are asked for."""

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
        # A copy: what is mapped cannot be written to, which torch warns of.
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
