"""Write the parts of pages that are generated from the code and from other pages.

python -m website.write
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from website import decisions, families, options

WRITTEN = {module.PAGE: module.generated for module in (options, decisions, families)}
"""Pages, and the functions that generate their parts."""


def filled(page: str, parts: Mapping[str, str]) -> str:
    """The page with each part between its markers. Raises ``ValueError`` unless both occur exactly once."""
    for name, text in parts.items():
        start, end = f"<!-- {name}: made by python -m website.write -->\n", f"<!-- end of {name} -->"
        if (page.count(start), page.count(end)) != (1, 1):
            raise ValueError(f"expected {start.strip()} and {end}, each once")
        before, rest = page.split(start)
        page = f"{before}{start}\n{text}\n{end}{rest.split(end)[1]}"
    return page


def anew(page: Path) -> str:
    """The page with its generated parts up to date."""
    return filled(page.read_text("utf-8"), WRITTEN[page]())


if __name__ == "__main__":
    for page in WRITTEN:
        page.write_text(anew(page), "utf-8")
