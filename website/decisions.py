"""``docs/decisions/README.md``: the list of decisions with their titles."""

from __future__ import annotations

from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "decisions" / "README.md"


def generated() -> dict[str, str]:
    """The generated parts of the page, by the names of their markers."""
    titles = ((page.name, title_of(page)) for page in sorted(PAGE.parent.glob("[0-9]*.md")))
    return {"decisions": "".join(f"- [{title}]({name})\n" for name, title in titles)}


def title_of(page: Path) -> str:
    """The first heading of a page."""
    return page.read_text("utf-8").splitlines()[0].removeprefix("# ")
