"""Observers for the terminal: a progress bar for people, lines of JSON for programs."""

from __future__ import annotations

import json
from dataclasses import asdict
from types import TracebackType

import click
from rich.console import Console
from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

from pixelsmith.events import Event, PhaseFinished, Progress, RunFinished, RunStarted, StageStarted, Warned
from pixelsmith.geometry import Size


def print_json(event: Event) -> None:
    """One event as one line: its fields, and its class as ``event``."""
    values = asdict(event)
    if isinstance(event, RunStarted):
        values = {**event.plan.to_dict(), "run_dir": event.run_dir}
    if isinstance(event, StageStarted):
        values["size"] = [event.size.width, event.size.height]
    click.echo(json.dumps({"event": type(event).__name__, **values}))


class ProgressBar:
    """Stage, phase, step, patch rate and the time left for the whole run, on standard error."""

    def __init__(self) -> None:
        self._bar = RichProgress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        )
        self._task = self._bar.add_task("loading the model", total=None, rate="")
        self._stage = ""
        self._size = Size(1, 1)
        self._step, self._done = (-1, 0), 0
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
        if isinstance(event, RunStarted):
            # Not before: what is wrong with a request is one clear line, without a bar.
            self._bar.start()
            rungs = [rung for rung in (event.plan.base, *event.plan.stages) if rung is not None]
            self._bar.update(self._task, total=sum(rung.patches_per_step * rung.steps for rung in rungs))
        elif isinstance(event, Warned):
            self._bar.console.print(f"pixelsmith: {event.message}", markup=False, highlight=False)
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
        if event.phase != "denoise":
            self._bar.update(self._task, description=f"{what} tile {event.done}/{event.total}")
            return
        # ``done`` starts again at each step; the bar counts the patches of the whole run.
        step = (event.stage, event.step)
        advance = event.done - (self._done if step == self._step else 0)
        self._step, self._done = step, event.done
        self._bar.update(self._task, advance=advance, description=f"{what} step {event.step}/{event.steps}")
        speed = self._bar.tasks[0].speed
        self._bar.update(self._task, rate=f"{speed:.1f} patches/s" if speed else "")
