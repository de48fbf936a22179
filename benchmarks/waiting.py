"""How much of its time does a device wait for the host? Measured without one.

    python -m benchmarks.waiting [--side 4096] [--batch-ms 200] [--steps 4] [--executor threaded] [--work FOLDER]

The device is one that sleeps: a batch of patches takes it so long, and a tile of the autoencoder so long. All else is
real: mosaics on disk with their checksums, keyed noise, the enlarged picture, the overview, the picture file. The
guide is merged as ``residual`` does it, which reads as much as the others do and computes next to nothing, for that
is the device's work. A batch of 200 ms is that of a model like SDXL (patches of 128 latents); shorter ones than 100 ms
are those of a small model (patches of 32).
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from pixelsmith import Method, PhaseFinished, Request, Size
from pixelsmith.canvas import DiskSpace
from pixelsmith.config.model_facts import ModelFacts
from pixelsmith.config.recommended import Perturbation
from pixelsmith.engine import Serial, Threaded
from pixelsmith.engine.stage import Cascade
from pixelsmith.events import Event
from pixelsmith.families import Prompt, PromptAt
from pixelsmith.geometry import Window
from pixelsmith.pixels.files import write_picture
from pixelsmith.planning.planner import make_plan
from pixelsmith.sampling.grid import TileLayout
from pixelsmith.sampling.guidance import Denoiser
from pixelsmith.sampling.noise import Noise, NoiseField
from pixelsmith.sampling.readable import Readable
from pixelsmith.sampling.schedule import Level, Schedule

CHANNELS, SCALE, BATCH = 4, 8, 8
ENCODE_MS, DECODE_MS = 20.0, 45.0
"""Of a tile of 1024 pixels a side, as a large GPU takes."""
PHASES = ("encode", "denoise", "decode", "write")


@dataclass
class Device:
    """A device that sleeps. ``busy``: seconds that it was at work."""

    busy: float = 0.0

    @contextmanager
    def work(self, milliseconds: float) -> Iterator[None]:
        """What is computed within takes so long, whatever else it takes."""
        began = time.perf_counter()
        yield
        time.sleep(max(0.0, milliseconds / 1e3 - (time.perf_counter() - began)))
        self.busy += time.perf_counter() - began


@dataclass(frozen=True)
class SleepingAutoencoder:
    """Means of pixels as latents, and back."""

    sleeper: Device
    tiling: TileLayout = field(default_factory=lambda: TileLayout(128, 16, 16))

    def encode(self, pixels: Tensor) -> Tensor:
        with self.sleeper.work(ENCODE_MS):
            means = avg_pool2d(pixels, SCALE)
            return torch.cat([means, means[:, :1]], dim=1)

    def decode(self, latents: Tensor, kept: Window | None = None) -> Tensor:
        with self.sleeper.work(DECODE_MS):
            return interpolate(latents[:, :3], scale_factor=SCALE)

    def steady_encoding(self, samples: Iterable[Tensor]) -> AbstractContextManager[None]:
        return nullcontext()

    def steady_decoding(self, samples: Iterable[Tensor]) -> AbstractContextManager[None]:
        return nullcontext()


@dataclass(frozen=True)
class SleepingFamily:
    """A model of native ``patch`` latents a side that takes ``batch_ms`` for any number of patches."""

    sleeper: Device
    patch: int
    batch_ms: float
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def autoencoder(self) -> SleepingAutoencoder:
        return SleepingAutoencoder(self.sleeper)

    @property
    def texture(self) -> None:
        return None

    @property
    def facts(self) -> ModelFacts:
        native, tiling = Size(self.patch * SCALE, self.patch * SCALE), self.autoencoder.tiling
        return ModelFacts("sleeping", "none", native, SCALE, CHANNELS, 1, 1000, tiling, 0, stock_seeds=False)

    def schedule(self, steps: int) -> Schedule:
        return Schedule(
            tuple(Level(i / steps, 1 - i / steps, 1000 * (1 - i / steps), i / steps) for i in range(steps + 1))
        )

    def unread(self, prompt: str) -> str:
        return ""

    def encode(self, prompt: str, negative_prompt: str, weighted: bool = False) -> tuple[Prompt, Prompt]:
        return {}, {}

    def base_noise(self, seed: int, canvas: Size) -> Noise:
        return NoiseField(seed, 0, CHANNELS)

    def refuses(self, picture: Readable) -> bool:
        return False

    def denoiser(
        self, prompt_at: PromptAt, picture: Size, guidance_scale: float, perturbation: Perturbation | None = None
    ) -> Denoiser:
        def denoise(x: Tensor, level: Level, windows: Sequence[Window]) -> Tensor:
            with self.sleeper.work(self.batch_ms):
                return 0.5 * x

        return denoise


@dataclass
class Shares:
    """An observer of the last stage: seconds of each phase, and those in which the device was at work."""

    sleeper: Device
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    busy: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    _before: float = 0.0

    def __call__(self, event: Event) -> None:
        if isinstance(event, PhaseFinished):
            if event.stage == 1:
                self.seconds[event.phase] += event.seconds
                self.busy[event.phase] += self.sleeper.busy - self._before
            self._before = self.sleeper.busy

    def waits(self, phases: Sequence[str]) -> float:
        """The share of the time of some phases in which the device waits."""
        return 1 - sum(self.busy[name] for name in phases) / sum(self.seconds[name] for name in phases)


@torch.inference_mode()
def measured(side: int, batch_ms: float, steps: int, threaded: bool, work: Path) -> Shares:
    """A stage of ``side`` pixels above the native size, in a run directory, and its file."""
    sleeper = Device()
    family = SleepingFamily(sleeper, 128 if batch_ms >= 100 else 32, batch_ms)
    method = Method(steps=steps, merge="residual", guidance_scale=1.0, slider=0.9, sampler="ddim")
    request = Request("x", Size(side, side), cascade=(Size(side, side),), method=method).settled(
        family.facts.recommended
    )
    request = Request.from_dict({**request.to_dict(), "compute": {"batch_size": BATCH, "device": "cpu"}})
    shares = Shares(sleeper)
    with Threaded() if threaded else nullcontext(Serial()) as executor:
        space = DiskSpace(work / "run")
        plan = make_plan(request, family.facts)
        cascade = Cascade.of(request, family, plan, shares, space, executor=executor)
        picture = cascade.stage(1, cascade.base(family.facts.native_size), request.size).picture
    began = time.perf_counter()
    write_picture(picture, work / "picture.tif", {})
    shares.seconds["write"] = time.perf_counter() - began
    space.close()
    return shares


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=4096)
    parser.add_argument("--batch-ms", type=float, default=200.0)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--executor", choices=["serial", "threaded"], default="threaded")
    parser.add_argument("--work", type=Path, help="where there is room for the run")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(dir=args.work) as folder:
        shares = measured(args.side, args.batch_ms, args.steps, args.executor == "threaded", Path(folder))
    print(f"{args.side} pixels a side, {args.batch_ms:g} ms a batch, {args.steps} steps, {args.executor}")
    for name in PHASES:
        print(f"{name:8s} {shares.seconds[name]:7.2f} s, the device waits {shares.waits([name]):6.1%}")
    print(f"{'all':8s} {sum(shares.seconds.values()):7.2f} s, the device waits {shares.waits(PHASES):6.1%}")


if __name__ == "__main__":
    main()
