"""Pictures made by a Ray cluster that the test starts: what the run does with workers is tested with processes."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pytest

from pixelsmith import RequestError, Warned, Workers, generate, load
from pixelsmith.engine.crew import Leases
from pixelsmith.events import Event
from pixelsmith.workers.cluster import RayLinks
from tests.workers.test_pictures import COMPUTE, at_work, is_early, request_of, told, wait_for

pytest.importorskip("ray", reason="needs the extra ray")


def test_three_actors_of_which_one_dies_and_one_sleeps_for_ever(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pixelsmith.workers.fleet.LEASES", Leases(first=120, least=12, times=20))
    request, said, hit = request_of(tiny_model, 640), list[str](), dict[str, int]()
    with load(str(tiny_model), compute=COMPUTE, workers=Workers(("cpu",) * 3, "local")) as model:
        wait_for(model, 3)

        def strike(event: Event) -> None:
            if isinstance(event, Warned):
                said.append(event.message)
            elif is_early(event, ("encode", "denoise")) and event.phase not in hit:
                hit[event.phase] = at_work(model, hit.values())
                os.kill(hit[event.phase], signal.SIGKILL if event.phase == "encode" else signal.SIGSTOP)

        pixels = model.generate(request, observer=strike).pixels
        wait_for(model, 1)
        told(model, said)
    assert len(said) == 2, said
    assert "its process ended" in said[0]
    assert "no answer for" in said[1]
    assert np.array_equal(pixels, generate(request).pixels)


def test_an_address_where_no_cluster_is_is_said() -> None:
    with pytest.raises(RequestError, match=r"ray: no cluster answers at '127.0.0.1:9'"):
        RayLinks(Workers(ray="127.0.0.1:9"))
