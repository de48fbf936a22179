"""Latents that the model itself makes: ``work/sampled.npy`` (n, c, 32, 32) float16, at the autoencoder's scale.

python -m training.sampled --work training/work --prompts 64

A decoder that knew encoded pictures alone would do what it likes to these, which are smoother here and rougher there.
Each prompt, the caption of a training picture, is made as ``pixelsmith generate --preset fast`` makes it at four times
the native size; of all that is decoded on the way cut-outs are kept.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pixelsmith import PRESETS, Compute, Parts, Request
from pixelsmith.canvas import MemorySpace
from pixelsmith.engine.stage import Cascade
from pixelsmith.events import silent
from pixelsmith.families import find_model, load_family, read_facts
from pixelsmith.families.architecture import DiffusersFamily
from pixelsmith.planning.planner import make_plan
from training.data import load_records
from training.loop import balanced_weights, flush_denormals

SIDE = 32
"""Of a cut-out, in latents."""
OF_EACH_TILE = 4
"""Cut-outs of what is decoded at once."""
FACTOR = 4


@torch.inference_mode()
def decoded_latents(family: DiffusersFamily, prompt: str, seed: int) -> list[Tensor]:
    """All tiles (c, h, w) that are decoded on the way to one picture, at the autoencoder's scale."""
    size, heard = family.facts.native_size.scaled(FACTOR), list[Tensor]()
    request = Request(prompt, size, seed=seed, method=PRESETS["fast"])
    the_plan = make_plan(request, family.facts)
    hook = family.pipeline.vae.decoder.register_forward_pre_hook(lambda _, inputs: heard.extend(inputs[0].float()))
    try:
        cascade = Cascade.of(request, family, the_plan, silent, MemorySpace())
        rung = cascade.base(family.facts.native_size)
        for number, stage in enumerate(the_plan.stages, start=1):
            rung = cascade.stage(number, rung, stage.size)
    finally:
        hook.remove()
    return heard


def cut_outs(tiles: list[Tensor], rng: np.random.Generator) -> Iterator[NDArray[np.float16]]:
    """Squares (c, SIDE, SIDE) of tiles; of one that is no larger the whole."""
    for tile in tiles:
        height, width = tile.shape[-2:]
        for _ in range(OF_EACH_TILE if min(height, width) > SIDE else 1):
            top, left = rng.integers(0, height - SIDE + 1), rng.integers(0, width - SIDE + 1)
            yield tile[:, top : top + SIDE, left : left + SIDE].numpy().astype(np.float16)


def main() -> None:
    flush_denormals()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("training/work"), help="where the pictures are")
    parser.add_argument("--output", type=Path, default=Path("training/work/sampled.npy"))
    parser.add_argument("--model", default="src/pixelsmith/embedded/model")
    parser.add_argument("--prompts", type=int, default=64)
    args = parser.parse_args()
    place, parts, records = find_model(args.model), Parts(few_steps=True), load_records(args.work)
    family = load_family(place, read_facts(place, args.model, parts), Compute(), parts)
    if not isinstance(family, DiffusersFamily):
        raise TypeError(f"{args.model}: expected a diffusers pipeline")
    rng, found = np.random.default_rng(5), list[NDArray[np.float16]]()
    chosen = rng.choice(len(records), size=args.prompts, p=balanced_weights(records))
    for seed, i in enumerate(chosen):
        found += cut_outs(decoded_latents(family, records[i].caption, seed), rng)
        if seed % 8 == 7:
            np.save(args.output, np.stack(found))
            print(f"{seed + 1} of {args.prompts} prompts, {len(found)} cut-outs", flush=True)
    np.save(args.output, np.stack(found))


if __name__ == "__main__":
    main()
