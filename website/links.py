"""Pages that docstrings name, as links."""

from __future__ import annotations

import re


def linked(text: str) -> str:
    """The text with decisions as links, for a page in ``docs/``."""
    return re.sub(r"docs/(decisions/0*(\d+)-[\w-]+\.md)", r"[decision \2](\1)", text)
