"""Small facts that outlive a process, as JSON files in the user's cache. Losing them costs time, nothing else."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pixelsmith.system.durable import read_object, read_whole, write_whole

MOST = 512
"""Values that a file keeps; the oldest go."""


@dataclass(frozen=True)
class Remembered:
    """Values of JSON by their keys, in a file of this name."""

    name: str

    def get(self, key: str) -> Any:
        """What was put last; ``None`` where there is nothing, or the file is damaged."""
        return self._all().get(key)

    def put(self, key: str, value: Any) -> None:
        """Keep a value; where the cache cannot be written to it is forgotten."""
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
    """Where facts are kept; it may not be there yet."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pixelsmith"
