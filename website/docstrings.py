"""An extension of Griffe, which reads the docstrings for the reference: pages that they name become links."""

from __future__ import annotations

from typing import Any

from griffe import Extension, Object

from website.links import linked


class Links(Extension):
    """Change the docstrings of all that is shown."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Called once everything is read."""
        if obj.docstring:
            obj.docstring.value = linked(obj.docstring.value)
