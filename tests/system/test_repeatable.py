"""Reproducibility: deterministic algorithms, and versions below PyTorch."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from pixelsmith import Compute, Event, Progress, Warned, generate, resume
from pixelsmith.system import repeatable
from pixelsmith.system.repeatable import changed, deterministic_algorithms, software_of
from tests.api.test_loaded import interrupted, request_of


def test_algorithms_are_deterministic_only_while_a_picture_is_made(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    seen: set[bool] = set()

    def observe(event: Event) -> None:
        if isinstance(event, Progress) and event.phase == "denoise":
            seen.add(torch.are_deterministic_algorithms_enabled())

    compute = Compute("cpu", "float32", deterministic=True)
    pixels = generate(request_of(tiny_model, compute=compute), observer=observe).pixels
    assert seen == {True}
    assert not torch.are_deterministic_algorithms_enabled()
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] in (":4096:8", ":16:8")
    seen.clear()
    assert np.array_equal(generate(request_of(tiny_model), observer=observe).pixels, pixels)
    assert seen == {False}


def test_earlier_settings_are_restored() -> None:
    torch.backends.cudnn.benchmark = True
    try:
        with deterministic_algorithms(True):
            assert not torch.backends.cudnn.benchmark
        assert torch.backends.cudnn.benchmark
    finally:
        torch.backends.cudnn.benchmark = False


def test_the_driver_version_is_read_from_the_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = tmp_path / "version"
    said.write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  570.86.15  Thu Jan 1\nGCC version: gcc 12.2.0\n")
    monkeypatch.setattr(repeatable, "_NVIDIA", said)
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    found = software_of(torch.device("cuda"))
    assert (found["driver"], found["cuda"]) == ("570.86.15", "12.8")
    said.unlink()
    assert "driver" not in software_of(torch.device("cuda"))
    assert software_of(torch.device("cpu")) == {}


def test_changed_versions_are_described() -> None:
    assert changed({"driver": "1"}, {"driver": "1"}) is None
    assert changed({"driver": "1", "cuda": "12"}, {"driver": "2", "cuda": "12"}) == "driver 1 is now 2"


def test_another_driver_gives_a_warning_and_the_run_resumes(tiny_model: Path, tmp_path: Path) -> None:
    run_dir = interrupted(tiny_model, tmp_path)
    file = run_dir / "run.json"
    values = json.loads(file.read_text())
    assert values.pop("checksum")
    values["software"] = {"driver": "570.1"}
    checksum = hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
    file.write_text(json.dumps({**values, "checksum": checksum}))
    heard: list[Event] = []
    pixels = resume(run_dir, observer=heard.append).pixels
    warnings = [event.message for event in heard if isinstance(event, Warned)]
    assert warnings == ["since this run began driver 570.1 is now unknown: what is made now may differ by rounding"]
    assert np.array_equal(pixels, generate(request_of(tiny_model)).pixels)
