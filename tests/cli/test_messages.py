"""Messages of the command line: every mistake is answered with one line that says what to do."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from pixelsmith import (
    Progress,
    Region,
    Request,
    RequestError,
    RunStarted,
    Size,
    StageStarted,
    Warned,
    cli,
    interrupt,
    plan,
)
from pixelsmith.canvas import Array
from pixelsmith.cli import program as commands
from pixelsmith.cli.progress import LINE_SECONDS, ProgressBar
from pixelsmith.cli.tables import plan_table, settings_table
from pixelsmith.pixels.files import write_picture
from tests.cli.test_program import Call, call  # noqa: F401 (a fixture)

EVIL = "a \x1b]0;owned\x07 coast\r\nerased \u202egnp"
ESCAPED = r"a \x1b]0;owned\x07 coast\r\nerased \u202egnp"
SETTINGS: dict[str, Any] = {
    "pixelsmith": "1", "device": "cpu", "dtype": "float32",
    "request": {
        "prompt": EVIL, "seed": 7, "parts": {"loras": [{"path": "x", "weight": 0.5}]},
        "method": {"perturbation": {"name": "pag", "interval": [0.0, 1.0]}},
        "compute": {"device": "auto", "dtype": "auto", "batch_size": None},
    },
}  # fmt: skip


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "x.png"
    write_picture(Array(torch.zeros(3, 8, 8, dtype=torch.uint8)), path, SETTINGS)
    return path


def test_control_characters_in_a_picture_do_not_reach_the_terminal(call: Call, picture: Path) -> None:  # noqa: F811
    code, out, err = call("info", picture)
    assert (code, err) == (0, "")
    assert ESCAPED in out
    assert not any(ord(letter) < 32 and letter != "\n" for letter in out)
    assert json.loads(call("info", picture, "--json")[1])["request"]["prompt"] == EVIL
    code, out, err = call("models", "inspect", EVIL)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert r"\x1b]0;owned\x07" in err


def test_info_shows_each_setting_once_as_used() -> None:
    lines = settings_table(SETTINGS).splitlines()
    labels = [line.split("  ")[0] for line in lines]
    assert sorted(labels) == sorted(set(labels))
    assert [line.split()[-1] for line in lines if line.startswith(("device", "dtype"))] == ["cpu", "float32"]
    assert "name pag, interval 0.0, 1.0" in settings_table(SETTINGS)
    assert "path x, weight 0.5" in settings_table(SETTINGS)
    regions = [Region("a sea", box=(0, 0, 9, 9), strength=0.5), Region("an isle", mask="m.png")]
    shown = settings_table(json.loads(json.dumps({"request": {"regions": [asdict(region) for region in regions]}})))
    assert "prompt a sea, box 0, 0, 9, 9, unit pixels, strength 0.5" in shown
    assert "; prompt an isle, mask m.png," in shown


def test_characters_outside_the_terminals_encoding_are_escaped(picture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_picture(Array(torch.zeros(3, 8, 8, dtype=torch.uint8)), picture, {"request": {"prompt": "été 海"}})
    raw = BytesIO()
    monkeypatch.setattr(sys, "stdout", TextIOWrapper(raw, encoding="latin-1", write_through=True))
    monkeypatch.setattr(sys, "argv", ["pixelsmith", "info", str(picture)])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert (stopped.value.code, raw.getvalue()) == (0, b"prompt  \xe9t\xe9 \\u6d77\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["caf\udce9 au lait"], r"prompt: expected Unicode text, got '\\udce9' as character 4"),
        (["x", "--negative-prompt", "\ud800"], "negative prompt: expected Unicode text"),
        (["x", "--steps", "0"], "steps: expected a whole number of at least 1, got 0"),
        (["x", "--stage-steps", "-1"], "stage steps: expected a whole number of at least 1"),
        (["x", "--border", "-1"], "border: expected a whole number of at least 0"),
        (["x", "--from-image", ""], "from image: it is empty"),
        (["x", "--from-image", "https://example.org/a.png"], "expected the path of a file on this machine"),
        (["x", "--from-image", "~/missing.png"], f"{Path.home()}/missing.png: there is no such file"),
        (["x", "--from-image", "~nobody-here/x.png"], "~nobody-here/x.png: there is no such file"),
        (["x", "--seed", "18446744073709551616"], "seed: expected at most 18446744073709551615"),
        (["x", "--model", "a" * 300], "a: it cannot be read (File name too long)"),
        (["x", "--vae", ""], "vae: expected a name, got ''"),
        (["x", "--lora", ""], "LoRA: expected a file, a folder or a hub id, got ''"),
        (["a", "red", "house"], "A prompt of several words needs quotes"),
        (["x", "--size", "10000001"], "size: expected at most 10,000,000 pixels a side, got 10000001x10000001"),
        (["x", "--size", "9" * 18], "size: expected at most 10,000,000 pixels a side"),
        (["x", "--cascade", "64,99999999", "--size", "64"], "size: expected at most 10,000,000 pixels a side"),
        (["x", "--size", "200000", "--strategy", "demofusion"], "782 multiples, each a stage; expected at most 400"),
    ],
)
def test_mistakes_are_named_in_one_line(call: Call, arguments: list[str], said: str) -> None:  # noqa: F811
    code, out, err = call("plan", *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1), err
    assert said.replace(r"\\", "\\") in err or said in err, err


def test_a_comparison_has_a_maximum_size(call: Call, tmp_path: Path) -> None:  # noqa: F811
    code, out, err = call("evaluate", "table1", "--tiny", "-o", tmp_path / "out", "--factor", "1e9")
    assert (code, out, "factors: expected numbers in 1..1000" in err) == (2, "", True), err


def test_the_largest_size_is_planned() -> None:
    table = plan_table(plan(Request("x", Size(10_000_000, 64))))
    assert "GB in a run directory" in table


def test_tilde_is_expanded_to_the_home_folder(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.setenv("HOME", str(tmp_path))
    Image.new("RGB", (64, 64), "teal").save(tmp_path / "x.png")
    assert call("plan", "x", "--from-image=~/x.png", "--size", "128")[0] == 0
    assert f"{tmp_path}/missing.png: " in call("info", "~/missing.png")[2]


def test_prompts_that_are_not_text_are_refused() -> None:
    prompt: Any = 5
    with pytest.raises(RequestError, match="prompt: expected text, got 5"):
        Request(prompt, Size(64, 64))


def test_small_amounts_of_disk_space_are_not_rounded_to_zero(
    call: Call,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9 - 12_345, 12_345))
    code, _, err = call("generate", "x", "--size", "64", "-o", tmp_path / "x.png")
    assert code == 2
    assert f"disk: up to 12.7 kB are needed at {tmp_path}, 12.3 kB are free" in err


@pytest.mark.parametrize("error", [OverflowError("int too big\n to convert"), TypeError("no"), ValueError(EVIL)])
def test_unexpected_exceptions_are_one_line(
    call: Call,  # noqa: F811
    error: Exception,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*arguments: object) -> None:
        raise error

    monkeypatch.setattr(commands, "plan", fail)
    code, out, err = call("plan", "x")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert err.startswith(f"pixelsmith: {type(error).__name__}: ")
    assert err.endswith("; PIXELSMITH_TRACEBACK=1 shows where\n")
    assert "\x1b" not in err
    monkeypatch.setenv("PIXELSMITH_TRACEBACK", "1")
    monkeypatch.setattr(sys, "argv", ["pixelsmith", "plan", "x"])
    with pytest.raises(type(error)):
        cli.main()


def test_progress_in_a_pipe_is_a_line_every_thirty_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    now = [0.0]
    with ProgressBar(lambda: now[0]) as bar:
        bar(RunStarted(plan(Request("x", Size(512, 512)))))
        bar(StageStarted(1, 2, Size(512, 512)))
        for second in range(95):
            now[0] = float(second)
            bar(Progress(1, "denoise", 3, 20, second, 100, second / 100, 4000.0))
        bar(Warned(EVIL))
    captured = capsys.readouterr()
    line = "pixelsmith: stage 1/2 512x512 denoise step 3/20, {}% of the run, 66:40 min left"
    expected = [line.format(share) for share in (30, 60, 90)]
    assert (LINE_SECONDS, captured.out) == (30, "")
    assert captured.err.splitlines() == [*expected, f"pixelsmith: {ESCAPED}"]


def test_a_second_ctrl_c_ends_at_once_and_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    now, ended = [0.0], list[int]()
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(os, "_exit", ended.append)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt), interrupt.interruptible():
            os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        assert ended == [], "a terminal and a parent send one each"
        now[0] = 5.0
        os.kill(os.getpid(), signal.SIGINT)
        assert ended == [130]
        signal.signal(signal.SIGINT, signal.default_int_handler)
        with interrupt.interruptible():
            pass
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        with interrupt.interruptible():
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN, "as in the background of a shell"
    finally:
        signal.signal(signal.SIGINT, before)
    assert capfd.readouterr().err == "pixelsmith: interrupted\n"


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_ctrl_c_while_it_is_imported_is_one_line() -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with subprocess.Popen(
        [sys.executable, "-X", "importtime", "-m", "pixelsmith", "--version"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        signal.signal(signal.SIGINT, before)
        assert process.stderr is not None
        for line in process.stderr:
            if line.endswith("pixelsmith.system.interrupt\n"):
                break
        process.send_signal(signal.SIGINT)
        rest = [line for line in process.stderr if not line.startswith("import time:")]
        assert process.wait(timeout=60) == 130
    assert rest == ["pixelsmith: interrupted\n"]


def test_only_the_pixelsmith_program_handles_sigint(monkeypatch: pytest.MonkeyPatch) -> None:
    for started, arguments, program in (
        ("/usr/bin/pixelsmith", ["python", "/usr/bin/pixelsmith"], True),
        ("-m", ["python", "-X", "utf8", "-m", "pixelsmith"], True),
        ("-m", ["python", "-m", "pytest"], False),
        ("", ["python"], False),
        ("script.py", ["python", "script.py", "pixelsmith"], False),
    ):
        monkeypatch.setattr(sys, "argv", [started])
        monkeypatch.setattr(sys, "orig_argv", arguments)
        assert interrupt._is_program() is program


def test_a_closed_pipe_is_not_an_error(picture: Path) -> None:
    """As in ``pixelsmith info x.png | head -1``, where the reader has exited."""
    read, write = os.pipe()
    os.close(read)
    process = subprocess.run(
        [sys.executable, "-m", "pixelsmith", "info", str(picture)],
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(write)
    assert (process.returncode, process.stderr) == (1, "")


@pytest.fixture
def pipe(tmp_path: Path) -> Iterator[Path]:
    """A named pipe without a writer; the fixture ends any wait for it."""
    os.mkfifo(tmp_path / "pipe.safetensors")
    before = signal.signal(signal.SIGALRM, _too_long)
    signal.alarm(120)
    yield tmp_path / "pipe.safetensors"
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def _too_long(number: int, frame: object) -> None:
    raise TimeoutError("it waited for a pipe")


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX pipes")
@pytest.mark.parametrize(
    "command",
    [
        *(
            ["plan", "x", "--size", "64", option]
            for option in ("--model", "--vae", "--network", "--lora", "--textual-inversion", "--from-image",
                           "--slider-map")
        ),
        ["models", "inspect"], ["info"], ["view"], ["resume"], ["evaluate", "-o", "out"],
        ["evaluate", "table1", "--tiny", "-o", "out", "--features"],
    ],
)  # fmt: skip
def test_named_pipes_are_refused_without_waiting(call: Call, pipe: Path, command: list[str]) -> None:  # noqa: F811
    code, out, err = call(*command, pipe)
    assert (code, out, err.count("\n")) == (2, "", 1), err
    assert f"{pipe}: " in err


def test_every_path_option_expands_the_home_folder(
    call: Call,  # noqa: F811
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    shutil.copytree(tiny_model, tmp_path / "model")
    Image.new("RGB", (64, 64)).save(tmp_path / "x.png")
    assert call("models", "inspect", "~/model")[0] == 0
    parts = ["--model=~/model", "--vae=~/model/vae", "--network", "~/model/unet", "--from-image=~/x.png"]
    assert call("plan", "x", "--size", "128", *parts, "--slider-map", "~/x.png")[0] == 0
    for option in ("--lora", "--textual-inversion"):
        code, _, err = call("plan", "x", "--size", "64", option, "~/x.png")
        assert (code, "expected a .safetensors file" in err) == (2, True), err
    for words in (["evaluate", "~/x.png", "-o", "out"], ["evaluate", "table1", "-o", "out", "--features=~/x.png"]):
        code, _, err = call(*words)
        assert (code, "x.png" in err) == (2, True), err
