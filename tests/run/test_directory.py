"""Run directories: runs that are killed, run out of disk space, are damaged or in use are resumed to the same bytes,
or refused with the reason.
"""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pixelsmith import (
    Compute,
    Method,
    OutputError,
    PhaseFinished,
    PictureError,
    Progress,
    Request,
    RequestError,
    RunError,
    Size,
    generate,
    resume,
)
from pixelsmith.api import lifecycle
from pixelsmith.api.functions import settings_of
from pixelsmith.engine import Threaded
from pixelsmith.engine.executor import OnSplit
from pixelsmith.events import Event
from pixelsmith.families import read_facts
from pixelsmith.families.loading.quiet import quiet
from pixelsmith.pixels.formats import FORMATS
from pixelsmith.pixels.reading import read_picture
from pixelsmith.pixels.settings_inside import read_settings
from pixelsmith.planning import planner
from pixelsmith.run.directory import Identity, Record, RunDirectory, _checksum
from tests.zoo.all import SPECIMENS

SPAWN = multiprocessing.get_context("forkserver")
# With the classes of the tiny model: what diffusers imports late, each process would import again.
SPAWN.set_forkserver_preload(["pixelsmith", "tests.tiny"])


def request_of(model: Path) -> Request:
    """Three stages with many patches and tiles, without guidance, so that each patch is one call of the network."""
    return Request(
        "a map",
        Size(150, 130),
        model=str(model),
        cascade=(Size(90, 80), Size(150, 130)),
        method=Method(steps=3, guidance_scale=1.0, stage_guidance_scale=1.0),
        compute=Compute(device="cpu", dtype="float32", batch_size=2),
    )


