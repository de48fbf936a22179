"""Contact sheets to look at: two seeds of some prompts of each style, at the native size.

python -m training.sheets --output training/work/evaluation
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from pixelsmith import Compute, Method
from pixelsmith.families import Family, find_model, load_family, read_facts
from training.sampling import Shot, pictures

SHEET = {
    "satellite": (
        "satellite photo of coast, green forest and blue sea",
        "satellite photo of sandy desert plains",
        "satellite photo of snowy mountains, green valleys",
        "satellite photo of islands in the blue sea, tundra",
        "satellite photo of green forest with lakes",
        "satellite photo of dark blue deep ocean floor",
    ),
    "watercolor": (
        "watercolor map of islands in a turquoise sea",
        "watercolor map of a coast",
        "watercolor map of land with lakes",
        "watercolor map of land with roads",
        "an archipelago, painted in watercolour",
        "watercolor map of a coast with roads",
    ),
    "night": (
        "night photo from space of a huge bright city",
        "night photo from space of many city lights",
        "night photo from space of scattered towns",
        "night lights of a big city seen from orbit",
        "earth at night from orbit, villages",
        "city lights at night: a metropolis",
    ),
    "landscape": (
        "landscape photo of mountains",
        "landscape photo of the sea",
        "landscape photo of a desert",
        "landscape photo of a forest",
        "photo of sand dunes",
        "photo of snowy mountains",
    ),
}


def contact_sheet(family: Family, prompts: tuple[str, ...], path: Path) -> None:
    method, rows = Method().at(0, family.facts.recommended), []
    for seed in (0, 1):
        made = pictures(family, [Shot(prompt, seed) for prompt in prompts], method)
        rows.append(np.concatenate(list(made), axis=1))
    Image.fromarray(np.concatenate(rows, axis=0)).save(path, quality=90)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="src/pixelsmith/embedded/model")
    parser.add_argument("--output", type=Path, default=Path("training/work/evaluation"))
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    place = find_model(args.model)
    family = load_family(place, read_facts(place, args.model), Compute())
    for style, prompts in SHEET.items():
        contact_sheet(family, prompts, args.output / f"{style}.jpg")


if __name__ == "__main__":
    main()
