"""Write the trained parts as a diffusers folder in float16, the one inside the package.

python -m training.export --work training/work --output src/pixelsmith/embedded/model
python -m training.export --texture-only     # into the model whose decoder it was trained for
python -m training.export --latent-upsampler-only    # the same
python -m training.export --denoiser-only    # into the model whose latents the denoiser was trained on
"""

from __future__ import annotations

import argparse
import copy
import json
from pathlib import Path
from typing import cast

from diffusers import AutoencoderDC, StableDiffusionPipeline
from torch import nn
from torch.optim.swa_utils import AveragedModel
from transformers import CLIPTokenizer

from pixelsmith.families.latent_upsampler_network import LatentUpsamplerModel
from pixelsmith.families.texture_network import TextureModel
from training.autoencoder import build_autoencoder, load_autoencoder
from training.checkpoints import load_checkpoint
from training.network import build_denoiser, build_scheduler, parts_of
from training.text import build_text_encoder


def export_texture(work: Path, output: Path) -> None:
    """Write the averaged weights of a texture network into the folder of an exported model."""
    averaged = AveragedModel(TextureModel())
    averaged.load_state_dict(load_checkpoint(work / "texture.pt")["averaged"])
    cast("TextureModel", averaged.module).half().save_pretrained(output / "texture")


def export_latent_upsampler(work: Path, output: Path) -> None:
    """Write the weights of a network that enlarges latents into the folder of an exported model."""
    weights = load_checkpoint(work / "latent_upsampler.pt")["model"]
    model = LatentUpsamplerModel(weights["first.weight"].shape[1])
    model.load_state_dict(weights)
    model.half().save_pretrained(output / "latent_upsampler")


def named_for_pipelines(vae: AutoencoderDC, scaling_factor: float) -> AutoencoderDC:
    """In float16, with the configuration entry from which ``StableDiffusionPipeline`` reads the scale."""
    vae.register_to_config(block_out_channels=vae.config.decoder_block_out_channels, scaling_factor=scaling_factor)
    return vae.half()


def exported_autoencoder(model: Path) -> AutoencoderDC:
    """The unchanged autoencoder of an exported model."""
    vae = load_autoencoder(model)
    return named_for_pipelines(vae, vae.config.scaling_factor)


def trained_autoencoder(work: Path) -> AutoencoderDC:
    vae = build_autoencoder()
    vae.load_state_dict(load_checkpoint(work / "autoencoder.pt")["model"])
    scaling_factor = json.loads((work / "latents.json").read_text())["scaling_factor"]
    return named_for_pipelines(vae, scaling_factor)


def export(model: nn.ModuleDict, tokenizer: CLIPTokenizer, vae: AutoencoderDC, output: Path) -> None:
    """Write a denoiser and its text encoder, by their names in a pipeline, and an autoencoder, in float16."""
    pipeline = StableDiffusionPipeline(
        vae=vae,
        tokenizer=tokenizer,
        scheduler=build_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
        **{name: copy.deepcopy(part).half() for name, part in model.items()},
    )
    pipeline.save_pretrained(output)


def trained_denoiser(work: Path, latent_channels: int) -> tuple[nn.ModuleDict, CLIPTokenizer]:
    """The averaged weights of the newest checkpoint, and the tokenizer."""
    tokenizer = CLIPTokenizer.from_pretrained(work / "tokenizer")
    model = nn.ModuleDict({"unet": build_denoiser(latent_channels), "text_encoder": build_text_encoder(tokenizer)})
    averaged = AveragedModel(model)
    averaged.load_state_dict(load_checkpoint(work / "denoiser.pt")["ema"])
    return parts_of(averaged), tokenizer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("training/work"))
    parser.add_argument("--output", type=Path, default=Path("src/pixelsmith/embedded/model"))
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--texture-only", action="store_true", help="keep all other parts of --output")
    only.add_argument("--latent-upsampler-only", action="store_true", help="keep all other parts of --output")
    only.add_argument("--denoiser-only", action="store_true", help="keep the autoencoder of --output")
    args = parser.parse_args()
    if args.texture_only or args.latent_upsampler_only:
        (export_texture if args.texture_only else export_latent_upsampler)(args.work, args.output)
        return
    vae = exported_autoencoder(args.output) if args.denoiser_only else trained_autoencoder(args.work)
    export(*trained_denoiser(args.work, vae.config.latent_channels), vae, args.output)


if __name__ == "__main__":
    main()
