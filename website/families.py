"""The table of families in ``docs/models.md``, from their registry."""

from __future__ import annotations

from pathlib import Path

from pixelsmith.families.catalogue import list_families

PAGE = Path(__file__).parents[1] / "docs" / "models.md"


def generated() -> dict[str, str]:
    """The generated parts of the page, by the names of their markers."""
    rows = (f"| {one['name']} | {one['native']} | {one['needs']} |\n" for one in list_families())
    return {"families": "".join(["| family | native size | what it needs |\n| --- | --- | --- |\n", *rows])}
