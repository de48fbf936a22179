"""Does memory stay flat, and time linear, as pictures grow? Whole runs, each in a process of its own.

    python -m benchmarks.scaling [--sides 2048,4096,8192,16384] [--preset fast] [--work FOLDER]

Every run keeps its canvases in a run directory, as large pictures do, so that all sizes take the same way. The peak is
the resident memory of the whole process; seconds a megapixel are those of the last stage and of writing the file.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

PROMPT = "satellite photo of coast, green forest and blue sea"
PHASES = ("encode", "denoise", "decode", "write")


def measured(side: int, preset: str, work: Path) -> tuple[int, float, dict[str, float]]:
    """The peak in bytes, the seconds in all, and those of the last stage by phase."""
    events, folder = work / "events.jsonl", work / "run"
    command = [sys.executable, "-m", "pixelsmith", "generate", PROMPT, "--seed", "1", "--preset", preset, "--size"]
    command += [str(side), "--output", str(work / "picture.tif"), "--run-dir", str(folder), "--json"]
    with events.open("wb") as target:
        actions = [(os.POSIX_SPAWN_DUP2, target.fileno(), 1)]
        process = os.posix_spawn(sys.executable, command, os.environ, file_actions=actions)
        _, status, usage = os.wait4(process, 0)
    if status:
        raise SystemExit(f"the run of {side}x{side} failed")
    seconds: dict[int, dict[str, float]] = defaultdict(dict)
    total = 0.0
    for event in map(json.loads, events.read_text().splitlines()):
        if event["event"] == "PhaseFinished":
            seconds[event["stage"]][event["phase"]] = event["seconds"]
        elif event["event"] == "RunFinished":
            total = event["seconds"]
    shutil.rmtree(folder)
    return usage.ru_maxrss * 1024, total, seconds[max(seconds)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sides", default="2048,4096,8192,16384")
    parser.add_argument("--preset", default="fast")
    parser.add_argument("--work", type=Path, help="where there is room for the largest run")
    args = parser.parse_args()
    print("side    peak MB   seconds   s/MP  " + "  ".join(f"{phase} s/MP" for phase in PHASES))
    for side in map(int, args.sides.split(",")):
        with tempfile.TemporaryDirectory(dir=args.work) as folder:
            peak, total, phases = measured(side, args.preset, Path(folder))
        megapixels = side * side / 1e6
        parts = "  ".join(f"{phases.get(phase, 0) / megapixels:{len(phase) + 5}.3f}" for phase in PHASES)
        print(f"{side:6d} {peak / 1e6:8.0f} {total:9.1f} {total / megapixels:6.2f}  {parts}", flush=True)


if __name__ == "__main__":
    main()
