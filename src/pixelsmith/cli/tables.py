"""Plans and settings as plain text for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pixelsmith.config.plans import Plan, StagePlan
from pixelsmith.system.terminal import amount, duration, printable


def plan_table(plan: Plan) -> str:
    """A line a rung, then the totals."""
    rows: list[tuple[str, ...]] = [("", "size", "latents", "steps", "guided", "patches/step", "fewest")]
    rows += [] if plan.base is None else [("base", *_cells(plan.base))]
    rows += [(f"stage {i}", *_cells(stage)) for i, stage in enumerate(plan.stages, start=1)]
    totals = [
        ("model calls", f"{plan.model_calls:,}"),
        *([("captions", f"of {plan.captions:,} places")] if plan.captions else []),
        ("peak memory", f"at most about {amount(plan.peak_memory_bytes)}"),
        ("disk", f"at most {amount(plan.disk_bytes)}{' in a run directory' if plan.on_disk else ''}"),
        ("time", "unknown; --calibrate measures it" if plan.seconds is None else f"about {duration(plan.seconds)}"),
    ]
    return f"{_aligned(rows)}\n\n{_aligned(totals)}"


def settings_table(settings: Mapping[str, Any]) -> str:
    """A line a setting, those of a group after each other; what ``auto`` stood for in its place."""
    about = {name: value for name, value in settings.items() if name != "request"}
    request = settings["request"]
    groups = {name: _without(value, about) if isinstance(value, Mapping) else value for name, value in request.items()}
    return values_table(about | groups)


def _without(group: Mapping[str, Any], names: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in group.items() if name not in names}


def families_table(families: Sequence[Mapping[str, Any]]) -> str:
    """A line a family."""
    rows = [tuple(str(family[name]) for name in ("name", "native", "needs")) for family in families]
    return _aligned([("family", "native size", "what it needs"), *rows])


def examination_table(found: Mapping[str, Any]) -> str:
    """What ``pixelsmith doctor`` found (``Examination.to_dict``), part after part."""
    test = found["self_test"]
    memory = [one["memory_bytes"] for one in found["devices"]]
    devices: list[tuple[str, ...]] = [
        (one["device"], one["processor"], "-" if size is None else amount(size), f"{one['dtype']} by itself")
        for one, size in zip(found["devices"], memory, strict=True)
    ]
    parts: list[tuple[str, ...]] = [
        (one["name"], "here" if one["there"] else f"not here: {one['install']}") for one in found["parts"]
    ]
    sections: dict[str, list[tuple[str, ...]]] = {
        "Versions": [(name, _shown(value)) for name, value in found["versions"].items()],
        "Devices": devices,
        "Optional parts": parts,
        "Folders": list(found["folders"].items()),
        "Free disk": [(folder, amount(free)) for folder, free in found["free_bytes"].items()],
        "Self-test": [] if test is None else [(test["said"] or "passed", f"{test['seconds']:g} s")],
    }
    return "\n\n".join(f"{title}\n{_aligned(rows)}" for title, rows in sections.items() if rows)


def values_table(values: Mapping[str, Any]) -> str:
    """A line a value, those of a group after each other."""
    rows: list[tuple[str, ...]] = []
    for name, value in values.items():
        group = value.items() if isinstance(value, Mapping) else [(name, value)]
        rows += [(key.replace("_", " "), _shown(item)) for key, item in group]
    return _aligned(rows)


def _shown(value: object) -> str:
    if isinstance(value, Mapping):
        said = {name.replace("_", " "): item for name, item in value.items() if item not in (None, "", [])}
        return ", ".join(f"{name} {_shown(item)}" for name, item in said.items()) or "-"
    if isinstance(value, list):
        between = "; " if any(isinstance(item, Mapping) for item in value) else ", "
        return between.join(map(_shown, value)) or "-"
    return "-" if value is None or value == "" else str(value)


def _cells(rung: StagePlan) -> tuple[str, ...]:
    patches = f"{rung.patches_per_step:.1f}".removesuffix(".0")
    counts = (rung.steps, rung.guided_steps, patches, rung.fewest_patches_per_step)
    return (str(rung.size), str(rung.latent_size), *map(str, counts))


def _aligned(rows: Sequence[tuple[str, ...]]) -> str:
    rows = [tuple(map(printable, row)) for row in rows]
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
