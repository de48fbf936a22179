"""Pictures made by several processes: the bytes are the same if workers are killed, hang, or a run is resumed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
import psutil
import pytest
import torch
from PIL import Image

from pixelsmith import (
    Compute,
    DeviceError,
    LoadedModel,
    Lora,
    Method,
    Parts,
    Placement,
    Progress,
    Region,
    Request,
    Size,
    Warned,
    Workers,
    generate,
    load,
    plan,
    resume,
)
from pixelsmith.engine.crew import QUESTION, Leases
from pixelsmith.events import Event
from pixelsmith.pixels.reading import read_picture
from tests.families.test_parts import save_lora
from tests.tiny import build_stable_diffusion

COMPUTE = Compute(dtype="float32", batch_size=2)
METHODS: dict[str, dict[str, Any]] = {
    "held": {},
    "phase, random": {"merge": "phase", "coverage": "random", "border": 2},
    "second order, perturbed": {"sampler": "dpmpp-2m", "perturbation": "pag"},
    "new noise": {"sampler": "euler-a"},
    "latent": {"upsampling": "latent"},
    "demofusion": {"strategy": "demofusion"},
}


def request_of(model: Path, size: int = 150, **method: Any) -> Request:
    own = Method(steps=2, **method)
    return Request("a map", Size(size, size - 20), model=str(model), method=own, compute=COMPUTE)


def strike(model: LoadedModel, hit: dict[str, int], name: str, how: signal.Signals) -> None:
    """Send a signal to a worker that was not sent one before, to one that is busy if there is one now."""
    assert model._model.fleet is not None
    abouts = model._model.fleet.abouts
    left = [member for member, about in abouts.items() if member.ready and about.pid not in hit.values()]
    hit[name] = abouts[max(left, key=lambda member: len(member.jobs))].pid
    os.kill(hit[name], how)


def wait_for(model: LoadedModel, count: int) -> None:
    assert model._model.fleet is not None
    crew = model._model.fleet.crew
    crew.wait(lambda: len(crew.ready) == count, 120)
    assert len(crew.ready) == count


@dataclass(eq=False)
class Unanswered:
    """A job that a stopped worker never answers."""

    kind: str = QUESTION
    count: int = 1

    def lost(self) -> None:
        """It need not be done."""


LONG = Leases(least=900)
"""A worker that a busy machine keeps waiting is not given up."""


def give_up(model: LoadedModel, hit: dict[str, int], said: list[str]) -> None:
    """Lose the struck workers that are not lost yet; their messages are added to ``said``.

    The stopped one's lease expires once others have done its late jobs. One that was killed while its last answers were
    on their way is lost at its next call.
    """
    assert model._model.fleet is not None
    crew, abouts = model._model.fleet.crew, model._model.fleet.abouts
    stopped = hit["denoise"]
    crew.wait(lambda: not any(member.jobs for member in crew.ready if abouts[member].pid != stopped), 120)
    for member in crew.ready:
        if abouts[member].pid == stopped:
            # It may have no other job, or only such whose answers were on their way when it was stopped.
            crew.begin(member, Unanswered())
        elif abouts[member].pid in hit.values():
            crew.lose(member, str(member.link.call("describe").exception(120)))
    crew._leases = Leases(first=0, least=0, times=0)
    wait_for(model, 1)
    crew.tell = said.append


def is_early(event: Event, phases: Sequence[str]) -> TypeGuard[Progress]:
    """Whether some of the second stage is done, but not all of it: the rates are known by then."""
    return isinstance(event, Progress) and event.stage == 2 and event.phase in phases and event.done <= event.total - 2


def is_first(event: Event, phase: str) -> bool:
    """Whether some of the first stage is done in this phase, but not all of it."""
    return isinstance(event, Progress) and (event.stage, event.phase) == (1, phase) and event.done <= event.total - 2


@pytest.fixture(scope="module")
def two(tiny_model: Path) -> Iterator[LoadedModel]:
    with load(str(tiny_model), compute=COMPUTE, workers=Workers(("cpu",) * 2)) as model:
        wait_for(model, 2)
        yield model


@pytest.mark.parametrize("method", METHODS)
def test_one_and_two_workers_make_the_same_picture(tiny_model: Path, two: LoadedModel, method: str) -> None:
    request = request_of(tiny_model, **METHODS[method])
    assert np.array_equal(two.generate(request).pixels, generate(request).pixels)


def test_workers_exchange_the_loras_of_the_stages(tiny_model: Path, tmp_path: Path) -> None:
    parts = Parts(loras=(Lora(str(save_lora(build_stable_diffusion(), tmp_path)), stages_only=True),))
    request = replace(request_of(tiny_model), parts=parts)
    with load(str(tiny_model), parts, COMPUTE, Workers(("cpu",) * 2)) as model:
        made = [model.generate(request).pixels for _ in range(2)]
    assert all(np.array_equal(pixels, generate(request).pixels) for pixels in made)


def test_regions_are_sent_to_workers(tiny_model: Path, two: LoadedModel, tmp_path: Path) -> None:
    Image.fromarray(np.pad(np.full((8, 12), 255, np.uint8), 9)).save(tmp_path / "mask.png")
    corners = ((0, 0), (50, 0), (40, 100), (0, 100))
    regions = (Region("a sea", polygon=corners, unit="percent"), Region("an isle", mask=str(tmp_path / "mask.png")))
    request = replace(request_of(tiny_model), regions=regions)
    assert np.array_equal(two.generate(request).pixels, generate(request).pixels)


def test_all_workers_are_used_and_their_rates_reported(tiny_model: Path, two: LoadedModel) -> None:
    names: set[str] = set()

    def see(event: Event) -> None:
        if isinstance(event, Progress):
            names.update(event.workers)

    two.generate(request_of(tiny_model, 400), observer=see)
    assert names == {"cpu (1)", "cpu (2)"}


def test_the_settings_in_a_file_do_not_name_workers(tiny_model: Path, two: LoadedModel, tmp_path: Path) -> None:
    request = request_of(tiny_model)
    two.generate(request, tmp_path / "two.png")
    generate(request, tmp_path / "one.png")
    assert (tmp_path / "two.png").read_bytes() == (tmp_path / "one.png").read_bytes()


def test_a_plan_combines_the_rates_of_all_workers(tiny_model: Path, two: LoadedModel) -> None:
    request = request_of(tiny_model, 400)
    alone = plan(request, calibrate=True).seconds
    together = plan(request, workers=Workers(("cpu",) * 3)).seconds
    assert alone is not None
    assert together is not None
    assert alone / 3 <= together < alone, "all phases but writing are shared"


def test_rates_of_workers_that_share_a_processor_are_not_saved_for_one(tiny_model: Path, two: LoadedModel) -> None:
    request = request_of(tiny_model)
    assert plan(request).seconds is None
    measured = two.plan(request, calibrate=True).seconds
    assert measured is not None
    assert plan(request, workers=Workers(("cpu",) * 2)).seconds == measured
    assert plan(request).seconds is None


def test_killed_and_stopped_workers_do_not_change_the_picture(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One is killed in each phase, and one is stopped during denoising."""
    monkeypatch.setattr("pixelsmith.workers.fleet.LEASES", LONG)
    request, said, hit = request_of(tiny_model, 560), list[str](), dict[str, int]()
    with load(str(tiny_model), compute=COMPUTE, workers=Workers(("cpu",) * 5)) as model:
        wait_for(model, 5)

        def observe(event: Event) -> None:
            if isinstance(event, Warned):
                said.append(event.message)
            elif is_early(event, ("encode", "denoise", "decode")) and event.phase not in hit:
                strike(model, hit, event.phase, signal.SIGSTOP if event.phase == "denoise" else signal.SIGKILL)
            elif is_first(event, "denoise") and "first denoise" not in hit:
                strike(model, hit, "first denoise", signal.SIGKILL)

        pixels = model.generate(request, observer=observe).pixels
        give_up(model, hit, said)
    assert hit.keys() == {"first denoise", "encode", "denoise", "decode"}
    ends = ["its process was ended by SIGKILL", "no answer for"]
    assert sum(ends[0] in line for line in said) == 3, said
    assert sum(ends[1] in line for line in said) == 1, said
    assert not any(psutil.pid_exists(pid) for pid in hit.values())
    assert np.array_equal(pixels, generate(request).pixels)


