"""An extension of Griffe, which reads the docstrings for the reference: names of pages become links."""

from __future__ import annotations

from typing import Any

from griffe import Extension, Object

from website.links import linked


class Links(Extension):
    """Changes the docstrings of all documented objects."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Is called for each object after everything is read."""
        if obj.docstring:
            obj.docstring.value = linked(obj.docstring.value)
