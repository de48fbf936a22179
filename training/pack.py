"""Pack part of the latents into one small file, to train the denoiser on another machine.

    python -m training.pack pack --work training/work --output pack.xz --megabytes 40
    python -m training.pack unpack --input pack.xz --work training/work

Pictures are sampled as in the training until the file is full, so that rare subjects are included; held-out ones are
excluded. Latents are rounded to a third of their standard deviation, which is noise of a tenth of it, less than in the
autoencoder's training.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import lzma
from pathlib import Path

import numpy as np

from training.batches import STYLE_SHARES
from training.data import Record, load_records
from training.loop import balanced_weights

LEVELS_A_SPREAD = 3
SAMPLE = 64


def packed(latents: np.ndarray, records: list[Record], chosen: np.ndarray, scaling_factor: float) -> bytes:
    """Some pictures' latents and captions, compressed."""
    steps = np.round(latents[np.sort(chosen)].astype(np.float32) * scaling_factor * LEVELS_A_SPREAD)
    target = io.BytesIO()
    np.savez(
        target,
        # Channel by channel, which compresses better.
        steps=steps.clip(-127, 127).astype(np.int8).swapaxes(0, 1),
        records=np.array([(records[i].caption, records[i].style) for i in np.sort(chosen)]),
        scaling_factor=scaling_factor,
    )
    return lzma.compress(target.getvalue(), preset=1)


def pack(work: Path, output: Path, megabytes: float) -> None:
    records, latents = load_records(work), np.load(work / "latents.npy", mmap_mode="r")
    scaling_factor = json.loads((work / "latents.json").read_text())["scaling_factor"]
    weights = balanced_weights(records, STYLE_SHARES)
    order = np.random.default_rng(0).choice(len(records), np.count_nonzero(weights), replace=False, p=weights)
    each = len(packed(latents, records, order[:SAMPLE], scaling_factor)) / SAMPLE
    chosen = order[: int(megabytes * 1e6 / each)]
    output.write_bytes(packed(latents, records, chosen, scaling_factor))
    print(f"{len(chosen)} of {len(order)} pictures in {output.stat().st_size / 1e6:.1f} MB")


def unpack(source: Path, work: Path) -> None:
    """Write the input of the denoiser's training: ``latents.npy``, ``latents.json`` and ``records.csv``."""
    found = np.load(io.BytesIO(lzma.decompress(source.read_bytes())))
    scaling_factor = float(found["scaling_factor"])
    latents = found["steps"].swapaxes(0, 1).astype(np.float32) / (LEVELS_A_SPREAD * scaling_factor)
    work.mkdir(parents=True, exist_ok=True)
    np.save(work / "latents.npy", latents.astype(np.float16))
    (work / "latents.json").write_text(json.dumps({"scaling_factor": scaling_factor}))
    with (work / "records.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["caption", "style", "held_out"])
        writer.writerows([caption, style, 0] for caption, style in found["records"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    packing, unpacking = (commands.add_parser(name) for name in ("pack", "unpack"))
    for command in (packing, unpacking):
        command.add_argument("--work", type=Path, default=Path("training/work"))
    packing.add_argument("--output", type=Path, required=True)
    packing.add_argument("--megabytes", type=float, default=40)
    unpacking.add_argument("--input", type=Path, required=True)
    args = parser.parse_args()
    if args.command == "pack":
        pack(args.work, args.output, args.megabytes)
    else:
        unpack(args.input, args.work)


if __name__ == "__main__":
    main()
