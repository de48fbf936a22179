"""The command line in a separate process: its events, and the memory and processor time of its process tree."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread
from types import TracebackType
from typing import Any

import psutil

SAMPLE_SECONDS = 0.25
"""The interval of memory samples. Linux keeps the high-water mark between them, so short peaks are included."""


class Watched:
    """``pixelsmith ARGUMENTS --json`` in a ``with`` statement, which waits for its end.

    ``peak``: the peak resident memory of its process tree in bytes, ``recent``: the peak since the last call;
    ``processor``: the processor time of all of its threads so far.
    """

    def __init__(self, *arguments: str) -> None:
        self._command = [sys.executable, "-m", "pixelsmith", *arguments, "--json"]
        self._ended = Event()
        self.peak = self._recent = 0
        self._processor: dict[int, float] = {}

    def __enter__(self) -> Watched:
        self._began = time.perf_counter()
        self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE, text=True)
        self._watch = Thread(target=self._sample, daemon=True)
        self._watch.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._process.kill()
        self._process.wait()
        self._ended.set()
        self._watch.join()
        if self._process.stdout:
            self._process.stdout.close()

    def events(self) -> Iterator[tuple[float, dict[str, Any]]]:
        """Its events, with the seconds since its start."""
        for line in self._process.stdout or ():
            yield time.perf_counter() - self._began, json.loads(line)

    def kill(self) -> None:
        """Send SIGKILL."""
        self._process.kill()

    @property
    def recent(self) -> int:
        found, self._recent = self._recent, 0
        return found

    @property
    def processor(self) -> float:
        return sum(self._processor.values())

    @property
    def status(self) -> int:
        """Its exit status, once it has ended."""
        return self._process.wait()

    @property
    def seconds(self) -> float:
        """The seconds since its start."""
        return time.perf_counter() - self._began

    def _sample(self) -> None:
        root = psutil.Process(self._process.pid)
        while not self._ended.wait(SAMPLE_SECONDS):
            # Processes may end while they are sampled.
            with suppress(psutil.Error, OSError):
                tree = [root, *root.children(recursive=True)]
                now = sum(map(most_resident, tree))
                self.peak, self._recent = max(self.peak, now), max(self._recent, now)
                self._processor |= {one.pid: sum(one.cpu_times()[:2]) for one in tree}


def most_resident(process: psutil.Process) -> int:
    """The peak resident memory of a process since the last call in bytes, or the current one if that is unknown."""
    folder = Path(f"/proc/{process.pid}")
    if not folder.exists():
        return int(process.memory_info().rss)
    mark = re.search(r"^VmHWM:\s*(\d+) kB$", (folder / "status").read_text(), re.MULTILINE)
    # This resets the mark (proc(5)).
    (folder / "clear_refs").write_text("5")
    return 1024 * int(mark.group(1)) if mark else 0
