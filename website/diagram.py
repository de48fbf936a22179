"""The diagram of how Pixelsmith works: one part of a picture through the steps of a stage.

    python -m website.diagram BASE PICTURE docs/images/how-it-works.svg

BASE is the base picture of PICTURE (the same prompt and seed at the model's native size). The first and the last image
are parts of these two; the noisy images between are computed from them.
"""

from __future__ import annotations

import argparse
import base64
import io
from html import escape
from pathlib import Path

import numpy as np
from PIL import Image

SIDE = 150
"""The size of an image on the page in pixels; its file has twice as many."""
PART = (0.12, 0.2, 0.3)
"""Left, top and side of the part that is shown, as shares of the picture."""
GAP, TOP, LEFT = 44, 92, 24
INK, FRAME, ACCENT, PAPER = "#24292f", "#8c959f", "#cf5c2e", "#ffffff"


def part_of(picture: Image.Image, resample: Image.Resampling) -> Image.Image:
    """The part that is shown, at the size of the diagram's images."""
    x, y, side = (round(share * picture.width) for share in PART)
    return picture.crop((x, y, x + side, y + side)).resize((2 * SIDE, 2 * SIDE), resample)


def noisy(picture: Image.Image, share: float) -> Image.Image:
    """A picture of which a share is replaced by noise, in squares of the size of a latent in the diagram."""
    grain = np.random.default_rng(0).normal(128, 70, (2 * SIDE // 5, 2 * SIDE // 5, 3)).clip(0, 255).astype(np.uint8)
    return Image.blend(picture, Image.fromarray(grain).resize(picture.size, Image.Resampling.NEAREST), share)


def image(picture: Image.Image, x: float, y: float) -> str:
    data = io.BytesIO()
    picture.save(data, "JPEG", quality=80)
    text = base64.b64encode(data.getvalue()).decode()
    return f'<image x="{x}" y="{y}" width="{SIDE}" height="{SIDE}" href="data:image/jpeg;base64,{text}"/>'


def label(x: float, y: float, *lines: str, weight: str = "normal", colour: str = INK) -> str:
    """Lines of text, centred at x."""
    spans = "".join(f'<tspan x="{x}" dy="{17 if k else 0}">{escape(line)}</tspan>' for k, line in enumerate(lines))
    return f'<text x="{x}" y="{y}" font-weight="{weight}" fill="{colour}">{spans}</text>'


def arrow(path: str) -> str:
    return f'<path d="{path}" fill="none" stroke="{INK}" stroke-width="1.6" marker-end="url(#head)"/>'


def patches(x: float, y: float) -> str:
    """The overlapping patches of one step, one of them highlighted."""
    side, step = 62, 44
    boxes = [(x + step * i, y + step * j) for j in range(3) for i in range(3)]
    frame = f'width="{side}" height="{side}" fill="none"'
    grid = "".join(f'<rect x="{a}" y="{b}" {frame} stroke="{PAPER}" stroke-opacity="0.8"/>' for a, b in boxes)
    a, b = boxes[4]
    return grid + f'<rect x="{a}" y="{b}" {frame} stroke="{ACCENT}" stroke-width="3"/>'


def drawing(base: Image.Image, picture: Image.Image) -> str:
    enlarged = part_of(base, Image.Resampling.BICUBIC)
    finished = part_of(picture, Image.Resampling.LANCZOS)
    shown = [
        part_of(base, Image.Resampling.NEAREST),
        enlarged,
        noisy(enlarged, 0.75),
        noisy(finished, 0.35),
        finished,
    ]
    titles = ["base picture", "upsample, encode", "add noise", "denoise in patches", "decode in tiles"]
    notes = [
        ("generated at the", "model's native size"),
        ("structure of the smaller", "picture, no fine detail"),
        ("keyed by seed and position,", "independent of patches"),
        ("low frequencies are held,", "fine detail is generated"),
        ("sharp at full resolution,", "written to the file"),
    ]
    lefts = [LEFT + k * (SIDE + GAP) for k in range(len(shown))]
    middle = TOP + SIDE / 2
    right = lefts[-1] + SIDE
    box_left, bottom = lefts[1] - GAP / 2, TOP + SIDE + 52
    parts = [
        f'<rect x="{box_left}" y="34" width="{right + 18 - box_left}" height="{bottom - 34}" rx="10" fill="#f6f8fa" '
        f'stroke="{FRAME}" stroke-dasharray="5 4"/>',
        label((box_left + right) / 2, 26, "a stage: each side 2 to 8 times as long", weight="bold"),
    ]
    for k, x in enumerate(lefts):
        parts.append(image(shown[k], x, TOP))
        parts.append(label(x + SIDE / 2, TOP - 14, titles[k], weight="bold"))
        parts.append(label(x + SIDE / 2, TOP + SIDE + 20, *notes[k]))
        if k:
            parts.append(arrow(f"M {x - GAP + 6} {middle} H {x - 8}"))
    parts.append(patches(lefts[3], TOP))
    back = bottom + 22
    parts.append(arrow(f"M {right - SIDE / 2} {bottom} V {back} H {lefts[1] + SIDE / 2} V {bottom + 4}"))
    parts.append(label((lefts[1] + right) / 2, back - 6, "repeated until the requested size is reached"))
    held = "Large pictures are kept on disk in tiles: memory does not grow, and a crash loses one batch at most."
    parts.append(label((LEFT + right) / 2, back + 30, held))
    width, height = right + LEFT + 8, back + 46
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'font-family="system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif" font-size="13" '
        f'text-anchor="middle"><title>How a picture is made</title>'
        f'<defs><marker id="head" markerWidth="8" markerHeight="8" refX="6" refY="4" orient="auto">'
        f'<path d="M0 0 L8 4 L0 8 z" fill="{INK}"/></marker></defs>'
        f'<rect width="{width}" height="{height}" rx="8" fill="{PAPER}"/>{"".join(parts)}</svg>\n'
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", type=Path)
    parser.add_argument("picture", type=Path)
    parser.add_argument("output", type=Path)
    args = parser.parse_args()
    base, picture = (Image.open(path).convert("RGB") for path in (args.base, args.picture))
    args.output.write_text(drawing(base, picture))


if __name__ == "__main__":
    main()
