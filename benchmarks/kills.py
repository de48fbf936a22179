"""Test whether a picture is the same if its workers are killed repeatedly.

    python -m benchmarks.kills [--kills 20] [--workers 4] [--size 1024] [--every 4] [--model MODEL]

Makes pictures with different seeds with some workers on the CPU, and kills one of them at random times. When the last
one is lost, the run is resumed with new ones. Each picture is compared with that of a single process, byte by byte.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil

from pixelsmith import (
    Compute,
    DeviceError,
    Method,
    Placement,
    Progress,
    Request,
    Result,
    RunStarted,
    Size,
    Workers,
    generate,
    resume,
)
from pixelsmith.events import Event


@dataclass
class Killer:
    """A thread that kills workers of this process at random times, ``left`` of them in all.

    It is also an observer of their runs.
    """

    left: int
    every: float
    chance: random.Random = field(default_factory=lambda: random.Random(0))
    done: int = 0
    working: bool = False

    def __post_init__(self) -> None:
        threading.Thread(target=self._kill, daemon=True).start()

    def _kill(self) -> None:
        while self.done < self.left:
            time.sleep(self.chance.uniform(0, 2 * self.every))
            workers = [child for child in psutil.Process().children() if child.status() != psutil.STATUS_ZOMBIE]
            if workers and self.working:
                self.chance.choice(workers).kill()
                self.done += 1

    def __call__(self, event: Event) -> None:
        # No work can be lost while the first workers load the model.
        self.working = isinstance(event, Progress) or (self.working and not isinstance(event, RunStarted))


def made(request: Request, run: Path, workers: Workers, observer: Killer) -> tuple[Result, int]:
    """The picture, and how often its run was resumed."""
    for resumed in range(1000):
        try:
            if resumed:
                return resume(run, observer, placement=Placement(workers=workers)), resumed
            return generate(request, observer=observer, run_dir=run, workers=workers), resumed
        except DeviceError as error:
            observer.working = False
            print(f"  {error}", flush=True)
    raise RuntimeError("it does not end")


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--every", type=float, default=4.0)
    parser.add_argument("--model", default="embedded")
    args = parser.parse_args(argv)
    workers, killer, seed = Workers(("cpu",) * args.workers), Killer(args.kills, args.every), 0
    while killer.done < args.kills:
        before = killer.done
        request = Request(
            "watercolor map of islands",
            Size(args.size, args.size),
            seed=seed,
            model=args.model,
            method=Method(steps=4),
            compute=Compute(dtype="float32", batch_size=4),
        )
        with tempfile.TemporaryDirectory() as folder:
            result, resumed = made(request, Path(folder) / "run", workers, killer)
            killer.working, pixels = False, result.pixels
        same = np.array_equal(pixels, generate(request).pixels)
        print(f"seed {seed}: {killer.done - before} killed, went on {resumed} times, same bytes: {same}", flush=True)
        seed += 1


if __name__ == "__main__":
    main()