@pytest.fixture(scope="module")
def expected(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The file of an uninterrupted run in memory."""
    path = tmp_path_factory.mktemp("undisturbed") / "map.png"
    generate(request_of(tiny_model), path)
    return path.read_bytes()


def stopped_after(events: int) -> Callable[[Event], None]:
    """An observer that interrupts the run at the n-th event."""
    seen = 0

    def observe(event: Event) -> None:
        nonlocal seen
        seen += isinstance(event, Progress)
        if seen > events:
            raise KeyboardInterrupt

    return observe


def interrupted(model: Path, folder: Path, events: int) -> Path:
    """The run directory of an interrupted run."""
    with pytest.raises(KeyboardInterrupt) as caught:
        generate(request_of(model), folder / "map.png", stopped_after(events), folder / "run")
    assert caught.value.__notes__ == [f"go on with 'pixelsmith resume {folder / 'run'}'"]
    return folder / "run"


Left = Callable[[int | None], Path]


@pytest.fixture(scope="module")
def left(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Left:
    """The folder of a run and its picture after an interruption at this event, or of a finished run. Each is made once
    and then copied to the same place, which the run's record names.
    """
    root = tmp_path_factory.mktemp("left")
    place = root / "place"

    def made(events: int | None) -> Path:
        shutil.rmtree(place, ignore_errors=True)
        kept = root / str(events)
        if not kept.exists():
            place.mkdir()
            if events is None:
                generate(request_of(tiny_model), place / "map.png", run_dir=place / "run")
            else:
                interrupted(tiny_model, place, events)
            place.rename(kept)
        shutil.copytree(kept, place)
        return place

    return made


@pytest.fixture(scope="module")
def events_in_all(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> int:
    """The number of progress events of an uninterrupted run on disk."""
    folder, seen = tmp_path_factory.mktemp("undisturbed"), list[Event]()
    generate(request_of(tiny_model), folder / "map.png", seen.append, folder / "run")
    return sum(isinstance(event, Progress) for event in seen)


def test_runs_on_disk_and_in_memory_give_the_same_bytes(tiny_model: Path, expected: bytes, tmp_path: Path) -> None:
    result = generate(request_of(tiny_model), tmp_path / "map.png", run_dir=tmp_path / "run")
    assert (tmp_path / "map.png").read_bytes() == expected
    assert result.run_dir == tmp_path / "run"
    kept = sorted(path.relative_to(tmp_path / "run").as_posix() for path in (tmp_path / "run").rglob("*.data"))
    names = [f"stage-{i}/{name}.data" for i in range(3) for name in ("overview", "picture")]
    assert kept == names, "guides and steps are gone, the pictures stay"
    assert result.pixels.shape == (130, 150, 3)


def with_threads(device: object, on_split: OnSplit) -> Threaded:
    """A replacement for ``executor_for``, which uses no threads on a CPU."""
    return Threaded(on_split)


def reporting(run_dir: Path, model: Path, output: Path, channel: Connection, threads: bool = False) -> None:
    """The run, which prints a word for each event."""
    if threads:
        vars(lifecycle)["executor_for"] = with_threads
    if (run_dir / "run.json").exists():
        resume(run_dir, lambda event: channel.send(type(event).__name__))
    else:
        generate(request_of(model), output, lambda event: channel.send(type(event).__name__), run_dir)


@pytest.mark.parametrize("threads", [False, True])
def test_a_run_killed_at_random_moments_ends_with_the_same_bytes(
    tiny_model: Path, expected: bytes, tmp_path: Path, threads: bool
) -> None:
    """Each process is killed a few events and a short time later, so that it ends in the middle of some work."""
    rng, output, kills = random.Random(0), tmp_path / "map.png", 0
    for _ in range(30):
        ours, theirs = SPAWN.Pipe()
        child = SPAWN.Process(target=reporting, args=(tmp_path / "run", tiny_model, output, theirs, threads))
        child.start()
        theirs.close()
        with suppress(EOFError):
            for _ in range(rng.randint(4, 14)):
                ours.recv()
        child.join(rng.uniform(0, 0.02))
        child.kill()
        child.join()
        ours.close()
        if child.exitcode == 0:
            break
        assert child.exitcode == -signal.SIGKILL
        kills += 1
    assert kills >= 2
    assert output.read_bytes() == expected


@pytest.mark.parametrize("threads", [False, True])
@pytest.mark.parametrize("events", [0, 3, 11, 19, 28])
def test_an_interrupted_run_resumes_and_loses_at_most_one_batch(
    tiny_model: Path,
    expected: bytes,
    events_in_all: int,
    tmp_path: Path,
    events: int,
    threads: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if threads:
        monkeypatch.setattr(lifecycle, "executor_for", with_threads)
    run_dir, again = interrupted(tiny_model, tmp_path, events), []
    resume(run_dir, lambda event: again.append(event) if isinstance(event, Progress) else None)
    assert (tmp_path / "map.png").read_bytes() == expected
    assert len(again) == events_in_all - events - 1


def test_resuming_a_finished_run_writes_its_file_again(left: Left, expected: bytes) -> None:
    place = left(None)
    (place / "map.png").unlink()
    resume(place / "run")
    assert (place / "map.png").read_bytes() == expected


@pytest.mark.parametrize("threads", [False, True])
@pytest.mark.parametrize("writes", [0, 1, 5, 30, 61])
def test_a_full_disk_is_reported_and_the_run_can_be_resumed(
    tiny_model: Path, expected: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writes: int, threads: bool
) -> None:
    """The disk is full after this many writes, in the middle of one."""
    if threads:
        monkeypatch.setattr(lifecycle, "executor_for", with_threads)
    real, left = os.pwrite, [writes]

    def full(descriptor: int, content: memoryview, offset: int) -> int:
        left[0] -= 1
        if left[0] == -1:
            return real(descriptor, content[: len(content) // 2], offset)
        if left[0] < -1:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(descriptor, content, offset)

    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", full)
        with pytest.raises(OutputError, match=r"No space left .*pixelsmith resume"):
            generate(request_of(tiny_model), tmp_path / "map.png", run_dir=tmp_path / "run")
    resume(tmp_path / "run")
    assert (tmp_path / "map.png").read_bytes() == expected


def test_a_run_whose_record_does_not_fit_on_the_disk_leaves_no_directory(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(OutputError, match=r"No space left on device$") as caught:
            generate(request_of(tiny_model), tmp_path / "map.png", run_dir=tmp_path / "run")
    assert not hasattr(caught.value, "__notes__")
    assert generate(request_of(tiny_model), run_dir=tmp_path / "run").pixels.shape == (130, 150, 3)


def limited(run_dir: Path, model: Path, output: Path, limit: int) -> None:
    """The run with a limit on the length of files; the exit code tells how it ended."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        reporting(run_dir, model, output, SPAWN.Pipe()[1])
    except OutputError as error:
        sys.exit(3 if f"pixelsmith resume {run_dir}" in " ".join([str(error), *getattr(error, "__notes__", [])]) else 4)


@pytest.mark.parametrize(("limit", "finished"), [(3_000, False), (40_000, False), (20_000, True)])
def test_a_file_size_limit_is_reported_and_the_run_can_be_resumed(
    tiny_model: Path, left: Left, expected: bytes, tmp_path: Path, limit: int, finished: bool
) -> None:
    """The limit is hit by the first canvas, by a later one, and by the picture, which libvips writes."""
    place = left(None) if finished else tmp_path
    if finished:
        (place / "map.png").unlink()
    child = SPAWN.Process(target=limited, args=(place / "run", tiny_model, place / "map.png", limit))
    child.start()
    child.join()
    assert child.exitcode == 3
    assert not (place / "map.png").exists()
    resume(place / "run")
    assert (place / "map.png").read_bytes() == expected


@pytest.mark.parametrize(
    ("events", "name"),
    [
        (3, "stage-0/picture"),
        (5, "stage-1/guide"),
        (9, "stage-1/step-*"),
        (11, "stage-1/picture"),
        (None, "stage-2/picture"),
    ],
)
@pytest.mark.parametrize("damage", ["flipped", "truncated", "gone", "journal"])
def test_damaged_files_are_computed_again(
    left: Left, expected: bytes, events: int | None, name: str, damage: str
) -> None:
    """Files on which the remaining work depends."""
    place = left(events)
    path = min((place / "run").glob(f"{name}.{'sums' if damage == 'journal' else 'data'}"))
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 0xFF
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(content[: len(content) // 2] if damage == "truncated" else content)
    resume(place / "run")
    assert (place / "map.png").read_bytes() == expected


def test_a_preview_of_damaged_files_does_not_end_the_run(
    left: Left, expected: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pixelsmith.run.preview.PREVIEW_SECONDS", 0)
    monkeypatch.setattr("pixelsmith.run.preview.PREVIEW_COST", 0)
    place = left(None)
    path = place / "run" / "stage-2" / "overview.data"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    resume(place / "run")
    assert (place / "map.png").read_bytes() == expected


def edited(run_dir: Path, model: Path) -> None:
    path = run_dir / "run.json"
    path.write_text(path.read_text().replace('"a map"', '"a hat"'))


def cut(run_dir: Path, model: Path) -> None:
    path = run_dir / "run.json"
    path.write_text(path.read_text()[:-20])


def newer(run_dir: Path, model: Path) -> None:
    values = json.loads((run_dir / "run.json").read_text())
    values = {**values, "format": 99}
    del values["checksum"]
    (run_dir / "run.json").write_text(json.dumps({**values, "checksum": _checksum(values)}))


def another_model(run_dir: Path, model: Path) -> None:
    weights = model / "unet" / "diffusion_pytorch_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (edited, "checksum is wrong"),
        (cut, "run.json"),
        (newer, "format is 99, here it is 1"),
        (another_model, "model was"),
    ],
)
def test_the_directory_of_another_request_is_refused(
    tiny_model: Path, tmp_path: Path, change: Callable[[Path, Path], None], reason: str
) -> None:
    model = tmp_path / "model"
    shutil.copytree(tiny_model, model)
    run_dir = interrupted(model, tmp_path, 5)
    change(run_dir, model)
    with pytest.raises(RunError, match=reason):
        resume(run_dir)


def test_a_run_of_another_version_is_refused(left: Left, monkeypatch: pytest.MonkeyPatch) -> None:
    run_dir = left(5) / "run"
    monkeypatch.setattr("pixelsmith.run.directory.__version__", "99.0")
    with pytest.raises(RunError, match=r"versions pixelsmith was '[^']+', now it is '99\.0'"):
        resume(run_dir)


def test_a_missing_file_has_no_hash(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="nowhere: it cannot be read"):
        Identity.of({}, 1, [tmp_path / "nowhere"], ())


def test_resuming_with_a_changed_start_picture_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    start, run_dir = tmp_path / "start.png", tmp_path / "run"
    generate(replace(request_of(tiny_model), size=Size(64, 64), cascade=()), start)
    request = replace(request_of(tiny_model), from_image=str(start), cascade=())
    with pytest.raises(KeyboardInterrupt):
        generate(request, tmp_path / "map.png", stopped_after(2), run_dir)
    start.write_bytes(start.read_bytes() + b" ")
    with pytest.raises(RunError, match="pictures was"):
        resume(run_dir)


def test_resuming_with_a_changed_slider_map_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    painted, run_dir = tmp_path / "map.png", tmp_path / "run"
    Image.new("L", (15, 13), 100).save(painted)
    kept = painted.read_bytes()
    request = request_of(tiny_model).with_method(slider_map=str(painted))
    expected = generate(request).pixels
    with pytest.raises(KeyboardInterrupt):
        generate(request, tmp_path / "out.png", stopped_after(2), run_dir)
    painted.write_bytes(kept + b" ")
    with pytest.raises(RunError, match="pictures was"):
        resume(run_dir)
    painted.write_bytes(kept)
    assert np.array_equal(resume(run_dir).pixels, expected)


def denied(*arguments: object) -> tuple[int, str]:
    """The exit code and errors of the command line under file permissions, which root bypasses."""
    command = [sys.executable, "-m", "pixelsmith", *map(str, arguments)]
    if os.geteuid() == 0:
        rights = "-dac_override,-dac_read_search"
        command = ["setpriv", f"--bounding-set={rights}", f"--inh-caps={rights}", *command]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"HF_HUB_OFFLINE": "1"})
    return done.returncode, done.stderr


