"""Train the judge, the classifier of style and subject for generated pictures, on real pictures alone.

    python -m training.judge train --work training/work --minutes 6
    python -m training.judge export --work training/work    # the published folder inside the package
    python -m training.judge train --at-own-pixels          # another one, in own-pixels.pt ...
    python -m training.judge export --at-own-pixels --output training/work/own-pixels    # ... for training.restored

Its input is 128x128. ``training.evaluate`` gives its figures for real held-out pictures too, which are the upper bound
for generated ones. Scaled-down pictures have lost their finest octave; the second judge is trained on full-size crops
instead.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray

from pixelsmith.evaluate.features import batches, save_judge, scaled
from pixelsmith.evaluate.judge import SIDE, STYLES, SUBJECTS, Judge
from training.checkpoints import load_checkpoint
from training.data import load_pixels, load_records
from training.loop import Losses, balanced_weights, cosine, flush_denormals, for_minutes, train


def style_of(caption: str) -> str:
    """The style of a caption by its first word. Raises ``StopIteration`` if there is none."""
    return next(style for style in STYLES if caption.startswith(style))


def subject_of(caption: str) -> str:
    """The subject of a caption by its words. Raises ``ValueError`` if there is none."""
    for subject, word in SUBJECTS.items():
        if word in caption:
            return subject
    raise ValueError(f"no subject is known for {caption!r}")


@dataclass(frozen=True, eq=False)
class Verdict:
    """The judge's output for n pictures: features (n, 128), probabilities of styles (n, 4) and subjects (n, 14)."""

    features: NDArray[np.float64]
    styles: NDArray[np.float64]
    subjects: NDArray[np.float64]

    def of(self, chosen: Sequence[int]) -> Verdict:
        """The verdict for some of the pictures."""
        return Verdict(self.features[chosen], self.styles[chosen], self.subjects[chosen])

    def style_agreement(self, wanted: Sequence[str]) -> float:
        """The share of pictures whose most probable style is the expected one."""
        return _agreement(self.styles, STYLES, wanted)

    def subject_agreement(self, wanted: Sequence[str]) -> float:
        """The share of pictures whose most probable subject is the expected one."""
        return _agreement(self.subjects, tuple(SUBJECTS), wanted)

    def likelihood(self, subjects: Sequence[str]) -> NDArray[np.float64]:
        """The probability of the given subject for each picture (n,)."""
        columns = [list(SUBJECTS).index(subject) for subject in subjects]
        return np.asarray(self.subjects[np.arange(len(columns)), columns])


def _agreement(found: NDArray[np.float64], names: Sequence[str], wanted: Sequence[str]) -> float:
    return float(np.mean([names[i] == name for i, name in zip(found.argmax(1), wanted, strict=True)]))


@torch.inference_mode()
def judged(judge: Judge, pixels: NDArray[np.uint8]) -> Verdict:
    """The judge's output for pictures (n, h, w, 3)."""
    parts = [judge(scaled(batch, SIDE) * 2 - 1) for batch in batches(pixels)]
    features, styles, subjects = (torch.cat(found).double() for found in zip(*parts, strict=True))
    return Verdict(features.numpy(), styles.softmax(1).numpy(), subjects.softmax(1).numpy())


def cut_out(picture: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """A full-size crop of SIDE pixels a side of a picture (h, w, 3)."""
    top, left = (rng.integers(0, side - SIDE + 1) for side in picture.shape[:2])
    return picture[top : top + SIDE, left : left + SIDE]


def train_judge(work: Path, minutes: float, at_own_pixels: bool = False) -> None:
    """Train on all pictures that are not held out; half of the batches are mirrored."""
    records, pixels = load_records(work), load_pixels(work)
    weights = balanced_weights(records)
    torch.manual_seed(int(at_own_pixels))
    model = Judge()
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=1e-3)

    def step_fn(step: int, _: float) -> Losses:
        rng = np.random.default_rng((3, step))
        chosen = rng.choice(len(records), size=48, p=weights)
        found = [cut_out(pixels[i], rng) if at_own_pixels else pixels[i] for i in chosen]
        x = scaled(np.stack(found), SIDE) * 2 - 1
        x = x.flip(-1) if rng.random() < 0.5 else x
        _, style, subject = model(x)
        styles = torch.tensor([STYLES.index(records[i].style) for i in chosen])
        subjects = torch.tensor([list(SUBJECTS).index(subject_of(records[i].caption)) for i in chosen])
        loss = F.cross_entropy(style, styles) + F.cross_entropy(subject, subjects, label_smoothing=0.05)
        loss.backward()  # type: ignore[no-untyped-call]
        right = (subject.argmax(1) == subjects).float().mean().item()
        return {"loss": loss.item(), "subject": right}

    train(checkpoint(work, at_own_pixels), for_minutes(minutes), cosine(2e-3), {"model": model}, optimizer, step_fn)


def checkpoint(work: Path, at_own_pixels: bool) -> Path:
    return work / ("own-pixels.pt" if at_own_pixels else "judge.pt")


def export(work: Path, output: Path, at_own_pixels: bool = False) -> dict[str, float]:
    """Write the published folder, and return the accuracy of its float16 weights on held-out pictures."""
    judge, pixels, rng = Judge(), load_pixels(work), np.random.default_rng(0)
    judge.load_state_dict(load_checkpoint(checkpoint(work, at_own_pixels))["model"])
    judge.eval().half().float()
    held_out = {i: record for i, record in enumerate(load_records(work)) if record.held_out}
    captions = [record.caption for record in held_out.values()]
    verdict = judged(judge, np.stack([cut_out(pixels[i], rng) if at_own_pixels else pixels[i] for i in held_out]))
    reached = {
        "held_out": len(held_out),
        "style_accuracy": round(verdict.style_agreement([style_of(caption) for caption in captions]), 3),
        "subject_accuracy": round(verdict.subject_agreement([subject_of(caption) for caption in captions]), 3),
    }
    save_judge(judge, output, **reached)
    return reached


def main() -> None:
    flush_denormals()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["train", "export"])
    parser.add_argument("--work", type=Path, default=Path("training/work"))
    parser.add_argument("--output", type=Path, default=Path("src/pixelsmith/embedded/judge"))
    parser.add_argument("--minutes", type=float, default=6)
    parser.add_argument("--at-own-pixels", action="store_true", help="full-size crops instead of scaled-down pictures")
    args = parser.parse_args()
    if args.command == "train":
        train_judge(args.work, args.minutes, args.at_own_pixels)
    else:
        print(json.dumps(export(args.work, args.output, args.at_own_pixels)))


if __name__ == "__main__":
    main()
