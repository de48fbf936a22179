"""The variant for few steps, trained on a tiny model."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from pixelsmith import Compute, Lora, Method, Parts
from pixelsmith.families import load_family, read_facts
from pixelsmith.families.architecture import DiffusersFamily
from pixelsmith.sampling.schedule import Level, step
from training import distill
from training.data import Record, load_records
from training.distill import (
    correct,
    export,
    leap,
    load_pairs,
    load_student,
    load_teacher,
    make_pairs,
    own_folder,
    student_levels,
    teach,
    train_student,
)
from training.sampling import Shot, denoised


def test_one_step_with_the_target_of_the_student_arrives_at_the_latents_of_the_teacher() -> None:
    t, s = Level(0.6, 0.8, 500, 0), Level(0.8, 0.6, 250, 0.5)
    x_t, x_s = torch.randn(2, 4, 8, 8, generator=torch.manual_seed(0))
    v = leap(x_t, x_s, t, s)
    torch.testing.assert_close(step(x_t, t.alpha * x_t - t.sigma * v, t, s), x_s)


def test_levels_that_the_teacher_lacks_are_refused(teacher: Path) -> None:
    (teacher / "pixelsmith.json").write_text('{"method": {"steps": 9}}')
    with pytest.raises(ValueError, match="the levels of 4 steps"):
        student_levels(load_teacher(str(teacher)))


def learn(family: DiffusersFamily, records: Sequence[Record], work: Path, count: int) -> None:
    make_pairs(work / "taught", partial(teach, family), records, count, distill.FIRST_SEED)


@pytest.fixture
def records(work: Path) -> Sequence[Record]:
    return load_records(work)


def test_trajectories_of_another_denoiser_are_kept_in_another_folder(teacher: Path, tmp_path: Path) -> None:
    first = own_folder(tmp_path, str(teacher))
    (teacher / "pixelsmith.json").write_text('{"method": {"steps": 8}}')
    assert own_folder(tmp_path, str(teacher)) == first
    file = teacher / "unet" / "diffusion_pytorch_model.safetensors"
    save_file({name: value + 1 for name, value in load_file(file).items()}, file)
    assert own_folder(tmp_path, str(teacher)) != first


def test_existing_trajectories_are_kept_when_more_are_made(
    teacher: Path, records: Sequence[Record], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distill, "CHUNK", 4)
    family = load_teacher(str(teacher))
    learn(family, records, tmp_path, 4)
    (first,) = (tmp_path / "taught").iterdir()
    written = first.stat().st_mtime_ns
    learn(family, records, tmp_path, 8)
    assert first.stat().st_mtime_ns == written
    pairs = load_pairs(tmp_path)
    assert pairs.starts.shape == pairs.ends.shape == (32, 4, 16, 16)
    fifth = 16 + 4 * 3 + 1  # of two files, whose pairs are ordered by step: the last step of the sixth picture
    assert pairs.steps[fifth] == 3
    shot = Shot(pairs.captions[fifth], distill.FIRST_SEED + 5)
    *_, last = denoised(family, [shot], Method().at(0, family.facts.recommended))
    np.testing.assert_allclose(pairs.ends[fifth], last[0].numpy(), atol=0.01)


def test_corrections_go_from_where_the_student_is_to_where_the_teacher_goes_from_there(
    teacher: Path, records: Sequence[Record], tmp_path: Path
) -> None:
    learn(load_teacher(str(teacher)), records, tmp_path, 2)
    train_student(str(teacher), tmp_path, lambda step, _: step / 2, 2, 3e-3, "cpu")
    family, student = load_teacher(str(teacher)), load_student(str(teacher), tmp_path)
    shots = [Shot(record.caption, 5 + i) for i, record in enumerate(records[:2])]
    pairs = correct(family, student, shots)
    assert pairs.steps.tolist() == [1, 1, 2, 2, 3, 3]
    assert pairs.captions == 3 * [shot.prompt for shot in shots]
    own = list(denoised(student, shots, distill.student_method(student)))
    np.testing.assert_allclose(pairs.starts[2:4], own[2].numpy(), atol=0.01)
    *_, last = denoised(family, shots, Method().at(0, family.facts.recommended), 3 * distill.stride(family), own[3])
    np.testing.assert_allclose(pairs.ends[4:], last.numpy(), atol=0.01)
    assert not np.allclose(pairs.ends[2:4], own[3].numpy(), atol=0.01)


def test_a_student_goes_on_from_an_exported_lora(teacher: Path, records: Sequence[Record], tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        folder.mkdir()
        learn(load_teacher(str(teacher)), records, folder, 2)
    train_student(str(teacher), first, lambda step, _: step / 3, 2, 3e-3, "cpu")
    export(str(teacher), first, teacher)
    train_student(str(teacher), second, lambda *_: 1.0, 2, 1e-3, "cpu", init=teacher / distill.FILE)
    trained, begun = (
        [p for n, p in load_student(str(teacher), folder).pipeline.unet.named_parameters() if "lora" in n]
        for folder in (first, second)
    )
    for a, b in zip(trained, begun, strict=True):
        torch.testing.assert_close(a, b, atol=1e-3, rtol=1e-2)
    assert any(p.abs().max() > 0 for p in begun[1::2])


def test_a_training_without_pairs_says_what_to_run(teacher: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="run teach first"):
        train_student(str(teacher), tmp_path, lambda *_: 1.0, 2, 1e-3, "cpu")


def test_distillation_moves_the_student_towards_the_teacher(
    teacher: Path, records: Sequence[Record], tmp_path: Path
) -> None:
    learn(load_teacher(str(teacher)), records, tmp_path, 4)
    # In two parts, the second of which goes on from the first.
    for steps in (60, 120):
        train_student(str(teacher), tmp_path, lambda step, _, steps=steps: step / steps, 4, 3e-3, "cpu")  # type: ignore[misc]
    with (tmp_path / "few-steps.csv").open() as file:
        losses = [float(row["loss"]) for row in csv.DictReader(file)]
    assert losses[-1] < 0.7 * losses[0]
    export(str(teacher), tmp_path, teacher)
    pairs = load_pairs(tmp_path)
    shots = [Shot(caption, distill.FIRST_SEED + i) for i, caption in enumerate(pairs.captions[:4])]

    def distance(parts: Parts) -> float:
        facts = read_facts(teacher, "x", parts)
        family = load_family(teacher, facts, Compute("cpu", "float32"), parts)
        method = Method(steps=4, guidance_scale=1).at(0, facts.recommended)
        *_, last = denoised(family, shots, method)
        return float(np.square(last.numpy() - pairs.ends[-4:].astype(np.float32)).mean())

    usual, few = (read_facts(teacher, "x", Parts(few_steps=given)).recommended for given in (False, True))
    assert (few.steps, few.stage_steps, few.stage_sampler) == (usual.steps, 4, "ddim")
    assert distance(Parts(loras=(Lora(str(teacher / distill.FILE)),))) < 0.7 * distance(Parts())
