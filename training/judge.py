"""Does it follow its prompts, look real, vary? A classifier trained on the real pictures judges generated ones.

    python -m training.judge train --work training/work --minutes 6
    python -m training.judge export --work training/work    # the folder that ships inside the package
    python -m training.judge score --work training/work --pictures 504

The classifier sees pictures at 128x128 and tells the style and the subject. All figures are also given for real
held-out pictures, which it has not seen either: what it cannot tell of those cannot be asked of generated ones.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor

from pixelsmith import Compute, Method, Request, Size
from pixelsmith.canvas import MemorySpace
from pixelsmith.evaluate.distances import frechet_distance
from pixelsmith.evaluate.features import save_judge
from pixelsmith.evaluate.judge import SIDE, STYLES, SUBJECTS, Judge
from pixelsmith.events import silent
from pixelsmith.families import find_model, load_family, read_facts
from pixelsmith.plan import make_plan
from pixelsmith.request import EMBEDDED
from pixelsmith.stage import Cascade
from training.data import load_pixels, load_records
from training.loop import Losses, balanced_weights, train


def subject_of(caption: str) -> int:
    """The subject of a caption by its words. Raises ``ValueError`` for one without any."""
    for i, word in enumerate(SUBJECTS.values()):
        if word in caption:
            return i
    raise ValueError(f"no subject is known for {caption!r}")


def prepared(pixels: NDArray[np.uint8]) -> Tensor:
    """Pictures (b, 256, 256, 3) as the judge sees them."""
    x = torch.from_numpy(pixels.astype(np.float32)).permute(0, 3, 1, 2) / 127.5 - 1
    return F.avg_pool2d(x, 256 // SIDE)


def train_judge(work: Path, minutes: float) -> None:
    """Train on all pictures that are not held out; half of the batches are mirrored."""
    records, pixels = load_records(work), load_pixels(work)
    weights = balanced_weights(records)
    torch.manual_seed(0)
    model = Judge()
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=1e-3)

    def step_fn(step: int, _: float) -> Losses:
        rng = np.random.default_rng((3, step))
        chosen = rng.choice(len(records), size=48, p=weights)
        x = prepared(np.stack([pixels[i] for i in chosen]))
        x = x.flip(-1) if rng.random() < 0.5 else x
        _, style, subject = model(x)
        styles = torch.tensor([STYLES.index(records[i].style) for i in chosen])
        subjects = torch.tensor([subject_of(records[i].caption) for i in chosen])
        loss = F.cross_entropy(style, styles) + F.cross_entropy(subject, subjects, label_smoothing=0.05)
        loss.backward()  # type: ignore[no-untyped-call]
        right = (subject.argmax(1) == subjects).float().mean().item()
        return {"loss": loss.item(), "subject": right}

    seconds_in_all = 60 * minutes
    train("judge", work, lambda _, seconds: seconds / seconds_in_all, 2e-3, {"model": model}, optimizer, step_fn)


def load_judge(work: Path) -> Judge:
    """The trained judge, for judging."""
    model = Judge()
    model.load_state_dict(torch.load(work / "judge.pt", weights_only=True)["model"])
    return model.eval()


def power_spectrum(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The mean power of pictures (n, 256, 256, 3) in each of the upper three octaves of frequency, lowest first."""
    grey = pixels.astype(np.float64).mean(-1)
    power = np.abs(np.fft.fft2(grey - grey.mean((1, 2), keepdims=True))) ** 2
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(256), np.fft.fftfreq(256)))
    octaves = [(frequency >= 0.5 / 2 ** (i + 1)) & (frequency < 0.5 / 2**i) for i in (2, 1, 0)]
    return np.array([power[:, octave].mean() for octave in octaves])


@torch.inference_mode()
def generated(captions: Sequence[str], method: Method) -> NDArray[np.uint8]:
    """A picture (256, 256, 3) for each caption, each with another seed."""
    folder = find_model(EMBEDDED)
    family = load_family(folder, read_facts(folder, EMBEDDED), Compute())
    found = []
    for seed, caption in enumerate(captions):
        request = Request(caption, Size(256, 256), seed=seed, method=method)
        the_plan = make_plan(request, family.facts)
        picture = Cascade.of(request, family, the_plan, silent, MemorySpace()).base(request.size).picture
        found.append(picture.read(request.size.window).permute(1, 2, 0).numpy())
    return np.stack(found)


