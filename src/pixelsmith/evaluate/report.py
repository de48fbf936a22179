"""The results of an experiment as files: tables in Markdown and CSV, a contact sheet, the environment."""

from __future__ import annotations

import csv
import json
import os
import platform
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import lru_cache
from math import isfinite
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw

from pixelsmith.evaluate.advice import draw_advice
from pixelsmith.evaluate.experiment import Outcome, Row
from pixelsmith.evaluate.jackknife import FEW, Estimate
from pixelsmith.evaluate.pictures import Made
from pixelsmith.evaluate.structure import shrunk

THUMBNAIL, LABEL, MOST_COLUMNS = 160, 130, 8
_CPUINFO = Path("/proc/cpuinfo")


def write_report(outcome: Outcome, output: Path, context: Mapping[str, str]) -> None:
    """Write ``table.md``, ``table.csv``, ``sheet.jpg`` and ``environment.json``, each with ``context``.

    For positions of the Slider, ``advice.png`` is written too if Matplotlib is installed. Without rows, existing files
    are kept.
    """
    if not outcome.rows:
        return
    (output / "table.md").write_text(table(outcome, context), encoding="utf-8")
    with (output / "table.csv").open("w", newline="", encoding="utf-8") as file:
        rows = [values_of(row) for row in outcome.rows]
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    contact_sheet(outcome).save(output / "sheet.jpg", quality=90)
    draw_advice(outcome, output / "advice.png")
    text = json.dumps(environment(outcome, context), indent=1)
    (output / "environment.json").write_text(text + "\n", encoding="utf-8")


def values_of(row: Row) -> dict[str, Any]:
    """A row of ``table.csv``: each metric with its 95 % interval, and the same for its difference."""
    values: dict[str, Any] = {"variant": row.variant, "size": str(row.size), "pictures": len(row.made)}
    for name, found in row.values.items():
        values |= {name: found.value, f"{name}_low": found.interval[0], f"{name}_high": found.interval[1]}
        apart = row.differences[name]
        low, high = apart.interval
        values |= {f"{name}_difference": apart.value, f"{name}_difference_low": low, f"{name}_difference_high": high}
    return values | {"seconds": row.seconds, "peak_bytes": row.peak_bytes}


def table(outcome: Outcome, context: Mapping[str, str]) -> str:
    """``table.md``."""
    protocol, arrows = outcome.protocol, {"lower": " ↓", "higher": " ↑", "neither": ""}
    names = [f"{name}{arrows[better]}" for name, better in outcome.better.items()]
    header = ["variant", "size", "pictures", *names, "seconds", "GB"]
    lines = [f"# {protocol.title}", ""]
    lines += [", ".join(f"{name}: {value}" for name, value in context.items()) + ".", ""]
    if protocol.dry_run:
        lines += ["A dry run, in few steps: every row and metric is computed, but the numbers mean nothing.", ""]
    lines += [
        "± is half of the 95 % confidence interval (jackknife over the prompts). **Bold** differs significantly from "
        f"`{protocol.reference}` (paired, 95 %, without correction for multiple comparisons): + is better, − worse; "
        "↑ and ↓ are higher and lower for metrics without a better direction. "
        "Seconds are per picture; pictures made in stages start from a stored base.",
        "",
    ]
    if any(len({case.prompt for case in row.cases}) < FEW for row in outcome.rows):
        lines += [f"With fewer than {FEW} prompts nothing is called significant.", ""]
    lines += [_line(header), _line(["---"] * len(header))]
    lines += [_line(_cells(row, outcome)) for row in outcome.rows]
    if outcome.left_out:
        lines += ["", "Left out:", *(f"- {name}: {reason}" for name, reason in outcome.left_out.items())]
    lines += ["", f"Differences from `{protocol.reference}`:", *_differences(outcome)]
    if expected := list(_expected(outcome)):
        lines += ["", f"Expected differences from `{protocol.reference}`:", *expected]
    return "\n".join(lines) + "\n"


def _line(cells: list[str]) -> str:
    """A line of a table, with bars inside cells escaped."""
    return f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |"


def _cells(row: Row, outcome: Outcome) -> list[str]:
    numbers = [_number(row.values[name], row.differences[name], better) for name, better in outcome.better.items()]
    took = [f"{row.seconds:.1f}" if isfinite(row.seconds) else "–", f"{row.peak_bytes / 1e9:.1f}"]
    return [row.variant, str(row.size), str(len(row.made)), *numbers, *took]


