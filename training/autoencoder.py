"""Train the autoencoder: 32 latent channels at an eighth of the resolution, exactly local, normalised per pixel.

python -m training.autoencoder --data DIR --work training/work --minutes 20
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from diffusers import AutoencoderDC
from numpy.typing import NDArray
from safetensors.torch import load_file
from torchmetrics.functional.image import structural_similarity_index_measure

from training.checkpoints import has_checkpoint
from training.data import load_pixels, load_records, unpack
from training.linear import start_linear
from training.loop import Losses, balanced_weights, cosine, flush_denormals, for_minutes, train

LATENT_CHANNELS = 32
LATENT_NOISE = 0.03
SIMILARITY = 0.1
"""The weight of structural similarity in the loss."""


def build_autoencoder() -> AutoencoderDC:
    """An AutoencoderDC of residual blocks only, which starts near a linear map by its pixel-shuffle shortcuts."""
    return AutoencoderDC(
        latent_channels=LATENT_CHANNELS,
        encoder_block_types="ResBlock",
        decoder_block_types="ResBlock",
        encoder_block_out_channels=(16, 32, 64, 128),
        decoder_block_out_channels=(16, 32, 64, 128),
        encoder_layers_per_block=(0, 1, 2, 2),
        decoder_layers_per_block=(0, 2, 3, 3),
        encoder_qkv_multiscales=((), (), (), ()),
        decoder_qkv_multiscales=((), (), (), ()),
        scaling_factor=1.0,
    )


def load_autoencoder(model: Path) -> AutoencoderDC:
    """The autoencoder of an exported model, in float32.

    It is not loaded with ``from_pretrained``, which would store the folder's path in a saved copy.
    """
    autoencoder = AutoencoderDC.from_config(AutoencoderDC.load_config(model / "vae"))
    (weights,) = (model / "vae").glob("*.safetensors")
    autoencoder.load_state_dict(load_file(weights))
    return autoencoder


def as_input(pixels: NDArray[np.uint8]) -> torch.Tensor:
    """Pixels (n, H, W, 3) as (n, 3, H, W) in -1..1, channels last."""
    return torch.from_numpy(pixels.astype(np.float32)).permute(0, 3, 1, 2) / 127.5 - 1


def as_pixels(output: torch.Tensor) -> NDArray[np.uint8]:
    """The output of a decoder (n, 3, H, W), about -1..1, as pixels (n, H, W, 3)."""
    pixels = ((output + 1) * 127.5).clamp(0, 255).round().to(torch.uint8)
    return np.asarray(pixels.permute(0, 2, 3, 1).cpu())


def gradients(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return x[..., 1:, :] - x[..., :-1, :], x[..., :, 1:] - x[..., :, :-1]


def texture(x: torch.Tensor) -> torch.Tensor:
    """The amount of detail finer than three pixels, in each neighbourhood of 8x8 pixels."""
    fine = x - F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)
    return (F.avg_pool2d(fine.square(), 8, stride=4) + 1e-6).sqrt()


def reconstruction_loss(output: torch.Tensor, target: torch.Tensor, weight_of_texture: float) -> torch.Tensor:
    """L1 and squared errors of pixels, structural similarity, L1 of gradients (sharp edges), of 8x8 means (correct
    colours) and of the amount of texture, without which unpredictable detail would be blurred.
    """
    similar = torch.as_tensor(structural_similarity_index_measure(output, target, data_range=2.0))
    loss = F.l1_loss(output, target) + 5 * F.mse_loss(output, target) + SIMILARITY * (1 - similar)
    for a, b in zip(gradients(output), gradients(target), strict=True):
        loss = loss + 0.5 * F.l1_loss(a, b)
    loss = loss + weight_of_texture * F.l1_loss(texture(output), texture(target))
    return loss + F.l1_loss(F.avg_pool2d(output, 8), F.avg_pool2d(target, 8))


def main() -> None:
    flush_denormals()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("training/work"))
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--texture", type=float, default=0.5, help="what the amount of fine texture weighs in the loss")
    args = parser.parse_args()
    if not (args.work / "pixels.npy").exists():
        unpack(args.data, args.work)
    records, pixels = load_records(args.work), load_pixels(args.work)
    weights = balanced_weights(records)
    torch.manual_seed(0)
    model = build_autoencoder()
    if not has_checkpoint(args.work / "autoencoder.pt"):
        some = np.random.default_rng(0).choice(len(records), size=100, replace=False, p=weights)
        start_linear(model, as_input(pixels[np.sort(some)]))
    # Channels last halves the time of a step on a CPU.
    model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.99), weight_decay=1e-4)

    def step_fn(step: int, progress: float) -> Losses:
        rng = np.random.default_rng((1, 0, step))
        size, batch = (48, 16) if progress < 0.7 else (96, 6)
        found = []
        for i in rng.choice(len(records), size=batch, p=weights):
            top, left = rng.integers(0, 257 - size, size=2)
            crop = pixels[i, top : top + size, left : left + size]
            found.append(crop[:, :: rng.choice([-1, 1])])
        x = as_input(np.stack(found))
        z = model.encode(x).latent
        noise = torch.from_numpy(rng.standard_normal(z.shape, dtype=np.float32))
        output = model.decode(z + LATENT_NOISE * noise).sample
        loss = reconstruction_loss(output, x, args.texture) + 1e-3 * z.square().mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        mse = (output.detach() - x).square().mean().item() / 4
        return {"loss": loss.item(), "mse": mse, "latent_std": z.std().item()}

    # A larger rate would destroy the linear initialisation.
    peak = 1e-4
    train(args.work / "autoencoder.pt", for_minutes(args.minutes), cosine(peak), {"model": model}, optimizer, step_fn)


if __name__ == "__main__":
    main()
