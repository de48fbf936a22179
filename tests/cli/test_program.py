"""The command line."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image

from pixelsmith.cli.program import main

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Call:
    """Run the command with arguments; returns the exit code, standard output and standard error."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["pixelsmith", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            main()
        captured = capsys.readouterr()
        assert isinstance(stopped.value.code, int)
        return stopped.value.code, captured.out, captured.err

    return run


def test_generate_info_and_repeat(call: Call, tiny_model: Path, tmp_path: Path) -> None:
    output = tmp_path / "islands.tif"
    code, out, _ = call(
        "generate", "watercolor map of islands", "--size", "150x130", "--slider", 0.5, "--steps", 2, "--seed", 7,
        "--negative-prompt", "roads", "--guidance-scale", 5, "--cascade", "100x90,150x130", "--model", tiny_model,
        "--device", "cpu", "--dtype", "float32", "--output", output,
    )  # fmt: skip
    assert code == 0
    assert str(output) in out
    with Image.open(output) as image:
        assert image.size == (150, 130)
    code, out, _ = call("info", output, "--json")
    request = json.loads(out)["request"]
    assert code == 0
    assert request["prompt"] == "watercolor map of islands"
    assert (request["seed"], request["size"], request["cascade"]) == (7, "150x130", ["100x90", "150x130"])
    assert (request["method"]["slider"], request["method"]["guidance_scale"]) == (0.5, 5.0)
    assert request["negative_prompt"] == "roads"
    code, out, _ = call("info", output)
    assert code == 0
    assert "watercolor map of islands" in out


def test_json_prints_events_and_quiet_nothing(call: Call, tiny_model: Path, tmp_path: Path) -> None:
    common = ("generate", "a map", "--size", "80", "--steps", 1, "--model", tiny_model, "-o", tmp_path / "x.png")
    code, out, err = call(*common, "--json")
    events = [json.loads(line) for line in out.splitlines()]
    assert (code, err) == (0, "")
    assert events[0]["event"] == "RunStarted"
    assert events[0]["stages"][0]["size"] == [80, 80]
    assert events[-1] == {"event": "RunFinished", "path": str(tmp_path / "x.png"), "seconds": events[-1]["seconds"]}
    code, out, err = call(*common, "--quiet")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "overwrite it (--overwrite)" in err
    assert call(*common, "--quiet", "--overwrite") == (0, "", "")


def test_from_image(call: Call, tiny_model: Path, tmp_path: Path) -> None:
    Image.new("RGB", (90, 60), "teal").save(tmp_path / "photo.jpg")
    output = tmp_path / "big.png"
    code, *_ = call(
        "generate", "a sea", "--from-image", tmp_path / "photo.jpg", "--size", "180x120", "--steps", 1, "--model",
        tiny_model, "-o", output,
    )  # fmt: skip
    assert code == 0
    with Image.open(output) as image:
        assert image.size == (180, 120)


def test_prints_and_areas_are_planned_in_pixels(call: Call, tiny_model: Path, tmp_path: Path) -> None:
    Image.new("RGB", (90, 60), "teal").save(tmp_path / "photo.jpg")

    def last_size(*options: object) -> list[int]:
        code, out, err = call("plan", "a map", "--model", tiny_model, *options, "--json")
        assert (code, err) == (0, "")
        size: list[int] = json.loads(out)["stages"][-1]["size"]
        return size

    assert last_size("--size", "6x9cm@100dpi") == [236, 354]
    assert last_size("--size", "0.04MP") == [200, 200], "the shape of the model's own pictures"
    assert last_size("--size", "0.06MP", "--from-image", tmp_path / "photo.jpg") == [300, 200]
    assert last_size("--size", "0.08MP", "--cascade", "100x50") == [400, 200]
    for wrong, message in (("6x9furlongs", "a print (60x90cm@300dpi"), ("6x9cm@0dpi", "dpi: expected")):
        code, out, err = call("plan", "a map", "--size", wrong)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert message in err


def test_the_resolution_is_in_the_file_and_in_its_settings(call: Call, tiny_model: Path, tmp_path: Path) -> None:
    output = tmp_path / "print.jpg"
    code, *_ = call(
        "generate", "a map", "--size", "1x2cm@96dpi", "--model", tiny_model, "--steps", 1, "-o", output, "--quiet"
    )  # fmt: skip
    assert code == 0
    with Image.open(output) as image:
        assert (image.size, image.info["dpi"]) == ((38, 76), (96, 96))
    request = json.loads(call("info", output, "--json")[1])["request"]
    assert (request["size"], request["dpi"]) == ("38x76", 96.0)


