"""Run directories from other people, moved ones, and ones with unexpected content."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pixelsmith import Parts, PictureError, Request, RunError, Size, generate, resume
from pixelsmith.run.directory import Identity, Record, RunDirectory
from pixelsmith.viewer import show
from tests.cli.test_program import Call, call  # noqa: F401 (a fixture)
from tests.run.test_directory import request_of, stopped_after


def begun(run_dir: Path, output: Path, **parts: Any) -> RunDirectory:
    """A run that was started and has computed nothing yet."""
    request = Request("a map", Size(64, 64), parts=Parts(**parts))
    identity = Identity({"request": request.to_dict()}, 1, "", None, Identity.of({}, 1, [], []).versions)
    with RunDirectory.create(run_dir) as directory:
        directory.begin(Record(identity, Path.cwd(), output, keep=True))
    return directory


def test_resuming_with_pickled_weights_needs_the_option_again(call: Call, tmp_path: Path) -> None:  # noqa: F811
    directory = begun(tmp_path / "run", tmp_path / "map.png", allow_pickle=True)
    code, out, err = call("resume", directory.path)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "its model is read from pickles, which can run any code; --allow-pickle loads them" in err
    assert directory.advice == f"go on with 'pixelsmith resume {directory.path} --allow-pickle'"
    code, _, err = call("resume", directory.path, "--allow-pickle")
    assert "pickles" not in err


@pytest.mark.parametrize("output", ["../elsewhere/map.png", "folder/../../map.png", "link/map.png"])
def test_an_output_outside_the_folder_needs_a_confirmation(
    call: Call,  # noqa: F811
    tmp_path: Path,
    output: str,
) -> None:
    for name in ("mine/folder", "elsewhere"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "mine" / "link").symlink_to(tmp_path / "elsewhere")
    directory = begun(tmp_path / "mine" / "run", tmp_path / "mine" / output)
    code, out, err = call("resume", directory.path)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "outside of the directory's folder; give the place that is right with --output" in err
    assert "--output" in directory.advice
    code, _, err = call("resume", directory.path, "--output", tmp_path / "map.png")
    assert "outside" not in err
    code, _, err = call("resume", begun(tmp_path / "mine" / "other", tmp_path / "mine" / "folder" / "x.png").path)
    assert "outside" not in err


def test_arguments_with_spaces_are_quoted_in_advice(tmp_path: Path) -> None:
    directory = begun(tmp_path / "my run", tmp_path / "map.png")
    assert directory.advice == f"""go on with 'pixelsmith resume '"'"'{tmp_path}/my run'"'"''""".replace("'\"'\"'", "'")


@pytest.mark.parametrize(
    "change",
    [
        lambda values: values.update(output=5),
        lambda values: values.update(folder=None),
        lambda values: values["identity"].update(settings=[]),
        lambda values: values["identity"].update(settings={}),
        lambda values: values["identity"]["settings"].update(request="x"),
        lambda values: values["identity"].update(versions="1"),
        lambda values: values["identity"]["settings"]["request"].update(parts=[1]),
    ],
)
def test_a_record_with_other_fields_is_refused_in_one_line(
    call: Call,  # noqa: F811
    tmp_path: Path,
    change: Callable[[dict[str, Any]], None],
) -> None:
    """Its checksum is right, because a checksum is not a signature."""
    from pixelsmith.run.directory import _checksum

    directory = begun(tmp_path / "run", tmp_path / "map.png")
    file = directory.path / "run.json"
    values = json.loads(file.read_text())
    del values["checksum"]
    change(values)
    file.write_text(json.dumps({**values, "checksum": _checksum(values)}))
    code, out, err = call("resume", directory.path)
    assert (code, out, err.count("\n")) == (2, "", 1), err
    assert "run.json cannot be used" in err


def test_a_moved_project_can_be_resumed(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model, the run directory and the picture were given as relative paths."""
    before = tmp_path / "before"
    shutil.copytree(tiny_model, before / "model")
    monkeypatch.chdir(before)
    request = replace(request_of(Path("model")), size=Size(90, 80), cascade=())
    generate(request, "whole.png")
    with pytest.raises(KeyboardInterrupt):
        generate(request, "map.png", stopped_after(2), "map.png.run")
    monkeypatch.chdir("/")
    before.rename(tmp_path / "after")
    before.symlink_to("/")
    resume(tmp_path / "after" / "map.png.run")
    assert (tmp_path / "after" / "map.png").read_bytes() == (tmp_path / "after" / "whole.png").read_bytes()


