"""The trade-off of the Slider between structure and detail, with a line for each series of positions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pixelsmith.evaluate.experiment import Outcome, Row

STRUCTURE = "structure"
DETAIL = {
    "detail": "decibels, higher is more",
    "patch_frechet": "lower is more real",
    "spectrum": "lower is more real",
}
"""Measures of the amount of detail and of its distance from real detail, with a panel for each."""


def series_of(outcome: Outcome) -> dict[tuple[str, str], list[Row]]:
    """The rows of each series and size, ordered by their position of the Slider."""
    series = {variant.name: variant.series for variant in outcome.protocol.variants}
    found: dict[tuple[str, str], list[Row]] = {}
    for row in outcome.rows:
        if name := series[row.variant]:
            found.setdefault((name, str(row.size)), []).append(row)
    return found


def draw_advice(outcome: Outcome, path: Path) -> None:
    """Draw the results of each series with 95 % intervals, if there are any and Matplotlib is installed."""
    found = series_of(outcome)
    details = [name for name in DETAIL if {name, STRUCTURE} <= outcome.better.keys()]
    if not found or not details:
        return
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return
    figure = Figure(figsize=(7 * len(details), 6), dpi=120, layout="constrained")
    for axis, detail in zip(figure.subplots(1, len(details), squeeze=False)[0], details, strict=True):
        _draw(axis, found, detail)
        axis.set(xlabel=f"{STRUCTURE}: SSIM with the base (higher keeps more)", ylabel=f"{detail} ({DETAIL[detail]})")
    axis.legend(fontsize=8)
    figure.savefig(path)


def _draw(axis: Any, found: Mapping[tuple[str, str], Sequence[Row]], detail: str) -> None:
    for (name, size), rows in found.items():
        x, y = ([row.values[metric] for row in rows] for metric in (STRUCTURE, detail))
        axis.errorbar(
            [of.value for of in x], [of.value for of in y], xerr=[of.half_width for of in x],
            yerr=[of.half_width for of in y], marker="o", capsize=2, linewidth=1, label=f"{name}, {size}",
        )  # fmt: skip
        for row, across, up in zip(rows, x, y, strict=True):
            label = row.variant.removeprefix(f"{name}, Slider ")
            axis.annotate(label, (across.value, up.value), textcoords="offset points", xytext=(4, 4), fontsize=7)
