"""Files are opened and replaced without harm to other files, also in prepared folders."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pixelsmith import RunError, Size
from pixelsmith.canvas import DiskSpace
from pixelsmith.canvas.slots import DiskSlots
from pixelsmith.run.directory import Identity, Record, RunDirectory
from pixelsmith.sampling.grid import fixed_grid
from pixelsmith.system.durable import NotAFileError, open_to_keep, open_to_read, read_whole, write_new, write_whole

Prepared = Callable[[Path, Path], None]


def link(path: Path, mine: Path) -> None:
    path.symlink_to(mine)


def other_name(path: Path, mine: Path) -> None:
    path.hardlink_to(mine)


def folder(path: Path, mine: Path) -> None:
    path.mkdir()


def pipe(path: Path, mine: Path) -> None:
    os.mkfifo(path)


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    path = tmp_path / "mine.txt"
    path.write_text("mine")
    return path


@pytest.mark.parametrize("prepared", [link, other_name, folder, pipe])
def test_links_and_special_files_are_refused_at_once(tmp_path: Path, mine: Path, prepared: Prepared) -> None:
    prepared(tmp_path / "file", mine)
    with pytest.raises(NotAFileError, match="expected a file"):
        open_to_keep(tmp_path / "file")
    with pytest.raises(OSError, match=r"exists|expected a file"):
        write_new(tmp_path / "file", b"theirs")
    if prepared in (folder, pipe):
        with pytest.raises(NotAFileError):
            open_to_read(tmp_path / "file")
    assert mine.read_text() == "mine"


@pytest.mark.parametrize("prepared", [link, other_name])
def test_a_written_file_replaces_a_link(tmp_path: Path, mine: Path, prepared: Prepared) -> None:
    prepared(tmp_path / "file", mine)
    write_whole(tmp_path / "file", b"theirs")
    assert (read_whole(tmp_path / "file"), mine.read_text()) == (b"theirs", "mine")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "mine.txt"]


def test_a_failed_write_leaves_no_file(tmp_path: Path) -> None:
    (tmp_path / "file").mkdir()
    with pytest.raises(OSError, match=r"expected a file.*/file'$"):
        write_whole(tmp_path / "file", b"content")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("prepared", [link, other_name, folder, pipe])
@pytest.mark.parametrize("suffix", [".data", ".sums"])
def test_slots_name_what_is_in_their_place(tmp_path: Path, mine: Path, prepared: Prepared, suffix: str) -> None:
    prepared(tmp_path / f"guide{suffix}", mine)
    with pytest.raises(NotAFileError, match="expected a file") as raised:
        DiskSlots(tmp_path / "guide", 3, 4, np.float32)
    assert raised.value.filename == str(tmp_path / f"guide{suffix}")
    assert mine.read_text() == "mine"


def test_a_stage_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "guide.data").write_text("mine")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "stage-1").symlink_to(tmp_path / "mine")
    with pytest.raises(NotADirectoryError, match="expected a folder"):
        DiskSpace(tmp_path / "run").open("stage-1/guide", fixed_grid(Size(8, 8), 4, 1, 0), 3)
    assert (tmp_path / "mine" / "guide.data").read_text() == "mine"


@pytest.mark.parametrize("name", ["lock", "finished", "run.json.0a1b2c3d.partial"])
def test_links_in_a_prepared_run_directory_are_not_followed(tmp_path: Path, mine: Path, name: str) -> None:
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    record = Record(Identity({}, 1, "", None, {}), tmp_path, None, keep=True)
    if name == "finished":
        with RunDirectory.create(run_dir) as run:
            run.begin(record)
    (run_dir / name).symlink_to(mine)
    try:
        with RunDirectory(run_dir) if name == "finished" else RunDirectory.create(run_dir) as run:
            if name != "finished":
                run.begin(record)
            run.finish()
    except RunError:
        assert name == "lock"
    assert mine.read_text() == "mine"
    assert not list(run_dir.glob("*.partial"))


def test_only_what_a_killed_write_left_is_removed_from_a_run_directory(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    (run_dir / "mine").mkdir(parents=True)
    mine = [run_dir / "film.mkv.partial", run_dir / "mine" / "film.0a1b2c3.partial"]
    left = [run_dir / "run.json.0a1b2c3d.partial", run_dir / "mine" / "index.01234567.partial"]
    for path in (*mine, *left):
        path.write_text("half")
    with RunDirectory(run_dir):
        assert all(path.exists() for path in mine)
        assert not any(path.exists() for path in left)
    shutil.rmtree(run_dir / "mine")
    with pytest.raises(RunError, match="expected a new or an empty directory"):
        RunDirectory.create(run_dir)
    mine[0].rename(left[0])
    RunDirectory.create(run_dir)


def test_reading_does_not_wait_for_a_named_pipe(tmp_path: Path, mine: Path) -> None:
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    os.mkfifo(run_dir / "run.json")
    with pytest.raises(RunError, match=r"run\.json cannot be used"):
        RunDirectory(run_dir).read()
    (tmp_path / "alias").symlink_to(mine)
    assert read_whole(tmp_path / "alias") == b"mine", "a user's own link is followed when it is read"
