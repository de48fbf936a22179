"""Make a gigapixel with interruptions by SIGKILL: time and processor time by phase, memory, disk, and the picture.

    python -m benchmarks.gigapixel FOLDER [--side 31616] [--preset fast] [--kills 0.3,0.6]

The run is killed by SIGKILL at these shares of the work, and resumed. The same command continues an interrupted
benchmark. Seconds are summed by phase over all processes, including lost work; ``log.jsonl`` contains them.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

from benchmarks.scaling import PROMPT
from benchmarks.watched import Watched


def live(arguments: list[str], kill_at: float | None, run_dir: Path) -> dict[str, Any]:
    """Run one process until it ends or reaches a share of the work. Returns its entry in the log."""
    seconds: dict[str, float] = defaultdict(float)
    processor: dict[str, float] = defaultdict(float)
    peaks: dict[str, int] = defaultdict(int)
    last, spent, share, disk = 0.0, 0.0, 0.0, 0
    with Watched(*arguments) as process:
        for now, event in process.events():
            kind = event["event"]
            if kind not in ("Progress", "PhaseFinished"):
                continue
            # Before the first progress, the model is loaded and existing work is verified.
            phase = f"{event['stage']} {event['phase']}" if last else "start"
            seconds[phase] += now - last
            processor[phase] += process.processor - spent
            peaks[phase] = max(peaks[phase], process.recent)
            last, spent, share = now, process.processor, event.get("share", share)
            disk = max(disk, used(run_dir)) if kind == "PhaseFinished" else disk
            if kill_at is not None and share >= kill_at and kind == "Progress":
                process.kill()
                break
    return {
        "seconds": seconds,
        "processor": processor,
        "peaks": peaks,
        "share": share,
        "disk": disk,
        "status": process.status,
    }


def used(folder: Path) -> int:
    """Allocated bytes on disk, without the holes of sparse files."""
    return sum(512 * path.stat().st_blocks for path in folder.rglob("*") if path.is_file())


def report(lives: list[dict[str, Any]], picture: Path) -> str:
    """The totals of all processes."""
    seconds: dict[str, float] = defaultdict(float)
    processor: dict[str, float] = defaultdict(float)
    peaks: dict[str, int] = defaultdict(int)
    for one in lives:
        for phase, took in one["seconds"].items():
            seconds[phase] += took
            processor[phase] += one["processor"][phase]
            peaks[phase] = max(peaks[phase], one["peaks"][phase])
    killed = ", ".join(f"{one['share']:.0%}" for one in lives if one["status"] == -9)
    rows = [
        f"{phase:12s} {took:8.1f} s {processor[phase]:8.1f} s of processor time {peaks[phase] / 1e6:8.0f} MB"
        for phase, took in seconds.items()
    ]
    taken = f"{'in all':12s} {sum(seconds.values()):8.1f} s {sum(processor.values()):8.1f} s of processor time"
    return "\n".join(
        [
            *rows,
            f"{taken} in {len(lives)} lives, killed at: {killed or 'never'}",
            f"peak of the process tree {max(peaks.values()) / 1e6:.0f} MB",
            f"disk {max(one['disk'] for one in lives) / 1e9:.1f} GB, the file {picture.stat().st_size / 1e6:.0f} MB",
        ]
    )


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--side", type=int, default=31616)
    parser.add_argument("--preset", default="fast")
    parser.add_argument("--prompt", default=PROMPT)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kills", default="0.3,0.6", help="shares of the work, with commas")
    args = parser.parse_args(argv)
    args.folder.mkdir(parents=True, exist_ok=True)
    run_dir, picture, log = args.folder / "run", args.folder / "picture.tif", args.folder / "log.jsonl"
    begin = ["generate", args.prompt, "--size", str(args.side), "--preset", args.preset, "--seed", str(args.seed)]
    begin += ["--output", str(picture), "--run-dir", str(run_dir)]
    lives = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    kills = [float(share) for share in args.kills.split(",") if share]
    while not (run_dir / "finished").exists():
        left = kills[sum(one["status"] == -9 for one in lives) :]
        resuming = (run_dir / "run.json").exists()
        lives.append(live(["resume", str(run_dir)] if resuming else begin, left[0] if left else None, run_dir))
        with log.open("a") as file:
            file.write(json.dumps(lives[-1]) + "\n")
        if lives[-1]["status"] not in (0, -9):
            raise SystemExit(f"the run ended with {lives[-1]['status']}")
    print(report(lives, picture))


if __name__ == "__main__":
    main()
