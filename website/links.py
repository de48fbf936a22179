"""Links to the pages that docstrings name."""

from __future__ import annotations

import re


def linked(text: str) -> str:
    """The text with paths of decisions replaced by links, for a page in ``docs/``."""
    return re.sub(r"docs/(decisions/0*(\d+)-[\w-]+\.md)", r"[decision \2](\1)", text)
