"""Runs that are killed, starved of disk, damaged or contended for go on to the same bytes, or refuse and say why."""

from __future__ import annotations

import json
import multiprocessing
import random
import resource
import shutil
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from pixelsmith import Compute, Method, OutputError, Progress, Request, RunError, Size, generate, resume
from pixelsmith.events import Event
from pixelsmith.generate import settings_of
from pixelsmith.pixels.files import read_settings
from pixelsmith.run import Identity, RunDirectory

SPAWN = multiprocessing.get_context("forkserver")
SPAWN.set_forkserver_preload(["pixelsmith", "diffusers", "transformers", "pixelsmith.families.stable_diffusion"])


def request_of(model: Path) -> Request:
    """Three rungs, many patches and tiles."""
    return Request(
        "a map",
        Size(150, 130),
        model=str(model),
        cascade=(Size(90, 80), Size(150, 130)),
        method=Method(steps=3),
        compute=Compute(device="cpu", dtype="float32", batch_size=2),
    )


@pytest.fixture(scope="module")
def expected(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The file of an undisturbed run, in memory."""
    path = tmp_path_factory.mktemp("undisturbed") / "map.png"
    generate(request_of(tiny_model), path)
    return path.read_bytes()


def work(run_dir: Path, model: Path, output: Path) -> None:
    """Begin or go on: what a child process does until it is killed."""
    if (run_dir / "run.json").exists():
        resume(run_dir)
    else:
        generate(request_of(model), output, run_dir=run_dir)


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
    """A run directory as an interruption left it."""
    with pytest.raises(KeyboardInterrupt) as caught:
        generate(request_of(model), folder / "map.png", stopped_after(events), folder / "run")
    assert caught.value.__notes__ == [f"go on with 'pixelsmith resume {folder / 'run'}'"]
    return folder / "run"


def test_a_run_on_disk_gives_the_bytes_of_one_in_memory(tiny_model: Path, expected: bytes, tmp_path: Path) -> None:
    result = generate(request_of(tiny_model), tmp_path / "map.png", run_dir=tmp_path / "run")
    assert (tmp_path / "map.png").read_bytes() == expected
    assert result.run_dir == tmp_path / "run"
    kept = sorted(path.relative_to(tmp_path / "run").as_posix() for path in (tmp_path / "run").rglob("*.data"))
    names = [f"stage-{i}/{name}.data" for i in range(3) for name in ("overview", "picture")]
    assert kept == names, "guides and steps are gone, the pictures stay"
    assert result.pixels.shape == (130, 150, 3)


def test_killed_at_random_moments_again_and_again_it_ends_the_same(
    tiny_model: Path, expected: bytes, tmp_path: Path
) -> None:
    rng, output, kills = random.Random(0), tmp_path / "map.png", 0
    for _ in range(60):
        child = SPAWN.Process(target=work, args=(tmp_path / "run", tiny_model, output))
        child.start()
        child.join(rng.uniform(0.4, 1.4))
        if child.exitcode is not None:
            assert child.exitcode == 0
            break
        child.kill()
        child.join()
        assert child.exitcode == -signal.SIGKILL
        kills += 1
    assert output.read_bytes() == expected
    assert kills >= 2, "the run was too short to be killed"


@pytest.mark.parametrize("events", [0, 3, 11, 19, 28])
def test_interrupted_it_goes_on_and_loses_at_most_a_batch(
    tiny_model: Path, expected: bytes, tmp_path: Path, events: int
) -> None:
    run_dir, again = interrupted(tiny_model, tmp_path, events), []
    resume(run_dir, lambda event: again.append(event) if isinstance(event, Progress) else None)
    assert (tmp_path / "map.png").read_bytes() == expected
    in_all: list[Event] = []
    generate(request_of(tiny_model), None, in_all.append, tmp_path / "other")
    assert len(again) == sum(isinstance(event, Progress) for event in in_all) - events - 1


def test_a_finished_run_writes_its_file_again(tiny_model: Path, expected: bytes, tmp_path: Path) -> None:
    generate(request_of(tiny_model), tmp_path / "map.png", run_dir=tmp_path / "run")
    (tmp_path / "map.png").unlink()
    resume(tmp_path / "run")
    assert (tmp_path / "map.png").read_bytes() == expected


def limited(run_dir: Path, model: Path, output: Path, channel: object) -> None:
    """A run in a process whose files may have a few kilobytes only, as on a disk that is full."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    try:
        work(run_dir, model, output)
        message = "it was not stopped"
    except OutputError as error:
        message = str(error)
    channel.send(message)  # type: ignore[attr-defined]


def test_a_full_disk_is_said_and_costs_nothing_but_time(tiny_model: Path, expected: bytes, tmp_path: Path) -> None:
    ours, theirs = SPAWN.Pipe()
    child = SPAWN.Process(target=limited, args=(tmp_path / "run", tiny_model, tmp_path / "map.png", theirs))
    child.start()
    message = ours.recv()
    child.join()
    assert "pixelsmith resume" in message
    assert "File too large" in message
    resume(tmp_path / "run")
    assert (tmp_path / "map.png").read_bytes() == expected


@pytest.mark.parametrize("name", ["stage-0/picture", "stage-1/guide", "stage-1/step-*"])
@pytest.mark.parametrize("damage", ["flipped", "truncated", "gone"])
def test_damaged_pieces_are_made_again(
    tiny_model: Path, expected: bytes, tmp_path: Path, name: str, damage: str
) -> None:
    run_dir = interrupted(tiny_model, tmp_path, 9)
    path = min(run_dir.glob(f"{name}.data"))
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 0xFF
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(content if damage == "flipped" else content[: len(content) // 2])
    resume(run_dir)
    assert (tmp_path / "map.png").read_bytes() == expected


def edited(run_dir: Path, model: Path) -> None:
    path = run_dir / "run.json"
    path.write_text(path.read_text().replace('"a map"', '"a hat"'))


def cut(run_dir: Path, model: Path) -> None:
    path = run_dir / "run.json"
    path.write_text(path.read_text()[:-20])


def newer(run_dir: Path, model: Path) -> None:
    (run_dir / "run.json").write_text(json.dumps({"format": 99, "checksum": "0"}))


def another_model(run_dir: Path, model: Path) -> None:
    weights = model / "unet" / "diffusion_pytorch_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)


@pytest.mark.parametrize(
    ("change", "reason"),
    [(edited, "checksum is wrong"), (cut, "run.json"), (newer, "checksum is wrong"), (another_model, "model was")],
)
def test_a_run_that_is_not_this_one_is_refused(
    tiny_model: Path, tmp_path: Path, change: Callable[[Path, Path], None], reason: str
) -> None:
    model = tmp_path / "model"
    shutil.copytree(tiny_model, model)
    run_dir = interrupted(model, tmp_path, 5)
    change(run_dir, model)
    with pytest.raises(RunError, match=reason):
        resume(run_dir)


def test_another_version_is_refused(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_dir = interrupted(tiny_model, tmp_path, 5)
    monkeypatch.setattr("pixelsmith.run.__version__", "99.0")
    with pytest.raises(RunError, match=r"versions pixelsmith was '[^']+', now it is '99\.0'"):
        resume(run_dir)


def test_a_changed_picture_to_start_from_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    start, run_dir = tmp_path / "start.png", tmp_path / "run"
    generate(replace(request_of(tiny_model), size=Size(64, 64), cascade=()), start)
    request = replace(request_of(tiny_model), from_image=str(start), cascade=())
    with pytest.raises(KeyboardInterrupt):
        generate(request, tmp_path / "map.png", stopped_after(2), run_dir)
    start.write_bytes(start.read_bytes() + b" ")
    with pytest.raises(RunError, match="picture was"):
        resume(run_dir)


def test_a_second_process_is_kept_out(tiny_model: Path, tmp_path: Path) -> None:
    run_dir = interrupted(tiny_model, tmp_path, 5)
    with RunDirectory(run_dir), pytest.raises(RunError, match="another process"):
        resume(run_dir)


def test_a_place_that_is_taken_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    run_dir = interrupted(tiny_model, tmp_path, 5)
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


def test_a_large_picture_gets_a_run_directory_that_is_gone_at_the_end(
    tiny_model: Path, expected: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # By its name in the list of modules: the package's attribute ``plan`` is the function.
    monkeypatch.setattr(sys.modules["pixelsmith.plan"], "MEMORY_LIMIT", 1000)
    output, seen = tmp_path / "map.png", []
    result = generate(request_of(tiny_model), output, lambda event: seen.append((tmp_path / "map.png.run").is_dir()))
    assert all(seen)
    assert [path.name for path in tmp_path.iterdir()] == ["map.png"]
    assert output.read_bytes() == expected
    assert result.pixels.shape == (130, 150, 3)
    with pytest.raises(ValueError, match="run_dir or an output"):
        generate(request_of(tiny_model))


def test_a_disk_with_too_little_room_is_refused_before(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(ValueError, match=r"disk: .* are free"):
        generate(request_of(tiny_model), tmp_path / "map.png", run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_identity_survives_json(tiny_model: Path, tmp_path: Path) -> None:
    request = request_of(tiny_model)
    identity = Identity.of(settings_of(request), 2, tiny_model, None)
    RunDirectory.create(tmp_path / "run", identity, tmp_path / "map.png")
    found, output = RunDirectory(tmp_path / "run").read()
    assert found.difference_from(identity) is None
    assert output == tmp_path / "map.png"
    assert found.difference_from(replace(identity, batch_size=3)) == "batch size was 2, now it is 3"


def test_the_settings_are_in_the_file(tiny_model: Path, tmp_path: Path) -> None:
    interrupted(tiny_model, tmp_path, 9)
    resume(tmp_path / "run")
    assert Request.from_dict(read_settings(tmp_path / "map.png")["request"]) == request_of(tiny_model)


def test_a_preview_is_there_while_the_run_goes_on(tiny_model: Path, tmp_path: Path) -> None:
    run_dir = interrupted(tiny_model, tmp_path, 9)
    with Image.open(run_dir / "preview.jpg") as image:
        assert max(image.size) <= 90, "what there is of it is the base"
    resume(run_dir)
    with Image.open(run_dir / "preview.jpg") as image:
        assert image.size == (150, 130)
