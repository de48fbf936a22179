from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixelsmith.sampling.slider import guide_weights

shares = st.floats(0, 1)


@pytest.mark.parametrize(("slider", "guided"), [(0.0, 0), (0.6, 30), (0.98, 49), (1.0, 50)])
def test_guided_steps_of_the_papers_positions(slider: float, guided: int) -> None:
    assert guide_weights(50, slider) == (1.0,) * guided + (0.0,) * (50 - guided)


@given(steps=st.integers(1, 60), slider=shares, fade=shares)
def test_weights_of_the_guide_never_increase_and_stay_in_range(steps: int, slider: float, fade: float) -> None:
    weights = guide_weights(steps, slider, fade)
    assert len(weights) == steps
    assert all(0 <= weight <= 1 for weight in weights)
    assert list(weights) == sorted(weights, reverse=True)


@given(steps=st.integers(1, 60), fade=shares)
def test_positions_zero_and_one_guide_no_and_all_steps_with_any_fade(steps: int, fade: float) -> None:
    assert set(guide_weights(steps, 0, fade)) == {0.0}
    assert set(guide_weights(steps, 1, fade)) == {1.0}


def test_a_fade_is_one_half_at_the_slider() -> None:
    weights = guide_weights(41, 0.5, 0.4)
    assert weights[20] == pytest.approx(0.5)
    assert weights[0] == 1
    assert weights[-1] == 0
    assert 0 < weights[24] < 0.5
