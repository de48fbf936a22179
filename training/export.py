"""Write the trained parts as a diffusers folder in fp16, the one that ships inside the package.

python -m training.export --work training/work --output src/pixelsmith/embedded/model
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline
from transformers import CLIPTokenizer

from training.autoencoder import build_autoencoder
from training.denoiser import build_denoiser, build_scheduler
from training.text import build_text_encoder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("training/work"))
    parser.add_argument("--output", type=Path, default=Path("src/pixelsmith/embedded/model"))
    args = parser.parse_args()
    vae = build_autoencoder()
    autoencoder, decoder = args.work / "autoencoder.pt", args.work / "decoder.pt"
    if decoder.exists() and decoder.stat().st_mtime < autoencoder.stat().st_mtime:
        raise SystemExit(
            f"{decoder} is older than {autoencoder}, whose latents it cannot know: train it anew or remove it"
        )
    vae.load_state_dict(torch.load(decoder if decoder.exists() else autoencoder, weights_only=True)["model"])
    # StableDiffusionPipeline asks every autoencoder for this to know its scale; AutoencoderDC has two such lists.
    scaling_factor = json.loads((args.work / "latents.json").read_text())["scaling_factor"]
    vae.register_to_config(block_out_channels=vae.config.decoder_block_out_channels, scaling_factor=scaling_factor)
    tokenizer = CLIPTokenizer.from_pretrained(args.work / "tokenizer")
    ema = torch.load(args.work / "denoiser.pt", map_location="cpu", weights_only=True)["ema"]
    parts = {"unet": build_denoiser(), "text_encoder": build_text_encoder(tokenizer)}
    for name, part in parts.items():
        prefix = f"module.{name}."
        part.load_state_dict({key.removeprefix(prefix): v for key, v in ema.items() if key.startswith(prefix)})
    pipeline = StableDiffusionPipeline(
        vae=vae,
        tokenizer=tokenizer,
        scheduler=build_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
        **parts,
    )
    pipeline.to(dtype=torch.float16).save_pretrained(args.output)


if __name__ == "__main__":
    main()