@torch.inference_mode()
def judged(
    model: Judge, pixels: NDArray[np.uint8], captions: Sequence[str]
) -> tuple[NDArray[np.float64], float, float]:
    """Features (n, 128), and how often style and subject are those of the captions."""
    features, style, subject = (
        torch.cat(parts) for parts in zip(*(model(prepared(batch)) for batch in _batches(pixels)), strict=True)
    )
    styles = torch.tensor([_style_of(caption) for caption in captions])
    subjects = torch.tensor([subject_of(caption) for caption in captions])
    right = [
        (found.argmax(1) == wanted).float().mean().item() for found, wanted in ((style, styles), (subject, subjects))
    ]
    return features.double().numpy(), right[0], right[1]


def export(work: Path, output: Path) -> dict[str, float]:
    """Write the folder that ships, and return what its fp16 weights reach on the pictures that were held out."""
    model, records, pixels = load_judge(work), load_records(work), load_pixels(work)
    model.half().float()
    held_out = [i for i, record in enumerate(records) if record.held_out]
    _, style, subject = judged(model, np.stack([pixels[i] for i in held_out]), [records[i].caption for i in held_out])
    reached = {"held_out": len(held_out), "style_accuracy": round(style, 3), "subject_accuracy": round(subject, 3)}
    save_judge(model, output, **reached)
    return reached


def score(work: Path, pictures: int, method: Method) -> dict[str, object]:
    """All figures, generated beside real held-out ones."""
    model, pixels = load_judge(work), load_pixels(work)
    held_out = [(i, record) for i, record in enumerate(load_records(work)) if record.held_out]
    real = np.stack([pixels[i] for i, _ in held_out])
    captions = [record.caption for _, record in held_out]
    wanted = [captions[i % len(captions)] for i in range(pictures)]
    made = generated(wanted, method)
    real_features, real_style, real_subject = judged(model, real, captions)
    features, style, subject = judged(model, made, wanted)
    halves = np.random.default_rng(0).permutation(len(real_features))
    between_halves = frechet_distance(*(real_features[half] for half in np.array_split(halves, 2)))
    by_style = {}
    for name in STYLES:
        ours = [i for i, caption in enumerate(wanted) if STYLES[_style_of(caption)] == name]
        theirs = [i for i, (_, record) in enumerate(held_out) if record.style == name]
        by_style[name] = (power_spectrum(made[ours]) / power_spectrum(real[theirs])).round(2).tolist()
    return {
        "pictures": pictures,
        "style_agrees": round(style, 3),
        "style_agrees_real": round(real_style, 3),
        "subject_agrees": round(subject, 3),
        "subject_agrees_real": round(real_subject, 3),
        "frechet": round(frechet_distance(features, real_features), 3),
        "frechet_between_halves_of_real": round(between_halves, 3),
        "power_to_real_in_upper_octaves": by_style,
        "subject_agrees_by_subject": _by_subject(model, made, wanted),
    }


def _by_subject(model: Judge, pixels: NDArray[np.uint8], captions: Sequence[str]) -> dict[str, float]:
    groups = defaultdict(list)
    for i, caption in enumerate(captions):
        groups[list(SUBJECTS)[subject_of(caption)]].append(i)
    return {
        name: round(judged(model, pixels[chosen], [captions[i] for i in chosen])[2], 2)
        for name, chosen in groups.items()
    }


def _style_of(caption: str) -> int:
    return next(i for i, style in enumerate(STYLES) if caption.startswith(style))


def _batches(pixels: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    return (pixels[i : i + 64] for i in range(0, len(pixels), 64))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["train", "export", "score"])
    parser.add_argument("--work", type=Path, default=Path("training/work"))
    parser.add_argument("--output", type=Path, default=Path("src/pixelsmith/embedded/judge"))
    parser.add_argument("--minutes", type=float, default=6)
    parser.add_argument("--pictures", type=int, default=504)
    parser.add_argument("--guidance-scale", type=float, default=Method().guidance_scale)
    parser.add_argument("--steps", type=int, default=Method().steps)
    args = parser.parse_args()
    if args.command == "train":
        train_judge(args.work, args.minutes)
    elif args.command == "export":
        print(json.dumps(export(args.work, args.output)))
    else:
        method = Method(steps=args.steps, guidance_scale=args.guidance_scale)
        print(json.dumps(score(args.work, args.pictures, method), indent=1))


if __name__ == "__main__":
    main()
