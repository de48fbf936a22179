"""A Ray actor for each device of a cluster (https://docs.ray.io)."""

from __future__ import annotations

import logging
import os
import re
import signal
import socket
import threading
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from typing import Any
from weakref import WeakKeyDictionary

from pixelsmith.config.workers import LOCAL, Workers
from pixelsmith.engine.crew import Link, LostError, Shared
from pixelsmith.errors import MissingPartError, RequestError, reason_of

ANSWER_SECONDS = 10.0
SMALL = 100_000
"""Bytes up to which an argument is sent with the call; larger ones are put into the object store, once for all."""
_MISSING = re.compile(r"(?:ModuleNotFoundError|ImportError): [^\n]+")


def check_ray() -> None:
    """Raise ``MissingPartError`` if Ray is not installed."""
    if find_spec("ray") is None:
        raise MissingPartError("--ray needs Ray, which is not installed: pip install 'pixelsmith[ray]'")


class RayLinks:
    """Workers of a Ray cluster. Raises ``RequestError`` if there is no cluster at the address.

    Without a list of devices, nodes that join the cluster later are used as well.
    """

    def __init__(self, workers: Workers) -> None:
        check_ray()
        import ray

        self._ray: Any = ray
        self._kinds, self._named = list(workers.kinds), bool(workers.kinds)
        self._links = list[RayLink]()
        self._there = set[str]()
        self._stored: WeakKeyDictionary[Shared, Any] = WeakKeyDictionary()
        self._began = not ray.is_initialized()
        if self._began:
            _begin(ray, workers)

    def more(self) -> Sequence[Link]:
        found = self._of_kinds() if self._named else self._of_nodes()
        self._links += found
        return found

    def close(self) -> None:
        for link in self._links:
            link.kill()
        self._links.clear()
        if self._began:
            self._ray.shutdown()

    def stored(self, given: Any) -> Any:
        """An argument of a call; a large shared one is replaced by a reference to the object store."""
        if not isinstance(given, Shared):
            return given
        if isinstance(given.value, bytes) and len(given.value) < SMALL:
            return given.value
        if given not in self._stored:
            self._stored[given] = self._ray.put(given.value)
        return self._stored[given]

    def _of_kinds(self) -> list[RayLink]:
        kinds, self._kinds = self._kinds, []
        return [self._link(f"{kind} ({i})", kind, {}) for i, kind in enumerate(kinds, start=1)]

    def _of_nodes(self) -> list[RayLink]:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        found = list[RayLink]()
        nodes = [node for node in self._ray.nodes() if node["Alive"]]
        on_gpus = any(node["Resources"].get("GPU") for node in nodes)
        for node in nodes:
            name, resources = node["NodeID"], node["Resources"]
            count = int(resources.get("GPU", 0)) if on_gpus else 1
            if name in self._there or count == 0:
                continue
            self._there.add(name)
            here = {"scheduling_strategy": NodeAffinitySchedulingStrategy(name, soft=False)}
            where = node.get("NodeManagerHostname") or name[:8]
            if on_gpus:
                found += [self._link(f"{where} cuda:{i}", "cuda", here) for i in range(count)]
            else:
                cores = max(1.0, resources.get("CPU", 1.0))
                found.append(self._link(f"{where} {name[:4]} cpu", "cpu", here | {"num_cpus": cores}))
        return found

    def _link(self, name: str, kind: str, options: dict[str, Any]) -> RayLink:
        from pixelsmith.workers.worker import Worker

        needs = {"num_cpus": 1} if kind == "cpu" else {"num_gpus": 1, "num_cpus": 0}
        actor = self._ray.remote(Worker).options(max_restarts=0, **needs | options).remote(kind)
        return RayLink(name, actor, self)


class RayLink:
    """A worker that is a Ray actor."""

    def __init__(self, name: str, actor: Any, links: RayLinks) -> None:
        self.name, self._actor, self._links = name, actor, links

    def call(self, method: str, *given: Any) -> Future[Any]:
        future: Future[Any] = Future()

        def answered(done: Future[Any]) -> None:
            error = done.exception()
            if error is None:
                future.set_result(done.result())
            else:
                future.set_exception(LostError(_reason(error)))

        try:
            reference = getattr(self._actor, method).remote(*map(self._links.stored, given))
            reference.future().add_done_callback(answered)
        except Exception as error:
            future.set_exception(LostError(_reason(error)))
        return future

    def kill(self) -> None:
        # If the cluster has ended, so has the actor.
        with suppress(Exception):
            self._links._ray.kill(self._actor, no_restart=True)


def _begin(ray: Any, workers: Workers) -> None:
    """Connect to the cluster, or start one on this machine. Raises ``RequestError``."""
    address = workers.ray or LOCAL
    if address == LOCAL and os.environ.get("RAY_ADDRESS"):
        # Ray sets this for the jobs of a cluster.
        address = os.environ["RAY_ADDRESS"]
    _check_answers(address)
    own: dict[str, Any] = {}
    if address == LOCAL:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        # Ray lowers the priority of workers by default, but here they are the main work.
        os.environ.setdefault("RAY_worker_niceness", "0")
        own = {"num_cpus": max(os.cpu_count() or 1, workers.kinds.count("cpu")), "include_dashboard": False}
    # Errors are raised; Ray's other messages are for those who operate a cluster.
    logging.getLogger("ray").setLevel(logging.ERROR)
    with _signals_kept(), warnings.catch_warnings(action="ignore"):
        try:
            ray.init(address, logging_level="ERROR", log_to_driver=False, configure_logging=False, **own)
        except Exception as error:
            raise RequestError(f"ray: no cluster answers at {address!r} ({reason_of(error)})") from error


def _check_answers(address: str) -> None:
    """Raise ``RequestError`` if nothing listens at an address; Ray itself would try for minutes."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if not host or not port.isdecimal():
        return
    try:
        socket.create_connection((host, int(port)), ANSWER_SECONDS).close()
    except OSError as error:
        raise RequestError(f"ray: no cluster answers at {address!r} ({error.strerror or error})") from error


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Restore this process's signal handlers, which Ray replaces."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    kept = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)


def _reason(error: BaseException) -> str:
    """Why a worker was lost, in a few words; Ray's messages have many lines."""
    if found := _MISSING.search(str(error)):
        return f"this version of Pixelsmith is not installed there ({found[0]})"
    names = {"ActorDiedError": "its process ended", "ActorUnavailableError": "it cannot be reached"}
    name = type(error).__name__
    return names.get(name) or (reason_of(error) if isinstance(error, Exception) else name)
