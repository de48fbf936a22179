"""A model that is loaded once for several pictures."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pixelsmith import (
    CancelledError,
    CancelToken,
    Compute,
    Event,
    Method,
    Placement,
    Progress,
    Request,
    RequestError,
    RunError,
    Size,
    generate,
    load,
    plan,
    resume,
)
from pixelsmith.families import Family, load_family
from pixelsmith.run.shown import show

FLOAT = Compute("cpu", "float32")
FAST = Method(steps=2)


def request_of(model: Path, **changes: Any) -> Request:
    made = Request("a map", Size(150, 130), model=str(model), method=FAST, compute=FLOAT)
    return replace(made, **changes)


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[weakref.ref[Family]]:
    """The models that were loaded and are still in memory."""
    real, found = load_family, list[weakref.ref[Family]]()

    def counted(*given: Any) -> Family:
        family = real(*given)
        found.append(weakref.ref(family))
        return family

    monkeypatch.setattr("pixelsmith.api.lifecycle.load_family", counted)
    return found


def test_a_loaded_model_makes_the_same_pictures_as_generate(
    tiny_model: Path, tmp_path: Path, loads: list[weakref.ref[Family]]
) -> None:
    requests = [
        request_of(tiny_model),
        request_of(tiny_model, seed=1, prompt="a coast", negative_prompt="roads"),
        request_of(tiny_model, size=Size(64, 64)).with_method(merge="phase", sampler="dpmpp-2m"),
        request_of(tiny_model),
    ]
    expected = [generate(request).pixels for request in requests]
    assert len(loads) == 4
    with load(str(tiny_model), compute=FLOAT) as model:
        assert len(loads) == 5, "it is loaded at once"
        assert model.plan(requests[0]) == plan(requests[0])
        for request, pixels in zip(requests, expected, strict=True):
            assert np.array_equal(model.generate(request).pixels, pixels)
        made = model.generate(model.request("a map", Size(150, 130), method=FAST), tmp_path / "x.png")
        assert np.array_equal(made.pixels, expected[0])
        assert len(loads) == 5
        gc.collect()
        assert [there() is not None for there in loads] == [False] * 4 + [True]
    gc.collect()
    assert loads[-1]() is None, "it is freed"


def test_generate_frees_the_model_before_the_picture_is_written(
    tiny_model: Path, tmp_path: Path, loads: list[weakref.ref[Family]]
) -> None:
    there: list[bool] = []

    def look(event: Event) -> None:
        if isinstance(event, Progress) and event.phase == "write":
            gc.collect()
            there.append(loads[0]() is not None)

    generate(request_of(tiny_model), tmp_path / "x.png", look)
    assert there
    assert not any(there)


def test_released_encoders_are_loaded_again_for_the_next_picture(
    tiny_model: Path, loads: list[weakref.ref[Family]]
) -> None:
    compute = replace(FLOAT, memory="encoders-released")
    expected = generate(request_of(tiny_model)).pixels
    with load(str(tiny_model), compute=compute) as model:
        for _ in range(2):
            assert np.array_equal(model.generate(request_of(tiny_model, compute=compute)).pixels, expected)
    assert len(loads) == 3


def test_a_request_for_another_model_is_refused(tiny_model: Path) -> None:
    with load(str(tiny_model), compute=FLOAT) as model:
        with pytest.raises(RequestError, match=r"model: the request is for 'embedded' and its parts, but .* is loaded"):
            model.generate(Request("a map", Size(64, 64), compute=FLOAT))
        with pytest.raises(RequestError, match=r"compute: the model was loaded with .*bfloat16"):
            model.plan(request_of(tiny_model, compute=replace(FLOAT, dtype="bfloat16")))
        assert model.plan(request_of(tiny_model, compute=replace(FLOAT, batch_size=3))).stages


def cancelling(token: CancelToken, events: int) -> Callable[[Event], None]:
    """An observer that cancels the run at the n-th unit of work."""
    seen = 0

    def observe(event: Event) -> None:
        nonlocal seen
        seen += isinstance(event, Progress)
        if seen == events:
            token.cancel()

    return observe


@pytest.mark.parametrize("events", [1, 4, 8])
def test_a_cancelled_run_ends_at_once_and_can_be_resumed(tiny_model: Path, tmp_path: Path, events: int) -> None:
    request = request_of(tiny_model, compute=replace(FLOAT, batch_size=2))
    expected = generate(request).pixels
    with load(str(tiny_model), compute=FLOAT) as model:
        token, heard = CancelToken(), list[Event]()
        observe = cancelling(token, events)

        def listen(event: Event) -> None:
            heard.append(event)
            observe(event)

        with pytest.raises(CancelledError, match="cancelled") as caught:
            model.generate(request, tmp_path / "x.png", listen, tmp_path / "run", cancel=token)
        assert sum(isinstance(event, Progress) for event in heard) == events
        assert caught.value.__notes__ == [f"go on with 'pixelsmith resume {tmp_path / 'run'}'"]
        assert np.array_equal(model.resume(tmp_path / "run").pixels, expected)


def interrupted(model: Path, folder: Path, compute: Compute = FLOAT) -> Path:
    token = CancelToken()
    with pytest.raises(CancelledError):
        generate(
            request_of(model, compute=compute),
            folder / "x.png",
            cancelling(token, 6),
            folder / "run",
            cancel=token,
        )
    return folder / "run"


def test_a_run_of_another_model_is_not_resumed(tiny_model: Path, tmp_path: Path) -> None:
    run_dir = interrupted(tiny_model, tmp_path)
    with load(compute=FLOAT) as model, pytest.raises(RunError, match="begun with the model"):
        model.resume(run_dir)


def test_a_run_too_large_for_the_machine_is_not_resumed(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have begun on a larger one."""
    run_dir = interrupted(tiny_model, tmp_path)
    monkeypatch.setattr("pixelsmith.run.room.memory_of", lambda device: 500_000_000)
    with pytest.raises(RequestError, match=r"memory: .*cpu has 500\.0 MB"):
        resume(run_dir)


