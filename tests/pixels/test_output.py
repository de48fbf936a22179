"""The output file: one process writes it, names are checked before the work, and nothing is lost or left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from pixelsmith import PictureError, Size
from pixelsmith.canvas import Array
from pixelsmith.geometry import Window
from pixelsmith.pixels.files import write_into, write_picture
from pixelsmith.pixels.formats import FORMATS
from pixelsmith.pixels.output import Output, tiles_of
from pixelsmith.pixels.reading import read_picture
from pixelsmith.pixels.settings_inside import read_settings

PIXELS = torch.randint(0, 256, (3, 30, 50), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
SETTINGS = {"request": {"prompt": "a map"}}


def names(folder: Path) -> list[str]:
    return sorted(item.name for item in folder.iterdir())


@pytest.mark.parametrize("suffix", ["png", "tif", "dzi", "zip"])
def test_a_second_writer_is_refused_without_effect_on_the_first(tmp_path: Path, suffix: str) -> None:
    path, refused = tmp_path / f"map.{suffix}", []

    class Watched:
        """While it is read another process comes, and one in the same."""

        size = Size(50, 30)

        def read(self, window: Window) -> torch.Tensor:
            code = "import sys; from pathlib import Path; from pixelsmith.pixels.output import Output\n"
            code += "with Output(Path(sys.argv[1]), overwrite=True): pass"
            done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True)
            refused.append("another process is writing it" in done.stderr)
            with pytest.raises(PictureError, match="another process"):
                write_picture(Array(PIXELS), path, SETTINGS)
            return PIXELS[(..., *window.slices)]

    write_picture(Watched(), path, SETTINGS)
    assert refused == [True]
    assert read_settings(path) == SETTINGS
    assert names(tmp_path) == [path.name, *(["map_files"] if suffix == "dzi" else [])]
    write_picture(Array(PIXELS), path, SETTINGS)


def test_concurrent_writers_leave_one_complete_file(tmp_path: Path) -> None:
    path, ends = tmp_path / "map.png", []

    def write() -> None:
        try:
            write_picture(Array(PIXELS), path, SETTINGS)
            ends.append("written")
        except PictureError:
            ends.append("refused")

    threads = [threading.Thread(target=write) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert "written" in ends
    assert torch.equal(read_picture(path).read(Size(50, 30).window), PIXELS)
    assert names(tmp_path) == ["map.png"]


def test_outputs_of_different_names_are_independent(tmp_path: Path) -> None:
    with Output(tmp_path / "a.png"), Output(tmp_path / "b.png"), Output(tmp_path / "a.tif"):
        assert len(names(tmp_path)) == 6
    assert names(tmp_path) == []


@pytest.mark.parametrize("name", ["x" * 247, "東" * 80, "x" * 251])
@pytest.mark.parametrize("suffix", [".png", ".dzi", ".zip"])
def test_a_name_that_is_too_long_is_refused_before_the_work(tmp_path: Path, name: str, suffix: str) -> None:
    """The name itself and that of the folder of tiles: at most 255 bytes here."""
    fits = len(f"{name}_files".encode() if suffix == ".dzi" else f"{name}{suffix}".encode()) <= 255
    path = tmp_path / f"{name}{suffix}"
    if fits:
        write_picture(Array(PIXELS), path, SETTINGS)
        assert read_settings(path) == SETTINGS
    else:
        with pytest.raises(PictureError, match="File name too long"), Output(path):
            pass
        assert names(tmp_path) == []


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have names in Unicode only")
@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "webp", "dzi", "zip"])
def test_a_name_in_another_encoding_is_written_and_read(tmp_path: Path, suffix: str) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + f"/caf\xe9.{suffix}".encode("latin-1")))
    write_picture(Array(PIXELS), path, SETTINGS)
    assert read_settings(path) == SETTINGS
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/d\xe9"))
    folder.mkdir()
    with pytest.raises(PictureError, match="not in UTF-8"), Output(folder / f"a.{suffix}"):
        pass
    assert names(folder) == []


def test_a_name_beyond_the_locale_is_written_and_read(tmp_path: Path) -> None:
    """With Python's file names in ASCII, as in the locale C without UTF-8 mode."""
    code = (
        "import sys, torch; from pathlib import Path; from pixelsmith.canvas import Array\n"
        "from pixelsmith.pixels.files import write_picture\n"
        "from pixelsmith.pixels.settings_inside import read_settings\n"
        "assert sys.getfilesystemencoding() == 'ascii'\n"
        "for name in ('png', 'dzi', 'zip'):\n"
        "    path = Path(sys.argv[1] + '.' + name)\n"
        "    write_picture(Array(torch.zeros(3, 9, 9, dtype=torch.uint8)), path, {'request': {}})\n"
        "    read_settings(path)"
    )
    (tmp_path / "東京").mkdir()
    environment = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    subprocess.run([sys.executable, "-c", code, tmp_path / "東京" / "ü"], check=True, env=environment)
    assert names(tmp_path / "東京") == ["ü.dzi", "ü.png", "ü.zip", "ü_files"]