def _number(found: Estimate, apart: Estimate, better: str) -> str:
    if not isfinite(found.value):
        return "–"
    text = f"{found.value:.3g}" + (f" ± {found.half_width:.2g}" if isfinite(found.half_width) else "")
    return text if apart.is_zero else f"**{text}** {_sign(apart, better)}"


def _sign(apart: Estimate, better: str) -> str:
    if better == "neither":
        return "↑" if apart.value > 0 else "↓"
    return "+" if (apart.value > 0) == (better == "higher") else "−"


def _differences(outcome: Outcome) -> Iterator[str]:
    for row in outcome.rows:
        if row.variant == outcome.protocol.reference:
            continue
        apart = {name: found for name, found in row.differences.items() if not found.is_zero}
        signs = {name: _sign(found, outcome.better[name]) for name, found in apart.items()}
        words = {"better": "+", "worse": "−", "higher": "↑", "lower": "↓"}
        said = [f"{word} {', '.join(n for n in signs if signs[n] == sign)}" for word, sign in words.items()
                if sign in signs.values()]  # fmt: skip
        yield f"- {row.variant}, {row.size}: {'; '.join(said) or 'nothing significant'}"


def _expected(outcome: Outcome) -> Iterator[str]:
    """Whether each variant differs as its protocol expects."""
    said = {variant.name: variant.expected for variant in outcome.protocol.variants}
    for row in outcome.rows:
        for name, direction in said[row.variant].items():
            verdict = _verdict(row.differences[name], direction) if name in row.differences else "not measured"
            yield f"- {row.variant}, {row.size}: {name} {direction}: {verdict}"


def _verdict(apart: Estimate, direction: str) -> str:
    if not isfinite(apart.value):
        return "not measured"
    found = f"({apart.value:+.2g}" + (f" ± {apart.half_width:.2g})" if isfinite(apart.half_width) else ")")
    if apart.is_zero:
        return f"not significant {found}"
    return f"yes {found}" if (apart.value > 0) == (direction == "higher") else f"no, the reverse {found}"


def contact_sheet(outcome: Outcome) -> Image.Image:
    """A row for each variant and size, a column for each of at most MOST_COLUMNS cases."""
    columns = min(MOST_COLUMNS, max(len(row.made) for row in outcome.rows))
    sheet = Image.new("RGB", (LABEL + columns * THUMBNAIL, THUMBNAIL * len(outcome.rows)), "white")
    draw = ImageDraw.Draw(sheet)
    for i, row in enumerate(outcome.rows):
        draw.multiline_text((4, i * THUMBNAIL + 4), f"{row.variant}\n{row.size}", fill="black")
        for j, made in enumerate(row.made[:columns]):
            sheet.paste(_thumbnail(made), (LABEL + j * THUMBNAIL, i * THUMBNAIL))
    return sheet


# The sheet is drawn again after each row, and the pictures of earlier rows may be large.
@lru_cache(maxsize=512)
def _thumbnail(made: Made) -> Image.Image:
    picture = made.read()
    size = picture.size.scaled((THUMBNAIL - 2) / max(picture.size.width, picture.size.height))
    return Image.fromarray(shrunk(picture, size))


def processor() -> str:
    """The CPU's model name, or its architecture, which is all that ``platform`` reports on Linux."""
    with suppress(OSError):
        if found := re.search(r"^model name\s*:\s*(.+)$", _CPUINFO.read_text(), re.MULTILINE):
            return found.group(1).strip()
    return platform.processor() or platform.machine()


def environment(outcome: Outcome, context: Mapping[str, str]) -> dict[str, Any]:
    """The environment of the pictures, and the time and memory of each."""
    cuda = torch.cuda.is_available()
    return {
        **context,
        "python": platform.python_version(),
        **outcome.provenance,
        "machine": {
            "system": platform.platform(),
            "processor": processor(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "gpu": torch.cuda.get_device_name() if cuda else None,
        },
        "pictures": [
            {"variant": row.variant, "size": str(row.size), "prompt": case.prompt, "seed": case.seed,
             "file": made.path.name, "seconds": made.seconds if isfinite(made.seconds) else None,
             "peak_bytes": made.peak_bytes}
            for row in outcome.rows for case, made in zip(row.cases, row.made, strict=True)
        ],
    }  # fmt: skip
