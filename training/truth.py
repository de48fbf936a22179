"""Real pictures for ``pixelsmith evaluate --truth``: what the protocols' prompts should look like, near and from afar.

    python -m training.truth --data DIR --output truth

``whole.npy``: tiles of any zoom whose caption is a prompt, as many of each. ``patches.npy``: tiles of the finest
zooms, in the same shares of styles. A crop of a picture that is four times as large as the model's own should show the
planet two zooms finer than its base; these are finer than some wholes only, and a few tiles are in both sets. Most of
them were seen in training, by the model and by the judge.
"""

from __future__ import annotations

import argparse
import csv
import io
import zipfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pixelsmith.evaluate.protocol import load_protocol
from pixelsmith.evaluate.truth import MOST
from training.data import crops

FINEST = ("7", "8")
Row = dict[str, str]


def chosen(rows: Sequence[Row], prompts: Sequence[str]) -> tuple[list[Row], list[Row]]:
    """The tiles that stand for whole pictures of these prompts, and those that stand for their details."""
    rng, styles = np.random.default_rng(0), Counter(_style(prompt, rows) for prompt in prompts)
    count = MOST // len(prompts)
    whole = [row for prompt in prompts for row in _drawn([r for r in rows if r["caption"] == prompt], count, rng)]
    patches = [
        row
        for style, share in styles.items()
        for row in _drawn([r for r in rows if r["style"] == style and r["zoom"] in FINEST], count * share, rng)
    ]
    return whole, patches


def _style(prompt: str, rows: Sequence[Row]) -> str:
    """The style of the tiles with this caption. Raises ``ValueError`` where there is none."""
    for row in rows:
        if row["caption"] == prompt:
            return row["style"]
    raise ValueError(f"no picture has the caption {prompt!r}")


def _drawn(rows: list[Row], count: int, rng: np.random.Generator) -> list[Row]:
    return [rows[i] for i in rng.permutation(len(rows))[:count]]


def pixels_of(rows: Sequence[Row], data: Path) -> NDArray[np.uint8]:
    """The tiles (n, 256, 256, 3) as the model was trained on them."""
    archives = {name: zipfile.ZipFile(data / name) for name in {row["archive"] for row in rows}}
    return np.stack(
        [crops(Image.open(io.BytesIO(archives[row["archive"]].read(row["file"]))), row["style"])[0] for row in rows]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    with (args.data / "captions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    args.output.mkdir(parents=True, exist_ok=True)
    parts = chosen(rows, load_protocol("table1").prompts["embedded"])
    for name, part in zip(("whole", "patches"), parts, strict=True):
        np.save(args.output / f"{name}.npy", pixels_of(part, args.data))
        print(f"{name}: {len(part)} tiles, {dict(Counter(row['style'] for row in part))}")


if __name__ == "__main__":
    main()
