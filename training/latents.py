"""Encode every training picture once: ``work/latents.npy`` (N, c, 32, 32) float16 and its scaling factor.

python -m training.latents --work training/work
python -m training.latents --init MODEL    # with the autoencoder of an exported model
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderDC
from numpy.typing import NDArray

from training.autoencoder import as_input, build_autoencoder, load_autoencoder
from training.checkpoints import load_checkpoint
from training.data import load_pixels
from training.loop import flush_denormals, half_precision

BATCH = 16


@torch.inference_mode()
def encode_pictures(
    model: AutoencoderDC, count: int, pictures: Callable[[slice], NDArray[np.uint8]], path: Path
) -> NDArray[np.float16]:
    """Write the latents (``count``, c, 32, 32) of pictures (n, 256, 256, 3), which are read batch by batch."""
    model.eval().to(memory_format=torch.channels_last)
    shape = (count, model.config.latent_channels, 32, 32)
    unfinished = path.with_suffix(".npy.tmp")
    latents = np.lib.format.open_memmap(unfinished, mode="w+", dtype=np.float16, shape=shape)
    for start in range(0, count, BATCH):
        chosen = slice(start, start + BATCH)
        with half_precision(model.device):
            latents[chosen] = model.encode(as_input(pictures(chosen))).latent.float().numpy()
    latents.flush()
    unfinished.rename(path)
    return latents


def main() -> None:
    flush_denormals()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("training/work"))
    parser.add_argument("--init", type=Path, help="an exported model, whose autoencoder and scaling factor are used")
    args = parser.parse_args()
    if args.init:
        model = load_autoencoder(args.init)
    else:
        model = build_autoencoder()
        model.load_state_dict(load_checkpoint(args.work / "autoencoder.pt")["model"])
    pixels = load_pixels(args.work)
    latents = encode_pictures(model, len(pixels), pixels.__getitem__, args.work / "latents.npy")
    sample = latents[:: max(1, len(latents) // 1000)].astype(np.float32)
    scaling_factor = model.config.scaling_factor if args.init else round(float(1 / sample.std()), 4)
    facts = {"scaling_factor": scaling_factor, "channel_std": sample.std((0, 2, 3)).tolist()}
    (args.work / "latents.json").write_text(json.dumps(facts))
    print(facts)


if __name__ == "__main__":
    main()
