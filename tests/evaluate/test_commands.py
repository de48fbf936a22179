"""The commands ``pixelsmith evaluate`` and ``pixelsmith figures``."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.test_program import Call, call  # noqa: F401 (a fixture)

OWN = """
title = "Two ways"
seeds = [0]
factors = [1.5]
reference = "lanczos"
metrics = ["structure", "spectrum"]
prompts = {embedded = ["a map"], other = ["a map"]}
[[variants]]
name = "lanczos"
method = {strategy = "lanczos", steps = 1}
[[variants]]
name = "one step"
method = {steps = 1}
"""


def test_a_user_defined_protocol_from_the_command_line(call: Call, tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(OWN)
    arguments = ("evaluate", tmp_path / "mine.toml", "--output", tmp_path / "out", "--model", tiny_model)
    code, out, err = call(*arguments)
    assert (code, err) == (0, "")
    assert str(tmp_path / "out" / "table.md") in out
    assert "it needs real pictures" in (tmp_path / "out" / "table.md").read_text()
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "table.md", "table.csv", "sheet.jpg", "environment.json", "pictures",
    }  # fmt: skip
    assert call(*arguments, "--quiet") == (0, "", "")


def test_a_part_of_a_protocol(call: Call, tiny_model: Path, tmp_path: Path) -> None:
    """Fewer prompts and variants, another size; the reference is always included."""
    (tmp_path / "mine.toml").write_text(
        OWN.replace('["a map"]', '["a map", "a sea"]') + '[[variants]]\nname = "more"\n'
    )
    arguments = ("evaluate", tmp_path / "mine.toml", "--output", tmp_path / "out", "--model", tiny_model)
    assert call(*arguments, "--prompts", 1, "--factor", 1.25, "--only", "one step", "--quiet") == (0, "", "")
    rows = (tmp_path / "out" / "table.csv").read_text().splitlines()[1:]
    assert [row.split(",")[:3] for row in rows] == [["lanczos", "80x80", "1"], ["one step", "80x80", "1"]]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["evaluate", "table9"], "table1, table2, table3"),
        (["evaluate", "table1", "--truth", "/no/such"], "truth"),
        (["evaluate", "table1", "--tiny", "--clip", "/no/such"], "CLIP"),
        (["evaluate", "table3", "--super-resolution", "/no/such.pt2"], "torch.export"),
        (["evaluate", "table2", "--features", "odd"], "feature network"),
        (["evaluate", "table1", "--model", "/no/such"], "unknown model"),
        (["evaluate", "table1", "--prompts", "0"], "prompts"),
        (["evaluate", "table1", "--prompts", "13"], "has 12"),
        (["evaluate", "table1", "--factor", "0.5"], "factors"),
        (["evaluate", "table1", "--factor", "nan"], "factors"),
        (["evaluate", "table1", "--only", "no mask"], "'no chess mask'"),
        (["figures", "sweep", "--model", "/no/such"], "unknown model"),
        (["figures", "flowers"], "flowers"),
        (["figures", "sweep", "--factor", "nan"], "factor"),
        (["figures", "sweep", "--factor", "0.5"], "factor"),
    ],
)
def test_invalid_input_is_refused_in_one_line_before_any_picture(
    call: Call,
    tmp_path: Path,
    arguments: list[str],
    said: str,
) -> None:
    code, out, err = call(*arguments, "--output", tmp_path / "out")
    assert (code, out, err.count("\n")) == (2, "", 1), err
    assert said in err
    assert not list(tmp_path.rglob("*.png"))
