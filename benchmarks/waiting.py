"""Measure the share of the time in which a device waits for the host, with a simulated device.

    python -m benchmarks.waiting [--side 4096] [--batch-ms 200] [--steps 4] [--executor threaded] [--work FOLDER]

The device has tensors without data (PyTorch's ``meta``), and a duration for a batch of patches and for a tile of the
autoencoder. As on a GPU its work is queued: calls return at once, and reading values, which are noise, waits until the
work is done. Everything else is the real work of the host: mosaics on disk with their checksums, keyed noise, the
source of upsampled pictures, the picture file. The merge is ``residual``, which reads as much as the others. A batch of
200 ms is that of a model like SDXL (patches of 128 latents); below 100 ms it is that of a small model (patches of 32).

For each phase it prints the seconds, the share in which the device waits, and the processor time of reading and writing
in the host's threads, which unlike the other two does not depend on other programs.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pixelsmith import Method, PhaseFinished, Request, Size
from pixelsmith.canvas import DiskSpace
from pixelsmith.config.model_facts import ModelFacts
from pixelsmith.config.recommended import Perturbation
from pixelsmith.engine import Executor, Serial, Threaded, Work
from pixelsmith.engine.executor import OnDone
from pixelsmith.engine.host_threads import Found
from pixelsmith.engine.stage import Cascade
from pixelsmith.events import Event
from pixelsmith.families import Prompt, PromptAt
from pixelsmith.geometry import Window
from pixelsmith.pixels.files import write_picture
from pixelsmith.planning.planner import make_plan
from pixelsmith.sampling.denoiser import Denoiser
from pixelsmith.sampling.grid import TileLayout
from pixelsmith.sampling.noise import Noise, NoiseField
from pixelsmith.sampling.readable import Readable
from pixelsmith.sampling.schedule import Level, Schedule

CHANNELS, SCALE, BATCH = 4, 8, 8
ENCODE_MS, DECODE_MS = 20.0, 45.0
"""Durations for a tile of 1024 pixels a side, as on a large GPU."""
PHASES = ("encode", "denoise", "decode", "write")


META = torch.device("meta")


@dataclass(eq=False)
class Device:
    """A device with a queue. ``busy``: the seconds of all queued work; ``free``: the time at which it will be done."""

    busy: float = 0.0
    free: float = 0.0

    def work(self, milliseconds: float) -> None:
        """Queue work of a duration."""
        self.busy += milliseconds / 1e3
        self.free = max(self.free, time.perf_counter()) + milliseconds / 1e3


class OnDevice:
    """An executor with a simulated device, whose results are noise.

    ``host``: seconds of processor time of reading and writing in the host's threads.
    """

    elsewhere = even = False

    def __init__(self, executor: Executor, sleeper: Device) -> None:
        self._executor, self._sleeper = executor, sleeper
        self.host: dict[str, float] = defaultdict(float)
        coarse = torch.randint(0, 256, (1, 3, 128, 128), dtype=torch.uint8)
        # As compressible as a picture.
        self._pixels = coarse.repeat_interleave(SCALE, 2).repeat_interleave(SCALE, 3)
        self._latents = torch.randn(1, CHANNELS, 128, 128)

    def run(self, work: Work[Any, Any], on_done: OnDone) -> None:
        done = deque[float]()

        def compute(inputs: Any) -> tuple[Tensor, ...]:
            values = work.compute(inputs)
            done.append(self._sleeper.free)
            return tuple(map(self._brought, (values,) if isinstance(values, Tensor) else values))

        def write(group: Sequence[int], values: tuple[Tensor, ...]) -> None:
            time.sleep(max(0.0, done.popleft() - time.perf_counter()))
            self._timed("write", work.write)(group, values if len(values) > 1 else values[0])

        self._executor.run(replace(work, read=self._timed("read", work.read), compute=compute, write=write), on_done)

    def ahead(self, call: Callable[[], Found]) -> Callable[[], Found]:
        return self._executor.ahead(call)

    def behind(self, call: Callable[[], Found]) -> Callable[[], Found]:
        return self._executor.behind(call)

    def _brought(self, values: Tensor) -> Tensor:
        if values.dtype == torch.bool:
            return torch.ones(values.shape, dtype=torch.bool)
        noise = self._pixels if values.dtype == torch.uint8 else self._latents
        return noise[:, : values.shape[1], : values.shape[2], : values.shape[3]].expand(values.shape)

    def _timed(self, what: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*given: Any) -> Any:
            began = time.thread_time()
            found = call(*given)
            self.host[what] += time.thread_time() - began
            return found

        return timed


@dataclass(frozen=True)
class SleepingAutoencoder:
    """An autoencoder that only takes time."""

    sleeper: Device
    tiling: TileLayout = field(default_factory=lambda: TileLayout(128, 16, 16))
    device: torch.device = META

    def encode(self, pixels: Tensor) -> Tensor:
        self.sleeper.work(ENCODE_MS)
        return pixels.new_empty(len(pixels), CHANNELS, pixels.shape[2] // SCALE, pixels.shape[3] // SCALE)

    def decode(self, latents: Tensor, kept: Window | None = None) -> Tensor:
        self.sleeper.work(DECODE_MS)
        shape = (len(latents), 3, latents.shape[2] * SCALE, latents.shape[3] * SCALE)
        return torch.empty(shape, device=self.device)

    def steady_encoding(self, samples: Iterable[Tensor]) -> AbstractContextManager[None]:
        return nullcontext()

    def steady_decoding(self, samples: Iterable[Tensor]) -> AbstractContextManager[None]:
        return nullcontext()


@dataclass(frozen=True)
class SleepingFamily:
    """A model of native ``patch`` latents a side that takes ``batch_ms`` for a batch of any size."""

    sleeper: Device
    patch: int
    batch_ms: float
    device: torch.device = META

    @property
    def autoencoder(self) -> SleepingAutoencoder:
        return SleepingAutoencoder(self.sleeper)

    @property
    def texture(self) -> None:
        return None

    @property
    def latent_upsampler(self) -> None:
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

    def encode_images(self, pictures: Sequence[Tensor]) -> tuple[Prompt, Prompt]:
        return {}, {}

    def base_noise(self, seed: int, canvas: Size) -> Noise:
        return NoiseField(seed, 0, CHANNELS)

    def refuses(self, picture: Readable) -> bool:
        return False

    def denoiser(
        self,
        prompt_at: PromptAt,
        picture: Size,
        guidance_scale: float,
        perturbation: Perturbation | None = None,
        in_stages: bool = False,
    ) -> Denoiser:
        def denoise(x: Tensor, level: Level, windows: Sequence[Window]) -> Tensor:
            self.sleeper.work(self.batch_ms)
            return x

        return denoise


@dataclass
class Shares:
    """An observer of the last stage: for each phase its seconds, those of the device, and of the host's threads."""

    sleeper: Device
    host: dict[str, float]
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    busy: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    threads: dict[str, str] = field(default_factory=lambda: defaultdict(str))
    _before: float = 0.0

    def __call__(self, event: Event) -> None:
        if isinstance(event, PhaseFinished):
            if event.stage == 1:
                self.seconds[event.phase] += event.seconds
                self.busy[event.phase] += self.sleeper.busy - self._before
                self.threads[event.phase] = f"; read {self.host['read']:6.2f} s, written {self.host['write']:6.2f} s"
            self._before = self.sleeper.busy
            self.host.clear()

    def waits(self, phases: Sequence[str]) -> float:
        """The share of the time of these phases in which the device waits."""
        return 1 - sum(self.busy[name] for name in phases) / sum(self.seconds[name] for name in phases)


