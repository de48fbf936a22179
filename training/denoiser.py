"""Train the denoiser and its text encoder on the latents: v-prediction, zero terminal SNR, captions dropped in a tenth.

    python -m training.denoiser --work training/work --minutes 100 --init src/pixelsmith/embedded/model

On a GPU, where half an hour is worth a day of two cores: ``--device cuda --batch 256``.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

import numpy as np
import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from training.data import load_records, paraphrase
from training.loop import Losses, balanced_weights, flush_denormals, for_minutes, half_precision, train
from training.text import TOKENS, WIDTH, build_text_encoder, build_tokenizer, take_tokenizer

STYLE_SHARES = {"satellite": 0.55, "watercolor": 0.25, "night": 0.14, "landscape": 0.06}
EMPHASIS = {
    "green forested mountains": 4.0,
    "with lakes": 1.5,
    "with roads": 1.5,
    "brown steppe plains": 1.5,
    "deep ocean": 2.5,
    "green forest and blue sea": 1.5,
}
"""Captions with these words are drawn more often, what the model did worst after the first hours."""
DROP_CAPTION = 0.1
TIMESTEPS = 1000
EMA = 0.999


def build_denoiser(latent_channels: int) -> UNet2DConditionModel:
    """A U-Net of three levels with cross-attention on the two lower ones."""
    return UNet2DConditionModel(
        sample_size=32,
        in_channels=latent_channels,
        out_channels=latent_channels,
        layers_per_block=1,
        block_out_channels=(80, 160, 224),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=WIDTH,
        attention_head_dim=4,
        norm_num_groups=16,
    )


def noise_levels() -> NDArray[np.float64]:
    """ᾱ (1000,) of a schedule whose σ/α is u/(1−u)² at the share u of its timesteps, pure noise at the last one.

    The means of whole pictures spread seventy times as far as single latents, so what tone a picture has is decided
    where the noise is a hundred times the signal. The cosine schedule passes all of that in its first of twenty steps,
    after which every picture of a caption has the same tone.
    """
    u = np.arange(1, TIMESTEPS + 1) / TIMESTEPS
    signal, noise = (1 - u) ** 2, u
    return np.asarray(signal**2 / (signal**2 + noise**2))


def build_scheduler() -> DDIMScheduler:
    """The schedule of ``noise_levels``, with the settings that v-prediction needs at sampling time."""
    levels = noise_levels()
    return DDIMScheduler(
        num_train_timesteps=TIMESTEPS,
        trained_betas=(1 - levels / np.concatenate([[1.0], levels[:-1]])).tolist(),
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        steps_offset=1,
        prediction_type="v_prediction",
        clip_sample=False,
        set_alpha_to_one=True,
    )


def start_from(model: nn.ModuleDict, folder: Path) -> None:
    """Take over every weight of an exported model that has the same name and shape here."""
    for name, part in model.items():
        weights = part.state_dict()
        (file,) = (folder / name).glob("*.safetensors")
        found = {key: value for key, value in load_file(file).items() if weights[key].shape == value.shape}
        part.load_state_dict(weights | found)
        print(f"{name}: {len(found)} of {len(weights)} tensors taken over", flush=True)
    before = DDIMScheduler.from_pretrained(folder / "scheduler").alphas_cumprod
    retime(model["unet"], before.double().numpy(), noise_levels())


@torch.no_grad()
def retime(unet: UNet2DConditionModel, before: NDArray[np.float64], now: NDArray[np.float64]) -> None:
    """Refit how timesteps are embedded to another schedule, so that a level is told as it was in the one before.

    Both are ᾱ (1000,). Least squares on the first layer, a linear one.
    """
    if np.allclose(before, now, atol=1e-6):
        return
    log_snr = [np.log(levels.clip(1e-20) / (1 - levels)) for levels in (before, now)]
    timesteps = np.arange(len(now), dtype=np.float64)
    same = np.interp(-log_snr[1], -log_snr[0], timesteps)
    layer = unet.time_embedding.linear_1
    seen, meant = (unet.time_proj(torch.from_numpy(t)).double() for t in (timesteps, same))
    seen = torch.cat([seen, torch.ones(len(seen), 1, dtype=torch.double)], dim=1)
    told = meant @ layer.weight.double().T + layer.bias.double()
    # A ridge: what no timestep needs stays small.
    square = seen.T @ seen + torch.eye(seen.shape[1], dtype=torch.double)
    fitted = torch.linalg.solve(square, seen.T @ told)
    layer.weight.copy_(fitted[:-1].T)
    layer.bias.copy_(fitted[-1])


class Batches:
    """Random draws from the latents, each with its caption said in other words, or with none."""

    def __init__(self, work: Path, device: torch.device, init: Path | None = None) -> None:
        self._records, self._device = load_records(work), device
        self._latents = np.load(work / "latents.npy", mmap_mode="r")
        self.latent_channels = self._latents.shape[1]
        self._scaling_factor = json.loads((work / "latents.json").read_text())["scaling_factor"]
        self._weights = balanced_weights(self._records, STYLE_SHARES, EMPHASIS)
        captions = [record.caption for record in self._records]
        self.tokenizer = take_tokenizer(init, work) if init else build_tokenizer(captions, work)

    def draw(self, rng: np.random.Generator, side: int, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Crops (count, c, side, side) at the denoiser's scale, and their captions' tokens (count, 32)."""
        words = random.Random(int(rng.integers(2**32)))
        crops, captions = [], []
        for i in rng.choice(len(self._records), size=count, p=self._weights):
            top, left = rng.integers(0, 33 - side, size=2)
            crops.append(self._latents[i, :, top : top + side, left : left + side])
            captions.append("" if words.random() < DROP_CAPTION else paraphrase(self._records[i].caption, words))
        ids = self.tokenizer(captions, padding="max_length", max_length=TOKENS, truncation=True, return_tensors="pt")
        z = torch.from_numpy(np.stack(crops)).to(self._device).float().contiguous(memory_format=torch.channels_last)
        return z * self._scaling_factor, ids.input_ids.to(self._device)


