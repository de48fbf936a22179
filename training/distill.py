"""Train a LoRA with which the model needs 4 steps and no guidance: each step is distilled from 5 guided steps.

    python -m training.distill teach --pictures 1500    # the model's own guided denoisings, from noise to clean
    python -m training.distill train --minutes 40
    python -m training.distill export                   # into the model's folder

Progressive distillation (arXiv 2202.00512) in one round, on trajectories of the teacher that are generated once: each
of the student's steps starts from a state of the teacher and must arrive at a later one with a single prediction.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from torch import Tensor, nn

from pixelsmith import Compute, Method, Parts
from pixelsmith.config.compute import DtypeName
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
FIRST_SEED = 1_000_000
"""Far from the seeds of users and evaluations."""
RANK = 64
"""13.5 MB in float16."""
LAYERS = (
    "conv1", "conv2", "conv", "conv_shortcut", "time_emb_proj", "proj_in", "proj_out", "to_q", "to_k", "to_v",
    "to_out.0", "ff.net.0.proj", "ff.net.2",
)  # fmt: skip
FILE = Path("lora", "few-steps.safetensors")


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


def teach(family: Family, records: Sequence[Record], work: Path, count: int) -> None:
    """Write ``work/trajectories/*.npz``: states (n, STEPS + 1, c, h, w) float16 and their captions.

    Existing files are kept, so an interrupted run continues.
    """
    folder = work / "trajectories"
    folder.mkdir(exist_ok=True)
    weights, method = balanced_weights(records, STYLE_SHARES), Method().at(0, family.facts.recommended)
    every = method.steps // (len(student_levels(family)) - 1)
    for start in range(0, count, CHUNK):
        file = folder / f"{start:06}.npz"
        if file.exists():
            continue
        rng, words = np.random.default_rng((4, start)), random.Random(start)
        chosen = rng.choice(len(records), size=min(CHUNK, count - start), p=weights)
        captions = [paraphrase(records[i].caption, words) for i in chosen]
        shots = [Shot(caption, FIRST_SEED + start + i) for i, caption in enumerate(captions)]
        states = torch.stack(list(denoised(family, shots, method))[::every], dim=1)
        with file.with_suffix(".tmp").open("wb") as opened:
            np.savez(opened, states=states.cpu().numpy().astype(np.float16), captions=captions)
        file.with_suffix(".tmp").rename(file)
        print(f"{start + len(chosen)} of {count} trajectories", flush=True)


def load_trajectories(work: Path) -> tuple[NDArray[np.float16], list[str]]:
    """The states (n, STEPS + 1, c, h, w) and captions of all trajectories."""
    chunks = [np.load(file) for file in sorted((work / "trajectories").glob("*.npz"))]
    states, captions = (np.concatenate([chunk[name] for chunk in chunks]) for name in ("states", "captions"))
    return states, captions.tolist()


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
        return torch.cat([family.encode(caption, "")[0]["encoder_hidden_states"] for caption in captions])


def train_student(model: str, work: Path, progress: Progress, batch: int, peak: float, device: str) -> None:
    family = load_teacher(model)
    levels, unet = student_levels(family), family.pipeline.unet
    lora = add_lora(unet)
    states, captions = load_trajectories(work)
    told = contexts(family, captions)
    unet.to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(lora.parameters(), betas=(0.9, 0.98), weight_decay=1e-3)

    def step_fn(step: int, _: float) -> Losses:
        rng = np.random.default_rng((5, step))
        rows, k = rng.integers(len(states), size=batch), rng.integers(STEPS, size=batch)
        x_t, x_s = (torch.from_numpy(states[rows, j].astype(np.float32)).to(device) for j in (k, k + 1))
        leaps = [leap(a, b, levels[j], levels[j + 1]) for a, b, j in zip(x_t, x_s, k, strict=True)]
        timestep = torch.tensor([levels[j].timestep for j in k], device=device)
        with half_precision(torch.device(device)):
            v = unet(x_t, timestep, told[rows].to(device), return_dict=False)[0]
        loss = F.mse_loss(v.float(), torch.stack(leaps))
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(lora.parameters(), 1.0)
        return {"loss": loss.item()}

    train(work / "few-steps.pt", progress, cosine(peak), {"lora": lora}, optimizer, step_fn)


def export(model: str, work: Path, output: Path) -> None:
    """Write the LoRA into a model's folder, and its settings into the folder's ``pixelsmith.json``."""
    pipeline = load_teacher(model).pipeline
    lora = add_lora(pipeline.unet)
    lora.load_state_dict(load_checkpoint(work / "few-steps.pt")["lora"])
    weights = {name: value.half() for name, value in get_peft_model_state_dict(pipeline.unet).items()}
    pipeline.save_lora_weights(output / FILE.parent, unet_lora_layers=weights, weight_name=FILE.name)
    own = read_json(output / OWN) if (output / OWN).exists() else {}
    method = {"steps": STEPS, "guidance_scale": 1.0, "sampler": "ddim", "epsilon_scaling": 1.0}
    own["few_steps"] = {"lora": FILE.as_posix(), "method": method}
    (output / OWN).write_text(json.dumps(own, indent=2) + "\n")
    print(f"{output / FILE}: {(output / FILE).stat().st_size / 1e6:.1f} MB")


def main() -> None:
    flush_denormals()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["teach", "train", "export"])
    parser.add_argument("--work", type=Path, default=Path("training/work"))
    parser.add_argument("--model", default="src/pixelsmith/embedded/model", help="the teacher")
    parser.add_argument("--output", type=Path, help="the folder that the LoRA is for; by default the model's")
    parser.add_argument("--pictures", type=int, default=1500)
    parser.add_argument("--minutes", type=float, default=40)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--peak", type=float, default=1e-3, help="the highest learning rate")
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    work = own_folder(args.work, args.model)
    if args.command == "teach":
        teach(load_teacher(args.model, args.device, "auto"), load_records(args.work), work, args.pictures)
    elif args.command == "train":
        train_student(args.model, work, for_minutes(args.minutes), args.batch, args.peak, args.device)
    else:
        export(args.model, work, args.output or Path(args.model))


if __name__ == "__main__":
    main()
