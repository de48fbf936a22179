"""Pictures whose stages are enlarged by a super-resolution network."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from threading import get_ident
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import save_file

from pixelsmith import (
    Compute,
    InputError,
    Method,
    Parts,
    Request,
    RequestError,
    RunError,
    Size,
    generate,
    load,
    plan,
    resume,
)
from pixelsmith.api.lifecycle import Lifecycle
from pixelsmith.canvas import Array
from pixelsmith.cli.program import cli
from pixelsmith.config.workers import Workers
from pixelsmith.engine import Threaded, enlarged, inputs
from pixelsmith.events import Event, PhaseFinished, Warned
from pixelsmith.families import Upsampler, UpsamplerFacts, load_upsampler
from pixelsmith.geometry import NO_WRAP, Wrap
from pixelsmith.pixels.resample import Kernel, Resized
from pixelsmith.run import calibrate, found
from pixelsmith.sampling.readable import Readable
from tests.stopping import stop_at
from tests.upsamplers import Convolved, Cramped, Nearest, compact

FLOAT = Compute("cpu", "float32")


@pytest.fixture
def spandrel() -> Any:
    """The library; what needs it is not tested without."""
    reason = "spandrel is not installed; it needs a torchvision that fits torch"
    return pytest.importorskip("spandrel", reason=reason, exc_type=ImportError)


@pytest.fixture
def start(tmp_path: Path) -> Path:
    """A picture of 60x44 pixels, smooth with an edge."""
    down, across = np.mgrid[:44, :60]
    pixels = np.stack([4 * across, 255 - 5 * down, np.where(across > down, 200, 50)], axis=-1).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "start.png")
    return tmp_path / "start.png"


def request_of(model: Path, start: Path | None = None, size: Size = Size(120, 88), **changes: Any) -> Request:  # noqa: B008
    given = None if start is None else str(start)
    request = Request("a map", size, model=str(model), method=Method(steps=2), compute=FLOAT, from_image=given)
    return replace(request, **changes)


def saved(path: Path, tensors: dict[str, torch.Tensor]) -> Parts:
    save_file(tensors, path)
    return Parts(upsampler=str(path))


def using(monkeypatch: pytest.MonkeyPatch, upsampler: Upsampler) -> None:
    """All models have this upsampler from now on."""
    monkeypatch.setattr(Lifecycle, "_load_upsampler", lambda self, the_plan: upsampler)


def difference(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> int:
    return int(np.abs(one.astype(int) - other).max())


def test_one_that_repeats_pixels_is_the_kernel_that_does(
    tiny_model: Path, start: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = request_of(tiny_model, start)

    def repeated(
        target: Size, picture: Readable, kernel: Kernel, upsampler: Upsampler | None, wrap: Wrap = NO_WRAP
    ) -> Resized:
        large = Array(picture.read(picture.size.window).repeat_interleave(2, 1).repeat_interleave(2, 2))
        return Resized(large, large.size, target, kernel, wrap=wrap)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inputs, "enlarged_to", repeated)
        expected = generate(request).pixels
    plain = generate(request).pixels
    using(monkeypatch, Nearest(2))
    made = generate(request).pixels
    assert np.array_equal(made, expected)
    assert difference(made, plain) > 3


@pytest.mark.parametrize("wrap", [None, "xy"])
def test_a_preview_is_a_part_of_the_whole(tiny_model: Path, monkeypatch: pytest.MonkeyPatch, wrap: Any) -> None:
    using(monkeypatch, Convolved(2))
    # Of the stage below, which is small, a preview computes only a part.
    monkeypatch.setattr(enlarged, "TILE", 32)
    sizes = (Size(160, 144), Size(288, 256))
    request = request_of(tiny_model, size=sizes[-1], cascade=sizes, wrap=wrap)
    with load(str(tiny_model), compute=FLOAT) as model:
        whole = model.generate(request).pixels
        closeup = model.preview(request, (0.0, 0.3), side=32, surroundings=1)
    assert np.abs(closeup.pictures[0].astype(int) - whole[closeup.window.slices]).mean() < 1


def test_all_events_are_heard_on_the_thread_of_the_run(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here the upsampler runs out of memory in a thread that reads."""
    Image.new("RGB", (240, 40), "teal").save(tmp_path / "start.png")
    using(monkeypatch, Cramped(Nearest(2), 200))
    monkeypatch.setattr("pixelsmith.api.lifecycle.executor_for", lambda device, on_split: Threaded(on_split))
    heard: list[tuple[int, Event]] = []
    request = request_of(tiny_model, tmp_path / "start.png", Size(480, 80))
    generate(request, observer=lambda event: heard.append((get_ident(), event)))
    said = [event.message for _, event in heard if isinstance(event, Warned)]
    assert any("no memory for a tile of the upsampler; going on with pieces" in message for message in said)
    assert {thread for thread, _ in heard} == {get_ident()}


