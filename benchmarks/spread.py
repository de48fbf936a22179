"""Measure how the work of one picture scales over many devices, which are simulated.

    python -m benchmarks.spread [--side 16384] [--batch-ms 200] [--batch-size 8] [--workers 1,2,4,8,16,32] [--steps 2]
    python -m benchmarks.spread --overhead

Each worker sleeps for the time of a batch. Everything else is real and in this process: the executor, serialisation of
every job, mosaics on disk with their checksums. Therefore workers use processor time of the run, unlike those of a
cluster. The last figure is the processor time of the run itself per batch, from which the number of devices that it can
supply follows. The efficiency is the time that one device would sleep, divided by the sum over all devices from the
first job to the last; its limit follows from the number of batches of a step, because a step begins when the previous
one has ended.

``--overhead`` times a batch without its computation: eight patches of 128 latents, alternately with the executor of one
device, with a process, and, if Ray is installed, with an actor.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from importlib.util import find_spec
from operator import itemgetter
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from benchmarks.waiting import CHANNELS, Device, SleepingAutoencoder, SleepingFamily
from pixelsmith import Workers
from pixelsmith.canvas import DiskSpace
from pixelsmith.engine import Executor, Serial, Work
from pixelsmith.engine.crew import Crew, Link, Links, LostError, unshared
from pixelsmith.engine.denoise import Denoising, Guide
from pixelsmith.engine.many import Many
from pixelsmith.engine.stage import StageSteps
from pixelsmith.families import everywhere
from pixelsmith.geometry import Size, Window
from pixelsmith.sampling.grid import ShiftedGrid
from pixelsmith.sampling.merging import Merge
from pixelsmith.sampling.merging.merge import Needs
from pixelsmith.sampling.noise import NoiseField
from pixelsmith.workers.cluster import RayLinks
from pixelsmith.workers.processes import Processes
from pixelsmith.workers.remote import RemoteFamily
from pixelsmith.workers.worker import Worker

PATCH, BORDER = 128, 10


@dataclass(frozen=True)
class HeldAutoencoder(SleepingAutoencoder):
    """A sleeping autoencoder with shared statistics."""

    def statistics(self, method: str, samples: Iterable[Tensor]) -> tuple[()]:
        return ()

    def held(self, statistics: object) -> AbstractContextManager[None]:
        return nullcontext()


class ThreadLink:
    """A worker in a thread of this process."""

    def __init__(self, name: str, worker: Worker) -> None:
        self.name, self._worker = name, worker
        self._thread = ThreadPoolExecutor(1)

    def call(self, method: str, *given: Any) -> Future[Any]:
        try:
            return self._thread.submit(getattr(self._worker, method), *unshared(given))
        except RuntimeError as error:
            future: Future[Any] = Future()
            future.set_exception(LostError(str(error)))
            return future

    def kill(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)


class ThreadLinks:
    """A fixed set of links."""

    def __init__(self, links: Sequence[Link]) -> None:
        self._all, self._new = list(links), list(links)

    def more(self) -> Sequence[Link]:
        new, self._new = self._new, []
        return new

    def close(self) -> None:
        for link in self._all:
            link.kill()


@dataclass(frozen=True)
class Flat:
    """A constant guide."""

    size: Size
    channels: int = CHANNELS

    def read(self, window: Window) -> Tensor:
        return torch.zeros(self.channels, window.height, window.width)


class Looks(Merge):
    """A merge with the inputs of held structure, the guide and two maps, that computes nothing."""

    def __init__(self, size: Size) -> None:
        self._maps = [Flat(size, 1), Flat(size, 1)]

    def needs(self, step: int) -> Needs:
        return Needs(clean=True, maps=self._maps)


@dataclass
class Timed(Worker):
    """A worker that sleeps ``batch`` seconds for each batch; ``used``: its processor time in seconds."""

    batch: float = 0.0
    used: float = 0.0

    def compute(self, number: int, parts: Sequence[bytes], counts: Sequence[int]) -> tuple[Any, ...]:
        began = time.thread_time()
        what, seconds, *values = super().compute(number, parts, counts)
        self.used += time.thread_time() - began
        time.sleep(max(0.0, self.batch - seconds))
        return (what, max(self.batch, seconds), *values)


def sleepers(count: int, batch_ms: float) -> tuple[Crew, list[Timed]]:
    """A crew of sleeping workers, and these workers."""
    workers = [
        Timed("cpu", _family=SleepingFamily(Device(), PATCH, batch_ms), batch=batch_ms / 1e3) for _ in range(count)
    ]
    return Crew(ThreadLinks([ThreadLink(str(i), worker) for i, worker in enumerate(workers)])), workers


@torch.inference_mode()
def denoised(side: int, crew: Crew, steps: int, batch_size: int, work: Path) -> tuple[float, float, int]:
    """Seconds and processor time to denoise a canvas for ``side`` pixels, and the number of batches."""
    family = RemoteFamily(SleepingFamily(Device(), PATCH, 0.0).facts, crew, None, None)
    canvas = family.facts.latent_size(Size(side, side))
    coverage = ShiftedGrid(canvas, Size(PATCH, PATCH), BORDER, 0, 1)
    denoising = Denoising(
        denoiser=family.denoiser(everywhere({}), Size(side, side), 1.0),
        schedule=family.schedule(steps),
        coverage=coverage,
        noise=NoiseField(0, 1, CHANNELS),
        seed=0,
        stage=1,
        guide=Guide(Flat(canvas), Looks(canvas)),
    )
    space = DiskSpace(work)
    with Many(crew) as executor:
        began, used = time.perf_counter(), time.process_time()
        denoising.run(StageSteps(space, 1, CHANNELS), batch_size, family.device, executor=executor)
        seconds, used = time.perf_counter() - began, time.process_time() - used
    space.close()
    return seconds, used, sum(math.ceil(coverage.count(step) / batch_size) for step in range(steps))


def limit(side: int, workers: int, steps: int, batch_size: int) -> float:
    """The efficiency that the number of batches of each step allows."""
    canvas = Size(side, side).divided(8)
    coverage = ShiftedGrid(canvas, Size(PATCH, PATCH), BORDER, 0, 1)
    batches = [math.ceil(coverage.count(step) / batch_size) for step in range(steps)]
    return sum(batches) / sum(workers * math.ceil(count / workers) for count in batches)


def overhead(executors: dict[str, Callable[[], AbstractContextManager[Executor]]], groups: int, rounds: int) -> None:
    """Print the milliseconds for a batch without computation, measured alternately."""
    inputs = torch.randn(8, 2, CHANNELS, PATCH, PATCH)
    found: dict[str, list[float]] = {name: [] for name in executors}
    for _ in range(rounds):
        for name, executor_of in executors.items():
            work: Work[Any] = Work(
                kind="a batch",
                groups=[range(8)] * groups,
                read=lambda items: inputs.clone(),
                # It must not be defined in this module, which as a program has another name for workers.
                compute=itemgetter((slice(None), 0)),
                write=lambda group, values: None,
                place=lambda group: "",
            )
            with executor_of() as executor:
                began = time.perf_counter()
                executor.run(work, lambda group: None)
                found[name].append((time.perf_counter() - began) / groups * 1e3)
    for name, times in found.items():
        print(f"{name:8s} {median(times):6.1f} ms a batch ({min(times):.1f} to {max(times):.1f})")


def crews(workers: int) -> Iterator[tuple[str, Crew]]:
    kinds: dict[str, Callable[[], Links]] = {"process": lambda: Processes(("cpu",) * workers)}
    if find_spec("ray") is not None:
        kinds["ray"] = lambda: RayLinks(Workers(("cpu",) * workers, "local"))
    for name, links in kinds.items():
        yield name, Crew(links())


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=16384)
    parser.add_argument("--batch-ms", type=float, default=200.0)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--workers", default="1,2,4,8,16,32,64")
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--overhead", action="store_true")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--work", type=Path, help="where there is room for the run")
    args = parser.parse_args(argv)
    if args.overhead:
        started = dict(crews(1))
        executors: dict[str, Callable[[], AbstractContextManager[Executor]]] = {"serial": lambda: nullcontext(Serial())}
        executors |= {name: lambda crew=crew: Many(crew) for name, crew in started.items()}  # type: ignore[misc]
        overhead(executors, groups=20, rounds=args.rounds)
        for crew in started.values():
            crew.close()
        return
    print(f"{args.side} pixels a side, {args.batch_ms:g} ms a batch of {args.batch_size}, {args.steps} steps")
    for count in map(int, args.workers.split(",")):
        crew, workers = sleepers(count, args.batch_ms)
        with tempfile.TemporaryDirectory(dir=args.work) as folder, crew:
            seconds, used, batches = denoised(args.side, crew, args.steps, args.batch_size, Path(folder))
        own = used - sum(worker.used for worker in workers)
        efficiency = batches * args.batch_ms / 1e3 / (seconds * count)
        most = limit(args.side, count, args.steps, args.batch_size)
        print(
            f"{count:3d} workers {seconds:8.2f} s, {batches / seconds:6.1f} batches a second, efficiency "
            f"{efficiency:6.1%}, its limit {most:6.1%}; {own / batches * 1e3:.1f} ms of a core a batch",
            flush=True,
        )


if __name__ == "__main__":
    main()
