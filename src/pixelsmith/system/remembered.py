"""Small cached values as JSON files in the user's cache folder; losing them only costs time."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pixelsmith.system.durable import read_object, read_whole, write_whole

MOST = 512
"""The largest number of values in a file; the oldest are removed."""


@dataclass(frozen=True)
class Remembered:
    """JSON values by key, in a file of this name."""

    name: str

    def get(self, key: str) -> Any:
        """The value of a key; ``None`` if there is none, or the file is damaged."""
        return self._all().get(key)

    def put(self, key: str, value: Any) -> None:
        """Store a value, if the cache is writable."""
        values = {other: kept for other, kept in self._all().items() if other != key}
        values = dict([*values.items(), (key, value)][-MOST:])
        with suppress(OSError):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            write_whole(self._file, json.dumps(values).encode())

    def _all(self) -> dict[str, Any]:
        try:
            return read_object(read_whole(self._file))
        except (OSError, ValueError):
            return {}

    @property
    def _file(self) -> Path:
        return cache_folder() / self.name


def cache_folder() -> Path:
    """The cache folder, which may not exist yet."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pixelsmith"
