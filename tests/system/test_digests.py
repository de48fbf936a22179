"""SHA-256 of weights: large files are read once, and again if they could have changed."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import pytest

from pixelsmith.system import digests
from pixelsmith.system.digests import sha256_of


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that were read, in order."""
    read, done = digests._read, []

    def noted(path: Path) -> str:
        done.append(path)
        return read(path)

    monkeypatch.setattr(digests, "LARGE", 100)
    monkeypatch.setattr(digests, "_read", noted)
    return done


def settled(path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that was not changed for long: its time of change cannot be set, so the clock is."""
    path.write_bytes(content)
    now = time.time_ns()
    monkeypatch.setattr(time, "time_ns", lambda: now + 3600 * 10**9)
    return path


def expected(name: str, content: bytes) -> str:
    return hashlib.sha256(f"{name}\0{hashlib.sha256(content).hexdigest()}\n".encode()).hexdigest()


def test_a_large_file_is_read_once(tmp_path: Path, reads: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    file = settled(tmp_path / "weights", bytes(1000), monkeypatch)
    found = [sha256_of(file), sha256_of(file), sha256_of(tmp_path / "." / "weights")]
    assert found == [expected("weights", bytes(1000))] * 3
    assert reads == [file]


def test_a_small_file_is_always_read(tmp_path: Path, reads: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    file = settled(tmp_path / "config", bytes(10), monkeypatch)
    sha256_of(file)
    sha256_of(file)
    assert reads == [file, file]


def test_changed_content_of_the_same_size_and_time_is_detected(
    tmp_path: Path, reads: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = settled(tmp_path / "weights", bytes(1000), monkeypatch)
    sha256_of(file)
    before = file.stat()
    # The clock of a file system ticks some hundred times a second.
    time.sleep(0.05)
    file.write_bytes(b"1" * 1000)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert file.stat().st_mtime_ns == before.st_mtime_ns
    assert sha256_of(file) == expected("weights", b"1" * 1000)
    other = tmp_path / "other"
    other.write_bytes(b"2" * 1000)
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(file)
    assert sha256_of(file) == expected("weights", b"2" * 1000)


def test_digests_of_files_that_were_just_written_are_not_cached(tmp_path: Path, reads: list[Path]) -> None:
    file = tmp_path / "weights"
    file.write_bytes(bytes(1000))
    sha256_of(file)
    sha256_of(file)
    assert reads == [file, file]


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"KEY": {"state": 1}}', '{"KEY": 3}', '{"KEY": {"sha256": "0"}}'])
def test_a_damaged_cache_is_ignored(
    tmp_path: Path, reads: list[Path], monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    file = settled(tmp_path / "weights", bytes(1000), monkeypatch)
    cache = Path(os.environ["XDG_CACHE_HOME"]) / "pixelsmith" / "digests.json"
    cache.parent.mkdir(parents=True)
    cache.write_text(damage.replace("KEY", str(file)))
    assert sha256_of(file) == sha256_of(file) == expected("weights", bytes(1000))
    assert reads == [file]