def test_plan_prints_one_object_and_a_table(call: Call) -> None:
    code, out, _ = call("plan", "a map", "--size", "4096x4096", "--json")
    plan = json.loads(out)
    assert code == 0
    last = plan["stages"][-1]
    assert (last["size"], last["latent_size"], last["fewest_patches_per_step"]) == ([4096, 4096], [512, 512], 256)
    counted = {
        "steps",
        "guided_steps",
        "patches_per_step",
        "fewest_patches_per_step",
        "prompts",
        "negatives",
        "doublings",
        "upsampled_tiles",
    }
    assert set(last) == {"size", "latent_size"} | counted
    assert plan["seconds"] is None
    assert min(plan["model_calls"], plan["peak_memory_bytes"], plan["disk_bytes"]) > 0
    guided = ("plan", "a map", "--size", "4096x4096", "--json", "--stage-guidance-scale", 2)
    calls = [json.loads(call(*guided, *more)[1])["model_calls"] for more in ((), ("--perturbation", "pag"))]
    assert calls[1] == pytest.approx(1.5 * calls[0], abs=1)
    code, out, _ = call("plan", "a map", "--size", "4096", "--preset", "paper")
    assert code == 0
    assert "stage 1" in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["", "--size", "64"], "prompt is empty"),
        (["x", "--size", "0"], "size"),
        (["x", "--size", "big"], "WIDTHxHEIGHT"),
        (["x", "--slider", "2"], "slider"),
        (["x", "--slider-map", "nowhere.png"], "nowhere.png"),
        (["x", "--slider-map", "https://example.org/map.png"], "slider map: expected the path of a file"),
        (["x", "--slider-map", " "], "slider map: expected auto, even or the path"),
        (["x", "--slider", "much"], "slider"),
        (["x", "--steps", "0"], "steps"),
        (["x", "--seed", "-4"], "seed"),
        (["x", "--batch-size", "0"], "batch size"),
        (["x", "--guidance-interval", "a,b"], "guidance interval"),
        (["x", "--guidance-interval", "0.9,0.1"], "guidance interval"),
        (["x", "--sampler", "magic"], "sampler"),
        (["x", "--perturbation", "slg", "--perturbed-layers", "7,b"], "perturbed layers"),
        (["x", "--perturbation", "pag", "--perturbation-interval", "1"], "perturbation interval"),
        (["x", "--perturbation-scale", "2"], "give --perturbation"),
        (["x", "--model", "nobody/nothing"], "unknown model"),
        (["x", "--model", "/no/such/folder"], "unknown model"),
        (["x", "--cascade", "512,256"], "shrinks"),
        (["x", "--cascade", "100,2048"], "shrinks"),
        (["x", "--from-image", "missing.png"], "missing.png"),
        (["x", "--from-image", __file__], "not a picture"),
        (["x", "--preset", "unknown"], "preset"),
        (["x", "--border", "20"], "border"),
        (["x", "--steps", "1001"], "steps"),
        (["x", "--from-image", __file__, "--size", "64"], "not a picture"),
        (["x", "--no-such-option"], "no-such-option"),
    ],
)
def test_invalid_input_is_refused_in_one_line_with_exit_code_2(
    call: Call, tmp_path: Path, arguments: list[str], said: str
) -> None:
    for command in (["plan", *arguments], ["generate", *arguments, "--output", str(tmp_path / "x.png")]):
        code, out, err = call(*command)
        assert (code, out, err.count("\n")) == (2, "", 1), err
        assert said in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("output", ["x.gif", "no/such/folder/x.png"])
def test_an_unwritable_output_is_refused_before_any_work(call: Call, tmp_path: Path, output: str) -> None:
    code, out, err = call("generate", "x", "--output", tmp_path / output)
    assert (code, out, err.count("\n")) == (2, "", 1)


@pytest.mark.parametrize(("size", "coverage", "said"), [("3000000", "grid", "disk"), ("600000", "random", "memory")])
def test_a_picture_beyond_the_machines_memory_or_disk_is_refused_before_any_work(
    call: Call, tmp_path: Path, size: str, coverage: str, said: str
) -> None:
    options = ("--size", size, "--coverage", coverage, "--output", tmp_path / "x.tif")
    code, out, err = call("generate", "x", *options)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert said in err
    assert list(tmp_path.iterdir()) == []


def test_a_truncated_prompt_gives_a_warning(call: Call, tiny_model: Path, tmp_path: Path) -> None:
    common = ("--size", "64", "--steps", 1, "--model", tiny_model, "-o", tmp_path / "x.png", "--json", "--overwrite")
    warnings = []
    for options in ([], ["--prompt-weighting"]):
        _, out, err = call("generate", "a very long prompt about islands", *common, *options)
        warnings.append([event["message"] for event in map(json.loads, out.splitlines()) if event["event"] == "Warned"])
        assert err == ""
    assert len(warnings[0]) == 1
    assert "islands" in warnings[0][0]
    assert warnings[1] == [], "then all of it is read"
    assert json.loads(call("info", tmp_path / "x.png", "--json")[1])["request"]["prompt_weighting"] is True