def train_denoiser(
    work: Path, minutes: float, init: Path | None, peak: float, crops: float, device: torch.device, size: int
) -> None:
    """``crops``: the share of the training on crops of 16x16, of which a batch has three times ``size``."""
    torch.manual_seed(0)
    batches = Batches(work, device, init)
    unet, text_encoder = build_denoiser(batches.latent_channels), build_text_encoder(batches.tokenizer)
    model = nn.ModuleDict({"unet": unet, "text_encoder": text_encoder})
    if init:
        start_from(model, init)
    model.to(device)["unet"].to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    ema = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(EMA))  # type: ignore[no-untyped-call]
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.98), weight_decay=1e-3, fused=True)
    alphas_cumprod = build_scheduler().alphas_cumprod.to(device)
    generator = torch.Generator(device)

    def step_fn(step: int, progress: float) -> Losses:
        rng = np.random.default_rng((2, step))
        if step > 0:
            ema.update_parameters(model)
        z, ids = batches.draw(rng, 16, 3 * size) if progress < crops else batches.draw(rng, 32, size)
        noise = torch.randn(z.shape, generator=generator.manual_seed(step), device=device)
        # Evenly over each batch: losses of different levels differ more than those of different pictures.
        share = (rng.permutation(len(z)) + rng.random(len(z))) / len(z)
        timestep = torch.from_numpy((share * TIMESTEPS).astype(np.int64)).to(device)
        alpha = alphas_cumprod[timestep].sqrt().view(-1, 1, 1, 1)
        sigma = (1 - alphas_cumprod[timestep]).sqrt().view(-1, 1, 1, 1)
        with half_precision(device):
            context = model["text_encoder"](ids).last_hidden_state
            v = model["unet"](alpha * z + sigma * noise, timestep, context, return_dict=False)[0]
        loss = (v.float() - (alpha * noise - sigma * z)).square().mean()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        return {"loss": loss.item()}

    train("denoiser", work, for_minutes(minutes), peak, {"model": model, "ema": ema}, optimizer, step_fn)


def main() -> None:
    flush_denormals()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("training/work"))
    parser.add_argument("--minutes", type=float, default=80)
    parser.add_argument("--init", type=Path, help="an exported model to start from")
    parser.add_argument("--peak", type=float, default=1e-3, help="the highest learning rate")
    parser.add_argument(
        "--crops", type=float, default=0.5,
        help="the share of the training, at its begin, that sees 16x16 crops of the latents: a quarter of the work",
    )  # fmt: skip
    parser.add_argument("--device", default="cpu", help="where the network computes, in bfloat16 if it can")
    parser.add_argument("--batch", type=int, default=10, help="pictures a step; of crops three times as many")
    args = parser.parse_args()
    device = torch.device(args.device)
    train_denoiser(args.work, args.minutes, args.init, args.peak, args.crops, device, args.batch)


if __name__ == "__main__":
    main()
