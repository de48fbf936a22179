"""Measure whether memory is constant and time linear in the size of pictures, with complete runs in separate processes.

    python -m benchmarks.scaling [--sides 2048,4096,8192,16384] [--preset fast] [--work FOLDER]

Every run uses a run directory, as large pictures do, so that all sizes are comparable. The peak is the resident memory
of the whole process tree; seconds per megapixel by phase are those of the last stage and of writing the file; the
forecast is the largest error of the remaining time after the first tenth.
"""

from __future__ import annotations

import argparse
import math
import shutil
import tempfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from benchmarks.watched import Watched

PROMPT = "satellite photo of coast, green forest and blue sea"
PHASES = ("encode", "denoise", "decode", "write")


@dataclass(frozen=True)
class Run:
    """The results of a run: peak memory in bytes, total seconds, seconds of the last stage by phase, and the forecast.

    ``forecast_error``: the largest error of the remaining time, as a share of the total time, after the first tenth.
    """

    peak: int
    seconds: float
    phases: dict[str, float]
    forecast_error: float


def measured(side: int, preset: str, work: Path) -> Run:
    folder = work / "run"
    phases: dict[int, dict[str, float]] = defaultdict(dict)
    forecasts: list[tuple[float, float]] = []
    places = ["--output", str(work / "picture.tif"), "--run-dir", str(folder), "--overwrite"]
    with Watched("generate", PROMPT, "--seed", "1", "--preset", preset, "--size", str(side), *places) as process:
        for now, event in process.events():
            if event["event"] == "PhaseFinished":
                phases[event["stage"]][event["phase"]] = event["seconds"]
            elif event["event"] == "Progress" and event.get("seconds_left") is not None:
                forecasts.append((now, now + event["seconds_left"]))
    seconds = process.seconds
    if process.status:
        raise SystemExit(f"the run of {side}x{side} failed")
    shutil.rmtree(folder)
    error = max((abs(told / seconds - 1) for now, told in forecasts if now >= seconds / 10), default=math.nan)
    return Run(process.peak, seconds, phases[max(phases)], error)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sides", default="2048,4096,8192,16384")
    parser.add_argument("--preset", default="fast")
    parser.add_argument("--work", type=Path, help="where there is room for the largest run")
    args = parser.parse_args()
    if args.work:
        args.work.mkdir(parents=True, exist_ok=True)
    print("side    peak MB   seconds   s/MP  forecast  " + "  ".join(f"{phase} s/MP" for phase in PHASES))
    for side in map(int, args.sides.split(",")):
        with tempfile.TemporaryDirectory(dir=args.work) as folder:
            run = measured(side, args.preset, Path(folder))
        megapixels = side * side / 1e6
        parts = "  ".join(f"{run.phases.get(phase, 0) / megapixels:{len(phase) + 5}.3f}" for phase in PHASES)
        rate = run.seconds / megapixels
        print(
            f"{side:6d} {run.peak / 1e6:8.0f} {run.seconds:9.1f} {rate:6.2f} {run.forecast_error:9.1%}  {parts}",
            flush=True,
        )


if __name__ == "__main__":
    main()