def test_help_and_version(call: Call) -> None:
    assert call("--version")[0] == 0
    code, out, _ = call("generate", "--help")
    assert code == 0
    assert "--slider" in out


@contextmanager
def started(*arguments: object) -> Iterator[subprocess.Popen[str]]:
    """The command in a separate process, after it has begun to denoise."""
    command = [sys.executable, "-m", "pixelsmith", *map(str, arguments), "--json"]
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    # Under a shell's background job signals are ignored, and children inherit that.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        signal.signal(signal.SIGINT, before)
        assert process.stdout is not None
        for line in process.stdout:
            if '"denoise"' in line:
                break
        yield process


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_ctrl_c_exits_with_130_and_leaves_no_file(tiny_model: Path, tmp_path: Path) -> None:
    options = ("--size", 400, "--steps", 500, "--model", tiny_model, "--output", tmp_path / "x.png")
    with started("generate", "a map", *options) as process:
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 130
        assert process.stderr is not None
        assert process.stderr.read().strip() == "pixelsmith: interrupted"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_an_interrupted_run_names_the_command_that_resumes_it(call: Call, tiny_model: Path, tmp_path: Path) -> None:
    run_dir, output = tmp_path / "run", tmp_path / "x.png"
    options = ("--size", 150, "--steps", 20, "--model", tiny_model, "--output", output, "--run-dir", run_dir)
    with started("generate", "a map", *options) as process:
        # Stopped for the while, it is still at work when the other one asks.
        process.send_signal(signal.SIGSTOP)
        code, out, err = call("resume", run_dir)
        assert (code, out, err) == (2, "", f"pixelsmith: {run_dir}: another process works in it\n")
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGCONT)
        assert process.wait(timeout=60) == 130
        assert process.stderr is not None
        assert process.stderr.read().strip() == f"pixelsmith: interrupted; go on with 'pixelsmith resume {run_dir}'"
    assert not output.exists()
    code, out, err = call("generate", "a map", *options)
    assert (code, out) == (2, "")
    assert "pixelsmith resume" in err
    assert call("resume", run_dir, "--quiet") == (0, "", "")
    with Image.open(output) as image:
        assert image.size == (150, 150)


def test_resuming_what_is_not_a_run_is_refused_in_one_line(call: Call, tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "nowhere", Path(__file__)):
        code, out, err = call("resume", place)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert "run" in err


def test_models_lists_families_and_inspects_a_model(call: Call, tiny_model: Path) -> None:
    families = json.loads(call("models", "--json")[1])["families"]
    assert {name for family in families for name in family["pipelines"]} >= {"FluxPipeline", "StableDiffusionPipeline"}
    assert all(family["native"] and family["needs"] for family in families)
    assert "SDXL" in call("models")[1]
    found = json.loads(call("models", "inspect", tiny_model, "--json")[1])
    assert (found["family"], found["native_size"]) == ("Stable Diffusion 1.x, 2.x", "64x64")
    assert (found["steps"], found["guidance_scale"]) == (20, 7.5)
    assert (found["perturbations"], found["quantised"], found["safety_checker"]) == (["pag", "slg"], False, False)
    vae = tiny_model / "vae"
    table = call("models", "inspect", tiny_model, "--vae", vae)[1]
    assert "StableDiffusionPipeline" in table
    assert re.search(rf"^vae +{re.escape(str(vae))}$", table, re.MULTILINE)
    assert found["parts"]["unet"] == str(tiny_model / "unet")
    code, _, error = call("models", "inspect", tiny_model, "--vae", "nowhere")
    assert (code, "nowhere" in error) == (2, True)
    code, _, error = call("models", "inspect", "nowhere")
    assert (code, "unknown model" in error) == (2, True)


def test_parts_and_device_options_reach_the_request(call: Call, tiny_model: Path, tmp_path: Path) -> None:
    size = ("--size", "64", "--model", tiny_model)
    code, _, error = call("plan", "x", *size, "--vae", tmp_path / "nowhere")
    assert (code, "nowhere" in error) == (2, True)
    common = ("generate", "x", *size, "--steps", 1, "--device", "cpu", "--output", tmp_path / "x.png")
    code, _, error = call(*common, "--memory", "offload")
    assert (code, "memory: offload" in error) == (2, True)
    code, _, error = call(*common, "--lora", f"{tmp_path / 'style.safetensors'}:0.5")
    assert (code, "style.safetensors" in error) == (2, True)
    assert call(*common, "--guidance", "apg", "--guidance-scale", 3, "--channels-last")[0] == 0
    request = json.loads(call("info", tmp_path / "x.png", "--json")[1])["request"]
    assert (request["method"]["guidance"], request["compute"]["channels_last"]) == ("apg", True)
    assert (request["method"]["guidance_rescale"], request["parts"]["loras"]) == (0.0, [])