@pytest.mark.parametrize("suffix", ["png", "dzi"])
def test_existing_files_are_replaced_only_on_request(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"map.{suffix}"
    write_picture(Array(PIXELS), path, SETTINGS)
    before = path.read_bytes()
    with pytest.raises(PictureError, match="--overwrite"), Output(path):
        pass
    assert path.read_bytes() == before
    if suffix == "dzi":
        path.unlink()
        with pytest.raises(PictureError, match="--overwrite"), Output(path):
            pass
    with Output(path, overwrite=True) as output:
        write_into(output, Array(PIXELS), {"request": {"prompt": "another"}})
    assert read_settings(path)["request"]["prompt"] == "another"


def test_an_empty_file_is_replaced(tmp_path: Path) -> None:
    """Programs create one to reserve its name."""
    (tmp_path / "map.png").touch()
    with Output(tmp_path / "map.png") as output:
        write_into(output, Array(PIXELS), SETTINGS)
    assert read_settings(tmp_path / "map.png") == SETTINGS


def test_a_link_is_replaced_but_not_its_target(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    (tmp_path / "map.png").symlink_to("mine.txt")
    with pytest.raises(PictureError, match="--overwrite"), Output(tmp_path / "map.png"):
        pass
    write_picture(Array(PIXELS), tmp_path / "map.png", SETTINGS)
    assert (tmp_path / "mine.txt").read_text() == "mine"
    assert not (tmp_path / "map.png").is_symlink()
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(PictureError, match="something else"), Output(tmp_path / "pipe.png", overwrite=True):
        pass


def test_links_beside_the_output_are_not_followed(tmp_path: Path) -> None:
    """At the names that earlier versions and this one write beside the output."""
    mine, folder = tmp_path / "mine.txt", tmp_path / "work"
    mine.write_text("mine")
    folder.mkdir()
    with Output(folder / "map.dzi") as output:
        beside = [*names(folder), output.folder.name]
    for name in [*beside, ".map.partial.dzi", ".map.partial_files", ".map.old_files"]:
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(mine)
    with suppress(PictureError):
        write_picture(Array(PIXELS), folder / "map.dzi", SETTINGS)
    assert mine.read_text() == "mine"


def test_files_of_a_killed_process_are_removed_by_the_next_writer(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from pixelsmith.pixels.output import Output\n"
        "with Output(Path(sys.argv[1])) as output:\n"
        "    output.partial.write_text('half'); os.kill(os.getpid(), 9)"
    )
    for name in ("map.png", "other.png"):
        subprocess.run([sys.executable, "-c", code, str(tmp_path / name)])
    assert len(names(tmp_path)) == 4, "a lock and a folder each"
    write_picture(Array(PIXELS), tmp_path / "map.png", SETTINGS)
    assert len(names(tmp_path)) == 3
    write_picture(Array(PIXELS), tmp_path / "other.png", SETTINGS)
    assert names(tmp_path) == ["map.png", "other.png"]


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize(
    ("name", "number"),
    [("map.png", signal.SIGTERM), ("map.dzi", signal.SIGTERM), ("map.zip", signal.SIGTERM), ("map.dzi", signal.SIGHUP)],
)
def test_sigterm_leaves_no_files(tmp_path: Path, name: str, number: signal.Signals) -> None:
    """While a picture is written; the command line installs the handler that turns the signal into an exception."""
    code = (
        "import sys, time, torch; from pathlib import Path\n"
        "from pixelsmith.system.ending import Terminated, end_orderly\n"
        "from pixelsmith.geometry import Size; from pixelsmith.pixels.files import write_picture\n"
        "class Slow:\n"
        "    size = Size(64, 100_000)\n"
        "    def read(self, window):\n"
        "        print('reading', flush=True); time.sleep(0.05)\n"
        "        return torch.zeros(3, window.height, window.width, dtype=torch.uint8)\n"
        "end_orderly()\n"
        "try:\n    write_picture(Slow(), Path(sys.argv[1]), {})\n"
        "except Terminated as ended:\n    sys.exit(ended.code)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / name)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert names(tmp_path) != []
        process.send_signal(number)
        process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert names(tmp_path) == []


@pytest.mark.parametrize("suffix", FORMATS)
def test_the_same_picture_gives_the_same_bytes(tmp_path: Path, suffix: str) -> None:
    """Also for DeepZoom, whose writer adds dates."""
    made = []
    for i in range(2):
        (tmp_path / str(i)).mkdir()
        write_picture(Array(PIXELS), tmp_path / str(i) / f"map{suffix}", SETTINGS)
        made.append({p.relative_to(tmp_path / str(i)): p.read_bytes() for p in (tmp_path / str(i)).rglob("*.*")})
        time.sleep(1.1 if suffix in (".dzi", ".zip") and i == 0 else 0)
    assert made[0] == made[1]
    assert all(made)
    assert tiles_of(tmp_path / "0" / f"map{suffix}").exists() == (suffix == ".dzi")


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="Linux")
def test_the_systems_reason_is_given_if_no_file_can_be_created() -> None:
    with (
        pytest.raises(PictureError, match=r"it cannot be written \(No such file or directory\)"),
        Output(Path("/proc/x.png")),
    ):
        pass
