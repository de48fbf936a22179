"""Write the parts of pages that are made from the program and from other pages.

    python -m website.write
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from website import decisions, options

WRITTEN = {module.PAGE: module.generated for module in (options, decisions)}
"""Pages, and what makes their parts."""


def filled(page: str, parts: Mapping[str, str]) -> str:
    """The page with each part between its markers. Raises ``ValueError`` where they are not there once."""
    for name, text in parts.items():
        pattern = rf"(<!-- {name}: [^\n]* -->\n).*?(<!-- end of {name} -->)"
        page, count = re.subn(pattern, lambda found, new=text: f"{found[1]}\n{new}\n{found[2]}", page, flags=re.DOTALL)
        if count != 1:
            raise ValueError(f"expected the markers of {name} once, found them {count} times")
    return page


def anew(page: Path) -> str:
    """What the page should be."""
    return filled(page.read_text("utf-8"), WRITTEN[page]())


if __name__ == "__main__":
    for page in WRITTEN:
        page.write_text(anew(page), "utf-8")
