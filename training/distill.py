"""Train a LoRA with which the model needs 4 steps and no guidance: each step is distilled from 5 guided steps.

    python -m training.distill teach --pictures 512     # the model's own guided denoisings, from noise to clean
    python -m training.distill train --minutes 20
    python -m training.distill correct --pictures 512   # the same from states that the student reached
    python -m training.distill train --minutes 40       # goes on, with both
    python -m training.distill export                   # into the model's folder

Progressive distillation (arXiv 2202.00512) in one round, on steps of the teacher that are made once: from a state the
student must arrive with a single prediction where the teacher arrives with several. The states are first the teacher's,
then also the student's own, which are smoother, so that it learns to correct them (DAgger, arXiv 1011.0686).
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import partial
from hashlib import sha256
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import load_file
from torch import Tensor, nn

from pixelsmith import Compute, Method, Parts
from pixelsmith.config.compute import DtypeName
from pixelsmith.config.recommended import StageMethod
from pixelsmith.families import Family, find_model, load_family, model_files, read_facts
from pixelsmith.families.architecture import DiffusersFamily
from pixelsmith.families.loading.find import OWN
from pixelsmith.families.loading.model_files import read_json
from pixelsmith.sampling.schedule import Level
from pixelsmith.system.digests import sha256_of
from training.batches import STYLE_SHARES
from training.checkpoints import load_checkpoint
from training.data import Record, load_records, paraphrase
from training.loop import (
    Losses,
    Progress,
    balanced_weights,
    cosine,
    flush_denormals,
    for_minutes,
    half_precision,
    train,
)
from training.sampling import Shot, denoised

STEPS = 4
CHUNK = 16
TAUGHT, CORRECTED = "taught", "corrected"
FIRST_SEED, FIRST_CORRECTED = 1_000_000, 2_000_000
"""Seeds of ``teach`` and ``correct``, far from those of users and evaluations."""
STUDENT: dict[str, Any] = {"steps": STEPS, "guidance_scale": 1.0, "sampler": "ddim", "epsilon_scaling": 1.0}
"""The fields of a ``Method`` with which the student makes a picture."""
RANK = 64
"""13.5 MB in float16."""
LAYERS = (
    "conv1", "conv2", "conv", "conv_shortcut", "time_emb_proj", "proj_in", "proj_out", "to_q", "to_k", "to_v",
    "to_out.0", "ff.net.0.proj", "ff.net.2",
)  # fmt: skip
FILE, CHECKPOINT = Path("lora", "few-steps.safetensors"), "few-steps.pt"


def load_teacher(model: str, device: str = "cpu", dtype: DtypeName = "float32") -> DiffusersFamily:
    place = find_model(model)
    compute = Compute(device=device, dtype=dtype)  # type: ignore[arg-type]
    family = load_family(place, read_facts(place, model), compute)
    if not isinstance(family, DiffusersFamily):
        raise TypeError(f"{model}: expected a diffusers pipeline")
    return family


def student_levels(family: Family) -> tuple[Level, ...]:
    """The levels of the student's steps, which are also levels of the teacher. Raises ``ValueError``."""
    few, steps = family.schedule(STEPS).levels, family.facts.recommended.steps
    if steps % STEPS or [level.timestep for level in family.schedule(steps).levels[:: steps // STEPS]] != [
        level.timestep for level in few
    ]:
        raise ValueError(f"the levels of {STEPS} steps are not among those of {steps}")
    return few


def own_folder(work: Path, model: str) -> Path:
    """The folder for these weights; another denoiser has other trajectories and another student.

    It does not depend on the autoencoder and the texture network.
    """
    files = model_files(find_model(model), Parts())
    weights = [file for file in files if file.suffix == ".safetensors" and file.parent.name not in ("vae", "texture")]
    digest = sha256("".join(map(sha256_of, weights)).encode()).hexdigest()
    folder = work / f"few-steps-{digest[:12]}"
    folder.mkdir(exist_ok=True)
    return folder


@dataclass(frozen=True)
class Pairs:
    """Where steps of the student start, and where the teacher arrives from there.

    - ``starts``, ``ends``: latents (n, c, h, w); ``steps``: the student's step (n,), 0..STEPS-1; ``captions``: n.
    """

    starts: NDArray[np.float16]
    ends: NDArray[np.float16]
    steps: NDArray[np.int64]
    captions: list[str]


def teach(family: Family, shots: Sequence[Shot]) -> Pairs:
    """The teacher's own way from noise, in STEPS pairs for each picture."""
    method = Method().at(0, family.facts.recommended)
    states = islice(denoised(family, shots, method), 0, None, stride(family))
    return as_pairs(shots, list(enumerate(pairwise(states))))


def correct(family: Family, student: Family, shots: Sequence[Shot]) -> Pairs:
    """From each state that the student reaches by itself, where the teacher goes; STEPS-1 pairs for each picture."""
    method, every = Method().at(0, family.facts.recommended), stride(family)
    found = []
    for k, start in islice(enumerate(denoised(student, shots, student_method(student))), 1, STEPS):
        way = denoised(family, shots, method, k * every, start)
        found.append((k, (start, next(islice(way, every, None)))))
    return as_pairs(shots, found)


def stride(family: Family) -> int:
    """The teacher's steps for each of the student's."""
    return family.facts.recommended.steps // (len(student_levels(family)) - 1)


def student_method(student: Family) -> StageMethod:
    return Method(**STUDENT).at(0, student.facts.recommended)


def as_pairs(shots: Sequence[Shot], found: Sequence[tuple[int, tuple[Tensor, Tensor]]]) -> Pairs:
    """Join (step, (starts, ends)), with latents (n, c, h, w) of all shots in each."""
    starts, ends = (torch.cat([pair[i] for _, pair in found]).cpu().numpy().astype(np.float16) for i in (0, 1))
    steps = np.repeat([k for k, _ in found], len(shots))
    return Pairs(starts, ends, steps, [shot.prompt for _ in found for shot in shots])


def make_pairs(
    folder: Path, make: Callable[[Sequence[Shot]], Pairs], records: Sequence[Record], count: int, first_seed: int
) -> None:
    """Write ``folder/*.npz``, the pairs of ``count`` pictures. Files that exist are kept, so it can be interrupted."""
    folder.mkdir(exist_ok=True)
    weights = balanced_weights(records, STYLE_SHARES)
    for start in range(0, count, CHUNK):
        file = folder / f"{start:06}.npz"
        if file.exists():
            continue
        rng, words = np.random.default_rng((4, first_seed, start)), random.Random(first_seed + start)
        chosen = rng.choice(len(records), size=min(CHUNK, count - start), p=weights)
        captions = [paraphrase(records[i].caption, words) for i in chosen]
        pairs = make([Shot(caption, first_seed + start + i) for i, caption in enumerate(captions)])
        with file.with_suffix(".tmp").open("wb") as opened:
            np.savez(opened, **vars(pairs))
        file.with_suffix(".tmp").rename(file)
        print(f"{start + len(chosen)} of {count} pictures", flush=True)


def load_pairs(work: Path) -> Pairs:
    """All pairs that were made. Raises ``SystemExit`` if there are none."""
    chunks = [np.load(file) for name in (TAUGHT, CORRECTED) for file in sorted((work / name).glob("*.npz"))]
    if not chunks:
        raise SystemExit(f"{work}: there is nothing to learn from; run teach first")
    starts, ends, steps, captions = (np.concatenate([chunk[field.name] for chunk in chunks]) for field in fields(Pairs))
    return Pairs(starts, ends, steps, captions.tolist())


def leap(x_t: Tensor, x_s: Tensor, t: Level, s: Level) -> Tensor:
    """The v with which a DDIM step from t to s arrives at ``x_s`` (arXiv 2202.00512, appendix G)."""
    ratio = s.sigma / t.sigma
    clean = (x_s - ratio * x_t) / (s.alpha - ratio * t.alpha)
    return (t.alpha * x_t - clean) / t.sigma


def add_lora(unet: nn.Module) -> nn.ParameterDict:
    """Add low-rank weights to all larger layers, with no effect at first; only they are trained."""
    torch.manual_seed(0)
    unet.requires_grad_(False)
    unet.add_adapter(LoraConfig(r=RANK, lora_alpha=RANK, target_modules=list(LAYERS)))  # type: ignore[operator]
    trained = {name.replace(".", "/"): value for name, value in unet.named_parameters() if value.requires_grad}
    return nn.ParameterDict(trained)


def contexts(family: Family, captions: Sequence[str]) -> Tensor:
    """The text encoder's output for each caption."""
    with torch.no_grad():
        found = {caption: family.encode(caption, "")[0]["encoder_hidden_states"] for caption in set(captions)}
    return torch.cat([found[caption] for caption in captions])


def load_student(model: str, work: Path, device: str = "cpu", dtype: DtypeName = "float32") -> DiffusersFamily:
    """The model with the LoRA as far as it is trained."""
    family = load_teacher(model, device, dtype)
    unet = family.pipeline.unet
    add_lora(unet).load_state_dict(load_checkpoint(work / CHECKPOINT)["lora"])
    unet.to(family.device, next(unet.parameters()).dtype)
    return family


def train_student(
    model: str, work: Path, progress: Progress, batch: int, peak: float, device: str, init: Path | None = None
) -> None:
    """Train the LoRA, which begins as the exported one in the file ``init``, or without effect."""
    family = load_teacher(model)
    levels, unet = student_levels(family), family.pipeline.unet
    lora = add_lora(unet)
    if init:
        set_peft_model_state_dict(unet, {k.removeprefix("unet."): v for k, v in load_file(init).items()})
    pairs = load_pairs(work)
    told = contexts(family, pairs.captions)
    unet.to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(lora.parameters(), betas=(0.9, 0.98), weight_decay=1e-3)

    def step_fn(step: int, _: float) -> Losses:
        rng = np.random.default_rng((5, step))
        rows = rng.integers(len(pairs.steps), size=batch)
        x_t, x_s = (torch.from_numpy(x[rows].astype(np.float32)).to(device) for x in (pairs.starts, pairs.ends))
        k = pairs.steps[rows]
        leaps = [leap(a, b, levels[j], levels[j + 1]) for a, b, j in zip(x_t, x_s, k, strict=True)]
        timestep = torch.tensor([levels[j].timestep for j in k], device=device)
        with half_precision(torch.device(device)):
            v = unet(x_t, timestep, told[rows].to(device), return_dict=False)[0]
        loss = F.mse_loss(v.float(), torch.stack(leaps))
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(lora.parameters(), 1.0)
        return {"loss": loss.item()}

    train(work / CHECKPOINT, progress, cosine(peak), {"lora": lora}, optimizer, step_fn)


def export(model: str, work: Path, output: Path) -> None:
    """Write the LoRA into a model's folder, and its settings into the folder's ``pixelsmith.json``."""
    pipeline = load_student(model, work).pipeline
    weights = {name: value.half() for name, value in get_peft_model_state_dict(pipeline.unet).items()}
    pipeline.save_lora_weights(output / FILE.parent, unet_lora_layers=weights, weight_name=FILE.name)
    own = read_json(output / OWN) if (output / OWN).exists() else {}
    # The base is a small share of the work, and better in the teacher's steps.
    before = own.get("few_steps", {}).get("method", {})
    kept = {name: value for name, value in before.items() if name.startswith("stage_")}
    method = {"stage_steps": STEPS, "stage_sampler": STUDENT["sampler"]} | kept
    own["few_steps"] = {"lora": FILE.as_posix(), "stages_only": True, "method": method}
    (output / OWN).write_text(json.dumps(own, indent=2) + "\n")
    print(f"{output / FILE}: {(output / FILE).stat().st_size / 1e6:.1f} MB")


def main() -> None:
    flush_denormals()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["teach", "correct", "train", "export"])
    parser.add_argument("--work", type=Path, default=Path("training/work"))
    parser.add_argument("--model", default="src/pixelsmith/embedded/model", help="the teacher")
    parser.add_argument("--output", type=Path, help="the folder that the LoRA is for; by default the model's")
    parser.add_argument("--init", type=Path, help="an exported LoRA to start from, such as an earlier denoiser's")
    parser.add_argument("--pictures", type=int, default=1500)
    parser.add_argument("--minutes", type=float, default=40)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--peak", type=float, default=1e-3, help="the highest learning rate")
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    work = own_folder(args.work, args.model)
    if args.command == "teach":
        make = partial(teach, load_teacher(args.model, args.device, "auto"))
        make_pairs(work / TAUGHT, make, load_records(args.work), args.pictures, FIRST_SEED)
    elif args.command == "correct":
        student = load_student(args.model, work, args.device, "auto")
        make = partial(correct, load_teacher(args.model, args.device, "auto"), student)
        make_pairs(work / CORRECTED, make, load_records(args.work), args.pictures, FIRST_CORRECTED)
    elif args.command == "train":
        progress = for_minutes(args.minutes)
        train_student(args.model, work, progress, args.batch, args.peak, args.device, args.init)
    else:
        export(args.model, work, args.output or Path(args.model))


if __name__ == "__main__":
    main()