@pytest.mark.parametrize(
    "placement",
    [
        Placement(memory="encoders-released"),
        Placement(batch_size=3),
        Placement(device="auto"),
        Placement(attention="native"),
    ],
)
def test_a_run_resumes_with_another_placement_and_output(
    tiny_model: Path, tmp_path: Path, placement: Placement
) -> None:
    expected = generate(request_of(tiny_model)).pixels
    run_dir = interrupted(tiny_model, tmp_path)
    result = resume(run_dir, output=tmp_path / "y.png", placement=placement)
    assert (tmp_path / "y.png").exists()
    assert not (tmp_path / "x.png").exists()
    assert np.abs(result.pixels.astype(int) - expected).max() <= (1 if placement.batch_size else 0)


def test_the_attention_backend_of_a_resumed_run_is_checked(tiny_model: Path, tmp_path: Path) -> None:
    changes: dict[str, Any] = {
        "device": "cpu",
        "memory": "offload",
        "batch_size": 3,
        "tile": 512,
        "attention": "native",
    }
    assert asdict(Placement(**changes).of(Compute(attention="sage"))).items() >= changes.items()
    run_dir = interrupted(tiny_model, tmp_path)
    with pytest.raises(RequestError, match="attention: flash needs a GPU"):
        resume(run_dir, placement=Placement(attention="flash"))


def test_the_dtype_of_a_run_is_kept_on_another_device(tiny_model: Path, tmp_path: Path) -> None:
    run_dir = interrupted(tiny_model, tmp_path, Compute("auto", "float32"))
    resume(run_dir, placement=Placement(device="cpu"))
    with pytest.raises(RequestError, match="device: expected one of"):
        Placement(device="toaster")  # type: ignore[arg-type]
    with pytest.raises(RequestError, match="batch size"):
        Placement(batch_size=0)


def test_the_base_equals_the_picture_that_a_run_starts_from(tiny_model: Path, tmp_path: Path) -> None:
    request = request_of(tiny_model, seed=3)
    generate(request, tmp_path / "map.png", run_dir=tmp_path / "run")
    base = next(iter(show(tmp_path / "run").pictures.values()))
    with load(str(tiny_model), compute=FLOAT) as model:
        found = model.base(request)
        assert np.array_equal(found, np.asarray(base.look((0, 0, base.size.width, base.size.height), base.size)))
        assert not np.array_equal(found, model.base(replace(request, seed=4)))
        token = CancelToken()
        token.cancel()
        with pytest.raises(CancelledError):
            model.base(request, cancel=token)
        with pytest.raises(RequestError, match="starts from a given picture"):
            model.base(replace(request, from_image=str(tmp_path / "map.png"), size=Size(300, 260)))