@torch.inference_mode()
def measured(side: int, batch_ms: float, steps: int, threaded: bool, work: Path) -> Shares:
    """Make a stage of ``side`` pixels after the base, in a run directory, and its file."""
    sleeper = Device()
    family = SleepingFamily(sleeper, 128 if batch_ms >= 100 else 32, batch_ms)
    method = Method(steps=steps, merge="residual", guidance_scale=1.0, slider=0.9, sampler="ddim")
    request = Request("x", Size(side, side), cascade=(Size(side, side),), method=method).settled(
        family.facts.recommended
    )
    request = Request.from_dict({**request.to_dict(), "compute": {"batch_size": BATCH, "device": "cpu"}})
    with Threaded() if threaded else nullcontext(Serial()) as executor:
        on_device = OnDevice(executor, sleeper)
        shares = Shares(sleeper, on_device.host)
        space = DiskSpace(work / "run")
        plan = make_plan(request, family.facts)
        cascade = replace(Cascade.of(request, family, plan, shares, space), executor=on_device)
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
        waits = f"the device waits {shares.waits([name]):6.1%}{shares.threads[name]}"
        print(f"{name:8s} {shares.seconds[name]:7.2f} s, {waits}")
    print(f"{'all':8s} {sum(shares.seconds.values()):7.2f} s, the device waits {shares.waits(PHASES):6.1%}")


if __name__ == "__main__":
    main()
