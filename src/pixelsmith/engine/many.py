"""The executor that distributes work over a pool of workers (docs/decisions/0033-many-devices.md).

The run itself reads and writes, as it does for one device, and sends each worker the serialised inputs of a group. The
groups are the same as for one device and are written in order, so the picture does not depend on which worker computed
a group, when, or how often.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from functools import partial
from itertools import count
from typing import Any

import torch

from pixelsmith.engine.crew import QUESTION, Crew, LostError, Member, Shared, raised
from pixelsmith.engine.executor import OnDone, OnSplit, Work, filled, placed, unsaid
from pixelsmith.engine.host_threads import HostThreads
from pixelsmith.engine.shipping import Sender, unpacked
from pixelsmith.errors import DeviceError, PixelsmithError

DEPTH = 2
"""Jobs that a worker holds: the one that it computes and the next one, so that it never waits for the run. A worker of
which nothing is known yet holds one, because it may be slow."""
AHEAD = 3
"""Groups per worker that may be read or computed before the groups ahead of them are written."""
READERS = max(2, min(8, os.cpu_count() or 1))
LOOK_SECONDS = 0.25
"""Interval at which a run checks whether an idle worker should repeat the job of a slow one."""
LATE_SECONDS = 60.0
"""After this time a job is late if no worker has done one of its kind."""


_NUMBERS = count()
"""Numbers of programs (the functions that workers compute with), in chronological order."""


class Many(HostThreads):
    """Gives work to all workers of a crew.

    At the end of a step an idle worker repeats the job of a slow one, and the first answer is used.
    """

    elsewhere = True

    def __init__(self, crew: Crew, on_split: OnSplit = unsaid, even: bool = False) -> None:
        super().__init__(READERS)
        self.crew, self._on_split, self.even = crew, on_split, even
        self._told = set[tuple[str, int]]()

    def run(self, work: Work[Any, Any], on_done: OnDone) -> None:
        run = _Run(self, work, on_done)
        try:
            run.go()
        except BaseException as error:
            run.leave(waiting=isinstance(error, Exception))
            # No thread may still be working when this returns.
            self.stop()
            raise
        run.leave(waiting=False)

    def split(self, kind: str, most: int) -> None:
        """Report once that a worker's memory fits at most ``most`` items from now on."""
        if (kind, most) not in self._told:
            self._told.add((kind, most))
            self._on_split(kind, most)


def ask(crew: Crew, compute: Callable[[], Any]) -> Any:
    """The result of ``compute`` on one of the workers: the first one that is free, and has memory for it."""
    found: list[Any] = []
    work: Work[Any, Any] = Work(
        kind=QUESTION,
        groups=[range(1)],
        read=lambda items: None,
        compute=partial(_answer, compute),
        write=lambda group, values: found.append(values),
        place=lambda group: "an answer",
    )
    with Many(crew) as executor:
        executor.run(work, lambda group: None)
    return found[0]


def _answer(compute: Callable[[], Any], nothing: None) -> Any:
    return compute()


