"""The storage of a run's mosaics and texts by name, in memory or in a folder."""

from __future__ import annotations

import errno
import json
import zlib
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch

from pixelsmith.canvas.mosaic import Mosaic
from pixelsmith.canvas.slots import DiskSlots, MemorySlots, WatchedSlots
from pixelsmith.geometry import Size
from pixelsmith.sampling.grid import Grid
from pixelsmith.sampling.patches import Tiling
from pixelsmith.system.durable import read_object, read_whole, write_whole

_WATCHED = {str(dtype): dtype for dtype in (torch.uint8, torch.float32)}


@runtime_checkable
class Space(Protocol):
    """Mosaics and texts by name, whose content persists when they are opened again."""

    def open(
        self, name: str, tiling: Tiling, channels: int, dtype: torch.dtype = torch.float32, size: Size | None = None
    ) -> Mosaic: ...

    def __contains__(self, name: str) -> bool: ...

    def drop(self, name: str) -> None:
        """Delete a mosaic, if it exists."""
        ...

    def texts(self, name: str, make: Callable[[], Iterable[str]]) -> list[str]:
        """The texts of this name, which ``make`` returns on the first call, possibly in an earlier process."""
        ...


class MemorySpace:
    """Mosaics in memory."""

    def __init__(self) -> None:
        self._slots: dict[str, MemorySlots] = {}
        self._texts: dict[str, list[str]] = {}

    def open(
        self, name: str, tiling: Tiling, channels: int, dtype: torch.dtype = torch.float32, size: Size | None = None
    ) -> Mosaic:
        """The mosaic of this name, empty at first."""
        return Mosaic(tiling, self._slots.setdefault(name, MemorySlots()), channels, dtype, size)

    def __contains__(self, name: str) -> bool:
        return name in self._slots

    def drop(self, name: str) -> None:
        """Delete a mosaic, if it exists."""
        self._slots.pop(name, None)

    def texts(self, name: str, make: Callable[[], Iterable[str]]) -> list[str]:
        """The texts of this name, created by ``make`` if they do not exist."""
        if name not in self._texts:
            self._texts[name] = list(make())
        return self._texts[name]


class DiskSpace:
    """Mosaics in a folder, with two files each; memory contains only the windows that are being processed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._slots: dict[str, DiskSlots] = {}

    def open(
        self, name: str, tiling: Tiling, channels: int, dtype: torch.dtype = torch.float32, size: Size | None = None
    ) -> Mosaic:
        """The mosaic of this name, with its existing content, possibly of an earlier process."""
        if name not in self._slots:
            path = self._folder / name
            _make_folder(path.parent)
            capacity = channels * tiling.largest.area
            numpy_dtype = torch.empty(0, dtype=dtype).numpy().dtype
            self._slots[name] = DiskSlots(path, len(tiling), capacity, numpy_dtype)
            if isinstance(tiling, Grid):
                _describe(path, tiling, channels, dtype, size)
        return Mosaic(tiling, self._slots[name], channels, dtype, size)

    def __contains__(self, name: str) -> bool:
        return DiskSlots.exist(self._folder / name)

    def close(self) -> None:
        """Close all files; the mosaics cannot be used afterwards."""
        for slots in self._slots.values():
            slots.close()

    def drop(self, name: str) -> None:
        """Delete a mosaic's files, if they exist."""
        if name in self._slots:
            self._slots.pop(name).close()
        DiskSlots.delete(self._folder / name)
        _description(self._folder / name).unlink(missing_ok=True)

    def texts(self, name: str, make: Callable[[], Iterable[str]]) -> list[str]:
        """The texts of this name, stored in a file with a checksum; created again if it is missing or damaged."""
        path = _description(self._folder / name)
        with suppress(FileNotFoundError, ValueError, KeyError, TypeError):
            kept = read_object(read_whole(path))
            if kept["checksum"] == _checksum(kept["texts"]):
                return list(kept["texts"])
        made = list(make())
        _make_folder(path.parent)
        write_whole(path, json.dumps({"texts": made, "checksum": _checksum(made)}, indent=1).encode())
        return made


def watch(path: Path) -> tuple[Mosaic, WatchedSlots]:
    """A read-only mosaic in a folder that another process may be filling, and its slots, which can be refreshed.

    ``path``: the folder and the mosaic's name. Raises ``LookupError`` if it does not exist (yet).
    """
    try:
        values = read_object(read_whole(_description(path)))
        tiling, size = Grid.from_dict(values["tiling"]), Size(*values["size"])
        dtype = _WATCHED[values["dtype"]]
        capacity = values["channels"] * tiling.largest.area
        slots = WatchedSlots(path, len(tiling), capacity, torch.empty(0, dtype=dtype).numpy().dtype)
        return Mosaic(tiling, slots, values["channels"], dtype, size), slots
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LookupError(f"{path}: there is no mosaic that can be read ({error})") from error


def _description(path: Path) -> Path:
    return path.with_name(path.name + ".json")


def _describe(path: Path, tiling: Grid, channels: int, dtype: torch.dtype, size: Size | None) -> None:
    """Write the description of a mosaic, for processes that watch it."""
    seen = size or tiling.canvas
    values = {
        "size": [seen.width, seen.height], "channels": channels, "dtype": str(dtype), "tiling": tiling.to_dict()
    }  # fmt: skip
    write_whole(_description(path), json.dumps(values).encode())


def _checksum(texts: Sequence[str]) -> int:
    return zlib.crc32(json.dumps(texts).encode())


def _make_folder(path: Path) -> None:
    """Create a folder if it does not exist. Raises ``OSError`` if there is something else, such as a link to one."""
    with suppress(FileExistsError):
        path.mkdir(parents=True, exist_ok=True)
    if path.is_symlink() or not path.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, "expected a folder", str(path))
