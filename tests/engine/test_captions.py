"""Captions for places: each patch is conditioned on what the previous stage shows there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from pixelsmith import (
    PRESETS,
    Compute,
    Method,
    ModelError,
    PhaseFinished,
    Progress,
    Request,
    RequestError,
    RunError,
    Size,
    Warned,
    generate,
    plan,
    resume,
)
from pixelsmith.canvas import Array, MemorySpace
from pixelsmith.cli.options import make_request
from pixelsmith.cli.program import generate_command
from pixelsmith.config.parts import Parts
from pixelsmith.engine.inputs import Rung
from pixelsmith.engine.stage import Cascade
from pixelsmith.engine.words import Cells
from pixelsmith.events import Event, silent
from pixelsmith.families import Prompt, PromptAt, load_family, read_facts
from pixelsmith.families.architecture import DiffusersFamily
from pixelsmith.geometry import Window
from pixelsmith.planning.planner import make_plan
from pixelsmith.sampling.denoiser import Denoiser
from pixelsmith.sampling.patches import fewest_patches
from tests.zoo.captioners import save_vit_gpt2

FLOAT = Compute("cpu", "float32")
PATCH = Size(16, 16)


@pytest.fixture(scope="module")
def captioner(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_vit_gpt2(tmp_path_factory.mktemp("captioner") / "vit-gpt2")


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Left half sea, right half forest."""
    path = tmp_path_factory.mktemp("picture") / "halves.png"
    Image.fromarray(halves().permute(1, 2, 0).numpy()).save(path)
    return path


def halves() -> Tensor:
    """(3, 64, 64)."""
    noise = torch.randn(1, 64, 64, generator=torch.Generator().manual_seed(0))
    sea, forest = torch.tensor([5.0, 20.0, 60.0]), torch.tensor([40.0, 80.0, 30.0])
    colours = torch.where((torch.arange(64) < 32)[None, None], sea[:, None, None], forest[:, None, None])
    return (colours + 6 * noise).clamp(0, 255).to(torch.uint8)


def request_of(model: Path, captioner: Path, **changes: Any) -> Request:
    return replace(
        Request(
            "a map",
            Size(150, 130),
            model=str(model),
            method=Method(steps=3, captions="auto"),
            compute=FLOAT,
            parts=Parts(captioner=str(captioner)),
        ),
        **changes,
    )


@pytest.mark.parametrize("size", [(16, 16), (40, 33), (97, 16), (5, 130)])
def test_cells_tile_a_canvas_and_every_window_maps_to_one(size: tuple[int, int]) -> None:
    canvas = Size(*size)
    cells = Cells(canvas, PATCH)
    found = list(cells)
    assert len(found) == len(cells) == fewest_patches(canvas, PATCH)
    covered = np.zeros((canvas.height, canvas.width), int)
    for number, cell in enumerate(found):
        covered[cell.slices] += 1
        assert max(cell.height, cell.width) <= 16
        assert cells.under(cell) == number
    assert (covered == 1).all()
    # A window half a patch away is still that of the cell under its middle.
    for left in range(canvas.width - 1):
        middle = left + min(16, canvas.width - left) / 2
        number = cells.under(Window(0, left, 1, min(16, canvas.width - left)))
        assert found[number].left <= middle <= found[number].right


def sea_or_forest(pictures: Tensor) -> list[str]:
    return ["sea" if red.mean() < 25 else "forest" for red, _, _ in pictures.float()]


