"""``pixelsmith doctor``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from pixelsmith import __version__, doctor
from pixelsmith.cli.program import cli
from pixelsmith.errors import DeviceError


def test_what_is_here_is_said_as_text_and_as_json() -> None:
    as_json = CliRunner().invoke(cli, ["doctor", "--no-self-test", "--json"])
    assert as_json.exit_code == 0
    found = json.loads(as_json.output)
    assert found["versions"]["pixelsmith"] == __version__
    assert found["versions"]["torch"]
    assert found["devices"][-1]["device"] == "cpu"
    assert {part["name"].partition(" ")[0] for part in found["parts"]} >= {"prompts", "quantized"}
    assert all(free > 0 for free in found["free_bytes"].values())
    assert found["self_test"] is None
    text = CliRunner().invoke(cli, ["doctor", "--no-self-test"]).output
    for title in ("Versions", "Devices", "Optional parts", "Folders", "Free disk"):
        assert f"{title}\n" in text


def test_a_part_that_is_not_here_comes_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    here = ["torch>=2", 'compel>=2; extra == "prompts"', "ray; extra == 'ray'", "mypy; extra == 'dev'"]
    here.append("pixelsmith[prompts,ray]; extra == 'all'")
    monkeypatch.setattr(doctor, "requires", lambda name: here)
    monkeypatch.setattr(doctor, "_version_of", lambda name: None if name == "ray" else "1")
    parts = {part.name: part for part in doctor.examine(self_test=False).parts}
    assert parts["prompts (compel)"].there
    assert not parts["ray (ray)"].there
    assert parts["ray (ray)"].install == "pip install 'pixelsmith[ray]'"
    assert not any(name.startswith(("dev", "all")) for name in parts)


def test_the_self_test_makes_a_picture_and_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = doctor.try_out("cpu", longest=600)
    assert (found.passed, found.said) == (True, "")
    assert list(tmp_path.iterdir()) == []


def test_a_self_test_that_takes_too_long_is_given_up() -> None:
    found = doctor.try_out("cpu", longest=0)
    assert not found.passed
    assert "not done in 0 s" in found.said


def test_a_self_test_that_fails_says_why_and_the_command_ends_with_1(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise DeviceError("the device has no memory for one patch")

    monkeypatch.setattr(doctor, "generate", fail)
    result = CliRunner().invoke(cli, ["doctor"])
    assert result.exit_code == 1
    assert "the device has no memory for one patch" in result.output
