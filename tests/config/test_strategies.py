"""Strategies, from the plan to the picture."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from PIL import Image

from pixelsmith import Method, Request, RequestError, Size, generate, plan
from pixelsmith.canvas import Array
from pixelsmith.config.strategies import STRATEGIES, StrategyName
from pixelsmith.events import Warned
from pixelsmith.pixels.resample import Resized


def request_of(model: Path, strategy: Any, size: int = 144, **changes: Any) -> Request:
    method = Method(steps=2, guidance_scale=1, strategy=strategy)
    return Request("a map", Size(size, size), model=str(model), method=method, **changes)


def test_every_name_is_a_strategy() -> None:
    assert set(STRATEGIES) == set(get_args(StrategyName))


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_gives_a_repeatable_picture_of_the_size(tiny_model: Path, strategy: StrategyName) -> None:
    request = request_of(tiny_model, strategy)
    pixels = generate(request).pixels
    assert pixels.shape == (144, 144, 3)
    assert np.array_equal(pixels, generate(request).pixels)


def test_they_differ_from_each_other(tiny_model: Path) -> None:
    pictures = [generate(request_of(tiny_model, strategy)).pixels.tobytes() for strategy in STRATEGIES]
    assert len(set(pictures)) == len(STRATEGIES)


def test_lanczos_equals_the_enlarged_base(tiny_model: Path) -> None:
    base = generate(request_of(tiny_model, "pixelsmith", 64)).pixels
    below = Array(torch.from_numpy(base.copy()).permute(2, 0, 1))
    expected = Resized(below, Size(64, 64), Size(144, 144), "lanczos").read(Size(144, 144).window)
    assert np.array_equal(generate(request_of(tiny_model, "lanczos")).pixels, expected.permute(1, 2, 0))


def test_settings_that_a_strategy_does_not_use_give_a_warning(tiny_model: Path) -> None:
    method = {"slider": 0.3, "border": 0, "start": 0.5}
    for strategy, expected in (("demofusion", "slider, border"), ("lanczos", "slider, border, start")):
        heard: list[object] = []
        generate(request_of(tiny_model, strategy).with_method(**method), observer=heard.append)
        said = [event.message for event in heard if isinstance(event, Warned)]
        assert said == [f"strategy: {strategy} has no use for {expected}"]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_defaults_give_no_warnings(tiny_model: Path, tmp_path: Path, strategy: StrategyName) -> None:
    start = tmp_path / "start.png"
    Image.new("RGB", (64, 64), "teal").save(start)
    # Those without stages take no picture to start from.
    for from_image in (None, *([] if STRATEGIES[strategy].growth == "none" else [str(start)])):
        heard: list[object] = []
        generate(replace(request_of(tiny_model, strategy), from_image=from_image), observer=heard.append)
        assert not [event for event in heard if isinstance(event, Warned)]


def test_plans_of_strategies(tiny_model: Path) -> None:
    """Native size 64: demofusion has stages of all multiples and its samples are counted; direct and lanczos have no
    stages.
    """
    plans = {name: plan(request_of(tiny_model, name, 256)) for name in STRATEGIES}
    sizes = {name: [stage.size.width for stage in made.stages] for name, made in plans.items()}
    assert sizes == {
        "pixelsmith": [256], "multidiffusion": [256], "demofusion": [128, 192, 256], "direct": [], "lanczos": [],
    }  # fmt: skip
    bases = {name: made.base.size.width for name, made in plans.items() if made.base}
    assert bases == {"pixelsmith": 64, "multidiffusion": 64, "demofusion": 64, "direct": 256, "lanczos": 64}
    local, with_samples = (plans[name].stages[-1].patches_per_step for name in ("multidiffusion", "demofusion"))
    assert abs(with_samples - local - 16) < 3


@pytest.mark.parametrize(
    ("strategy", "changes", "said"),
    [("direct", {"cascade": (Size(144, 144),)}, "cascade"), ("lanczos", {"cascade": (Size(144, 144),)}, "cascade"),
     ("direct", {"from_image": "photo.png"}, "given"), ("lanczos", {"from_image": "photo.png"}, "given")],
)  # fmt: skip
def test_settings_that_exclude_each_other_are_refused(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, strategy: str, changes: dict, said: str
) -> None:
    from PIL import Image

    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (64, 64)).save("photo.png")
    with pytest.raises(RequestError, match=said):
        plan(request_of(tiny_model, strategy, **changes))


def test_settings_that_a_merge_does_not_use_give_a_warning(tiny_model: Path) -> None:
    for method, expected in (
        ({"merge": "phase", "slider_steps": 0.5}, "merge: phase has no use for slider steps"),
        ({"chess_mask": False}, "merge: hold has no use for chess mask"),
        ({"merge": "residual", "slider": 0.2}, "merge: residual has no use for slider"),
    ):
        heard: list[object] = []
        generate(request_of(tiny_model, "pixelsmith").with_method(**method), observer=heard.append)
        assert [event.message for event in heard if isinstance(event, Warned)] == [expected]
