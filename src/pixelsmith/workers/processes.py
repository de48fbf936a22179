"""Workers of this machine: a process for each device.

They are processes instead of threads because Python's global interpreter lock lets only one thread launch kernels at a
time, because the failure of an accelerator makes its whole process unusable, and because only a process can be ended
while it hangs.
"""

from __future__ import annotations

import os
import pickle
import signal
import struct
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from queue import SimpleQueue
from threading import Lock, Thread
from typing import Any, BinaryIO

from pixelsmith.engine.crew import Link, LostError, unshared
from pixelsmith.errors import RequestError

_LENGTH = struct.Struct(">Q")
_VISIBLE = {"cuda": "CUDA_VISIBLE_DEVICES", "xpu": "ZE_AFFINITY_MASK"}
"""The environment variable that selects a process's devices, by their kind."""
_END_SECONDS = 5.0


class Processes:
    """Workers on devices of this machine, which are named as in PyTorch: ``cuda:0``, ``cuda:1``, ``cpu``."""

    def __init__(self, devices: Sequence[str]) -> None:
        self._to_start, self._links = list(devices), list[ProcessLink]()

    def more(self) -> Sequence[Link]:
        devices, self._to_start = self._to_start, []
        names = [name if devices.count(name) == 1 else f"{name} ({i})" for i, name in enumerate(devices, start=1)]
        started = [ProcessLink(name, device, devices) for name, device in zip(names, devices, strict=True)]
        self._links += started
        return started

    def close(self) -> None:
        for link in self._links:
            link.kill()
        for link in self._links:
            link.wait()
        self._links.clear()


class ProcessLink:
    """A worker in its own process, which receives calls through its standard input.

    It ends when this process ends, even if this one is killed.
    """

    def __init__(self, name: str, device: str, all_devices: Sequence[str] = ()) -> None:
        self.name = name
        self._lock, self._calls, self._count, self._ended = Lock(), dict[int, Future[Any]](), 0, False
        # Its output is kept for the message about why it ended.
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115
        command = [sys.executable, "-m", "pixelsmith.workers", device.partition(":")[0]]
        self._process = subprocess.Popen(  # noqa: S603
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=environment(device, all_devices),
        )
        self._out: SimpleQueue[Any] = SimpleQueue()
        self._threads = [Thread(target=target, daemon=True) for target in (self._read, self._write)]
        for thread in self._threads:
            thread.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def call(self, method: str, *given: Any) -> Future[Any]:
        future: Future[Any] = Future()
        with self._lock:
            self._count += 1
            if self._ended:
                future.set_exception(LostError(self._end()))
                return future
            self._calls[self._count] = future
            self._out.put((self._count, method, unshared(given)))
        return future

    def kill(self) -> None:
        self._process.kill()

    def wait(self) -> None:
        """Wait until the process has ended."""
        self._process.wait()
        for thread in self._threads:
            thread.join(_END_SECONDS)
        self._errors.close()

    def _write(self) -> None:
        """Send calls in a thread, so that the caller does not wait until they are received."""
        calls: BinaryIO = self._process.stdin  # type: ignore[assignment]
        with suppress(OSError), calls:
            while (call := self._out.get()) is not None:
                _put(calls, call)

    def _read(self) -> None:
        """Receive answers until the process closes its output."""
        answers: BinaryIO = self._process.stdout  # type: ignore[assignment]
        with answers:
            while (answer := _get(answers)) is not None:
                number, value = answer
                with self._lock:
                    future = self._calls.pop(number)
                future.set_result(value)
        with self._lock:
            left, self._calls, self._ended = list(self._calls.values()), {}, True
        self._out.put(None)
        for future in left:
            future.set_exception(LostError(self._end()))

    def _end(self) -> str:
        """Why the process ended, for messages."""
        try:
            code = self._process.wait(_END_SECONDS)
            self._errors.seek(0)
            last = self._errors.read().decode(errors="replace").strip().splitlines()[-1:]
        except (subprocess.TimeoutExpired, ValueError):
            return "its process ended"
        if code < 0:
            with suppress(ValueError):
                return f"its process was ended by {signal.Signals(-code).name}"
        return f"its process ended{f': {last[0]}' if last else ''}"


def environment(device: str, all_devices: Sequence[str]) -> Mapping[str, str]:
    """The environment of a device's process: it sees no other device, and CPU workers share the cores.

    Raises ``RequestError`` if this process may not use the device.
    """
    values, (kind, _, number) = dict(os.environ), device.partition(":")
    if number and kind in _VISIBLE:
        values[_VISIBLE[kind]] = _visible(kind, number)
    cpus = all_devices.count("cpu")
    if kind == "cpu" and cpus > 1:
        values.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // cpus)))
    # It imports this package from the same place as this process.
    values["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    return values


def _visible(kind: str, number: str) -> str:
    """The name that the environment variable has for a device; its number counts those that this process sees."""
    listed = os.environ.get(_VISIBLE[kind])
    if listed is None:
        return number
    visible = [name for name in listed.split(",") if name]
    if int(number) >= len(visible):
        raise RequestError(
            f"devices: {kind}:{number} is not among {_VISIBLE[kind]}={listed}, the first of which is {kind}:0"
        )
    return visible[int(number)]


def serve(device: str) -> None:
    """Run the process of a worker: answer calls until the caller closes the connection or ends."""
    # Ctrl-C reaches all processes of a terminal; the one that started this worker ends it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = os.fdopen(os.dup(1), "wb")
    # Answers go through standard output, so what libraries print is sent to standard error.
    os.dup2(2, 1)
    calls: SimpleQueue[Any] = SimpleQueue()
    Thread(target=_listen, args=(sys.stdin.buffer, calls), daemon=True).start()
    from pixelsmith.workers.worker import Worker

    worker = Worker(device)
    while True:
        number, method, given = calls.get()
        _put(answers, (number, getattr(worker, method)(*given)))


def _listen(stream: BinaryIO, calls: SimpleQueue[Any]) -> None:
    """Receive calls while the worker computes, so that the caller never waits."""
    while (call := _get(stream)) is not None:
        calls.put(call)
    # The caller has ended, so the result of the current call is not needed.
    os._exit(0)


def _put(stream: BinaryIO, value: Any) -> None:
    data = pickle.dumps(value, protocol=5)
    stream.write(_LENGTH.pack(len(data)))
    stream.write(data)
    stream.flush()


def _get(stream: BinaryIO) -> Any:
    """The next value, or ``None`` at the end of the stream, which may be inside a value if the process was killed."""
    header = stream.read(_LENGTH.size)
    if len(header) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack(header)
    data = stream.read(length)
    if len(data) < length:
        return None
    return pickle.loads(data)  # noqa: S301 (of a process that this one started, or that started this one)
