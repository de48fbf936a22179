"""The state of a training, from which it continues after any interruption: two checkpoints, a log, and a lock."""

from __future__ import annotations

import csv
import os
import sys
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from pixelsmith.system.durable import flush

if sys.platform != "win32":
    import fcntl

Row = Mapping[str, float]


def save_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """Write ``path`` and keep the previous checkpoint as ``*-before.pt``; at any time one of the two is complete."""
    written, linked = path.with_suffix(".tmp"), path.with_suffix(".link")
    torch.save(dict(state), written)
    flush(written)
    if path.exists() and is_whole(path):
        linked.unlink(missing_ok=True)
        os.link(path, linked)
        linked.replace(before(path))
    written.replace(path)
    flush(path.parent)


def before(path: Path) -> Path:
    """The path of the previous checkpoint."""
    return path.with_stem(f"{path.stem}-before")


def has_checkpoint(path: Path) -> bool:
    """Whether a training that writes to ``path`` has begun."""
    return path.exists() or before(path).exists()


def load_checkpoint(path: Path) -> dict[str, Any]:
    """The newest complete checkpoint, on the CPU.

    Raises ``SystemExit`` if there is none; starting again is the user's decision.
    """
    if not has_checkpoint(path):
        raise SystemExit(f"{path}: there is no such checkpoint; train first")
    files = [file for file in (path, before(path)) if file.exists()]
    for file in files:
        if is_whole(file):
            return dict(torch.load(file, map_location="cpu", weights_only=True))
        print(f"{file} is damaged", flush=True)
    raise SystemExit(f"no checkpoint is complete: remove {' and '.join(map(str, files))} to start again")


def is_whole(checkpoint: Path) -> bool:
    """Whether all checksums of a checkpoint are correct."""
    try:
        with zipfile.ZipFile(checkpoint) as archive:
            return archive.testzip() is None
    except (zipfile.BadZipFile, EOFError):
        return False


class Log:
    """Rows of figures in a CSV file, each with its training ``step``.

    Rows after ``step`` are removed, because a training that continues from an older checkpoint repeats those steps. A
    new figure gets a new column.
    """

    def __init__(self, path: Path, step: int) -> None:
        self._path, self.rows = path, list[Row]()
        if path.exists():
            with path.open(newline="") as file:
                found = [{key: float(value) for key, value in row.items() if value} for row in csv.DictReader(file)]
            self.rows = [row for row in found if row["step"] <= step]

    def append(self, row: Row) -> None:
        self.rows.append(row)
        columns = dict.fromkeys(name for row in self.rows for name in row)
        written = self._path.with_suffix(".csv.tmp")
        with written.open("w", newline="") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows({name: f"{value:.10g}" for name, value in row.items()} for row in self.rows)
        written.replace(self._path)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Lock a file against a second training; the system releases the lock when the process ends.

    The file contains the process's id. Raises ``SystemExit`` if it is locked; there is no lock on Windows.
    """
    with path.open("a+") as file:
        try:
            if sys.platform != "win32":
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise SystemExit(f"{path}: process {file.read().strip() or '?'} trains here already") from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        try:
            yield
        finally:
            file.truncate(0)
