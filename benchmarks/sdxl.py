"""Benchmark SDXL's architecture at full size with random weights, on which speed and memory do not depend.

python -m benchmarks.sdxl                       # on a GPU: 1024 -> 2048 -> 4096 -> 8192, after the published seconds
python -m benchmarks.sdxl --compile             # the same, with compiled rows beside the eager ones
python -m benchmarks.sdxl --one-patch           # one call of the network in bf16, on the CPU if there is no GPU
python -m benchmarks.sdxl --tiny --device cpu   # the same program, shrunk: shows that it works

Every stage of every cascade is a row, which is printed as soon as it is timed. A few steps of each stage are run
(``--sample``), and the time of its denoising is extrapolated by the number of patches, marked with a tilde.
benchmarks/README.md lists what to run first on a GPU.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from itertools import product
from pathlib import Path

import torch

from benchmarks.sdxl_model import build, prompts
from pixelsmith import PRESETS, Compute, Method, Request, Size
from pixelsmith.canvas import MemorySpace
from pixelsmith.config.plans import StagePlan
from pixelsmith.config.recommended import Recommended
from pixelsmith.engine.prompts import PromptEncoder
from pixelsmith.engine.stage import Cascade
from pixelsmith.events import Event, PhaseFinished, Warned
from pixelsmith.families import choose_device, everywhere
from pixelsmith.families.architecture import DiffusersFamily
from pixelsmith.families.loading.quiet import quiet
from pixelsmith.planning.planner import make_plan

PUBLISHED = {
    "SDXL direct": {2: 71, 4: 515},
    "ScaleCrafter": {2: 80, 4: 1257},
    "DemoFusion": {2: 219, 4: 1632},
    "HiDiffusion": {2: 50, 4: 255},
    "FouriScale": {2: 162},
    "AccDiffusion": {2: 231, 4: 1710},
    "Pixelsmith (the paper's code)": {2: 130, 4: 549},
}
"""Seconds for 2048² and 4096², by factor: RTX 3090, SDXL, 50 steps (arXiv 2406.07251, table 1)."""
DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}


@dataclass(frozen=True)
class Setting:
    """The settings of a timed cascade. ``autoencoder``: the dtype."""

    preset: str
    batch_size: int
    compiled: bool
    autoencoder: str


@dataclass(frozen=True)
class Timed:
    """A timed stage: seconds of its phases, and the sum from the base; ``guessed``: whether the sum is extrapolated.

    ``patches_per_second``: patches per second and step; with guidance the network is called twice for each.
    """

    size: str
    steps: int
    steps_run: int
    encode: float
    denoise: float
    decode: float
    so_far: float
    guessed: bool
    patches_per_second: float
    peak_gb: float


class TimeUp(Exception):  # noqa: N818 (it ends the benchmark, as it should)
    """The budget is over."""


@dataclass
class Stopwatch:
    """An observer: seconds by stage and phase. Raises ``TimeUp`` after the deadline."""

    deadline: float
    seconds: dict[tuple[int, str], float] = field(default_factory=lambda: defaultdict(float))

    def __call__(self, event: Event) -> None:
        if time.monotonic() > self.deadline:
            raise TimeUp
        if isinstance(event, PhaseFinished):
            self.seconds[event.stage, event.phase] += event.seconds
        if isinstance(event, Warned):
            print(event.message, file=sys.stderr, flush=True)


@torch.inference_mode()
def one_patch(family: DiffusersFamily) -> tuple[float, bool]:
    """Seconds of a call for one patch in the middle of a picture of 4096², and whether the output is finite."""
    patch, level = family.facts.patch, family.schedule(20).levels[10]
    denoiser = family.denoiser(everywhere(prompts(family)[0]), Size(4096, 4096), 5.0)
    x = torch.randn(1, family.facts.latent_channels, patch.height, patch.width, device=family.device)
    began = time.perf_counter()
    found = denoiser(x, level, [patch.window]).cpu()
    return time.perf_counter() - began, bool(found.isfinite().all())


@dataclass(frozen=True)
class Bench:
    """A family, the stages as multiples of its native size, the largest number of steps to run, and the deadline."""

    family: DiffusersFamily
    factors: Sequence[int]
    sample: int
    deadline: float = math.inf

    def measure(self, setting: Setting, method: Method, report: Callable[[Timed], None]) -> None:
        """Report each stage of a cascade once it is timed, after a warm-up cascade with the same shapes.

        The warm-up chooses kernels and compiles graphs. Raises ``TimeUp``.
        """
        with quiet():
            self.family.pipeline.vae.to(DTYPES[setting.autoencoder])
        with nullcontext() if setting.compiled else torch.compiler.set_stance("force_eager"):
            replace(self, factors=self.factors[:1], sample=1)._climb(setting, method, lambda timed: None)
            self._climb(setting, method, report)

    @torch.inference_mode()
    def _climb(self, setting: Setting, method: Method, report: Callable[[Timed], None]) -> None:
        facts, watch, below = self.family.facts, Stopwatch(self.deadline), None
        sizes = tuple(facts.native_size.scaled(factor) for factor in self.factors)
        compute = Compute(batch_size=setting.batch_size, compile=setting.compiled)
        request = Request("x", sizes[-1], cascade=sizes, method=method, compute=compute)
        shorter = replace(request, method=shortened(method, facts.recommended, self.sample))
        cascade = self._cascade(shorter, watch)
        timed = None
        for stage, (whole, run) in enumerate(zip(self._rungs(request), self._rungs(shorter), strict=True)):
            _forget_peak(self.family.device)
            below = cascade.base(run.size) if below is None else cascade.stage(stage, below, run.size)
            seconds = [watch.seconds[stage, phase] for phase in ("encode", "denoise", "decode")]
            timed = extrapolated(whole, run, seconds, timed, _peak_gb(self.family.device))
            report(timed)

    def _rungs(self, request: Request) -> list[StagePlan]:
        plan = make_plan(request, self.family.facts)
        return [rung for rung in (plan.base, *plan.stages) if rung]

    def _cascade(self, request: Request, watch: Stopwatch) -> Cascade:
        family = self.family
        stages = len(self.factors)
        methods = {rung: request.method.at(rung, family.facts.recommended, stages) for rung in range(stages + 1)}
        encoder = PromptEncoder.of(request, family)
        return Cascade(request, family, methods, encoder, prompts(family), watch, MemorySpace())


def shortened(method: Method, recommended: Recommended, most: int) -> Method:
    """The method with at most ``most`` steps in each stage."""
    base, stage = (min(most, method.at(rung, recommended).steps) for rung in (0, 1))
    return replace(method, steps=base, stage_steps=stage)


def extrapolated(
    whole: StagePlan, run: StagePlan, seconds: Sequence[float], below: Timed | None, peak_gb: float
) -> Timed:
    """Extrapolate a stage from its measured part; ``seconds``: of encoding, denoising, decoding; ``below``: the
    previous stage.
    """
    encode, denoise, decode = seconds
    rate = run.patches_per_step * run.steps / denoise
    denoise = whole.patches_per_step * whole.steps / rate
    return Timed(
        size=str(run.size),
        steps=whole.steps,
        steps_run=run.steps,
        encode=encode,
        denoise=denoise,
        decode=decode,
        so_far=(below.so_far if below else 0.0) + encode + denoise + decode,
        guessed=run.steps < whole.steps or (below is not None and below.guessed),
        patches_per_second=rate,
        peak_gb=peak_gb,
    )


def _forget_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def _peak_gb(device: torch.device) -> float:
    """The peak of allocated memory of a GPU since the last reset, or of the resident memory of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