def test_unexpected_files_are_named_and_can_be_removed(tiny_model: Path, tmp_path: Path) -> None:
    request = replace(request_of(tiny_model), size=Size(90, 80), cascade=())
    generate(request, tmp_path / "whole.png")
    with pytest.raises(KeyboardInterrupt):
        generate(request, tmp_path / "map.png", stopped_after(2), tmp_path / "run")
    for name, make in (("picture.sums", Path.mkdir), ("picture.data", os.mkfifo), ("picture.sums", os.mkfifo)):
        place = tmp_path / "run" / "stage-0" / name
        place.unlink(missing_ok=True)
        make(place)
        with pytest.raises(RunError, match=rf"{name}: something else lies .*; remove it: .*; go on with"):
            resume(tmp_path / "run")
        # The viewer waits for no pipe; there may be something to show besides.
        with suppress(PictureError):
            show(tmp_path / "run")
        place.rmdir() if place.is_dir() else place.unlink()
    stage = tmp_path / "run" / "stage-0"
    shutil.rmtree(stage)
    stage.touch()
    with pytest.raises(RunError, match="stage-0: something else lies"):
        resume(tmp_path / "run")
    stage.unlink()
    record = (tmp_path / "run" / "run.json").read_bytes()
    (tmp_path / "run" / "run.json").unlink()
    os.mkfifo(tmp_path / "run" / "run.json")
    with pytest.raises(RunError, match=r"cannot be used: .*expected a file"):
        resume(tmp_path / "run")
    (tmp_path / "run" / "run.json").unlink()
    (tmp_path / "run" / "run.json").write_bytes(record)
    resume(tmp_path / "run")
    assert (tmp_path / "map.png").read_bytes() == (tmp_path / "whole.png").read_bytes()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[" * 200_000, "it is nested too deeply"),
        ("{}", "it lacks 'checksum'"),
        ("[]", "expected an object, got list"),
        ("", "Expecting value"),
    ],
)
def test_an_invalid_record_is_refused_in_one_line(
    call: Call,  # noqa: F811
    tmp_path: Path,
    content: str,
    said: str,
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text(content)
    code, out, err = call("resume", tmp_path / "run")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert f"its run.json cannot be used: {said}" in err
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["run.json"]


def test_a_folder_that_is_not_a_run_is_not_changed(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    with pytest.raises(RunError, match=r"there is no run\.json in it"):
        resume(tmp_path / "mine")
    assert not any((tmp_path / "mine").iterdir())


@pytest.mark.parametrize("name", ["stage-0/picture.json", "finished"])
def test_a_folder_in_place_of_a_file_is_named(tiny_model: Path, tmp_path: Path, name: str) -> None:
    request = replace(request_of(tiny_model), size=Size(90, 80), cascade=())
    with pytest.raises(KeyboardInterrupt):
        generate(request, tmp_path / "map.png", stopped_after(2), tmp_path / "run")
    place = tmp_path / "run" / name
    place.unlink(missing_ok=True)
    place.mkdir()
    with pytest.raises(RunError, match=rf"run/{name}: something else lies .*; remove it: "):
        resume(tmp_path / "run")
    place.rmdir()
    resume(tmp_path / "run", overwrite=True)
    assert (tmp_path / "map.png").exists()


def test_a_folder_named_like_a_stage_is_not_shown(tiny_model: Path, tmp_path: Path) -> None:
    request = replace(request_of(tiny_model), size=Size(64, 64), cascade=())
    generate(request, tmp_path / "map.png", run_dir=tmp_path / "run")
    (tmp_path / "run" / "stage-old").mkdir()
    assert list(show(tmp_path / "run").pictures) == ["base, 64x64"]
