"""Output for terminals: control characters are escaped, and units are readable."""

from __future__ import annotations

import pytest

from pixelsmith.errors import reason_of
from pixelsmith.system.terminal import amount, duration, printable


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("\x1b]0;title\x07red\x1b[31m", r"\x1b]0;title\x07red\x1b[31m"),
        ("a\r\nb\tc\x00\x7f\x9b2J", r"a\r\nb\tc\x00\x7f\x9b2J"),
        ("abc\u202egnp.exe\u2066\u2028", r"abc\u202egnp.exe\u2066\u2028"),
        ("caf\udce9", r"caf\udce9"),
        ("mer d'été 海 می‌خواهم 👩‍👩‍👧 ½\u00a0€", "mer d'été 海 می‌خواهم 👩‍👩‍👧 ½\u00a0€"),
    ],
)  # fmt: skip
def test_control_characters_are_escaped(text: str, printed: str) -> None:
    assert printable(text) == printed


@pytest.mark.parametrize(
    ("count", "said"),
    [(0, "0 B"), (999, "999 B"), (17_600_000, "17.6 MB"), (999_950, "1.0 MB"), (1.4787e15, "1.5 PB"),
     (2.5e24, "2,500.0 ZB")],
)  # fmt: skip
def test_units_of_bytes(count: float, said: str) -> None:
    assert amount(count) == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.4, "0 s"), (119, "119 s"), (125, "2:05 min"), (7200, "2:00 h"), (100_000, "27:46 h"), (86_400 * 12, "12 days"),
     (86_400 * 32_493, "89 years")],
)  # fmt: skip
def test_units_of_time(seconds: float, said: str) -> None:
    assert duration(seconds) == said


def test_advice_for_developers_is_left_out_of_reasons() -> None:
    text = (
        "Loading /x requires you to execute the configuration file in that repo. Set `trust_remote_code=True` to allow "
        "it. Pass low_cpu_mem_usage=False and device_map=None. It has no weights for a.b."
    )
    assert reason_of(ValueError(text)) == (
        "ValueError: Loading /x requires you to execute the configuration file in that repo. It has no weights for a.b."
    )
    text = "You set `ignore_mismatched_sizes` to `False`, thus raising an error. For details look at the above report!"
    assert reason_of(RuntimeError(text)) == "RuntimeError: its weights and its configuration are of different sizes."
    assert reason_of(ValueError("Pass trust_remote_code=True.")) == "ValueError"
    assert reason_of(ValueError("int too big\n to convert")) == "ValueError: int too big to convert"
