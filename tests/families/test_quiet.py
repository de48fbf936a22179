"""Output of the libraries is suppressed in a context and restored after it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import diffusers.utils.logging as diffusers_log
import pytest
import transformers.utils.logging as transformers_log
from huggingface_hub import utils

from pixelsmith.families.loading.quiet import quiet, quiet_hub

hub: Any = utils


def bars() -> list[bool]:
    return [
        diffusers_log.is_progress_bar_enabled(),
        transformers_log.is_progress_bar_enabled(),
        not hub.are_progress_bars_disabled(),
    ]


@pytest.fixture(params=[True, False])
def shown(request: pytest.FixtureRequest) -> Iterator[bool]:
    """Whether the user has bars switched on."""
    before = bars()

    def switch(states: list[bool]) -> None:
        for on, log in zip(states, (diffusers_log, transformers_log), strict=False):
            (log.enable_progress_bar if on else log.disable_progress_bar)()
        (hub.enable_progress_bars if states[2] else hub.disable_progress_bars)()

    switch([request.param] * 3)
    yield request.param
    switch(before)


def test_progress_bars_are_disabled_in_the_context_and_restored_after_it(shown: bool) -> None:
    with quiet():
        assert bars() == [False] * 3
    assert bars() == [shown] * 3
    with quiet_hub():
        assert bars() == [shown, shown, False]
    assert bars() == [shown] * 3


def test_log_levels_are_restored_after_an_error() -> None:
    before = [log.get_verbosity() for log in (diffusers_log, transformers_log)]
    with pytest.raises(ValueError, match="stop"), quiet():
        raise ValueError("stop")
    assert [log.get_verbosity() for log in (diffusers_log, transformers_log)] == before
