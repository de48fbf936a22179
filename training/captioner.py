"""Train the embedded model's captioner: a small classifier whose classes are the captions of the model's training.

    python -m training.captioner train --work training/work --minutes 7
    python -m training.captioner export --work training/work    # the published folder inside the model's

It is a ``ResNetForImageClassification`` of transformers. A patch of a stage is captioned from the previous stage, which
has a lower resolution, so half of the training pictures are scaled down and enlarged again. It is not the judge,
because the judge is a metric, which would be biased for pictures conditioned on its own classes.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor
from transformers import ResNetConfig, ResNetForImageClassification, ViTImageProcessor

from training.checkpoints import load_checkpoint
from training.data import SIZE, load_pixels, load_records
from training.judge import subject_of
from training.loop import Losses, balanced_weights, cosine, flush_denormals, for_minutes, train

SIDE = 128
"""The side of its input in pixels."""
SHRUNK = (1, 2, 4, 8)
"""Factors by which pictures are scaled down and enlarged again; at the side of its input, 1 and 2 are the same."""


def build_captioner(captions: Sequence[str]) -> ResNetForImageClassification:
    """Three stages of one block each, 0.3 million parameters."""
    config = ResNetConfig(
        embedding_size=24,
        hidden_sizes=[40, 80, 112],
        depths=[1, 1, 1],
        layer_type="basic",
        downsample_in_first_stage=True,
        id2label=dict(enumerate(captions)),
        label2id={caption: i for i, caption in enumerate(captions)},
    )
    return ResNetForImageClassification(config)


def seen(pixels: NDArray[np.uint8], factor: int) -> Tensor:
    """Pictures (n, 256, 256, 3) as (n, 3, 128, 128) in -1..1, after scaling them down by ``factor`` and up again."""
    x = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1
    x = F.avg_pool2d(x, max(factor, SIZE // SIDE))
    return F.interpolate(x, (SIDE, SIDE), mode="bicubic").clamp(-1, 1) if x.shape[-1] != SIDE else x


def train_captioner(work: Path, minutes: float) -> None:
    """Train on all pictures that are not held out; half of the batches are mirrored."""
    records, pixels = load_records(work), load_pixels(work)
    captions = sorted({record.caption for record in records})
    targets = torch.tensor([captions.index(record.caption) for record in records])
    weights = balanced_weights(records)
    torch.manual_seed(0)
    model = build_captioner(captions)
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=1e-2)

    def step_fn(step: int, _: float) -> Losses:
        rng = np.random.default_rng((4, step))
        chosen = rng.choice(len(records), size=48, p=weights)
        x = seen(np.stack([pixels[i] for i in chosen]), int(rng.choice(SHRUNK)))
        x = x.flip(-1) if rng.random() < 0.5 else x
        logits, wanted = model(x).logits, targets[chosen]
        loss = F.cross_entropy(logits, wanted, label_smoothing=0.05)
        loss.backward()  # type: ignore[no-untyped-call]
        return {"loss": loss.item(), "right": (logits.argmax(1) == wanted).float().mean().item()}

    train(work / "captioner.pt", for_minutes(minutes), cosine(3e-3), {"model": model}, optimizer, step_fn)


def export(work: Path, output: Path) -> dict[str, Any]:
    """Write the published folder, and return the accuracy of its float16 weights on held-out pictures."""
    records, pixels = load_records(work), load_pixels(work)
    captions = sorted({record.caption for record in records})
    model = build_captioner(captions)
    model.load_state_dict(load_checkpoint(work / "captioner.pt")["model"])
    model.eval().half().save_pretrained(output)
    processor = ViTImageProcessor(size={"height": SIDE, "width": SIDE}, image_mean=[0.5] * 3, image_std=[0.5] * 3)
    processor.save_pretrained(output)
    held_out = [i for i, record in enumerate(records) if record.held_out]
    wanted = [records[i].caption for i in held_out]
    reached: dict[str, Any] = {"held_out": len(held_out)}
    for factor in SHRUNK:
        found = captioned(model.float(), pixels[held_out], factor)
        reached[f"captions_{factor}x"] = _agreement(found, wanted)
        reached[f"subjects_{factor}x"] = _agreement([*map(subject_of, found)], [*map(subject_of, wanted)])
    return reached


@torch.inference_mode()
def captioned(model: ResNetForImageClassification, pixels: NDArray[np.uint8], factor: int) -> list[str]:
    """The most probable caption of each picture (n, 256, 256, 3)."""
    parts = [model(seen(pixels[i : i + 32], factor)).logits.argmax(1) for i in range(0, len(pixels), 32)]
    return [model.config.id2label[i] for i in torch.cat(parts).tolist()]


def _agreement(found: Sequence[str], wanted: Sequence[str]) -> float:
    return round(float(np.mean([a == b for a, b in zip(found, wanted, strict=True)])), 3)


def main() -> None:
    flush_denormals()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["train", "export"])
    parser.add_argument("--work", type=Path, default=Path("training/work"))
    parser.add_argument("--output", type=Path, default=Path("src/pixelsmith/embedded/model/captioner"))
    parser.add_argument("--minutes", type=float, default=7)
    args = parser.parse_args()
    if args.command == "train":
        train_captioner(args.work, args.minutes)
    else:
        print(json.dumps(export(args.work, args.output)))


if __name__ == "__main__":
    main()