needs_permissions = pytest.mark.skipif(
    sys.platform == "win32" or (os.geteuid() == 0 and not shutil.which("setpriv")),
    reason="needs POSIX permissions, of root also setpriv",
)


@needs_permissions
def test_a_read_only_run_directory_is_refused_in_one_line(left: Left, expected: bytes) -> None:
    run_dir = left(5) / "run"
    before = sorted(run_dir.rglob("*"))
    run_dir.chmod(0o500)
    try:
        code, said = denied("resume", run_dir)
    finally:
        run_dir.chmod(0o700)
    assert (code, said) == (2, f"pixelsmith: {run_dir}: it cannot be written to; check its permissions\n")
    assert sorted(run_dir.rglob("*")) == before
    resume(run_dir)
    assert (run_dir.parent / "map.png").read_bytes() == expected


@needs_permissions
@pytest.mark.parametrize(("run_dir", "output"), [("locked/run", "map.png"), ("run", "locked/map.png")])
def test_a_read_only_output_folder_is_refused_before_any_work(
    tiny_model: Path, tmp_path: Path, run_dir: str, output: str
) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    places = ("--run-dir", tmp_path / run_dir, "--output", tmp_path / output)
    code, said = denied("generate", "a map", "--size", 80, "--model", tiny_model, *places)
    assert (code, said.count("\n")) == (2, 1)
    assert "locked" in said
    assert [path.name for path in tmp_path.iterdir()] == ["locked"]


