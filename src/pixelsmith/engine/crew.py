"""The pool of a run's workers: which are there, their jobs, how fast they are, and how the loss of one is handled."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from statistics import median
from typing import Any, Protocol, runtime_checkable

from pixelsmith.errors import DeviceError, PixelsmithError

JOIN_SECONDS = 5.0
"""Interval at which a run looks for new workers."""
QUESTION = "a single call"
"""The kind of single calls. They differ, so the time of one says nothing about a worker's speed in other kinds."""
ALONE_SECONDS = 900.0
"""How long a run without a worker waits for one that is about to start."""


class LostError(Exception):
    """Raised if a worker is lost; the message gives the reason."""


@dataclass(frozen=True, eq=False)
class Shared:
    """A value that is sent to several workers: stored once if they share an object store."""

    value: Any


def unshared(given: Sequence[Any]) -> list[Any]:
    """The arguments, with each ``Shared`` replaced by its value."""
    return [item.value if isinstance(item, Shared) else item for item in given]


@runtime_checkable
class Link(Protocol):
    """The connection to one worker (``pixelsmith.workers.worker.Worker``), which executes calls one after another."""

    @property
    def name(self) -> str:
        """The worker's name in messages, such as ``cuda:1``."""
        ...

    def call(self, method: str, *given: Any) -> Future[Any]:
        """Call one of the worker's methods. The future raises ``LostError`` if the worker is lost."""
        ...

    def kill(self) -> None:
        """End the worker at once; calls that it has not answered raise ``LostError``."""
        ...


@runtime_checkable
class Links(Protocol):
    """A source of workers: this machine or a cluster."""

    def more(self) -> Sequence[Link]:
        """Links to the workers that are new since the last call."""
        ...

    def close(self) -> None:
        """End all workers."""
        ...


@dataclass(frozen=True)
class Leases:
    """How many seconds a worker may take for a job before it is considered lost.

    ``first``: for its first job of a kind, in which kernels are chosen and graphs compiled. Later ones may take
    ``times`` as long as expected, and always at least ``least`` seconds.
    """

    first: float = 900.0
    least: float = 60.0
    times: float = 20.0

    def of(self, expected: float | None) -> float:
        return self.first if expected is None else max(self.least, self.times * expected)


@runtime_checkable
class Errand(Protocol):
    """A job that a member computes."""

    @property
    def kind(self) -> str: ...

    @property
    def count(self) -> int: ...

    def lost(self) -> None:
        """Called if the member is lost before the job is done."""
        ...


@dataclass(eq=False)
class Member:
    """A worker of the crew.

    - ``ready``: whether it accepts jobs; ``jobs``: those it has; it has been computing the first one ``since`` then.
    - ``rates``: seconds per item, by kind; ``most``: the largest batch that fits into its memory, by kind, if known.
    - ``programs``: the numbers of the programs that it was sent.
    """

    link: Link
    ready: bool = False
    jobs: deque[Errand] = field(default_factory=deque)
    since: float = 0.0
    rates: dict[str, float] = field(default_factory=dict)
    most: dict[str, int] = field(default_factory=dict)
    programs: set[int] = field(default_factory=set)

    @property
    def name(self) -> str:
        return self.link.name

    def expected(self, kind: str, count: int) -> float | None:
        """The seconds that it needs for ``count`` items; ``None`` while unknown."""
        return self.rates[kind] * count if kind in self.rates else None

    def measured(self, kind: str, seconds: float) -> None:
        """Update the rate with the seconds that an item took."""
        known = self.rates.get(kind, seconds)
        # The first job also chooses kernels and compiles graphs, so its time does not predict the next.
        self.rates[kind] = seconds if known > 4 * seconds else (known + seconds) / 2


