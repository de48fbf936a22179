"""``docs/decisions/README.md``: the decisions by their titles."""

from __future__ import annotations

from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "decisions" / "README.md"


def generated() -> dict[str, str]:
    """What stands between the markers of the page, by the name of the marker."""
    titles = ((page.name, title_of(page)) for page in sorted(PAGE.parent.glob("[0-9]*.md")))
    return {"decisions": "".join(f"- [{title}]({name})\n" for name, title in titles)}


def title_of(page: Path) -> str:
    """Its first heading."""
    return page.read_text("utf-8").splitlines()[0].removeprefix("# ")
