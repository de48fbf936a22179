"""What the embedded model reaches: the autoencoder on held-out pictures, and contact sheets to look at.

python -m training.evaluate --work training/work --output training/work/evaluation
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from pixelsmith import Compute, Method, Request, Size, generate
from pixelsmith.families import find_model, load_family, read_facts
from pixelsmith.request import EMBEDDED
from training.data import load_pixels, load_records

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


@torch.inference_mode()
def reconstruction(work: Path) -> dict[str, tuple[int, float]]:
    """Held-out pictures and their mean PSNR in dB (peak 255), by style."""
    folder = find_model(EMBEDDED)
    autoencoder = load_family(folder, read_facts(folder, EMBEDDED), Compute(dtype="float32")).autoencoder
    pixels, found = load_pixels(work), defaultdict(list)
    for i, record in enumerate(load_records(work)):
        if record.held_out:
            x = torch.from_numpy(pixels[i].astype(np.float32)).permute(2, 0, 1)[None]
            y = ((autoencoder.decode(autoencoder.encode(x / 127.5 - 1)) + 1) * 127.5).clamp(0, 255).round()
            found[record.style].append(10 * np.log10(255**2 / (x - y).square().mean().item()))
    return {style: (len(values), float(np.mean(values))) for style, values in found.items()}


def contact_sheet(prompts: tuple[str, ...], path: Path) -> None:
    """Two seeds of each prompt at the native size, side by side."""
    columns = []
    for prompt in prompts:
        pictures = [generate(Request(prompt, Size(256, 256), seed=seed, method=Method())).pixels for seed in (0, 1)]
        columns.append(np.concatenate(pictures, axis=0))
    Image.fromarray(np.concatenate(columns, axis=1)).save(path, quality=90)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("training/work"))
    parser.add_argument("--output", type=Path, default=Path("training/work/evaluation"))
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    for style, (count, decibel) in reconstruction(args.work).items():
        print(f"autoencoder, {count} held-out {style} pictures: PSNR {decibel:.2f} dB", flush=True)
    for style, prompts in SHEET.items():
        contact_sheet(prompts, args.output / f"{style}.jpg")


if __name__ == "__main__":
    main()