def test_a_file_is_loaded_and_does_what_its_network_does(spandrel: Any, tmp_path: Path) -> None:
    save_file(compact(scale=4), tmp_path / "4x.safetensors")
    found = load_upsampler(str(tmp_path / "4x.safetensors"), False, torch.device("cpu"))
    pixels = torch.randint(0, 256, (3, 20, 30), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    network = spandrel.ModelLoader().load_from_file(tmp_path / "4x.safetensors")
    assert found.scale == 4
    assert torch.equal(found(pixels), (255 * network(pixels[None] / 255)[0]).round().to(torch.uint8))


def test_files_make_pictures_of_their_own(spandrel: Any, tiny_model: Path, start: Path, tmp_path: Path) -> None:
    request = request_of(tiny_model, start)
    nearest = saved(tmp_path / "nearest.safetensors", compact(seed=None))
    made = generate(replace(request, parts=nearest)).pixels
    assert difference(made, generate(request).pixels) > 3
    with pytest.MonkeyPatch.context() as patch:
        using(patch, Nearest(2))
        assert np.array_equal(made, generate(request).pixels)
    larger = replace(request, parts=saved(tmp_path / "x4.safetensors", compact(4)))
    assert difference(generate(larger).pixels, made) > 3


def test_a_run_goes_on_with_its_file_and_no_other(spandrel: Any, tiny_model: Path, start: Path, tmp_path: Path) -> None:
    request = request_of(tiny_model, start, parts=saved(tmp_path / "up.safetensors", compact()))
    whole = generate(request).pixels
    with pytest.raises(KeyboardInterrupt):
        generate(request, tmp_path / "a.png", stop_at(stage=1, phase="encode"), tmp_path / "run")
    shutil.copytree(tmp_path / "run", tmp_path / "copy")
    assert np.array_equal(resume(tmp_path / "run").pixels, whole)
    saved(tmp_path / "up.safetensors", compact(seed=1))
    with pytest.raises(RunError, match="model was"):
        resume(tmp_path / "copy")


def test_two_processes_make_the_same_picture(
    spandrel: Any, tiny_model: Path, start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first stage has two passes of the network, the second one."""
    monkeypatch.setattr(enlarged, "TILE", 32)
    parts, compute = saved(tmp_path / "up.safetensors", compact()), Compute(dtype="float32", batch_size=2)
    sizes = (Size(160, 117), Size(248, 182))
    request = request_of(tiny_model, start, sizes[-1], cascade=sizes, parts=parts, compute=compute, wrap="x")
    with load(str(tiny_model), parts, compute, workers=Workers(("cpu", "cpu"))) as model:
        seen: list[Event] = []
        whole = model.generate(request, observer=seen.append).pixels
        passes = [event.stage for event in seen if isinstance(event, PhaseFinished) and event.phase == "upsample"]
        assert passes == [1, 1, 2]
        # A run that goes on keeps the tiles that it has.
        with pytest.raises(KeyboardInterrupt):
            model.generate(request, tmp_path / "a.png", stop_at(stage=2, phase="upsample"), run_dir=tmp_path / "run")
        assert len([*(tmp_path / "run" / "stage-2").glob("upsampled-0*")]) > 0
        assert np.array_equal(model.resume(tmp_path / "run").pixels, whole)
        closeup = model.preview(request, (0.5, 0.5), side=48, surroundings=1)
    with load(str(tiny_model), parts, compute) as alone:
        assert np.array_equal(whole, alone.generate(request).pixels)
        assert np.array_equal(closeup.pixels, alone.preview(request, (0.5, 0.5), side=48, surroundings=1).pixels)


def test_what_does_not_fit_is_refused_before_anything_is_made(
    spandrel: Any, tiny_model: Path, start: Path, tmp_path: Path
) -> None:
    def refused(match: str, parts: Parts, **changes: Any) -> None:
        with pytest.raises(InputError, match=match):
            plan(request_of(tiny_model, start, parts=parts, **changes))

    right = saved(tmp_path / "right.safetensors", compact())
    assert plan(request_of(tiny_model, start, parts=right)).stages
    refused("no such file or folder", Parts(upsampler=str(tmp_path / "none.safetensors")))
    refused("a kind that spandrel knows", saved(tmp_path / "lora.safetensors", {"weight": torch.zeros(2)}))
    refused("super-resolution, got a .* for Restoration", saved(tmp_path / "1x.safetensors", compact(1)))
    refused("3 channels, got 1 in", saved(tmp_path / "grey.safetensors", compact(channels=1)))
    cut = {name: value for name, value in compact().items() if name != "body.2.bias"}
    refused("cannot be loaded as an upsampler", saved(tmp_path / "cut.safetensors", cut))
    (tmp_path / "broken.safetensors").write_bytes(b"no weights")
    refused("broken.safetensors", Parts(upsampler=str(tmp_path / "broken.safetensors")))
    pickle = str(tmp_path / "up.pth")
    torch.save(compact(), pickle)
    refused("--allow-pickle", Parts(upsampler=pickle))
    trusted = request_of(tiny_model, start, parts=Parts(upsampler=pickle, allow_pickle=True))
    assert np.array_equal(generate(trusted).pixels, generate(replace(trusted, parts=right)).pixels)


def test_plans_count_its_memory_and_what_several_devices_store(
    spandrel: Any, tiny_model: Path, start: Path, tmp_path: Path
) -> None:
    large = saved(tmp_path / "large.safetensors", compact(4, features=256))
    request = request_of(tiny_model, start, compute=Compute(dtype="float32"))
    without, with_it = plan(request), plan(replace(request, parts=large))
    assert with_it.peak_memory_bytes > without.peak_memory_bytes + 4 * (256 + 256) * 320**2
    assert with_it.canvas_bytes == without.canvas_bytes
    smaller = replace(request, parts=large, compute=replace(request.compute, tile=400))
    assert plan(smaller).peak_memory_bytes < with_it.peak_memory_bytes
    workers = Workers(("cpu", "cpu"))
    # One tile of four times the sides, though only a part of it is used.
    stored = (
        plan(replace(request, parts=large), workers=workers).canvas_bytes - plan(request, workers=workers).canvas_bytes
    )
    assert stored == 3 * (4 * 256) ** 2


def planned_with(monkeypatch: pytest.MonkeyPatch, upsampler: Upsampler) -> None:
    """All models have this upsampler from now on, and plans know it."""
    using(monkeypatch, upsampler)
    facts = UpsamplerFacts(upsampler.scale, parameters=1, pixel_values=1)
    monkeypatch.setattr(found, "read_upsampler", lambda parts, fetched: facts)


@pytest.mark.parametrize("wrap", [None, "x"])
@pytest.mark.parametrize("scale", [2, 3])
def test_a_run_computes_the_tiles_that_its_plan_counts(
    tiny_model: Path, start: Path, monkeypatch: pytest.MonkeyPatch, wrap: Any, scale: int
) -> None:
    """Of several passes, of a canvas that is padded, and of a picture of which only the middle is needed."""
    monkeypatch.setattr(enlarged, "TILE", 32)
    upsampler = Convolved(scale)
    planned_with(monkeypatch, upsampler)
    sizes = (Size(160, 117), Size(248, 182)) if wrap else (Size(150, 61), Size(201, 88))
    request = request_of(tiny_model, start, sizes[-1], cascade=sizes, wrap=wrap)
    tiles = [stage.upsampled_tiles for stage in plan(request).stages]
    assert len(tiles[0]) == (2 if scale == 2 else 1)
    generate(request)
    assert upsampler.calls == sum(map(sum, tiles))


def test_a_doubled_guide_is_not_upsampled(monkeypatch: pytest.MonkeyPatch) -> None:
    planned_with(monkeypatch, Nearest(2))
    lanczos, learned = (
        plan(Request("a map", Size(512, 512), method=Method(upsampling=way), compute=FLOAT)).stages[0]
        for way in ("lanczos", "learned")
    )
    assert (lanczos.upsampled_tiles, learned.upsampled_tiles, learned.doublings) == ((1,), (), 1)


def test_a_calibration_times_a_tile(tiny_model: Path, start: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    request = request_of(tiny_model, start)
    with load(str(tiny_model), compute=FLOAT) as model:
        without = model.plan(request, calibrate=True).seconds
        monkeypatch.setattr(calibrate, "_of_upsampler", lambda *given: 1000.0)
        planned_with(monkeypatch, Nearest(2))
    with load(str(tiny_model), compute=FLOAT) as model:
        with_it = model.plan(request, calibrate=True).seconds
    assert without is not None
    assert with_it is not None
    assert with_it > 1000 > without


def test_a_tile_is_timed_with_its_context_in_the_pieces_that_are_asked_for() -> None:
    """Once to warm up and once for the time."""
    network = Convolved(2)
    request = Request("a map", Size(64, 64), compute=FLOAT)
    assert calibrate._of_upsampler(network, request, torch.device("cpu")) > 0
    assert network.calls == 2
    smaller = replace(request, compute=replace(FLOAT, tile=400))
    assert calibrate._of_upsampler(network, smaller, torch.device("cpu")) > 0
    assert network.calls == 2 + 2 * 4


def test_what_excludes_it_is_refused(tiny_model: Path, start: Path) -> None:
    parts = Parts(upsampler="up.safetensors")
    with pytest.raises(RequestError, match="latents cannot be enlarged by --upsampler"):
        request_of(tiny_model, start, parts=parts, method=Method(upsampling="latent"))


def test_settings_keep_it(tiny_model: Path) -> None:
    request = request_of(tiny_model, parts=Parts(upsampler="up.safetensors"))
    assert Request.from_dict(json.loads(json.dumps(request.to_dict()))) == request


def test_the_command_line_takes_it(spandrel: Any, tiny_model: Path, start: Path, tmp_path: Path) -> None:
    parts, out = saved(tmp_path / "up.safetensors", compact()), tmp_path / "out.png"
    said = ["--model", str(tiny_model), "--size", "120x88", "--steps", "1", "--device", "cpu", "-o", str(out)]
    result = CliRunner().invoke(
        cli, ["generate", "a map", *said, "--from-image", str(start), "--upsampler", str(parts.upsampler)]
    )
    assert result.exit_code == 0, result.output
    assert "up.safetensors" in CliRunner().invoke(cli, ["info", str(out)]).output
