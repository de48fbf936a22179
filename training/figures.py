"""Figures with their targets, as a table in Markdown and as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path


@dataclass(frozen=True)
class Figure:
    """A measured number, with a target of at least ``least`` and at most ``most``, if given.

    ``note``: its conditions (threads, dtype, number of pictures).
    """

    name: str
    value: float
    least: float | None = None
    most: float | None = None
    note: str = ""

    @property
    def reached(self) -> bool | None:
        """Whether the target is reached; ``None`` without a target. NaN reaches no target."""
        if self.least is None and self.most is None:
            return None
        above = self.least is None or self.value >= self.least
        return above and (self.most is None or self.value <= self.most)

    @property
    def target(self) -> str:
        """The target as text."""
        bounds = [f"{sign} {bound:g}" for sign, bound in (("≥", self.least), ("≤", self.most)) if bound is not None]
        return " and ".join(bounds)


def least_at_most(figures: Sequence[Figure], most: float) -> list[Figure]:
    """The figures, with a target for the smallest, because one of several variants has to reach it."""
    best = min(figures, key=lambda figure: figure.value)
    return [replace(figure, most=most) if figure is best else figure for figure in figures]


Results = Mapping[str, Sequence[Figure]]
"""The figures of each measurement by its name."""


def load_results(file: Path, model: str) -> dict[str, list[Figure]]:
    """The stored results of this model; empty if the file is of another one."""
    values = json.loads(file.read_text()) if file.exists() else {}
    if values.get("model") != model:
        return {}
    return {name: [_figure(row) for row in rows] for name, rows in values["figures"].items()}


def save_results(file: Path, model: str, results: Results) -> None:
    """``model``: the hash of everything that was measured."""
    rows = {name: [_row(figure) for figure in figures] for name, figures in results.items()}
    file.with_suffix(".tmp").write_text(json.dumps({"model": model, "figures": rows}, indent=1) + "\n")
    file.with_suffix(".tmp").rename(file)


def _row(figure: Figure) -> dict[str, object]:
    """A figure for JSON, which has no NaN."""
    value = figure.value if math.isfinite(figure.value) else None
    return asdict(figure) | {"value": value, "reached": figure.reached}


def _figure(row: dict) -> Figure:
    known = {name: value for name, value in row.items() if name != "reached"}
    return Figure(**known | {"value": math.nan if row["value"] is None else row["value"]})


def table(results: Results) -> str:
    """Markdown."""
    signs = {True: "yes", False: "**no**", None: ""}
    lines = ["| what | figure | target | reached | |", "| --- | --- | --- | --- | --- |"]
    for name, figures in results.items():
        for figure in figures:
            cells = (f"{name}: {figure.name}", f"{figure.value:.4g}", figure.target, signs[figure.reached], figure.note)
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
