"""Compare with other methods for large pictures, with the same network and steps: seconds, calls, memory, limits.

    python -m benchmarks.peers [--sides 512,1024,2048,4096,8192] [--steps 4] [--output docs/results/peers.json]

- ``pixelsmith``: this package, from a base picture through its own cascade.
- ``panorama``: MultiDiffusion, diffusers' ``StableDiffusionPanoramaPipeline`` at the size of the picture, with windows
  of the model's own size, a quarter of it apart.
- ``tiles``: image-to-image tile by tile, as in the upscaler scripts of user interfaces: the base picture is enlarged
  (Lanczos), tiles of the model's native size that overlap by a quarter are processed with diffusers'
  ``StableDiffusionImg2ImgPipeline`` at strength 0.5 and blended with linear ramps.
- ``whole``: ``StableDiffusionPipeline`` at the size of the picture: the network computes the whole canvas at once.

All use the embedded model in bfloat16, without classifier-free guidance at the large size, so a call is one patch of
the model's native size; a larger canvas counts by its area. Each runs in a separate process until the pixels are
finished, without writing a file. Seconds are wall-clock time and processor time, which other programs affect less.
Before each run its seconds are estimated from smaller sizes: calls by the seconds of a call, and the rest by the area.
A run that would take longer than ``--limit`` seconds of processor time, or more memory than ``--memory``, is not made,
and its row says ``counted``. For ``whole``, whose attention grows faster than the area, these seconds are a lower
bound.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import torch
from numpy.typing import NDArray

from pixelsmith import Compute, Method, Request, Size, generate, load
from pixelsmith.api.loaded import LoadedModel
from pixelsmith.config.parts import Parts
from pixelsmith.config.request import EMBEDDED
from pixelsmith.families import find_model
from pixelsmith.families.architecture import network_of
from pixelsmith.families.loading.quiet import quiet

PROMPT = "satellite photo of coast, green forest and blue sea"
NATIVE = 256
"""The native side of the embedded model in pixels."""
LATENT = 8
VIEWS = 8
"""The batch size of the panorama pipeline."""


@dataclass(frozen=True)
class Row:
    """One picture. ``how``: measured, counted, or the error; ``network_seconds``: the time within the network."""

    peer: str
    side: int
    steps: int
    how: str
    seconds: float
    processor_seconds: float
    network_seconds: float
    calls: float
    peak_mb: float


class Calls:
    """Counts the calls of a network, in patches of its native size, and their processor time."""

    def __init__(self, network: Any) -> None:
        self.count = self.seconds = 0.0
        forward = network.forward

        def counted(sample: torch.Tensor, *rest: Any, **named: Any) -> Any:
            began = time.process_time()
            try:
                return forward(sample, *rest, **named)
            finally:
                self.seconds += time.process_time() - began
                self.count += sample.shape[0] * sample.shape[-1] * sample.shape[-2] / (NATIVE // LATENT) ** 2

        network.forward = counted


def base_picture(side: int, steps: int) -> NDArray[np.uint8]:
    """The base picture, from which enlarging methods start."""
    return generate(Request(PROMPT, Size(NATIVE, NATIVE), compute=Compute("cpu", "bfloat16"))).pixels


def pixelsmith(side: int, steps: int, work: Path) -> Calls:
    with load(compute=Compute("cpu", "bfloat16")) as model:
        calls = Calls(network_of(model.load().pipeline))  # type: ignore[attr-defined]
        model.generate(model.request(PROMPT, Size(side, side), method=_method(steps)), run_dir=work / "run")
        return calls


def _of_diffusers(kind: str) -> tuple[Any, Calls]:
    import diffusers

    with quiet():
        pipeline = getattr(diffusers, kind).from_pretrained(find_model(EMBEDDED), dtype=torch.bfloat16)
    pipeline.set_progress_bar_config(disable=True)
    # These pipelines expect an autoencoder with a slightly different interface.
    encode, decode = pipeline.vae.encode, pipeline.vae.decode
    pipeline.vae.encode = lambda pixels: SimpleNamespace(latents=encode(pixels).latent)
    pipeline.vae.decode = lambda latents, generator=None, **named: decode(latents, **named)
    return pipeline, Calls(pipeline.unet)


def panorama(side: int, steps: int, work: Path) -> Calls:
    pipeline, calls = _of_diffusers("StableDiffusionPanoramaPipeline")
    views, window = pipeline.get_views, NATIVE // LATENT

    def own(height: int, width: int, circular_padding: bool = False) -> Any:
        return views(height, width, window_size=window, stride=window // 4, circular_padding=circular_padding)

    pipeline.get_views = own
    pipeline(PROMPT, side, side, num_inference_steps=steps, guidance_scale=1.0, view_batch_size=VIEWS, output_type="np")
    return calls


def tiles(side: int, steps: int, work: Path) -> Calls:
    from PIL import Image

    pipeline, calls = _of_diffusers("StableDiffusionImg2ImgPipeline")
    large = np.asarray(Image.fromarray(base_picture(side, steps)).resize((side, side), Image.Resampling.LANCZOS))
    mean, weight = np.zeros((side, side, 3), np.float32), np.zeros((side, side, 1), np.float32)
    overlap = NATIVE // 4
    starts = [*range(0, side - NATIVE, NATIVE - overlap), side - NATIVE]
    ramp = np.minimum(1, (np.arange(NATIVE) + 1) / overlap)
    ramp = np.minimum(ramp, ramp[::-1])
    feather = (ramp[:, None] * ramp).astype(np.float32)[..., None]
    for top in starts:
        for left in starts:
            place = np.s_[top : top + NATIVE, left : left + NATIVE]
            made = pipeline(
                PROMPT,
                Image.fromarray(large[place]),
                strength=0.5,
                num_inference_steps=2 * steps,
                guidance_scale=1.0,
                output_type="np",
            ).images[0]
            mean[place] += feather * made
            weight[place] += feather
    np.round(255 * mean / weight)
    return calls


def whole(side: int, steps: int, work: Path) -> Calls:
    pipeline, calls = _of_diffusers("StableDiffusionPipeline")
    pipeline(PROMPT, side, side, num_inference_steps=steps, guidance_scale=1.0, output_type="np")
    return calls


PEERS: dict[str, Callable[[int, int, Path], Calls]] = {
    "pixelsmith": pixelsmith,
    "panorama": panorama,
    "tiles": tiles,
    "whole": whole,
}


def one(peer: str, side: int, steps: int) -> Row:
    """Make a picture in this process, including loading the model."""
    began, processor = time.perf_counter(), time.process_time()
    with tempfile.TemporaryDirectory() as work:
        calls = PEERS[peer](side, steps, Path(work))
    seconds, used = time.perf_counter() - began, time.process_time() - processor
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    return Row(peer, side, steps, "measured", seconds, used, calls.seconds, calls.count, peak)


def calls_at_least(peer: str, side: int, steps: int) -> float:
    """The number of patches that the network computes, without those of a base picture."""
    window = NATIVE // LATENT
    if peer == "whole":
        return steps * (side / NATIVE) ** 2
    if peer == "panorama":
        return steps * float((side // LATENT - window) // (window // 4) + 1) ** 2
    if peer == "tiles":
        return steps * len([*range(0, side - NATIVE, NATIVE - NATIVE // 4), side - NATIVE]) ** 2
    model = LoadedModel(EMBEDDED, Parts(), Compute("cpu", "bfloat16"))
    return model.plan(model.request(PROMPT, Size(side, side), method=_method(steps))).model_calls


def _method(steps: int) -> Method:
    """The method of the fast preset with this number of steps."""
    return Method(stage_steps=steps, start=0.75, stage_guidance_scale=1.0)


def counted(before: Row, side: int, earlier: Row | None = None) -> Row:
    """An estimated row of another size: calls by their seconds, everything else by the area.

    The time outside the network grows as from the ``earlier`` row to this one; without one, in proportion to the area.
    """
    more = calls_at_least(before.peer, side, before.steps) - calls_at_least(before.peer, before.side, before.steps)
    calls = before.calls + more
    network = before.network_seconds * calls / before.calls

    def grown(of: Callable[[Row], float]) -> float:
        least, area = (0.0, 0) if earlier is None else (of(earlier), earlier.side**2)
        return of(before) + (of(before) - least) / (before.side**2 - area) * (side**2 - before.side**2)

    used = network + grown(lambda row: row.processor_seconds - row.network_seconds)
    # With a run directory memory does not grow, as benchmarks.scaling measures up to 16384 pixels a side.
    memory = before.peak_mb if before.peer == "pixelsmith" else grown(lambda row: row.peak_mb)
    seconds = before.seconds * used / before.processor_seconds
    return replace(
        before,
        side=side,
        how="counted",
        seconds=seconds,
        processor_seconds=used,
        network_seconds=network,
        calls=calls,
        peak_mb=memory,
    )


def measured(peer: str, side: int, steps: int, limit: float, most_mb: float) -> Row | None:
    """Run one in a separate process; ``None`` if it failed or exceeded a limit."""
    command = [sys.executable, "-m", "benchmarks.peers", "--one", peer, "--sides", str(side), "--steps", str(steps)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    watched = psutil.Process(process.pid)
    while process.poll() is None:
        time.sleep(0.25)
        try:
            resident, used = watched.memory_info().rss / 1e6, sum(watched.cpu_times()[:2])
        except (psutil.Error, OSError):
            continue
        if used > limit or resident > most_mb:
            process.kill()
    lines = process.communicate()[0].splitlines()
    return Row(**json.loads(lines[-1])) if process.returncode == 0 and lines else None


def table(rows: Sequence[Row]) -> str:
    """Rows as Markdown."""
    lines = ["| side | method | model calls | seconds | of the processor | peak MB | |", "| --- " * 7 + "|"]
    for row in sorted(rows, key=lambda row: (row.side, list(PEERS).index(row.peer))):
        least = "at least " if row.peer == "whole" and row.how != "measured" else ""
        # On a machine with other load, wall-clock time cannot be extrapolated.
        seconds = f"{row.seconds:,.0f}" if row.how == "measured" else ""
        lines.append(
            f"| {row.side}² | {row.peer} | {row.calls:,.0f} | {seconds} | {least}{row.processor_seconds:,.0f} | "
            f"{row.peak_mb:,.0f} | {row.how} |"
        )
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sides", default="512,1024,2048,4096,8192")
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--limit", type=float, default=360.0, help="processor seconds of one picture")
    parser.add_argument("--memory", type=float, default=8000.0, help="MB of one picture")
    parser.add_argument("--output", type=Path, help="a JSON file of all rows")
    parser.add_argument("--one", choices=list(PEERS), help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    sides = [int(side) for side in args.sides.split(",")]
    if args.one:
        print(json.dumps(asdict(one(args.one, sides[0], args.steps))))
        return
    rows: list[Row] = []
    for side in sides:
        for peer in PEERS:
            earlier, before = [None, None, *(row for row in rows if row.peer == peer and row.how == "measured")][-2:]
            guess = before and counted(before, side, earlier)
            if guess and (guess.processor_seconds > args.limit or guess.peak_mb > args.memory):
                what = "memory" if guess.peak_mb > args.memory else "time"
                rows.append(replace(guess, how=f"counted: not run, over the limit of {what}"))
            elif made := measured(peer, side, args.steps, args.limit, args.memory):
                rows.append(made)
            elif guess:
                rows.append(replace(guess, how="counted: it was run and ended at a limit"))
            print(rows[-1], flush=True)
            if args.output:
                args.output.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    print(table(rows))


if __name__ == "__main__":
    main()
