"""Threads in which executors read and write while devices compute."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, TypeVar

import torch

Found = TypeVar("Found")
# beartype, which checks types in tests, knows ``Self`` only of whole classes.
Own = TypeVar("Own", bound="HostThreads")


class HostThreads:
    """``readers`` threads that read and one that writes; they also run other calls in the background.

    Each call runs in inference mode if the calling thread is in it. Use it in a ``with`` statement, which ends the
    threads.
    """

    def __init__(self, readers: int) -> None:
        self._reader = ThreadPoolExecutor(readers, "pixelsmith-read")
        self._writer = ThreadPoolExecutor(1, "pixelsmith-write")
        self._beside: list[Future[Any]] = []

    def read(self, function: Callable[..., Found], *given: Any) -> Future[Found]:
        """Call a function in a reading thread, as soon as one is free."""
        return self._reader.submit(_as_here(function), *given)

    def write(self, function: Callable[..., Found], *given: Any) -> Future[Found]:
        """Call a function in the writing thread, after all earlier calls."""
        return self._writer.submit(_as_here(function), *given)

    def ahead(self, call: Callable[[], Found]) -> Callable[[], Found]:
        """See ``Executor``."""
        return self._apart(self.read(call))

    def behind(self, call: Callable[[], Found]) -> Callable[[], Found]:
        """See ``Executor``."""
        return self._apart(self.write(call))

    def stop(self, futures: Iterable[Future[Any]] = ()) -> None:
        """Cancel these futures and all background calls, and wait for those that have begun."""
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
    """The function, for a call in another thread, with the inference mode of this thread."""
    inference = torch.is_inference_mode_enabled()

    def called(*given: Any) -> Found:
        with torch.inference_mode(inference):
            return function(*given)

    return called
