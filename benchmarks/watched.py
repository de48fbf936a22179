"""The command line in a process of its own: what it tells, and the memory and processor time of its process tree."""

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
"""How often memory is looked at. Linux keeps the highest mark between two looks, which no short peak escapes."""


class Watched:
    """``pixelsmith ARGUMENTS --json`` in a ``with`` statement, which waits for its end.

    ``peak``: the most resident bytes of its process tree, and ``recent`` since that was last asked for; ``processor``:
    the seconds that all of its threads have computed so far.
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
        """What it tells, with the seconds since it was started."""
        for line in self._process.stdout or ():
            yield time.perf_counter() - self._began, json.loads(line)

    def kill(self) -> None:
        """As ``kill -9`` does."""
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
        """How long ago it was started."""
        return time.perf_counter() - self._began

    def _sample(self) -> None:
        root = psutil.Process(self._process.pid)
        while not self._ended.wait(SAMPLE_SECONDS):
            # Processes end while they are looked at.
            with suppress(psutil.Error, OSError):
                tree = [root, *root.children(recursive=True)]
                now = sum(map(most_resident, tree))
                self.peak, self._recent = max(self.peak, now), max(self._recent, now)
                self._processor |= {one.pid: sum(one.cpu_times()[:2]) for one in tree}


def most_resident(process: psutil.Process) -> int:
    """The most resident bytes of a process since this was last asked; where the system does not tell, those of now."""
    folder = Path(f"/proc/{process.pid}")
    if not folder.exists():
        return int(process.memory_info().rss)
    mark = re.search(r"^VmHWM:\s*(\d+) kB$", (folder / "status").read_text(), re.MULTILINE)
    # The mark begins anew (proc(5)).
    (folder / "clear_refs").write_text("5")
    return 1024 * int(mark.group(1)) if mark else 0
