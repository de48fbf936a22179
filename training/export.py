"""Write the trained parts as a diffusers folder in fp16, the one that ships inside the package.

python -m training.export --work training/work --output src/pixelsmith/embedded/model
python -m training.export --decoder-only     # into the model whose decoder was trained on
python -m training.export --denoiser-only    # into the model whose latents the denoiser was trained on
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from diffusers import AutoencoderDC, StableDiffusionPipeline
from transformers import CLIPTokenizer

from training.autoencoder import build_autoencoder, load_autoencoder
from training.denoiser import build_denoiser, build_scheduler
from training.text import build_text_encoder


def replace_decoder(work: Path, output: Path) -> None:
    """Write an exported autoencoder anew with the decoder that was trained from it."""
    vae = load_autoencoder(output)
    vae.load_state_dict(torch.load(work / "decoder.pt", weights_only=True)["model"])
    named_for_pipelines(vae, vae.config.scaling_factor).save_pretrained(output / "vae")


def named_for_pipelines(vae: AutoencoderDC, scaling_factor: float) -> AutoencoderDC:
    """In fp16, with what ``StableDiffusionPipeline`` asks of every autoencoder to know its scale."""
    vae.register_to_config(block_out_channels=vae.config.decoder_block_out_channels, scaling_factor=scaling_factor)
    return vae.half()


def trained_autoencoder(work: Path) -> AutoencoderDC:
    vae = build_autoencoder()
    autoencoder, decoder = work / "autoencoder.pt", work / "decoder.pt"
    if decoder.exists() and decoder.stat().st_mtime < autoencoder.stat().st_mtime:
        raise SystemExit(
            f"{decoder} is older than {autoencoder}, whose latents it cannot know: train it anew or remove it"
        )
    vae.load_state_dict(torch.load(decoder if decoder.exists() else autoencoder, weights_only=True)["model"])
    scaling_factor = json.loads((work / "latents.json").read_text())["scaling_factor"]
    return named_for_pipelines(vae, scaling_factor)


def export(work: Path, output: Path, vae: AutoencoderDC) -> None:
    tokenizer = CLIPTokenizer.from_pretrained(work / "tokenizer")
    ema = torch.load(work / "denoiser.pt", map_location="cpu", weights_only=True)["ema"]
    parts = {"unet": build_denoiser(vae.config.latent_channels), "text_encoder": build_text_encoder(tokenizer)}
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
    pipeline.to(dtype=torch.float16).save_pretrained(output)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("training/work"))
    parser.add_argument("--output", type=Path, default=Path("src/pixelsmith/embedded/model"))
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--decoder-only", action="store_true", help="leave all else of --output as it is")
    only.add_argument("--denoiser-only", action="store_true", help="leave the autoencoder of --output as it is")
    args = parser.parse_args()
    if args.decoder_only:
        replace_decoder(args.work, args.output)
    elif args.denoiser_only:
        vae = load_autoencoder(args.output)
        export(args.work, args.output, named_for_pipelines(vae, vae.config.scaling_factor))
    else:
        export(args.work, args.output, trained_autoencoder(args.work))


if __name__ == "__main__":
    main()
