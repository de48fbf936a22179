"""Pictures made by a Ray cluster that the tests start once: what the run does with workers is tested with processes."""

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
    """A cluster of one node; ``add_node`` lets another one join."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch, _signals_kept():
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_worker_niceness", "0")
        found = Cluster(initialize_head=True, head_node_args={"num_cpus": 3, "include_dashboard": False})
        yield found
        found.shutdown()


@pytest.fixture(scope="module")
def expected(tiny_model: Path) -> Any:
    """The pixels of the picture that the tests have made, as one device makes them."""
    return generate(request_of(tiny_model, 560)).pixels


def test_three_actors_of_which_one_dies_and_one_sleeps_for_ever(
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
        give_up(model, hit["denoise"], said)
    assert len(said) == 2, said
    assert "its process ended" in said[0]
    assert "no answer for" in said[1]
    assert np.array_equal(pixels, expected)


def test_the_embedded_model_makes_the_same_by_two_of_them(cluster: Any) -> None:
    request = Request("watercolor map of islands", Size(700, 200), method=Method(steps=2), compute=FLOAT32)
    with load(EMBEDDED, compute=request.compute, workers=Workers(("cpu",) * 2, cluster.address)) as model:
        wait_for(model, 2)
        pixels = model.generate(request).pixels
    assert np.array_equal(pixels, generate(request).pixels)


def test_a_node_that_joins_while_a_picture_is_made_gets_the_model_and_work(
    cluster: Any, tiny_model: Path, expected: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither node can reach the model's folder: its files come through the object store, which has them once."""
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


def test_an_address_where_no_cluster_is_is_said() -> None:
    with pytest.raises(RequestError, match=r"ray: no cluster answers at '127.0.0.1:9'"):
        RayLinks(Workers(ray="127.0.0.1:9"))
