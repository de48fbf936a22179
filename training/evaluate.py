"""Measure the embedded model's figures and compare them with their targets: ``figures.md`` and ``figures.json``.

    python -m training.evaluate --output training/work/evaluation
    python -m training.evaluate --only realism "few steps" --model path/to/an/export

Measurements of the same model, judge and code are not repeated, except for the speed; existing pictures are read.
Generated pictures have the captions of held-out ones.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from training.figures import load_results, save_results, table
from training.measures import MEASURES
from training.study import Study


def evaluate(study: Study, names: list[str]) -> None:
    """Make the missing measurements, and write all results after each."""
    study.output.mkdir(parents=True, exist_ok=True)
    file = study.output / "figures.json"
    results = load_results(file, study.identity)
    for name in names:
        # The speed depends on the load of the machine.
        if name not in results or name == "speed":
            results[name] = MEASURES[name](study)
            print(table({name: results[name]}), flush=True)
            save_results(file, study.identity, results)
            (study.output / "figures.md").write_text(table(results))
    print(f"all figures: {study.output / 'figures.md'}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("training/work"))
    parser.add_argument("--output", type=Path, default=Path("training/work/evaluation"))
    parser.add_argument("--model", default="src/pixelsmith/embedded/model")
    parser.add_argument("--judge", type=Path, default=Path("src/pixelsmith/embedded/judge"))
    parser.add_argument("--pictures", type=int, default=504, help="number of pictures in the large comparisons")
    parser.add_argument("--dtype", default="auto", choices=["auto", "float32", "bfloat16"], help="of the pictures")
    parser.add_argument("--only", nargs="+", choices=list(MEASURES), default=list(MEASURES))
    args = parser.parse_args()
    evaluate(Study(args.model, args.judge, args.work, args.output, args.pictures, args.dtype), args.only)


if __name__ == "__main__":
    main()
