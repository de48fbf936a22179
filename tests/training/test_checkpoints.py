"""Checkpoints survive a crash at any moment, and a second training does not overwrite them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from training.checkpoints import Log, load_checkpoint, locked, save_checkpoint


def damage(path: Path) -> None:
    """As a disk does: the length is right, a part in the middle is not."""
    whole = bytearray(path.read_bytes())
    middle = len(whole) // 2
    whole[middle : middle + 100] = bytes(100)
    path.write_bytes(whole)


def save(path: Path, step: int) -> None:
    save_checkpoint(path, {"step": step, "weights": torch.full((1000,), float(step + 1))})


def test_the_previous_checkpoint_is_used_if_the_newest_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "run.pt"
    for step in range(3):
        save(path, step)
    assert load_checkpoint(path)["step"] == 2
    damage(path)
    assert load_checkpoint(path)["step"] == 1
    save(path, 2)
    damage(path)
    assert load_checkpoint(path)["step"] == 1, "the damaged one did not take the place of the whole one"
    path.write_bytes(path.read_bytes()[:1000])
    assert load_checkpoint(path)["step"] == 1
    path.unlink()
    assert load_checkpoint(path)["step"] == 1


@pytest.mark.parametrize("crash", ["flush", "link", "replace"])
def test_a_crash_while_writing_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, crash: str) -> None:
    path = tmp_path / "run.pt"
    save(path, 0)
    save(path, 1)

    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    where = {"flush": "training.checkpoints.flush", "link": "os.link", "replace": "pathlib.Path.replace"}[crash]
    with monkeypatch.context() as broken:
        broken.setattr(where, fail)
        with pytest.raises(KeyboardInterrupt):
            save(path, 2)
    assert load_checkpoint(path)["step"] == 1
    save(path, 2)
    assert load_checkpoint(path)["step"] == 2


def test_the_error_without_an_undamaged_checkpoint_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "run.pt"
    with pytest.raises(SystemExit, match="train first"):
        load_checkpoint(path)
    save(path, 0)
    damage(path)
    with pytest.raises(SystemExit, match=r"remove .*run\.pt to start again"):
        load_checkpoint(path)


def test_a_log_drops_steps_that_are_repeated_and_accepts_new_columns(tmp_path: Path) -> None:
    path = tmp_path / "run.csv"
    path.write_text("step,seconds,loss\n50,9,1.5\n100,18,1.25\n")
    log = Log(path, 50)
    log.append({"step": 100, "seconds": 20, "loss": 1.25, "t0-199": 0.5})
    assert path.read_text() == "step,seconds,loss,t0-199\n50,9,1.5,\n100,20,1.25,0.5\n"
    assert Log(path, 100).rows == log.rows


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX locks")
def test_a_second_training_is_refused_while_the_first_runs(tmp_path: Path) -> None:
    lock = tmp_path / "run.lock"
    code = (
        f"from pathlib import Path; from training.checkpoints import locked\nwith locked(Path({str(lock)!r})): print(1)"
    )
    with locked(lock):
        assert lock.read_text() == str(os.getpid()), "whom to signal"
        second = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert "trains here already" in second.stderr
        assert "Traceback" not in second.stderr
    assert not lock.read_text(), "nobody is signalled by mistake"
    third = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert third.stdout == "1\n"