class Crew:
    """All workers of a run, and the queue of their answers. Only one thread at a time may use it.

    ``greet`` is called with each new member and later calls ``admit`` or ``lose`` for it. ``tell`` is called with a
    line about each member that is lost or refused.
    """

    def __init__(self, links: Links, leases: Leases | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.members: list[Member] = []
        self.greet: Callable[[Member], None] = self.admit
        self._links, self._leases, self._clock = links, leases or Leases(), clock
        self._events: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._told: list[str] = []
        self._tell: Callable[[str], None] | None = None
        self._looked: float | None = None
        self._last_loss = "none came"
        self.expect("was ready")

    def now(self) -> float:
        return self._clock()

    @property
    def ready(self) -> list[Member]:
        return [member for member in self.members if member.ready]

    def admit(self, member: Member) -> None:
        """Let a member accept jobs from now on."""
        member.ready = True

    def lose(self, member: Member, reason: str) -> None:
        """Remove a member and give its jobs to others."""
        if member not in self.members:
            return
        self.members.remove(member)
        member.ready = False
        member.link.kill()
        self._last_loss = f"{member.name}: {reason}"
        others = "its work goes to the others" if member.jobs and self.members else "it is not used"
        self.say(f"worker {self._last_loss}; {others}")
        for job in member.jobs:
            job.lost()
        member.jobs.clear()

    def expect(self, what: str, seconds: float = ALONE_SECONDS) -> None:
        """From now on, wait at most so long at a time without a ready worker; ``what``: what none had done by then,
        such as "had loaded the model".
        """
        self._expected, self._patience, self._served = what, seconds, self._clock()

    def check(self) -> None:
        """Raise ``DeviceError`` if there is no worker, or none has become ready for too long."""
        if self.ready:
            self._served = self._clock()
        alone = self._clock() - self._served
        if self.members and alone <= self._patience:
            return
        late = f"no worker {self._expected} after {alone / 60:.0f} minutes"
        problem = late if self.members else f"no worker is left ({self._last_loss})"
        raise DeviceError(f"{problem}; another set can go on: see --devices and --ray")

    def happened(self, event: Callable[[], None]) -> None:
        """Queue a call for the thread that uses the crew; any thread may call this."""
        self._events.put(event)

    def answered(self, future: Future[Any], on_answer: Callable[[Future[Any]], None]) -> None:
        """Queue a call of ``on_answer`` for the thread that uses the crew, for when the future is done."""
        future.add_done_callback(lambda done: self.happened(lambda: on_answer(done)))

    def turn(self, patience: float) -> None:
        """Wait at most ``patience`` seconds for an event, then process all queued events and expired leases."""
        patience = 0.0 if self._look() else min(patience, self._next_lease(), JOIN_SECONDS)
        with suppress(Empty):
            self._events.get(timeout=max(0.0, patience))()
            while True:
                self._events.get_nowait()()
        self._end_leases()
        self.check()

    def wait(self, until: Callable[[], bool], seconds: float) -> None:
        """Process events until a condition holds, or for at most ``seconds``."""
        end = self._clock() + seconds
        while not until() and (left := end - self._clock()) > 0:
            self.turn(min(left, 1.0))

    def begin(self, member: Member, job: Errand) -> None:
        """Record that a member has been given a job."""
        if not member.jobs:
            member.since = self._clock()
        member.jobs.append(job)

    def end(self, member: Member, job: Errand) -> bool:
        """Record that a member's job has ended. Returns whether the member had it."""
        if job not in member.jobs:
            return False
        member.jobs.remove(job)
        member.since = self._clock()
        return True

    def rate(self, member: Member, kind: str) -> float | None:
        """The seconds that a member is expected to need for an item. While its rate is unknown, it is estimated from
        those of the others and from their speeds in kinds of items that both have computed; ``None`` without any.

        For a kind that no member has computed, only its ratio to that of the others has a meaning.
        """
        if kind in member.rates:
            return member.rates[kind]
        ratios = {other: ratio for other in self.ready if (ratio := _times_as_long(member, other)) is not None}
        known = [other.rates[kind] * ratio for other, ratio in ratios.items() if kind in other.rates]
        if known or not ratios or any(kind in other.rates for other in self.ready):
            return median(known) if known else None
        return median([1.0, *ratios.values()])

    def seconds(self, member: Member, kind: str, count: int) -> float:
        """The seconds that a member is expected to need; if nothing is known, the median of the others' is used."""
        own = self.rate(member, kind)
        if own is None:
            known = [other.rates[kind] * count for other in self.ready if kind in other.rates]
            return median(known) if known else 1.0
        return own * count

    def free_at(self, member: Member) -> float:
        """When a member is expected to finish its jobs. A late one is assumed to need as long again."""
        now = self._clock()
        if not member.jobs:
            return now
        first, *others = (self.seconds(member, job.kind, job.count) for job in member.jobs)
        late = now - member.since
        return (member.since + first if late <= first else now + late) + sum(others)

    def speeds(self, kind: str) -> Mapping[str, float]:
        """Items per second of each member whose rate is known."""
        return {member.name: 1 / member.rates[kind] for member in self.ready if member.rates.get(kind)}

    @property
    def tell(self) -> Callable[[str], None] | None:
        return self._tell

    @tell.setter
    def tell(self, tell: Callable[[str], None] | None) -> None:
        self._tell = tell
        if tell:
            # Messages from before a listener was set.
            for line in self._told:
                tell(line)
            self._told.clear()

    def say(self, line: str) -> None:
        """Pass a line to ``tell``, or keep it until ``tell`` is set."""
        if self._tell:
            self._tell(line)
        else:
            self._told.append(line)

    def close(self) -> None:
        """End all workers."""
        self.members.clear()
        self._links.close()

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _look(self) -> bool:
        """Add new members. Returns whether there are any."""
        now = self._clock()
        if self._looked is not None and now - self._looked < JOIN_SECONDS:
            return False
        self._looked = now
        new = [Member(link) for link in self._links.more()]
        self.members += new
        for member in new:
            self.greet(member)
        return bool(new)

    def _leased(self) -> Iterator[tuple[float, Member]]:
        """The end of the lease of each member that has a job, and the member."""
        for member in self.members:
            if member.jobs:
                job = member.jobs[0]
                yield member.since + self._leases.of(member.expected(job.kind, job.count)), member

    def _next_lease(self) -> float:
        return min((end for end, _ in self._leased()), default=self._clock() + JOIN_SECONDS) - self._clock()

    def _end_leases(self) -> None:
        now = self._clock()
        for end, member in list(self._leased()):
            if now >= end:
                self.lose(member, f"no answer for {now - member.since:.0f} seconds")


def _times_as_long(member: Member, other: Member) -> float | None:
    """How many times as long as another member one needs; ``None`` if they have no kind of item in common."""
    ratios = [
        rate / other.rates[kind]
        for kind, rate in member.rates.items()
        if member is not other and kind != QUESTION and other.rates.get(kind)
    ]
    return median(ratios) if ratios else None


def raised(answer: Future[Any]) -> Any:
    """A worker's answer. Raises the worker's error, or ``LostError`` if the worker is lost."""
    try:
        return answer.result()
    except (LostError, PixelsmithError):
        raise
    except Exception as error:
        raise LostError(f"{type(error).__name__}: {error}") from error
