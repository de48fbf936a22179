"""Executors do the work of a phase: read on the host, compute on the device, write on the host, group by group.

The work of a phase (the patches of a step, an autoencoder's tiles) is cut into groups of items that do not depend on
each other: none reads what another one writes. So when and in which thread each part is done changes nothing of what
is written (docs/decisions/0028-executors.md).
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from itertools import islice
from typing import Any, Generic, NamedTuple, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor

from pixelsmith.engine.host_threads import Found, HostThreads
from pixelsmith.system.device import is_out_of_memory, room_for

READERS = max(1, min(4, (os.cpu_count() or 1) // 4))
"""Threads that read. To enlarge a tile for the encoder takes a core several times as long as the encoder takes on a
large GPU; a writer has less to do."""

Inputs = TypeVar("Inputs")
Outputs = TypeVar("Outputs", Tensor, tuple[Tensor, ...])
"""Values of some items (n, ...), or several of each."""
OnDone = Callable[[Sequence[int]], None]
"""Is called with the items of a group once they are written, in the order of the groups."""
OnSplit = Callable[[str, int], None]
"""Is called with the kind of the items and how many are computed at once from now on, where memory ended."""


def unsaid(kind: str, most: int) -> None:
    """Does nothing: the ``OnSplit`` where none is given."""


@dataclass(frozen=True)
class Work(Generic[Inputs, Outputs]):
    """Groups of items, and what is done with each.

    - ``kind``: what an item is, such as "one patch"; ``place``: where some of them are, for messages.
    - ``groups``: the numbers of the items of each group.
    - ``read``: what is needed to compute some items, on the host; any threads may call it, at any time.
    - ``compute``: their values (n, ...), on the device, from what was read; or several tensors of such. Where the
      device's memory ends it is called again for fewer.
    - ``write``: keep the values of a group, which are on the host by then; one group at a time, in their order.
    - ``full``: so many items are computed at once, whatever a group leaves over: the last one again and again; for
      networks that are compiled for one size. ``None``: as many as there are.
    """

    kind: str
    groups: Iterable[Sequence[int]]
    read: Callable[[Sequence[int]], Inputs]
    compute: Callable[[Inputs], Outputs]
    write: Callable[[Sequence[int], Outputs], None]
    place: Callable[[Sequence[int]], str]
    full: int | None = None


@runtime_checkable
class Executor(Protocol):
    """Does work. What it writes does not depend on which executor does it, nor on any timing.

    ``elsewhere``: whether it computes in other processes. Then what is keyed by place, as noise is, is made there and
    not read.
    """

    @property
    def elsewhere(self) -> bool: ...

    def run(self, work: Work[Any, Any], on_done: OnDone) -> None:
        """Read, compute and write all groups.

        A group for which the device has no memory is computed in halves, and so are those after it. Raises
        ``DeviceError`` where there is none for one item, and what reading, computing, writing and ``on_done`` raise,
        the first three with a note that says where. Then no more groups are written.
        """
        ...

    def ahead(self, call: Callable[[], Found]) -> Callable[[], Found]:
        """Do something that later work needs, beside the work at hand if that is possible.

        What is returned waits for it, and returns or raises what it did.
        """
        ...

    def behind(self, call: Callable[[], Found]) -> Callable[[], Found]:
        """The same with something that comes after all that was written, and before all that will be."""
        ...


class Serial:
    """One after another in the thread that asks: for a device that is the host itself, which waits for nothing."""

    elsewhere = False

    def __init__(self, on_split: OnSplit = unsaid) -> None:
        self._parts = _Parts(on_split)

    def run(self, work: Work[Any, Any], on_done: OnDone) -> None:
        for group in work.groups:
            read = self._parts.read(work, group)
            _write(work, group, self._parts.compute(work, group, read))
            on_done(group)

    def ahead(self, call: Callable[[], Found]) -> Callable[[], Found]:
        # Not before it is needed: until then it would take memory.
        return call

    def behind(self, call: Callable[[], Found]) -> Callable[[], Found]:
        found = call()
        return lambda: found


class Threaded(HostThreads):
    """Reads ahead in ``readers`` threads and writes behind in another, while the one that asks keeps the device busy.

    One group more than there are readers is read ahead and one is written at a time, so memory does not grow.
    """

    elsewhere = False

    def __init__(self, on_split: OnSplit = unsaid, readers: int = READERS) -> None:
        super().__init__(readers)
        self._parts, self._ahead = _Parts(on_split), readers + 1

    def run(self, work: Work[Any, Any], on_done: OnDone) -> None:
        groups, reading, writing = iter(work.groups), deque[_Pending](), deque[_Pending]()

        def read_ahead() -> None:
            for group in islice(groups, self._ahead - len(reading)):
                reading.append(_Pending(group, self.read(self._parts.read, work, group)))

        def finish() -> None:
            while writing:
                writing[0].future.result()
                on_done(writing.popleft().group)

        try:
            read_ahead()
            while reading:
                group, future = reading.popleft()
                read = future.result()
                read_ahead()
                values = self._parts.compute(work, group, read)
                # What is reported is written, and nothing beyond it: the next group waits for the report.
                finish()
                writing.append(_Pending(group, self.write(_write, work, group, values)))
            finish()
        except BaseException:
            # Nothing goes on when this returns.
            self.stop(pending.future for pending in (*reading, *writing))
            raise


@contextmanager
def executor_for(device: torch.device, on_split: OnSplit) -> Iterator[Executor]:
    """The executor that suits a device, while the context is open."""
    if device.type == "cpu":
        # Threads would take turns with those that compute.
        yield Serial(on_split)
        return
    with Threaded(on_split) as executor:
        yield executor


class _Pending(NamedTuple):
    group: Sequence[int]
    future: Future[Any]


class _Parts:
    """Reads and computes groups in parts that the device has memory for."""

    def __init__(self, on_split: OnSplit) -> None:
        self._on_split = on_split
        self._most: dict[str, int] = {}

    def read(self, work: Work[Inputs, Any], group: Sequence[int]) -> _Read[Inputs]:
        """What is needed to compute a group, part by part."""
        most = self._most_of(work, group)
        parts = [group[i : i + most] for i in range(0, len(group), most)]
        with placed(work, group, "read"):
            inputs = [work.read(filled(part, most if work.full else len(part))) for part in parts]
        return _Read(most, [len(part) for part in parts], inputs)

    def compute(self, work: Work[Inputs, Outputs], group: Sequence[int], read: _Read[Inputs]) -> _Values[Outputs]:
        while True:
            most = self._most_of(work, group)
            if read.most > most:
                # Read ahead, before memory ended.
                read = self.read(work, group)
            try:
                with placed(work, group, "compute"), room_for(work.kind) if most == 1 else nullcontext():
                    found = [work.compute(inputs) for inputs in read.inputs]
                    return _Values(found, read.counts)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
            # Outside of the handler, which keeps what was computed alive.
            self._most[work.kind] = most // 2
            self._on_split(work.kind, most // 2)

    def _most_of(self, work: Work[Any, Any], group: Sequence[int]) -> int:
        """How many items of a group are computed at once."""
        size = work.full or len(group)
        return min(size, self._most.get(work.kind, size))


class _Read(NamedTuple, Generic[Inputs]):
    """What was read of a group: at most how many items at once, how many of each part count, and each part."""

    most: int
    counts: list[int]
    inputs: list[Inputs]


class _Values(Generic[Outputs]):
    """Values on their way from the device to the host; ``on_host`` waits for them.

    They were computed in parts, of each of which the first ``counts`` count.
    """

    def __init__(self, parts: list[Outputs], counts: list[int]) -> None:
        self._events: list[torch.cuda.Event] = []
        several = not isinstance(parts[0], Tensor)
        found = tuple(self._brought(each, counts) for each in (zip(*parts, strict=True) if several else (parts,)))
        self._values: Any = found if several else found[0]

    def on_host(self) -> Outputs:
        for event in self._events:
            event.synchronize()
        values: Outputs = self._values
        return values

    def _brought(self, parts: Sequence[Any], counts: list[int]) -> Tensor:
        kept = [part[:count] for part, count in zip(parts, counts, strict=True)]
        values: Tensor = torch.cat(kept) if len(kept) > 1 else kept[0]
        if values.device.type != "cuda":
            return values.cpu()
        # The device goes on with the next group while these are copied.
        host = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
        host.copy_(values, non_blocking=True)
        self._events.append(torch.cuda.Event())  # type: ignore[no-untyped-call]
        self._events[-1].record(torch.cuda.current_stream(values.device))
        return host


def _write(work: Work[Any, Any], group: Sequence[int], values: _Values[Any]) -> None:
    with placed(work, group, "write"):
        work.write(group, values.on_host())


def filled(part: Sequence[int], count: int) -> list[int]:
    """The items of a part, and its last one as often as it takes."""
    return [*part, *[part[-1]] * (count - len(part))]


@contextmanager
def placed(work: Work[Any, Any], group: Sequence[int], what: str) -> Iterator[None]:
    """Add a note of where it happened to an error that is raised in this context."""
    try:
        yield
    except Exception as error:
        error.add_note(f"to {what} {work.place(group)}")
        raise