def test_the_loss_of_the_last_worker_ends_the_run_which_resumes_without_workers(
    tiny_model: Path, tmp_path: Path
) -> None:
    request, run, hit = request_of(tiny_model, 300), tmp_path / "run", dict[str, int]()
    with load(str(tiny_model), compute=COMPUTE, workers=Workers(("cpu",))) as model:

        def kill(event: Event) -> None:
            # Answers that were on their way are reported after the only worker was killed.
            if isinstance(event, Progress) and (event.stage, event.phase) == (1, "denoise") and not hit:
                strike(model, hit, "denoise", signal.SIGKILL)

        with pytest.raises(DeviceError, match=r"no worker is left .*SIGKILL.*--devices") as caught:
            model.generate(request, observer=kill, run_dir=run)
    assert caught.value.__notes__[-1] == f"go on with 'pixelsmith resume {run}'"
    assert np.array_equal(resume(run).pixels, generate(request).pixels)


def test_workers_end_with_a_killed_run_which_resumes_with_another_number_of_them(
    tiny_model: Path, tmp_path: Path
) -> None:
    run = tmp_path / "many.png.run"
    words = ["generate", "a map", "--model", str(tiny_model), "--size", "300x280", "--steps", "2", "--dtype", "float32"]
    words += ["--batch-size", "2", "--output", str(tmp_path / "many.png")]
    command = [sys.executable, "-m", "pixelsmith"]
    many = [*words, "--devices", "cpu,cpu", "--run-dir", str(run), "--json"]
    with subprocess.Popen([*command, *many], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        next(line for line in process.stdout if '"stage": 1, "phase": "denoise"' in line)
        children = psutil.Process(process.pid).children()
        process.kill()
    assert len(children) == 2
    _, alive = psutil.wait_procs(children, timeout=60)
    assert not alive
    resume(run, placement=Placement(workers=Workers(("cpu",))))
    generate(request_of(tiny_model, 300), tmp_path / "one.png")
    made = (read_picture(tmp_path / name) for name in ("many.png", "one.png"))
    many_pixels, one_pixels = (picture.read(picture.size.window) for picture in made)
    assert torch.equal(many_pixels, one_pixels)


def test_ctrl_c_ends_all_workers(tiny_model: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pixelsmith", "generate", "a map", "--model", str(tiny_model), "--size", "1800"]
    command += ["--devices", "cpu", "--output", str(tmp_path / "map.png"), "--json"]
    # Under a shell's background job signals are ignored, and children inherit that.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        signal.signal(signal.SIGINT, before)
        assert process.stdout is not None
        assert process.stderr is not None
        next(line for line in process.stdout if '"phase": "denoise"' in line)
        children = psutil.Process(process.pid).children()
        # As a terminal does: all of its processes hear it.
        os.killpg(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=120)
    assert process.returncode == 130
    assert said.splitlines()[-1].startswith("pixelsmith: interrupted")
    assert "Traceback" not in said
    _, alive = psutil.wait_procs(children, timeout=60)
    assert not alive
