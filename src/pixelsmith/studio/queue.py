"""A queue of jobs: one runs at a time, in a thread of its own, with a model that stays loaded."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

from pixelsmith import CancelledError, CancelToken, LoadedModel
from pixelsmith.errors import PixelsmithError, RequestError, reason_of
from pixelsmith.events import Event, Progress, Warned
from pixelsmith.studio.jobs import UNFINISHED, Job
from pixelsmith.studio.library import Library, Project
from pixelsmith.studio.work import do

TOLD_SECONDS = 0.25
"""The shortest interval between two progress events of a running job."""
SAVED_SECONDS = 5.0
"""The shortest interval at which its progress is written to disk."""
PAUSING = "pausing"
_QUICK = ("candidates", "place")
"""Kinds that take seconds: they go before pictures that wait in the queue."""


class Queue:
    """Runs the jobs of a library. ``tell`` is called, from any thread, with each job whose state has changed.

    Jobs that an earlier server left unfinished are paused: nothing runs until someone resumes it.
    """

    def __init__(self, library: Library, tell: Callable[[Job], None]) -> None:
        self._library, self.tell = library, tell
        self._waiting: list[Job] = []
        self._running: Job | None = None
        self._token = CancelToken()
        self._model: LoadedModel | None = None
        self._changed = threading.Condition()
        self._closed = False
        for project in library:
            for job in project.jobs():
                if job.state in UNFINISHED:
                    self._keep(job, state="paused")
        self._thread = threading.Thread(target=self._work, name="studio", daemon=True)
        self._thread.start()

    def add(self, job: Job) -> Job:
        """Queue a job, which may be new, paused or failed. Raises ``RequestError`` for any other."""
        with self._changed:
            if job.state == "done" or job.id in [other.id for other in self._unfinished()]:
                raise RequestError(f"{job.id}: it is already {job.state}")
            job = self._keep(job, state="waiting", error=None)
            place = len(self._waiting)
            if job.kind in _QUICK:
                place = next((i for i, other in enumerate(self._waiting) if other.kind not in _QUICK), place)
            self._waiting.insert(place, job)
            self._changed.notify_all()
        return job

    def pause(self, job: Job) -> Job:
        """Take a job out of the queue, or stop the running one after its current batch. Its results are kept."""
        with self._changed:
            if self._running is not None and self._running.id == job.id:
                self._token.cancel()
                self._running = replace(self._running, doing=PAUSING)
                self.tell(self._running)
                return self._running
            if waiting := next((other for other in self._waiting if other.id == job.id), None):
                self._waiting.remove(waiting)
                return self._keep(waiting, state="paused")
        return job

    def stop(self, job: Job) -> None:
        """Pause a job and wait until it has stopped."""
        self.pause(job)
        with self._changed:
            self._changed.wait_for(lambda: self._running is None or self._running.id != job.id)

    def remove(self, project: Project, job: Job) -> None:
        """Remove a job with its results, which nothing can resume meanwhile. Raises ``RequestError`` as its project."""
        with self._changed:
            for changed in project.remove_job(self.now(job)):
                self.tell(changed)

    def close(self) -> None:
        """Pause all jobs, stop the thread and free the model."""
        with self._changed:
            self._closed = True
            self._token.cancel()
            for job in self._waiting:
                self._keep(job, state="paused")
            self._waiting.clear()
            self._changed.notify_all()
        self._thread.join()

    def _unfinished(self) -> list[Job]:
        return [*([self._running] if self._running else []), *self._waiting]

    def _work(self) -> None:
        while (job := self._next()) is not None:
            ended = self._done(job)
            with self._changed:
                last, self._running = self._running or job, None
                self._keep(last, **ended)
                self._changed.notify_all()
        if self._model is not None:
            self._model.close()

    def _next(self) -> Job | None:
        """Wait for the next job; ``None`` once the queue is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            if self._closed:
                return None
            self._token = CancelToken()
            self._running = self._keep(self._waiting.pop(0), state="running")
            return self._running

    def _done(self, job: Job) -> dict[str, Any]:
        """Run a job and return the changes of its state."""
        try:
            request = job.request
            # Kept before the work, which may end in an error: the next job needs not load it again.
            self._model = LoadedModel.of(request) if self._model is None else self._model.serving(request)
            do(job, request, self._model, self._observer(job), self._token, lambda: self.tell(self.now(job)))
        except CancelledError:
            return {"state": "paused"}
        except Exception as error:
            # Whatever failed, the next jobs run.
            said = str(error) if isinstance(error, PixelsmithError) else reason_of(error)
            return {"state": "failed", "error": said}
        return {"state": "done", "share": 1.0, "seconds_left": None, "doing": ""}

    def _observer(self, job: Job) -> Callable[[Event], None]:
        told = saved = 0.0

        def observe(event: Event) -> None:
            nonlocal told, saved
            known = self.now(job)
            if isinstance(event, Warned) and event.message not in known.warnings:
                self._running = replace(known, warnings=(*known.warnings, event.message))
                self.tell(self._running)
            if isinstance(event, Progress) and time.monotonic() - told >= TOLD_SECONDS:
                told = time.monotonic()
                doing = f"{f'stage {event.stage}' if event.stage else 'base'}: {event.phase}"
                self._running = replace(known, share=event.share, seconds_left=event.seconds_left, doing=doing)
                self.tell(self._running)
                if told - saved >= SAVED_SECONDS:
                    saved = told
                    self._running.save()

        return observe

    def _keep(self, job: Job, **changes: Any) -> Job:
        """Save a changed job and tell listeners. If its project was deleted, it cannot be saved."""
        changed = replace(job, **changes)
        with suppress(OSError):
            changed.save()
        self.tell(changed)
        return changed

    def now(self, job: Job) -> Job:
        """The current state of a job: the running one is ahead of its file."""
        running = self._running
        return running if running is not None and running.id == job.id else job
