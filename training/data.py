"""Training pictures: unpack the archives once into one array, split them, and paraphrase captions.

The split is by location, not by file: a tile at zoom 8 lies inside a tile at zoom 4, so all tiles under
one zoom-4 tile are held out together. Otherwise the model would be trained on held-out land at another zoom.
"""

from __future__ import annotations

import csv
import io
import random
import re
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIZE = 256
HELD_OUT_SHARE = 0.05
PHOTO_CROPS = 6


@dataclass(frozen=True)
class Record:
    """One training picture: its caption, its style and whether it is held out."""

    caption: str
    style: str
    held_out: bool


def brighten(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Brighten dark satellite tiles: gamma 0.65, then saturation times 1.15 around each pixel's mean."""
    lifted = 255.0 * (pixels / 255.0) ** 0.65
    grey = lifted.mean(axis=-1, keepdims=True)
    brighter: NDArray[np.uint8] = np.clip(grey + 1.15 * (lifted - grey), 0, 255).round().astype(np.uint8)
    return brighter


def is_held_out(style: str, file: str) -> bool:
    """Whether a picture is held out, by its location (tiles: the zoom-4 ancestor; photos: the name)."""
    key = Path(file).stem
    if style != "landscape":
        zoom, x, y = (int(part) for part in key.split("_"))
        key = f"{x >> (zoom - 4)}_{y >> (zoom - 4)}"
    return zlib.crc32(f"held-out {key}".encode()) % 10_000 < HELD_OUT_SHARE * 10_000


def crops(picture: Image.Image, style: str) -> list[NDArray[np.uint8]]:
    """The 256x256 arrays of a tile (unchanged) or a photo (several square crops at two scales)."""
    if style != "landscape":
        pixels = np.asarray(picture.convert("RGB"))
        return [brighten(pixels) if style == "satellite" else pixels]
    found = []
    for height, count in ((SIZE, PHOTO_CROPS // 2), (SIZE * 5 // 4, PHOTO_CROPS - PHOTO_CROPS // 2)):
        width = round(picture.width * height / picture.height)
        scaled = np.asarray(picture.convert("RGB").resize((width, height), Image.Resampling.LANCZOS))
        for i in range(count):
            left, top = (width - SIZE) * i // (count - 1), (height - SIZE) // 2
            found.append(scaled[top : top + SIZE, left : left + SIZE])
    return found


def unpack(source: Path, target: Path) -> None:
    """Write ``target/pixels.npy`` (N, 256, 256, 3) uint8 and ``target/records.csv`` from the four archives."""
    with (source / "captions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    archives = {name: zipfile.ZipFile(source / name) for name in {row["archive"] for row in rows}}
    total = sum(PHOTO_CROPS if row["style"] == "landscape" else 1 for row in rows)
    target.mkdir(parents=True, exist_ok=True)
    pixels = np.lib.format.open_memmap(
        target / "pixels.npy.tmp", mode="w+", dtype=np.uint8, shape=(total, SIZE, SIZE, 3)
    )
    with (target / "records.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["caption", "style", "held_out"])
        i = 0
        for row in rows:
            picture = Image.open(io.BytesIO(archives[row["archive"]].read(row["file"])))
            for crop in crops(picture, row["style"]):
                pixels[i] = crop
                i += 1
                writer.writerow([row["caption"], row["style"], int(is_held_out(row["style"], row["file"]))])
    pixels.flush()
    (target / "pixels.npy.tmp").rename(target / "pixels.npy")


def load_records(target: Path, name: str = "records.csv") -> list[Record]:
    """Read ``records.csv`` in the order of ``pixels.npy``, or ``mosaics.csv`` in that of ``mosaics.npy``."""
    with (target / name).open(newline="") as file:
        return [Record(row["caption"], row["style"], row["held_out"] == "1") for row in csv.DictReader(file)]


def load_pixels(target: Path) -> NDArray[np.uint8]:
    """Map ``pixels.npy`` (N, 256, 256, 3), read-only."""
    pixels: NDArray[np.uint8] = np.load(target / "pixels.npy", mmap_mode="r")
    return pixels


STYLE_WORDS = {
    "satellite photo of ": (
        "satellite photo of {}", "satellite image of {}", "satellite picture of {}", "aerial view of {}",
        "aerial photo of {}", "seen from space: {}", "view from above of {}", "orbital photograph of {}",
        "{} seen from space", "{} from above", "{} from orbit", "{}, viewed from above", "{} as seen from orbit",
        "{}, satellite photo", "{}, satellite image", "{}, aerial photo", "{}, orbital photograph",
        "bird's eye view of {}", "{} as a satellite sees it", "picture of {} taken from orbit",
        "the earth from above, {}", "{}, satellite view", "an image of {} from a satellite",
    ),
    "watercolor map of ": (
        "watercolor map of {}", "watercolour map of {}", "watercolor painting of {}", "watercolour of {}",
        "hand-painted map of {}", "map painted in watercolour of {}", "a map of {}, painted in watercolor",
        "{} painted in watercolour", "{} in watercolor", "{} as a watercolour", "{} on a hand-painted map",
        "{} on a painted map", "{}, watercolor map", "{}, watercolour painting", "{}, hand-painted map",
        "an artistic map of {}, watercolor", "{}, painted map", "{} drawn in watercolour",
    ),
    "night photo from space of ": (
        "night photo from space of {}", "night lights of {}", "city lights at night: {}", "lights of {} at night",
        "earth at night from orbit, {}", "satellite view at night of {}", "the dark earth with {}",
        "{} at night", "{} at night from space", "{} in the dark", "{} at night, seen from orbit",
        "{} on the dark earth", "{}, night photo from space", "{}, earth at night", "{}, lights at night from orbit",
    ),
    "landscape photo of ": (
        "landscape photo of {}", "photo of {}", "photograph of {}", "scenic view of {}", "a landscape with {}",
        "{}, photo", "{}, landscape photo", "{}, photograph",
    ),
}  # fmt: skip
"""Templates for paraphrases of a style, by the beginning of its captions; {} is the subject."""
ARRANGEMENTS = {
    "coast, (.+) and blue sea": (
        "coast, {} and blue sea", "coast and blue sea", "a coast and the blue sea", "coast of {}", "the coast of {}",
        "{} by the blue sea", "blue sea and a coast of {}", "a coast with {}", "the coast of a land with {}",
        "where {} meets the blue sea", "blue sea beside {}", "coast",
    ),
    "coast, (.+) with a bay": (
        "coast, {} with a bay", "coast with a bay", "coast of {} with a bay", "a bay and {}", "{} around a bay",
        "a bay on the coast of {}", "coast, {}",
    ),
    "islands in the blue sea, (.+)": (
        "islands in the blue sea, {}", "islands in the blue sea", "islands in the blue sea with {}",
        "blue sea with islands", "blue sea and islands of {}", "blue sea with many small islands",
    ),
    "snowy mountains, (brown highlands|green valleys|desert|glaciers)": (
        "snowy mountains, {}", "snowy mountains", "snowy mountains and {}",
    ),
}  # fmt: skip
"""Paraphrases by a pattern of whole subjects, with other orders of their parts, some without a part, so that the model
learns the meaning of each word. Lakes are never left out, because otherwise they would be generated without being
prompted. {} is the text in parentheses."""
SYNONYMS = {
    "islands in the blue sea": (
        "islands in the blue sea", "an archipelago", "islands", "islands in the ocean", "isles in the sea",
        "a group of islands",
    ),
    "islands in a turquoise sea": (
        "islands in a turquoise sea", "an archipelago", "islands", "islands in the sea",
        "isles in a turquoise sea",
    ),
    "land with lakes with roads": ("land with lakes with roads", "lakes and roads", "land with roads and many lakes"),
    "land with lakes": ("land with lakes", "lakes", "a land of lakes", "a country with many lakes"),
    "land with roads": (
        "land with roads", "roads", "land with streets", "a country with roads", "many roads", "roads and streets",
        "a net of streets", "streets through the country",
    ),
    "coast": ("coast", "coastline", "shore", "seashore"),
    "blue sea": ("blue sea", "sea", "ocean", "blue water"),
    "green forested mountains": (
        "green forested mountains", "wooded mountains", "forested mountains",
        "mountains covered with forest", "green mountains",
    ),
    "green forest": ("green forest", "forest", "woods", "green woods", "woodland", "green land", "trees"),
    "rainforest": ("rainforest", "jungle", "green jungle", "tropical forest"),
    "sandy desert plains": ("sandy desert plains", "a sandy desert", "desert plains", "sand dunes", "desert sands"),
    "sandy desert": ("sandy desert", "desert", "sand dunes", "sand"),
    "rocky desert mountains": (
        "rocky desert mountains", "desert mountains", "barren mountains", "bare rocky mountains",
    ),
    "snowy mountains": ("snowy mountains", "snow-capped peaks", "snow-covered mountains", "mountains with snow"),
    "brown rugged mountains": (
        "brown rugged mountains", "rugged mountains", "brown mountains", "barren brown ranges", "mountains",
        "mountain ridges",
    ),
    "dry brown steppe plains": (
        "dry brown steppe plains", "dry brown plains", "steppe", "steppe plains", "dry grassland", "brown plains",
        "a dry steppe", "prairie", "dry flat land",
    ),
    "dry brown steppe": ("dry brown steppe", "steppe", "dry plains", "dry brown grassland", "brown land"),
    "dark blue deep ocean floor": (
        "dark blue deep ocean floor", "the deep ocean", "deep blue sea", "the open ocean", "deep water",
        "dark blue ocean", "the open sea", "nothing but ocean", "the water of the deep ocean",
    ),
    "with lakes": ("with lakes", "with many lakes", "and lakes"),
    "with roads": ("with roads", "and roads", "with streets"),
    "with a bay": ("with a bay", "and a bay"),
    "a huge bright city": ("a huge bright city", "a big city", "a metropolis", "a large bright city", "a bright city"),
    "scattered towns": ("scattered towns", "small towns", "villages", "a few villages", "few lights"),
    "many city lights": ("many city lights", "cities", "many lights", "many cities", "city lights"),
}  # fmt: skip
"""Paraphrases of parts of a subject, including the part itself. Longer parts come first."""
SAYING_NOTHING = (
    "beautiful {}", "a beautiful {}", "a picture of {}", "a wide view of {}", "vast {}", "some {}", "only {}",
    "{}, highly detailed", "{}, very detailed", "{}, high resolution", "{}, 8k", "{}, 4k", "{}, beautiful colors",
    "{}, sharp", "{}, masterpiece", "{}, best quality", "{}, stunning", "{}, award winning",
)  # fmt: skip
"""Common additions to prompts, which would otherwise be unknown to the model."""
SHARE_SAYING_NOTHING = 0.15


def paraphrase(caption: str, rng: random.Random) -> str:
    """Paraphrase a caption, so that the model learns language, not 73 labels."""
    for usual, forms in STYLE_WORDS.items():
        if caption.startswith(usual):
            form, subject = rng.choice(forms), caption.removeprefix(usual)
            break
    else:
        return caption
    for usual, orders in ARRANGEMENTS.items():
        if found := re.fullmatch(usual, subject):
            subject = rng.choice(orders).format(found[1])
            break
    said = form.format(re.sub("|".join(SYNONYMS), lambda usual: rng.choice(SYNONYMS[usual[0]]), subject))
    return rng.choice(SAYING_NOTHING).format(said) if rng.random() < SHARE_SAYING_NOTHING else said