def test_a_run_directory_in_use_is_refused(left: Left) -> None:
    run_dir = left(5) / "run"
    with RunDirectory(run_dir), pytest.raises(RunError, match="another process"):
        resume(run_dir)


def test_an_existing_folder_is_refused_as_a_run_directory(tiny_model: Path, left: Left, tmp_path: Path) -> None:
    run_dir = left(5) / "run"
    with pytest.raises(RunError, match="pixelsmith resume"):
        generate(request_of(tiny_model), tmp_path / "map.png", run_dir=run_dir)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("mine")
    for place in (tmp_path / "full", tmp_path / "full" / "letter.txt"):
        with pytest.raises(RunError):
            generate(request_of(tiny_model), tmp_path / "map.png", run_dir=place)
    with pytest.raises(RunError, match="not a run directory"):
        resume(tmp_path / "full")
    assert (tmp_path / "full" / "letter.txt").read_text() == "mine"


@pytest.mark.parametrize("suffix", FORMATS)
def test_the_run_directory_of_a_large_picture_is_deleted_at_the_end(
    tiny_model: Path, expected: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    monkeypatch.setattr(planner, "MEMORY_LIMIT", 1000)
    output, seen = tmp_path / "map.png", []
    result = generate(request_of(tiny_model), output, lambda event: seen.append((tmp_path / "map.png.run").is_dir()))
    assert all(seen)
    assert [path.name for path in tmp_path.iterdir()] == ["map.png"]
    assert output.read_bytes() == expected
    assert result.pixels.shape == (130, 150, 3)
    with pytest.raises(ValueError, match="run_dir or an output"):
        generate(request_of(tiny_model))


def test_too_little_disk_space_is_refused_before_any_work(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(ValueError, match=r"disk: .* are free"):
        generate(request_of(tiny_model), tmp_path / "map.png", run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_record_round_trips_through_json(tiny_model: Path, tmp_path: Path) -> None:
    request = request_of(tiny_model)
    record = Record(Identity.of(settings_of(request), 2, [tiny_model], ()), tmp_path, tmp_path / "map.png", keep=True)
    with RunDirectory.create(tmp_path / "run") as directory:
        directory.begin(record)
        found = directory.read()
        with pytest.raises(RunError, match="another process"):
            directory.begin(record)
    assert found == record
    assert found.identity.difference_from(replace(record.identity, batch_size=3)) == "batch size was 2, now it is 3"


def test_relative_paths_are_resolved_where_the_run_was_started(
    tiny_model: Path, expected: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Resumed from another folder, with relative paths of the model and of the start picture."""
    generate(replace(request_of(tiny_model), size=Size(64, 64), cascade=()), tmp_path / "start.png")
    (tmp_path / "model").symlink_to(tiny_model)
    monkeypatch.chdir(tmp_path)
    request = replace(request_of(tiny_model), from_image="start.png", cascade=(), model="model")
    whole = generate(request, "whole.png").pixels
    with pytest.raises(KeyboardInterrupt):
        generate(request, "map.png", stopped_after(4), "run")
    monkeypatch.chdir("/")
    resume(tmp_path / "run")
    assert (tmp_path / "map.png").read_bytes() == (tmp_path / "whole.png").read_bytes()
    assert np.array_equal(whole, read_picture(tmp_path / "map.png").read(Size(150, 130).window).permute(1, 2, 0))


def test_invalid_input_leaves_no_run_directory(tiny_model: Path, tmp_path: Path) -> None:
    generate(replace(request_of(tiny_model), size=Size(64, 64), cascade=()), tmp_path / "start.png")
    content = (tmp_path / "start.png").read_bytes()
    (tmp_path / "start.png").write_bytes(content[: len(content) // 2])
    request = replace(request_of(tiny_model), from_image=str(tmp_path / "start.png"), cascade=())
    with pytest.raises(PictureError, match="damaged"):
        generate(request, tmp_path / "map.png", run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    for place in ("map.dzi", "map_files"):
        with pytest.raises(RunError, match="to be written there"):
            generate(request_of(tiny_model), tmp_path / "map.dzi", run_dir=tmp_path / place)


def test_a_truncated_slider_map_is_refused_before_the_model_is_loaded(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr("pixelsmith.api.lifecycle.load_family")
    Image.new("L", (450, 390), 90).save(tmp_path / "map.tif")
    content = (tmp_path / "map.tif").read_bytes()
    (tmp_path / "map.tif").write_bytes(content[: len(content) - 60_000])
    request = request_of(tiny_model).with_method(slider_map=str(tmp_path / "map.tif"))
    with pytest.raises(PictureError, match=r"map\.tif: the picture is damaged"):
        generate(request, tmp_path / "x.png", run_dir=tmp_path / "run")
    assert [path.name for path in tmp_path.iterdir()] == ["map.tif"]


def test_a_run_can_be_resumed_after_an_error_at_its_end(tiny_model: Path, tmp_path: Path, expected: bytes) -> None:
    """The picture's folder was deleted before it is written."""
    (tmp_path / "out").mkdir()

    def lose(event: Event) -> None:
        if isinstance(event, PhaseFinished) and (event.stage, event.phase) == (2, "decode"):
            shutil.rmtree(tmp_path / "out")
            raise PictureError("the folder is gone")

    with pytest.raises(PictureError) as caught:
        generate(request_of(tiny_model), tmp_path / "out" / "map.png", lose, tmp_path / "run")
    assert caught.value.__notes__ == [f"go on with 'pixelsmith resume {tmp_path / 'run'}'"]
    (tmp_path / "out").mkdir()
    resume(tmp_path / "run")
    assert (tmp_path / "out" / "map.png").read_bytes() == expected


def test_steps_that_the_scheduler_rejects_are_refused_before_the_base(tmp_path: Path) -> None:
    with quiet():
        SPECIMENS["lcm"].save(tmp_path / "model")
    request = replace(request_of(tmp_path / "model"), method=Method(steps=2, stage_steps=60))
    heard: list[Event] = []
    with pytest.raises(RequestError, match="LCMScheduler has no schedule of 60"):
        generate(request, observer=heard.append, run_dir=tmp_path / "run")
    assert not any(isinstance(event, Progress) for event in heard)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("events", [0, 3, 5, 7, 9, 11])
def test_no_temporary_files_remain_after_an_interruption(left: Left, events: int) -> None:
    run_dir = left(events) / "run"
    resume(run_dir)
    kept = {path.relative_to(run_dir).as_posix() for path in run_dir.rglob("*.data")}
    assert kept == {f"stage-{i}/{name}.data" for i in range(3) for name in ("overview", "picture")}


def test_the_settings_are_in_the_file(tiny_model: Path, tmp_path: Path) -> None:
    request = replace(request_of(tiny_model), method=Method(steps=3))
    with pytest.raises(KeyboardInterrupt):
        generate(request, tmp_path / "map.png", stopped_after(9), tmp_path / "run")
    resume(tmp_path / "run")
    best = read_facts(tiny_model, "tiny").recommended
    expected = request.settled(best)
    assert Request.from_dict(read_settings(tmp_path / "map.png")["request"]) == expected
    assert (expected.method.guidance, expected.method.guidance_scale) == ("cfg", 7.5), "nothing is left open"


def test_a_preview_file_is_written_during_a_run(left: Left) -> None:
    run_dir = left(9) / "run"
    with Image.open(run_dir / "preview.jpg") as image:
        assert max(image.size) <= 90, "what there is of it is the base"
    resume(run_dir)
    with Image.open(run_dir / "preview.jpg") as image:
        assert image.size == (150, 130)


def test_a_preview_is_updated_during_decoding(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pixelsmith.run.preview.PREVIEW_SECONDS", 0)
    monkeypatch.setattr("pixelsmith.run.preview.PREVIEW_COST", 0)
    seen: list[bytes] = []

    def look(event: Event) -> None:
        if isinstance(event, Progress) and (event.stage, event.phase) == (2, "decode"):
            seen.append((tmp_path / "run" / "preview.jpg").read_bytes())

    request = replace(request_of(tiny_model), size=Size(600, 500), cascade=(), method=Method(steps=1))
    generate(request, tmp_path / "map.png", look, tmp_path / "run")
    assert len(set(seen)) == len(seen) > 1, "the tiles of one picture"


@pytest.mark.parametrize("run_dir", ["", ".", "/"])
def test_a_run_directory_without_a_name_is_refused(tiny_model: Path, tmp_path: Path, run_dir: str) -> None:
    with pytest.raises(RequestError, match="run directory: expected a folder with a name"):
        generate(request_of(tiny_model), tmp_path / "out.png", run_dir=run_dir)
