import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812

from training.autoencoder import LATENT_CHANNELS, build_autoencoder
from training.linear import start_linear


def test_the_autoencoder_is_initialised_with_principal_components_of_blocks() -> None:
    generator = torch.Generator().manual_seed(0)
    rough, fine = (torch.randn(12, 3, side, side, generator=generator) for side in (16, 128))
    pixels = (0.4 * F.interpolate(rough, (128, 128), mode="bicubic") + 0.05 * fine).clamp(-1, 1)
    model = build_autoencoder()
    start_linear(model, pixels)
    with torch.inference_mode():
        latents = model.encode(pixels).latent
        found = model.decode(latents).sample
    # Independent: the best approximation of that rank of all blocks, pixels in any order.
    blocks = pixels.unfold(2, 8, 8).unfold(3, 8, 8).permute(0, 2, 3, 1, 4, 5).reshape(-1, 192).double().numpy()
    values = np.linalg.svd(blocks - blocks.mean(0), compute_uv=False)
    best = (values[LATENT_CHANNELS:] ** 2).sum() / blocks.size
    error = (found - pixels).square().mean().item()
    assert 0.999 * best < error < 1.05 * best
    assert abs(latents.square().mean().sqrt().item() - 1) < 0.1
