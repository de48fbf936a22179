"""Executors, which run a phase group by group: they read on the host, compute on the device and write on the host.

The work of a phase (the patches of a step, the autoencoder's tiles) is divided into groups of items that do not depend
on each other: no item reads what another one writes. The result is therefore the same in whichever order and thread
they are processed (docs/decisions/0028-executors.md).
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
from pixelsmith.geometry import Window
from pixelsmith.sampling.readable import Readable
from pixelsmith.system.device import is_out_of_memory, room_for

READERS = max(1, min(4, (os.cpu_count() or 1) // 4))
"""Number of reading threads. A core needs several times as long to upsample a tile as a large GPU needs to encode it;
writing is cheaper, so there is one writing thread."""

PATCH = "one patch"
"""The kind of the items of denoising, whose batch size is halved if memory runs out."""

Inputs = TypeVar("Inputs")
Outputs = TypeVar("Outputs", Tensor, tuple[Tensor, ...])
"""The computed values of n items, (n, ...), or a tuple of such tensors."""
OnDone = Callable[[Sequence[int]], None]
"""A callback with the items of a group once they are written, in the order of the groups."""
OnSplit = Callable[[str, int], None]
"""A callback for when the device is out of memory, with the kind of the items and the new batch size."""


def unsaid(kind: str, most: int) -> None:
    """The default ``OnSplit``, which does nothing."""


def no_windows(indices: Sequence[int]) -> Iterable[tuple[Readable, Window]]:
    """The default ``Work.reads``: no window."""
    return ()


@dataclass(frozen=True)
class Work(Generic[Inputs, Outputs]):
    """Groups of items, and the functions that process each group.

    - ``kind``: the name of an item in messages, such as "one patch"; ``place``: describes where some items are.
    - ``groups``: the indices of the items of each group.
    - ``read``: returns the inputs of some items, on the host. It may be called from any thread, at any time.
    - ``compute``: returns the values of these items on the device, (n, ...), or a tuple of such tensors. If the device
      runs out of memory, it is called again with fewer items.
    - ``write``: stores the values of a group, which have been copied to the host; one group at a time, in order.
    - ``full``: a fixed batch size, for networks that are compiled for one: smaller batches are padded by repeating
      their last item. ``None``: batches are not padded.
    - ``reads``: the windows of sources that ``compute`` reads besides its inputs. Jobs for other processes carry them.
    """

    kind: str
    groups: Iterable[Sequence[int]]
    read: Callable[[Sequence[int]], Inputs]
    compute: Callable[[Inputs], Outputs]
    write: Callable[[Sequence[int], Outputs], None]
    place: Callable[[Sequence[int]], str]
    full: int | None = None
    reads: Callable[[Sequence[int]], Iterable[tuple[Readable, Window]]] = no_windows


@runtime_checkable
class Executor(Protocol):
    """Runs work. The result depends neither on the executor nor on timing.

    ``elsewhere``: whether it computes in other processes. Values that are keyed by their position, such as noise, are
    then generated there instead of being sent. ``even``: whether the batches of a step are even, as suits accelerators
    (docs/decisions/0032-codec-on-the-device.md).
    """

    @property
    def elsewhere(self) -> bool: ...

    @property
    def even(self) -> bool: ...

    def run(self, work: Work[Any, Any], on_done: OnDone) -> None:
        """Read, compute and write all groups.

        If the device has too little memory for a group, this one and all later ones are computed in halves. Raises
        ``DeviceError`` if the memory is too small for one item. Errors of ``read``, ``compute`` and ``write`` are
        raised with a note on where they occurred, those of ``on_done`` as they are. After an error no more groups are
        written.
        """
        ...

    def ahead(self, call: Callable[[], Found]) -> Callable[[], Found]:
        """Run ``call``, which later work needs, in the background if possible.

        The returned function waits for the result, and returns or raises it.
        """
        ...

    def behind(self, call: Callable[[], Found]) -> Callable[[], Found]:
        """Like ``ahead``, for a call that must run after all earlier writes and before all later ones."""
        ...


class Serial:
    """Runs everything in the calling thread, one after another: for the CPU, where threads would gain nothing."""

    elsewhere = even = False

    def __init__(self, on_split: OnSplit = unsaid) -> None:
        self._parts = _Parts(on_split)

    def run(self, work: Work[Any, Any], on_done: OnDone) -> None:
        for group in work.groups:
            read = self._parts.read(work, group)
            _write(work, group, self._parts.compute(work, group, read))
            on_done(group)

    def ahead(self, call: Callable[[], Found]) -> Callable[[], Found]:
        # It runs when its result is needed, because until then the result would only take memory.
        return call

    def behind(self, call: Callable[[], Found]) -> Callable[[], Found]:
        found = call()
        return lambda: found


class Threaded(HostThreads):
    """Reads ahead in ``readers`` threads and writes in another one, while the calling thread keeps the device busy.

    At most ``readers + 1`` groups are read ahead and one is being written, so memory is bounded.
    """

    elsewhere = False

    def __init__(self, on_split: OnSplit = unsaid, readers: int = READERS, even: bool = False) -> None:
        super().__init__(readers)
        self._parts, self._ahead, self.even = _Parts(on_split), readers + 1, even

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
                # Nothing beyond the reported groups may be written, so the next write waits for the report.
                finish()
                writing.append(_Pending(group, self.write(_write, work, group, values)))
            finish()
        except BaseException:
            # No thread may still be working when this returns.
            self.stop(pending.future for pending in (*reading, *writing))
            raise


@contextmanager
def executor_for(device: torch.device, on_split: OnSplit) -> Iterator[Executor]:
    """The executor that suits a device, while the context is open."""
    if device.type == "cpu":
        # Reading and writing threads would compete with the computing threads for the cores.
        yield Serial(on_split)
        return
    with Threaded(on_split, even=True) as executor:
        yield executor


class _Pending(NamedTuple):
    group: Sequence[int]
    future: Future[Any]


class _Parts:
    """Reads and computes groups in parts that fit into the device's memory."""

    def __init__(self, on_split: OnSplit) -> None:
        self._on_split = on_split
        self._most: dict[str, int] = {}

    def read(self, work: Work[Inputs, Any], group: Sequence[int]) -> _Read[Inputs]:
        """The inputs of a group, part by part."""
        most = self._most_of(work, group)
        parts = [group[i : i + most] for i in range(0, len(group), most)]
        with placed(work, group, "read"):
            inputs = [work.read(filled(part, most if work.full else len(part))) for part in parts]
        return _Read(most, [len(part) for part in parts], inputs)

    def compute(self, work: Work[Inputs, Outputs], group: Sequence[int], read: _Read[Inputs]) -> _Values[Outputs]:
        while True:
            most = self._most_of(work, group)
            if read.most > most:
                # It was read ahead, before the batch size was halved.
                read = self.read(work, group)
            try:
                with placed(work, group, "compute"), room_for(work.kind) if most == 1 else nullcontext():
                    found = [work.compute(inputs) for inputs in read.inputs]
                    return _Values(found, read.counts)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
            # Outside of the handler, whose traceback keeps the computed tensors alive.
            self._most[work.kind] = most // 2
            self._on_split(work.kind, most // 2)

    def _most_of(self, work: Work[Any, Any], group: Sequence[int]) -> int:
        """The largest number of items of a group that are computed at once."""
        size = work.full or len(group)
        return min(size, self._most.get(work.kind, size))


class _Read(NamedTuple, Generic[Inputs]):
    """The inputs of a group: the largest part, the number of items of each part without padding, and the parts."""

    most: int
    counts: list[int]
    inputs: list[Inputs]


class _Values(Generic[Outputs]):
    """Values that are being copied from the device to the host; ``on_host`` waits for them.

    They were computed in parts; the first ``counts`` items of each part are kept, the rest is padding.
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
        # The device computes the next group during the copy.
        host = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
        host.copy_(values, non_blocking=True)
        self._events.append(torch.cuda.Event())  # type: ignore[no-untyped-call]
        self._events[-1].record(torch.cuda.current_stream(values.device))
        return host


def _write(work: Work[Any, Any], group: Sequence[int], values: _Values[Any]) -> None:
    with placed(work, group, "write"):
        work.write(group, values.on_host())


def filled(part: Sequence[int], count: int) -> list[int]:
    """The items of a part, padded to ``count`` by repeating the last one."""
    return [*part, *[part[-1]] * (count - len(part))]


@contextmanager
def placed(work: Work[Any, Any], group: Sequence[int], what: str) -> Iterator[None]:
    """Add a note on where an error occurred to any error raised in this context."""
    try:
        yield
    except Exception as error:
        error.add_note(f"to {what} {work.place(group)}")
        raise