HEADING = (
    "| preset | batch | network | autoencoder | to | steps run | encode, s | denoise, s | decode, s | from the base, s "
    "| patches/s | peak memory, GB |",
    "|" + " --- |" * 12,
)


def row(setting: Setting, timed: Timed) -> str:
    """A stage as a row of the table; a tilde marks extrapolated values."""
    cells = [
        setting.preset,
        setting.batch_size,
        "compiled" if setting.compiled else "eager",
        setting.autoencoder,
        timed.size,
        f"{timed.steps_run} of {timed.steps}",
        f"{timed.encode:.1f}",
        f"{'~' * (timed.steps_run < timed.steps)}{timed.denoise:.1f}",
        f"{timed.decode:.1f}",
        f"{'~' * timed.guessed}{timed.so_far:.1f}",
        f"{timed.patches_per_second:.2f}",
        f"{timed.peak_gb:.1f}",
    ]
    return f"| {' | '.join(map(str, cells))} |"


def published() -> Iterator[str]:
    yield "| published: RTX 3090, SDXL, 50 steps | to 2048², s | to 4096², s |"
    yield "| --- | --- | --- |"
    for name, seconds in PUBLISHED.items():
        yield f"| {name} | {seconds.get(2, '–')} | {seconds.get(4, '–')} |"


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--one-patch", action="store_true")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", choices=list(DTYPES), default="bfloat16")
    parser.add_argument("--autoencoders", nargs="+", choices=list(DTYPES), help="dtypes; float32 is upcast")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[8, 1, 2, 4])
    parser.add_argument("--compile", action="store_true", help="add rows with the network compiled")
    parser.add_argument("--presets", nargs="+", choices=list(PRESETS), default=list(PRESETS))
    parser.add_argument("--factors", type=int, nargs="+", default=[2, 4, 8], help="the stages, in native sizes")
    parser.add_argument("--sample", type=int, default=5, help="the most steps of a rung that are run")
    parser.add_argument("--budget", type=float, default=math.inf, help="seconds after which it stops")
    parser.add_argument("--output", type=Path, help="a file that a line of JSON is added to for each row")
    return parser.parse_args(argv)


