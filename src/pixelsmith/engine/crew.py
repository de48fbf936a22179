"""Workers as a run sees them: who is there, what each is at, how fast it is, and what happens when one is lost."""

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
"""After which it is asked again whether there are more workers."""
ALONE_SECONDS = 900.0
"""For which a run waits for a worker that is about to come, where it has no other."""


class LostError(Exception):
    """A worker is gone; the message says why."""


@dataclass(frozen=True, eq=False)
class Shared:
    """A value that several workers are sent: where they have a store in common it is put there once."""

    value: Any


def unshared(given: Sequence[Any]) -> list[Any]:
    """Arguments with the values themselves."""
    return [item.value if isinstance(item, Shared) else item for item in given]


@runtime_checkable
class Link(Protocol):
    """The way to one worker (``pixelsmith.workers.worker.Worker``), which does its calls one after another."""

    @property
    def name(self) -> str:
        """What people call it, such as ``cuda:1``."""
        ...

    def call(self, method: str, *given: Any) -> Future[Any]:
        """Call one of the worker's methods. The future raises ``LostError`` where the worker is gone."""
        ...

    def kill(self) -> None:
        """End the worker, whatever it does; calls that it has not answered raise ``LostError``."""
        ...


@runtime_checkable
class Links(Protocol):
    """Where workers come from."""

    def more(self) -> Sequence[Link]:
        """Ways to those that were not there when this was last called."""
        ...

    def close(self) -> None:
        """End all of them."""
        ...


@dataclass(frozen=True)
class Leases:
    """How long a worker may take for a job until it is given up, in seconds.

    ``first``: for its first one of a kind, in which kernels are chosen and graphs compiled; then ``times`` what such a
    job takes it, and at least ``least``.
    """

    first: float = 900.0
    least: float = 60.0
    times: float = 20.0

    def of(self, expected: float | None) -> float:
        return self.first if expected is None else max(self.least, self.times * expected)


@runtime_checkable
class Errand(Protocol):
    """What a member is at."""

    @property
    def kind(self) -> str: ...

    @property
    def count(self) -> int: ...

    def lost(self) -> None:
        """Is called where the member was lost before it was done."""
        ...


@dataclass(eq=False)
class Member:
    """A worker of the crew.

    - ``ready``: whether it takes jobs; ``jobs``: those it has, the first of which it has been at ``since``.
    - ``rates``: seconds for one item, by kind; ``most``: how many at once it has memory for, where it is known.
    - ``programs``: what it was sent to compute with.
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
        """Seconds that so many items take it; ``None`` while unknown."""
        return self.rates[kind] * count if kind in self.rates else None

    def measured(self, kind: str, seconds: float) -> None:
        """Take note of how long an item took."""
        known = self.rates.get(kind, seconds)
        # In a first one kernels are chosen and graphs compiled: that tells nothing of the next.
        self.rates[kind] = seconds if known > 4 * seconds else (known + seconds) / 2


class Crew:
    """All workers of a run, and what they answer; one thread at a time may use it.

    ``greet`` is called with a new member and says later, by ``admit`` or ``lose``, whether it is of use. ``tell`` is
    called with a line about each that is lost or refused.
    """

    def __init__(self, links: Links, leases: Leases | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.members: list[Member] = []
        self.greet: Callable[[Member], None] = self.admit
        self._links, self._leases, self._clock = links, leases or Leases(), clock
        self._events: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._told: list[str] = []
        self._tell: Callable[[str], None] | None = None
        self._looked: float | None = None
        self._served = clock()
        self._last_loss = "none came"

    def now(self) -> float:
        return self._clock()

    @property
    def ready(self) -> list[Member]:
        return [member for member in self.members if member.ready]

    def admit(self, member: Member) -> None:
        """Give it jobs from now on."""
        member.ready = True

    def lose(self, member: Member, reason: str) -> None:
        """Do without a member: its jobs go to others."""
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

    def check(self) -> None:
        """Raise ``DeviceError`` where there is no worker, and none is about to come."""
        if self.ready:
            self._served = self._clock()
        if not self.members or self._clock() - self._served > ALONE_SECONDS:
            raise DeviceError(f"no worker is left ({self._last_loss}); another set can go on: see --devices and --ray")

    def happened(self, event: Callable[[], None]) -> None:
        """Have something done by the thread that uses the crew; any thread may call it."""
        self._events.put(event)

    def answered(self, future: Future[Any], on_answer: Callable[[Future[Any]], None]) -> None:
        """Have ``on_answer`` called by the thread that uses the crew when there is an answer."""
        future.add_done_callback(lambda done: self.happened(lambda: on_answer(done)))

    def turn(self, patience: float) -> None:
        """Wait so many seconds for something to happen, and do what follows from it."""
        patience = 0.0 if self._look() else min(patience, self._next_lease(), JOIN_SECONDS)
        with suppress(Empty):
            self._events.get(timeout=max(0.0, patience))()
            while True:
                self._events.get_nowait()()
        self._end_leases()
        self.check()

    def wait(self, until: Callable[[], bool], seconds: float) -> None:
        """Go on until something holds, or for so long."""
        end = self._clock() + seconds
        while not until() and (left := end - self._clock()) > 0:
            self.turn(min(left, 1.0))

    def begin(self, member: Member, job: Errand) -> None:
        """Note that a member has a job more."""
        if not member.jobs:
            member.since = self._clock()
        member.jobs.append(job)

    def end(self, member: Member, job: Errand) -> bool:
        """Note that it has one less; whether it had that one."""
        if job not in member.jobs:
            return False
        member.jobs.remove(job)
        member.since = self._clock()
        return True

    def seconds(self, member: Member, kind: str, count: int) -> float:
        """How long so many items are expected to take a member: where nothing is known, as the others."""
        own = member.expected(kind, count)
        if own is None:
            known = [other.rates[kind] * count for other in self.ready if kind in other.rates]
            return median(known) if known else 1.0
        return own

    def free_at(self, member: Member) -> float:
        """When a member is expected to have done what it has. Who is late is taken to need as long again."""
        now = self._clock()
        if not member.jobs:
            return now
        first, *others = (self.seconds(member, job.kind, job.count) for job in member.jobs)
        late = now - member.since
        return (member.since + first if late <= first else now + late) + sum(others)

    def speeds(self, kind: str) -> Mapping[str, float]:
        """Items a second of each member that has done some."""
        return {member.name: 1 / member.rates[kind] for member in self.ready if member.rates.get(kind)}

    @property
    def tell(self) -> Callable[[str], None] | None:
        return self._tell

    @tell.setter
    def tell(self, tell: Callable[[str], None] | None) -> None:
        self._tell = tell
        if tell:
            # What happened before anybody listened.
            for line in self._told:
                tell(line)
            self._told.clear()

    def say(self, line: str) -> None:
        """Tell it to who listens, now or later."""
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
        """Whether there are new members."""
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
        """When the lease of each member that is at work ends."""
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


def raised(answer: Future[Any]) -> Any:
    """What a worker answered. Raises what it raised, ``LostError`` where it is gone."""
    try:
        return answer.result()
    except (LostError, PixelsmithError):
        raise
    except Exception as error:
        raise LostError(f"{type(error).__name__}: {error}") from error
