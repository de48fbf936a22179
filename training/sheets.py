"""Contact sheets: two seeds of some prompts of each style, at the native size.

python -m training.sheets --output training/work/evaluation
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from torch import nn
from transformers import CLIPTokenizer

from pixelsmith import Compute, Method
from pixelsmith.families import Family, find_model, load_family, read_facts
from pixelsmith.families.loading.find import OWN
from pixelsmith.families.loading.model_files import read_json
from training.export import export, exported_autoencoder, trained_autoencoder
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


WATCHED = tuple(
    tuple(SHEET[style][i] for i in chosen)
    for style, chosen in (
        ("satellite", (0, 1, 2, 4)),
        ("watercolor", (0, 1, 2, 3)),
        ("night", (0, 1, 2, 5)),
        ("landscape", (0, 1, 3, 4)),
    )
)
"""The 16 prompts with which a training is monitored, a row for each style."""
KEEP_EVERY = 10
"""The interval in core-hours after which a model is kept for measurements."""


def contact_sheet(family: Family, rows: Sequence[Sequence[Shot]], path: Path) -> None:
    """Write a picture of each shot, with the model's recommended settings, row by row."""
    method = Method().at(0, family.facts.recommended)
    made = [np.concatenate(list(pictures(family, row, method)), axis=1) for row in rows]
    Image.fromarray(np.concatenate(made, axis=0)).save(path, quality=90)


def family_of(model: str) -> Family:
    place = find_model(model)
    return load_family(place, read_facts(place, model), Compute())


@dataclass(frozen=True, eq=False)
class Watch:
    """Exports the averaged weights of a training and writes a contact sheet of their pictures at each call.

    Models go to ``work/exports/latest``, every tenth hour to ``work/exports/010`` and so on, sheets to
    ``work/sheets/012.jpg``. ``init``: the model whose autoencoder and recommended settings are used; by default the
    autoencoder in ``work``.
    """

    work: Path
    init: Path | None
    averaged: nn.ModuleDict
    tokenizer: CLIPTokenizer

    def __call__(self, step: int, seconds: float) -> bool:
        hours = round(seconds / 3600)
        folder = self.work / "exports" / (f"{hours:03}" if hours % KEEP_EVERY == 0 else "latest")
        vae = exported_autoencoder(self.init) if self.init else trained_autoencoder(self.work)
        export(self.averaged, self.tokenizer, vae, folder)
        if self.init and (self.init / OWN).exists():
            (folder / OWN).write_text(json.dumps({"method": read_json(self.init / OWN)["method"]}))
        sheet = self.work / "sheets" / f"{hours:03}.jpg"
        sheet.parent.mkdir(exist_ok=True)
        seeds = itertools.count()
        contact_sheet(family_of(str(folder)), [[Shot(prompt, next(seeds)) for prompt in row] for row in WATCHED], sheet)
        print(f"{sheet}: after {step} steps", flush=True)
        return False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="src/pixelsmith/embedded/model")
    parser.add_argument("--output", type=Path, default=Path("training/work/evaluation"))
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    family = family_of(args.model)
    for style, prompts in SHEET.items():
        rows = [[Shot(prompt, seed) for prompt in prompts] for seed in (0, 1)]
        contact_sheet(family, rows, args.output / f"{style}.jpg")


if __name__ == "__main__":
    main()