def settings(args: argparse.Namespace) -> Iterator[Setting]:
    """All combinations: the presets of one batch size first, then the same compiled, then the next batch size."""
    compiled = (False, True) if args.compile else (False,)
    for dtype, batch_size, state, preset in product(
        args.autoencoders or [args.dtype], args.batch_sizes, compiled, args.presets
    ):
        yield Setting(preset, batch_size, state, dtype)


def record(output: Path | None, machine: str, setting: Setting, timed: Timed) -> None:
    """Print a row, and add it to a file of JSON lines."""
    print(row(setting, timed), flush=True)
    if output:
        with output.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"machine": machine, **asdict(setting), **asdict(timed)}) + "\n")


def main(argv: Sequence[str] | None = None) -> None:
    began, args = time.monotonic(), arguments(argv)
    device = choose_device(args.device)
    family = build(args.tiny, device, DTYPES[args.dtype])
    machine = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    size = family.facts.parameters * DTYPES[args.dtype].itemsize / 1e9
    print(f"built on {machine} in {time.monotonic() - began:.1f} s, {size:.2f} GB of weights", flush=True)
    if args.one_patch:
        seconds, finite = one_patch(family)
        print(
            f"one patch of {family.facts.native_size} in {args.dtype}: {seconds:.1f} s, {'' if finite else 'NOT '}all "
            f"finite, {_peak_gb(device):.2f} GB at the peak"
        )
        return
    print(*published(), "", *HEADING, sep="\n", flush=True)
    family.pipeline.unet.compile(dynamic=False)
    bench = Bench(family, args.factors, args.sample, began + args.budget)
    try:
        for setting in settings(args):
            method = PRESETS[setting.preset]
            # The paper's border is wider than the small patch has room for.
            method = replace(method, border=None) if args.tiny else method
            bench.measure(setting, method, partial(record, args.output, machine, setting))
    except TimeUp:
        print("the budget is over")


if __name__ == "__main__":
    main()
