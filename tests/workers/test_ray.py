"""Pictures made by a Ray cluster that the tests start once; how a run uses workers is tested with processes."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pixelsmith import Compute, Method, Progress, Request, RequestError, Size, Warned, Workers, generate, load
from pixelsmith.config.request import EMBEDDED
from pixelsmith.events import Event
from pixelsmith.workers.cluster import RayLinks, _signals_kept
from pixelsmith.workers.model_transfer import ModelFiles
from tests.workers.test_pictures import COMPUTE, LONG, give_up, is_early, request_of, strike, wait_for

FLOAT32 = Compute(dtype="float32", batch_size=1)

pytest.importorskip("ray", reason="needs the extra ray")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A cluster of one node; ``add_node`` adds another one."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch, _signals_kept():
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_worker_niceness", "0")
        found = Cluster(initialize_head=True, head_node_args={"num_cpus": 3, "include_dashboard": False})
        yield found
        found.shutdown()


@pytest.fixture(scope="module")
def expected(tiny_model: Path) -> Any:
    """The pixels of the tests' picture, made by one device."""
    return generate(request_of(tiny_model, 560)).pixels


def test_a_killed_and_a_hanging_actor_do_not_change_the_picture(
    cluster: Any, tiny_model: Path, expected: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pixelsmith.workers.fleet.LEASES", LONG)
    request, said, hit = request_of(tiny_model, 560), list[str](), dict[str, int]()
    with load(str(tiny_model), compute=COMPUTE, workers=Workers(("cpu",) * 3, cluster.address)) as model:
        wait_for(model, 3)

        def observe(event: Event) -> None:
            if isinstance(event, Warned):
                said.append(event.message)
            elif is_early(event, ("encode", "denoise")) and event.phase not in hit:
                strike(model, hit, event.phase, signal.SIGKILL if event.phase == "encode" else signal.SIGSTOP)

        pixels = model.generate(request, observer=observe).pixels
        give_up(model, hit, said)
    assert len(said) == 2, said
    assert "its process ended" in said[0]
    assert "no answer for" in said[1]
    assert np.array_equal(pixels, expected)


def test_two_actors_make_the_same_picture_with_the_embedded_model(cluster: Any) -> None:
    request = Request("watercolor map of islands", Size(700, 200), method=Method(steps=2), compute=FLOAT32)
    with load(EMBEDDED, compute=request.compute, workers=Workers(("cpu",) * 2, cluster.address)) as model:
        wait_for(model, 2)
        pixels = model.generate(request).pixels
    assert np.array_equal(pixels, generate(request).pixels)


def test_a_node_that_joins_during_a_run_receives_the_model_and_work(
    cluster: Any, tiny_model: Path, expected: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No node can read the model's folder: its files are sent through the object store, once."""
    monkeypatch.setattr(ModelFiles, "spelled", "/nowhere/a model")
    monkeypatch.setattr("pixelsmith.engine.crew.JOIN_SECONDS", 0.2)
    request, joined, used = request_of(tiny_model, 560), list[Any](), set[str]()
    with load(str(tiny_model), compute=COMPUTE, workers=Workers(ray=cluster.address)) as model:
        wait_for(model, 1)

        def join(event: Event) -> None:
            if is_early(event, ("denoise",)) and not joined:
                joined.append(cluster.add_node(num_cpus=1))
                wait_for(model, 2)
            if isinstance(event, Progress):
                used.update(event.workers)

        try:
            pixels = model.generate(request, observer=join).pixels
            assert model._model.fleet is not None
            links: Any = model._model.fleet.crew._links
            large = [shared for shared in links._stored if isinstance(shared.value, bytes) and b"unet" in shared.value]
        finally:
            for node in joined:
                cluster.remove_node(node)
    assert len(used) == 2, used
    assert len(large) == 1
    assert np.array_equal(pixels, expected)


def test_an_address_without_a_cluster_is_refused() -> None:
    with pytest.raises(RequestError, match=r"ray: no cluster answers at '127.0.0.1:9'"):
        RayLinks(Workers(ray="127.0.0.1:9"))