class _Run:
    """The state of one ``Work`` while it is distributed, group by group."""

    def __init__(self, many: Many, work: Work[Any, Any], on_done: OnDone) -> None:
        self.work, self.groups = work, list(work.groups)
        self._many, self._crew, self._on_done = many, many.crew, on_done
        self._sender, self._number, self._program = Sender(), next(_NUMBERS), Shared(b"")
        self._next, self._written, self._again = 0, 0, set[int]()
        self._values: dict[int, Any] = {}
        self._jobs: set[_Job] = set()
        self._reading: dict[Future[None], _Job] = {}
        self._writing: Future[None] | None = None
        self._over = False

    def go(self) -> None:
        """Distribute the work until all groups are written."""
        if self.groups:
            modes = torch.is_inference_mode_enabled(), torch.are_deterministic_algorithms_enabled()
            self._program = Shared(self._sender.pack((self.work.compute, *modes)))
        while self._written < len(self.groups):
            self._assign()
            self._write()
            idle = any(not member.jobs for member in self._crew.ready)
            self._crew.turn(LOOK_SECONDS if idle else 1.0)

    def leave(self, waiting: bool) -> None:
        """Stop distributing; ``waiting``: wait some seconds at most for the jobs that workers are computing."""
        self._over = True
        for future, job in self._reading.items():
            if future.cancel():
                # The job was never sent, so there will be no answer.
                self._crew.end(job.member, job)
                self._jobs.discard(job)
        wait([*self._reading, *([self._writing] if self._writing else [])])
        if waiting:
            longest = max((self._crew.seconds(job.member, job.kind, job.count) for job in self._jobs), default=0.0)
            try:
                self._crew.wait(lambda: not self._jobs, 1.0 + 2 * min(longest, 5.0))
            except PixelsmithError:
                # The error that ends the work is being raised already.
                return

    # Assigning groups to workers.

    def _assign(self) -> None:
        while (index := self._waiting) is not None:
            member = self._who(len(self.groups[index]))
            if member is None:
                return
            self._again.discard(index)
            self._next = max(self._next, index + 1)
            self._give(member, index)
        self._take_over()

    @property
    def _waiting(self) -> int | None:
        """The first group that no worker has, if it is not too far ahead of the last written one."""
        if self._again:
            return min(self._again)
        last = min(len(self.groups), self._written + AHEAD * len(self._crew.ready) + 1)
        return self._next if self._next < last else None

    def _who(self, items: int) -> Member | None:
        """The member with a free place that would finish a group first; ``None`` if it is better to wait for others.

        A member of which nothing is known is tried first. Others get no group if the faster ones would complete all
        remaining groups before they completed this one.
        """
        crew, kind = self._crew, self.work.kind
        ends = {member: crew.free_at(member) + crew.seconds(member, kind, items) for member in crew.ready}
        untried = [member for member in ends if crew.rate(member, kind) is None]
        if idle := [member for member in untried if not member.jobs]:
            return idle[0]
        open_ = [member for member in ends if member not in untried and len(member.jobs) < DEPTH]
        if not open_:
            return None
        best = min(open_, key=ends.__getitem__)
        left = len(self.groups) - self._next + len(self._again)
        by_then = 0
        for member, end in ends.items():
            if end < ends[best]:
                by_then += 1 + int((ends[best] - end) / max(crew.seconds(member, kind, items), 1e-9))
        return best if by_then < left else None

    def _take_over(self) -> None:
        """Let idle members repeat the jobs of slow ones."""
        crew = self._crew
        for member in crew.ready:
            if member.jobs:
                continue
            alone = [job for job in self._jobs if self._lacks(job.index) and self._copies(job.index) == 1]
            if not alone:
                return
            last = max(alone, key=lambda job: (crew.free_at(job.member), -job.index))
            if self._would_win(member, last):
                self._give(member, last.index)

    def _would_win(self, member: Member, job: _Job) -> bool:
        """Whether an idle member would finish a job well before the one that has it."""
        crew, kind = self._crew, job.kind
        own, theirs = (crew.seconds(each, kind, job.count) for each in (member, job.member))
        if crew.rate(member, kind) is not None and not any(kind in each.rates for each in crew.ready):
            # Of this kind of item only the ratio of their speeds is known.
            return 1.5 * own < theirs or crew.now() - job.member.since > LATE_SECONDS
        return crew.now() + 1.5 * own + LOOK_SECONDS < crew.free_at(job.member)

    def _lacks(self, index: int) -> bool:
        """Whether a group is not computed yet."""
        written = self._written + (self._writing is not None)
        return index >= written and index not in self._values

    def _copies(self, index: int) -> int:
        return sum(job.index == index for job in self._jobs)

    def _give(self, member: Member, index: int) -> None:
        job = _Job(self, member, index)
        self._jobs.add(job)
        self._crew.begin(member, job)
        if self._number not in member.programs:
            member.programs.add(self._number)
            member.link.call("prepare", self._number, self._program)
        self._reading = {reading: known for reading, known in self._reading.items() if not reading.done()}
        self._reading[self._many.read(self._send, job)] = job

    # Sending jobs and handling the answers.

    def _send(self, job: _Job) -> None:
        """Read a group and send it, in a reading thread."""
        try:
            work, group = self.work, self.groups[job.index]
            parts = [group[i : i + job.most] for i in range(0, len(group), job.most)]
            counts = [len(part) for part in parts]
            with placed(work, group, "read"):
                filled_parts = [filled(part, job.most if work.full else len(part)) for part in parts]
                packed = [self._sender.pack_job(work.read(part), work.reads(part)) for part in filled_parts]
            future = job.member.link.call("compute", self._number, packed, counts)
        except Exception as error:
            self._crew.happened(partial(self._failed, job, error))
        else:
            self._crew.answered(future, partial(self._answered, job))

    def _answered(self, job: _Job, answer: Future[Any]) -> None:
        member, crew = job.member, self._crew
        if not crew.end(member, job):
            # The member has been lost in the meantime.
            return
        self._jobs.discard(job)
        try:
            what, *values = raised(answer)
        except LostError as error:
            crew.begin(member, job)
            crew.lose(member, str(error))
            return
        if what == "memory":
            self._without_room(job)
        elif what == "broken":
            crew.begin(member, job)
            crew.lose(member, values[0])
        elif what == "error":
            self._failed_to_compute(job, unpacked(values[0]))
        else:
            seconds, data = values
            member.measured(job.kind, seconds / job.count)
            if not self._over and self._lacks(job.index):
                self._values[job.index] = data

    def _failed(self, job: _Job, error: Exception) -> None:
        """Keep the error, which is raised once all earlier groups are written, as in serial execution."""
        self._crew.end(job.member, job)
        self._jobs.discard(job)
        if self._lacks(job.index):
            self._values[job.index] = error

    def _failed_to_compute(self, job: _Job, error: Exception) -> None:
        error.add_note(f"to compute {self.work.place(self.groups[job.index])}")
        self._failed(job, error)

    def _without_room(self, job: _Job) -> None:
        """Halve the batch size of a worker that ran out of memory, or lose the worker if it cannot be halved."""
        member, kind = job.member, job.kind
        if job.most > 1:
            member.most[kind] = min(member.most.get(kind, job.most), job.most // 2)
            self._many.split(kind, member.most[kind])
            self.repeat(job.index)
            return
        if len(self._crew.members) == 1:
            reason = (
                f"the device has no memory for {kind}; other programs may use it, and --memory offload keeps less of"
            )
            self._failed_to_compute(job, DeviceError(f"{reason} the model there"))
            return
        self._crew.begin(member, job)
        self._crew.lose(member, f"its device has no memory for {kind}")

    def lost(self, job: _Job) -> None:
        """Repeat the job of a lost member."""
        self._jobs.discard(job)
        self.repeat(job.index)

    def repeat(self, index: int) -> None:
        """Compute a group again, unless another worker is computing it."""
        if not self._over and self._lacks(index) and not self._copies(index):
            self._again.add(index)

    # Writing in order.

    def _write(self) -> None:
        if self._writing is None and self._written in self._values:
            data = self._values.pop(self._written)
            if isinstance(data, Exception):
                raise data
            self._writing = self._many.write(self._keep, self.groups[self._written], data)
            self._crew.answered(self._writing, self._wrote)

    def _keep(self, group: Sequence[int], data: bytes) -> None:
        with placed(self.work, group, "write"):
            self.work.write(group, unpacked(data))

    def _wrote(self, answer: Future[None]) -> None:
        if self._over:
            return
        answer.result()
        group = self.groups[self._written]
        self._on_done(group)
        # The next group is written after this one is reported.
        self._written, self._writing = self._written + 1, None


class _Job:
    """A group that is given to one member."""

    def __init__(self, run: _Run, member: Member, index: int) -> None:
        self.run, self.member, self.index = run, member, index
        self.kind, self.count = run.work.kind, len(run.groups[index])
        size = run.work.full or self.count
        self.most = min(size, member.most.get(self.kind, size))

    def lost(self) -> None:
        self.run.lost(self)
