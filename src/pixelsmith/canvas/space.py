"""Where the mosaics and texts of a run are: all in memory, or all in a folder, by name."""

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
    """Mosaics and texts by name. What was put into one of them is there when it is opened again."""

    def open(
        self, name: str, tiling: Tiling, channels: int, dtype: torch.dtype = torch.float32, size: Size | None = None
    ) -> Mosaic: ...

    def __contains__(self, name: str) -> bool: ...

    def drop(self, name: str) -> None:
        """Forget a mosaic, if it is there, and free what it took."""
        ...

    def texts(self, name: str, make: Callable[[], Iterable[str]]) -> list[str]:
        """The texts of this name: what ``make`` returned when they were first asked for, also by another process."""
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
        """Forget a mosaic, if it is there."""
        self._slots.pop(name, None)

    def texts(self, name: str, make: Callable[[], Iterable[str]]) -> list[str]:
        """The texts of this name, made if they are not there."""
        if name not in self._texts:
            self._texts[name] = list(make())
        return self._texts[name]


class DiskSpace:
    """Mosaics in a folder, two files each; memory holds only the windows in work."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._slots: dict[str, DiskSlots] = {}

    def open(
        self, name: str, tiling: Tiling, channels: int, dtype: torch.dtype = torch.float32, size: Size | None = None
    ) -> Mosaic:
        """The mosaic of this name, with what was put into it before, also by another process that is gone."""
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
        """Give all files back to the system; the mosaics cannot be used afterwards."""
        for slots in self._slots.values():
            slots.close()

    def drop(self, name: str) -> None:
        """Delete a mosaic's files, if they are there."""
        if name in self._slots:
            self._slots.pop(name).close()
        DiskSlots.delete(self._folder / name)
        _description(self._folder / name).unlink(missing_ok=True)

    def texts(self, name: str, make: Callable[[], Iterable[str]]) -> list[str]:
        """The texts of this name, kept in a file with a checksum; made again if the file is missing or damaged."""
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
    """A mosaic in a folder that another process may be filling, for reading; and its slots, to refresh.

    ``path`` is the folder and the mosaic's name. Raises ``LookupError`` where there is none, or not yet.
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
    """What the mosaic of a file is, for those who watch it."""
    seen = size or tiling.canvas
    values = {
        "size": [seen.width, seen.height], "channels": channels, "dtype": str(dtype), "tiling": tiling.to_dict()
    }  # fmt: skip
    write_whole(_description(path), json.dumps(values).encode())


def _checksum(texts: Sequence[str]) -> int:
    return zlib.crc32(json.dumps(texts).encode())


def _make_folder(path: Path) -> None:
    """Make a folder where there is none. Raises ``OSError`` where there is anything else, such as a link to one."""
    with suppress(FileExistsError):
        path.mkdir(parents=True, exist_ok=True)
    if path.is_symlink() or not path.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, "expected a folder", str(path))
