"""The largest difference between tiled and untiled encoding and decoding with the embedded model.

python -m benchmarks.tiling [--side 44]
"""

from __future__ import annotations

import argparse

import torch

from pixelsmith import Compute, Method, Request, Size, generate
from pixelsmith.canvas import Array, MemorySpace
from pixelsmith.config.request import EMBEDDED
from pixelsmith.engine.codec import decode, encode
from pixelsmith.families import find_model, load_family, read_facts
from pixelsmith.families.autoencoders import autoencoder


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=44, help="latents of a tile with its context")
    args = parser.parse_args()
    size = Size(768, 512)
    # Steps and guidance do not matter; any picture of the model is suitable.
    request = Request("watercolor map of a coast", size, method=Method(steps=2, guidance_scale=1))
    picture = Array(torch.from_numpy(generate(request).pixels.copy()).permute(2, 0, 1))
    folder = find_model(EMBEDDED)
    facts = read_facts(folder, EMBEDDED)
    autoencoder.LOCAL_SIDE = args.side
    model = load_family(folder, facts, Compute(dtype="float32")).autoencoder
    whole = model.encode(picture.read(size.window).float()[None] / 127.5 - 1)[0]
    tiles, space = model.tiling.tiles(facts.latent_size(size)), MemorySpace()
    tiled = space.open("latents", tiles, facts.latent_channels)
    encode(picture, facts.latent_scale, model, tiled, lambda done, total: None)
    latents = tiled.read(tiled.size.window)
    print(f"encode: {(latents - whole).abs().max():.2e} at most, latents have a spread of {whole.std():.2f}")
    expected = ((model.decode(whole[None])[0] + 1) * 127.5).clamp(0, 255)
    found = space.open("picture", tiles.scaled(facts.latent_scale), 3)
    decode(Array(whole), model, found, lambda done, total: None)
    print(f"decode: {(found.read(size.window) - expected).abs().max():.2e} of 255 at most")


if __name__ == "__main__":
    main()