def test_patches_are_conditioned_on_the_captions_of_their_places(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Places with the same caption share its encoding."""
    request = Request("a map", Size(256, 256), model=str(tiny_model), method=Method(steps=1, captions="auto"))
    facts = replace(read_facts(tiny_model, "tiny"), captioner_parameters=1)
    family = load_family(tiny_model, facts, FLOAT)
    told: list[PromptAt] = []
    encoded: dict[str, Mapping[str, Tensor]] = {}
    assert isinstance(family, DiffusersFamily)
    own_denoiser, own_encode = DiffusersFamily.denoiser, DiffusersFamily.encode

    def denoiser(self: DiffusersFamily, prompt_at: PromptAt, *others: Any) -> Denoiser:
        told.append(prompt_at)
        return own_denoiser(self, prompt_at, *others)

    def encode(self: DiffusersFamily, prompt: str, *others: Any) -> Any:
        assert prompt not in encoded
        found = own_encode(self, prompt, *others)
        encoded[prompt] = found[0]
        return found

    monkeypatch.setattr(DiffusersFamily, "denoiser", denoiser)
    monkeypatch.setattr(DiffusersFamily, "encode", encode)
    the_plan = make_plan(request, facts, Size(64, 64))
    with torch.inference_mode():
        cascade = Cascade.of(request, family, the_plan, silent, MemorySpace(), sea_or_forest)
        cascade.stage(1, Rung(Array(halves()), None), Size(256, 256))
    assert set(encoded) == {"a map", "sea, a map", "forest, a map"}
    positive, negative = told
    shared: dict[str, Prompt] = {}
    for window, word in (
        (Window(0, 0, 16, 16), "sea"),
        (Window(20, 12, 16, 16), "sea"),
        (Window(48, 30, 16, 16), "forest"),
    ):
        found = positive(window)
        assert found == encoded[f"{word}, a map"]
        assert found is shared.setdefault(word, found)
        assert torch.equal(
            negative(window)["encoder_hidden_states"], own_encode(family, "", "", False)[0]["encoder_hidden_states"]
        )


def test_the_embedded_captioner_uses_the_prompts_of_the_training(picture: Path, tmp_path: Path) -> None:
    method = replace(PRESETS["fast"], captions="auto", stage_steps=1)
    request = Request("a map", Size(512, 512), from_image=str(picture), method=method, compute=FLOAT)
    generate(request, tmp_path / "map.png", run_dir=tmp_path / "run")
    captions = np.array(json.loads((tmp_path / "run" / "stage-1" / "captions.json").read_text())["texts"])
    (left, right), (below_left, below_right) = captions.reshape(2, 2)
    assert "ocean" in left
    assert "ocean" in below_left
    assert "forest" in right
    assert "forest" in below_right


def test_captions_change_the_picture_and_off_equals_no_captioner(tiny_model: Path, captioner: Path) -> None:
    plain = Request("a map", Size(150, 130), model=str(tiny_model), method=Method(steps=3), compute=FLOAT)
    with_captioner = replace(plain, parts=Parts(captioner=str(captioner)))
    pictures = [
        generate(request).pixels
        for request in (plain, with_captioner.with_method(captions="off"), with_captioner.with_method(captions="auto"))
    ]
    assert np.array_equal(pictures[0], pictures[1])
    assert not np.array_equal(pictures[0], pictures[2])


def test_a_prompt_truncated_by_captions_is_reported(tiny_model: Path, captioner: Path) -> None:
    """The tiny text encoder reads 14 bytes, and its captioner returns 30."""
    remarks = list[str]()
    generate(
        request_of(tiny_model, captioner),
        observer=lambda event: remarks.append(event.message) if isinstance(event, Warned) else None,
    )
    assert "the model has no room for the end of the prompt behind some of the captions" in remarks


@pytest.mark.parametrize(
    ("asked", "captions", "whose"),
    [(None, None, None), ("off", "off", None), ("auto", "auto", None), ("a/b", "auto", "a/b")],
)
def test_captioner_from_the_command_line(asked: str | None, captions: str | None, whose: str | None) -> None:
    command = generate_command.make_context(
        "generate", ["a map", "-o", "x.png", *(["--captions", asked] if asked else [])]
    )
    request = make_request(command.params)
    assert request.method.captions == captions
    assert request.parts.captioner == whose
    assert Request.from_dict(request.to_dict()) == request


def test_batch_size_does_not_change_the_captions(tiny_model: Path, captioner: Path, tmp_path: Path) -> None:
    texts, pixels = [], []
    for size in (1, 5):
        request = request_of(tiny_model, captioner, compute=Compute("cpu", "float32", batch_size=size))
        run_dir = tmp_path / f"run-{size}"
        pixels.append(generate(request, run_dir=run_dir).pixels.astype(int))
        texts.append((run_dir / "stage-1" / "captions.json").read_bytes())
    assert texts[0] == texts[1]
    assert np.abs(pixels[0] - pixels[1]).max() <= 1


def test_a_resumed_run_has_the_same_captions_and_bytes(
    tiny_model: Path, captioner: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request, phases = request_of(tiny_model, captioner), list[str]()
    generate(request, tmp_path / "whole.png")

    def interrupting(event: Event) -> None:
        if isinstance(event, Progress) and event.stage == 1 and event.phase == "denoise":
            raise KeyboardInterrupt

    def noting(event: Event) -> None:
        if isinstance(event, PhaseFinished):
            phases.append(event.phase)

    with pytest.raises(KeyboardInterrupt):
        generate(request, tmp_path / "map.png", interrupting, tmp_path / "run")
    resume(tmp_path / "run", noting)
    assert (tmp_path / "map.png").read_bytes() == (tmp_path / "whole.png").read_bytes()
    assert "caption" not in phases


@pytest.mark.parametrize("damage", ["", "{}", '{"texts": ["x"], "checksum": 1}'])
def test_damaged_captions_are_recomputed(tiny_model: Path, captioner: Path, tmp_path: Path, damage: str) -> None:
    request, file = request_of(tiny_model, captioner), tmp_path / "run" / "stage-1" / "captions.json"

    def interrupting(event: Event) -> None:
        if isinstance(event, Progress) and event.stage == 1 and event.phase == "denoise":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate(request, tmp_path / "map.png", interrupting, tmp_path / "run")
    words = file.read_bytes()
    file.write_text(damage)
    resume(tmp_path / "run")
    assert file.read_bytes() == words


def test_resuming_with_another_captioner_is_refused(tiny_model: Path, captioner: Path, tmp_path: Path) -> None:
    mine = save_vit_gpt2(tmp_path / "mine")

    def interrupting(event: Event) -> None:
        if isinstance(event, Progress) and event.stage == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate(request_of(tiny_model, mine), tmp_path / "map.png", interrupting, tmp_path / "run")
    (mine / "generation_config.json").write_text("{}")
    with pytest.raises(RunError, match="model was"):
        resume(tmp_path / "run")


def test_a_plan_includes_the_cost_of_captions(tiny_model: Path, captioner: Path) -> None:
    request = request_of(tiny_model, captioner)
    off, on = plan(request.with_method(captions="off")), plan(request)
    assert off.captions == 0
    assert on.captions == sum(stage.fewest_patches_per_step for stage in on.stages) > 0
    assert on.peak_memory_bytes > off.peak_memory_bytes
    assert plan(replace(request, size=Size(64, 64))).captions == 0


def test_unusable_captioners_are_refused_before_any_work(tiny_model: Path, captioner: Path, tmp_path: Path) -> None:
    request, events = request_of(tiny_model, tmp_path / "nothing"), list[Event]()
    with pytest.raises(ModelError, match="unknown captioner"):
        generate(request, observer=events.append)
    with pytest.raises(ModelError, match="expected an image-to-text model in transformers' format"):
        plan(request_of(tiny_model, tiny_model))
    with pytest.raises(RequestError, match="encoders-released frees the text encoders"):
        plan(replace(request_of(tiny_model, captioner), compute=Compute("cpu", memory="encoders-released")))
    with pytest.raises(RequestError, match="has no captioner of its own; give one with --captions MODEL"):
        plan(replace(request, parts=Parts()))
    assert not events


def test_a_path_that_is_not_a_captioner_is_named(tiny_model: Path, captioner: Path, tmp_path: Path) -> None:
    bad = save_vit_gpt2(tmp_path / "bad")
    config = json.loads((bad / "config.json").read_text())
    (bad / "config.json").write_text(json.dumps({**config, "architectures": ["ViTModel"]}))
    with pytest.raises(ModelError, match="holds a ViTModel; expected an image-to-text model"):
        generate(request_of(tiny_model, bad))
    (bad / "config.json").write_text(json.dumps(config))
    (bad / "model.safetensors").write_bytes(b"\0" * 100)
    with pytest.raises(ModelError, match="no complete"):
        generate(request_of(tiny_model, bad))
