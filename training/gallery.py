"""The pictures of the gallery: results at several scales, next to their bases and to real pictures.

    python -m training.gallery --data DIR --output docs/images

``gallery-NAME.jpg``: the enlarged base (Lanczos) above the picture; the whole, a part, and a crop at full size.
``gallery-real-STYLE.jpg``: the same from a scaled-down real picture, with the original as a third row.
``zoom.jpg``: the same of the picture of ``make demo``, from the whole to full size. Pictures in ``--work`` are not made
again.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from pixelsmith import PRESETS, Parts, Request, Size, generate
from pixelsmith.config.request import EMBEDDED
from pixelsmith.families import find_model, read_facts
from training.data import SIZE
from training.enlarged import enlarged, real_pictures
from training.truth import Planet

PROMPTS = {
    "watercolor": "watercolor map of islands in a turquoise sea",
    "coast": "satellite photo of coast, green forest and blue sea",
    "mountains": "satellite photo of snowy mountains, green valleys",
    "night": "night photo from space of many city lights",
}
FACTOR = 8
SHOWN = 384
"""The side of a panel in pixels."""
ZOOMS = (1.0, 0.5, 0.3, SHOWN / 2048)
CENTRE, DEMO_CENTRE = (0.42, 0.55), (0.18, 0.32)
"""The centres of the panels of a row, as shares of width and height."""


def panel(picture: Image.Image, share: float, centre: tuple[float, float]) -> Image.Image:
    """A square part of a picture around a centre as a panel; ``share``: of the picture's width."""
    side = round(picture.width * share)
    left, top = (round(min(max(at * picture.width - side / 2, 0), picture.width - side)) for at in centre)
    part = picture.crop((left, top, left + side, top + side))
    return part if side == SHOWN else part.resize((SHOWN, SHOWN), Image.Resampling.LANCZOS)


def sheet(
    rows: Sequence[Image.Image], shares: Sequence[float], path: Path, centre: tuple[float, float] = CENTRE
) -> None:
    """A row for each picture of one size, a column for each share of its width."""
    panels = [[np.asarray(panel(picture, share, centre)) for share in shares] for picture in rows]
    drawn = [np.concatenate(row, axis=1) for row in panels]
    Image.fromarray(np.concatenate(drawn, axis=0)).save(path, quality=88)
    print(path)


def made(prompt: str, start: Path | None, preset: str, path: Path) -> Image.Image:
    """A base picture, or a preset's enlargement of one. The stages of the fast preset use the few-step LoRA."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        side = SIZE if start is None else FACTOR * SIZE
        parts = Parts(few_steps=None if start and preset == "fast" else False)
        from_image = None if start is None else str(start)
        # Settled, because the start is a base of the model's own; above a given picture the Slider would be 1.
        method = PRESETS[preset].settled(read_facts(find_model(EMBEDDED), EMBEDDED, parts).recommended)
        generate(Request(prompt, Size(side, side), seed=1, method=method, parts=parts, from_image=from_image), path)
    return Image.open(path).convert("RGB")


def demo(side: int, work: Path) -> Image.Image:
    """The picture of ``make demo``, or its base, at the size of the picture."""
    path = work / f"demo-{side}.png"
    if not path.exists():
        parts = Parts(few_steps=None)
        generate(Request(PROMPTS["watercolor"], Size(side, side), method=PRESETS["fast"], parts=parts), path)
    whole = FACTOR * SIZE
    return Image.open(path).convert("RGB").resize((whole, whole), Image.Resampling.LANCZOS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, default=Path("docs/images"))
    parser.add_argument("--work", type=Path, default=Path("output/gallery"))
    parser.add_argument("--preset", choices=list(PRESETS), default="default")
    args = parser.parse_args()
    side = FACTOR * SIZE
    shares = (1.0, 0.25 + SHOWN / side / 2, SHOWN / side)
    for name, prompt in PROMPTS.items():
        start = args.work / f"{name}-base.png"
        base = made(prompt, None, args.preset, start)
        large = made(prompt, start, args.preset, args.work / f"{name}-{args.preset}.png")
        below = base.resize((side, side), Image.Resampling.LANCZOS)
        sheet([below, large], shares, args.output / f"gallery-{name}.jpg")
    sheet([demo(size, args.work) for size in (SIZE, side)], ZOOMS, args.output / "zoom.jpg", DEMO_CENTRE)
    with (args.data / "captions.csv").open(newline="") as file:
        planet = Planet(list(csv.DictReader(file)), args.data)
    for real in real_pictures(planet, 4, 1):
        ours = Image.fromarray(enlarged(real, 4, args.preset, args.work / args.preset))
        below = real.small.resize(ours.size, Image.Resampling.LANCZOS)
        sheet(
            [below, ours, Image.fromarray(real.pixels)],
            (1.0, SHOWN / ours.width),
            args.output / f"gallery-real-{real.style}.jpg",
        )


if __name__ == "__main__":
    main()
