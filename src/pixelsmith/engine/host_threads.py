"""Threads of the host in which executors read and write while devices compute."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, TypeVar

import torch

Found = TypeVar("Found")
# beartype, which checks types in tests, knows ``Self`` only of whole classes.
Own = TypeVar("Own", bound="HostThreads")


class HostThreads:
    """``readers`` threads that read and one that writes; they also do what is asked for beside the work at hand.

    In them gradients are kept or not as in the thread that asks. Use it in a ``with`` statement, which ends them.
    """

    def __init__(self, readers: int) -> None:
        self._reader = ThreadPoolExecutor(readers, "pixelsmith-read")
        self._writer = ThreadPoolExecutor(1, "pixelsmith-write")
        self._beside: list[Future[Any]] = []

    def read(self, function: Callable[..., Found], *given: Any) -> Future[Found]:
        """Call it in a thread that reads, as soon as one is free."""
        return self._reader.submit(_as_here(function), *given)

    def write(self, function: Callable[..., Found], *given: Any) -> Future[Found]:
        """Call it in the thread that writes, after all that it was asked for before."""
        return self._writer.submit(_as_here(function), *given)

    def ahead(self, call: Callable[[], Found]) -> Callable[[], Found]:
        """See ``Executor``."""
        return self._apart(self.read(call))

    def behind(self, call: Callable[[], Found]) -> Callable[[], Found]:
        """See ``Executor``."""
        return self._apart(self.write(call))

    def stop(self, futures: Iterable[Future[Any]] = ()) -> None:
        """End these and what was asked for beside the work: wait for what has begun, and never do the rest."""
        left = [*self._beside, *futures]
        for future in left:
            future.cancel()
        wait(left)

    def __enter__(self: Own) -> Own:
        return self

    def __exit__(self, *error: object) -> None:
        self._reader.shutdown()
        self._writer.shutdown()

    def _apart(self, future: Future[Found]) -> Callable[[], Found]:
        self._beside = [other for other in self._beside if not other.done()] + [future]
        return future.result


def _as_here(function: Callable[..., Found]) -> Callable[..., Found]:
    """A function to be called in another thread, in which gradients are kept or not as in this one."""
    inference = torch.is_inference_mode_enabled()

    def called(*given: Any) -> Found:
        with torch.inference_mode(inference):
            return function(*given)

    return called
