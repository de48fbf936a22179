"""Observers for the terminal: a progress bar, or lines of JSON."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from types import TracebackType

import click
from rich.console import Console
from rich.progress import BarColumn, TaskProgressColumn, TextColumn
from rich.progress import Progress as RichProgress

from pixelsmith.events import Event, PhaseFinished, Progress, RunFinished, RunStarted, StageStarted, Warned
from pixelsmith.geometry import Size
from pixelsmith.system.terminal import duration, printable

LINE_SECONDS = 30.0
MOST_WORKERS = 4
_UNITS = {"caption": "place", "write": "row"}
"""The names of a phase's items; those of other phases are tiles."""


def print_json(event: Event) -> None:
    """One event as one line: its fields, and its class as ``event``."""
    values = asdict(event)
    if isinstance(event, RunStarted):
        values = {**event.plan.to_dict(), "run_dir": event.run_dir}
    if isinstance(event, StageStarted):
        values["size"] = [event.size.width, event.size.height]
    click.echo(json.dumps({"event": type(event).__name__, **values}))


def shares(workers: Mapping[str, float]) -> str:
    """The items per second of each worker, of many only the first ones."""
    if not workers:
        return ""
    shown = [f"{name} {speed:.1f}" for name, speed in list(workers.items())[:MOST_WORKERS]]
    more = [f"{len(workers) - MOST_WORKERS} more"] if len(workers) > MOST_WORKERS else []
    return f" ({', '.join([*shown, *more])})"


class ProgressBar:
    """Stage, phase, step, patch rate and the remaining time of the whole run, on standard error.

    If standard error is not a terminal, a line is printed every ``LINE_SECONDS`` instead of a bar.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last_line = clock()
        self._bar = RichProgress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[rate]}{task.fields[left]}"),
            console=Console(stderr=True),
        )
        self._task = self._bar.add_task("loading the model", total=None, rate="", left="")
        self._stage = ""
        self._size = Size(1, 1)
        self._batch: tuple[Progress, float] | None = None
        self._phases: list[str] = []
        self.summary = ""

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar.live.is_started:
            self._bar.stop()

    def __call__(self, event: Event) -> None:
        """Show one event."""
        # The bar starts only now, so that an invalid request prints one line without a bar.
        if not self._bar.live.is_started and self._bar.console.is_terminal:
            self._bar.start()
        if isinstance(event, Warned):
            self._print(f"pixelsmith: {event.message}")
        elif isinstance(event, StageStarted):
            self._stage = f"stage {event.stage}/{event.stages}" if event.stage else "base"
            self._size = event.size
        elif isinstance(event, Progress):
            self._advance(event)
        elif isinstance(event, PhaseFinished):
            self._phases.append(f"{self._stage} {event.phase} {event.seconds:.1f} s")
        elif isinstance(event, RunFinished):
            self.summary = f"{event.path}: done in {event.seconds:.1f} s ({', '.join(self._phases)})"

    def _advance(self, event: Progress) -> None:
        what = f"{self._stage} {self._size} {event.phase}"
        if event.phase == "denoise":
            what += f" step {event.step}/{event.steps}"
        else:
            what += f" {_UNITS.get(event.phase, 'tile')} {event.done}/{event.total}"
        rate, left = (
            self._rate(event) + shares(event.workers),
            "" if event.seconds_left is None else f" {duration(event.seconds_left)} left",
        )
        if self._bar.console.is_terminal:
            self._bar.update(self._task, total=1, completed=event.share, description=what, rate=rate, left=left)
        elif self._clock() - self._last_line >= LINE_SECONDS:
            self._last_line = self._clock()
            ends = f"{f', {left.strip()}' if left else ''}{shares(event.workers)}"
            self._print(f"pixelsmith: {what}, {event.share:.0%} of the run{ends}")

    def _print(self, line: str) -> None:
        self._bar.console.print(printable(line), markup=False, highlight=False, soft_wrap=True)

    def _rate(self, event: Progress) -> str:
        """The rate of the last batch."""
        before, self._batch = self._batch, (event, time.monotonic())
        if before is None or event.phase != "denoise" or event.step != before[0].step:
            return ""
        patches, seconds = event.done - before[0].done, self._batch[1] - before[1]
        return f"{patches / seconds:.1f} patches/s" if patches > 0 and seconds > 0 else ""
