"""A Markdown extension that converts equations to MathML when the site is built, so that pages need no script."""

from __future__ import annotations

from xml.etree.ElementTree import Element

from latex2mathml.converter import convert
from markdown import Markdown
from markdown.extensions import Extension
from markdown.treeprocessors import Treeprocessor
from markdown.util import AtomicString

FOUND = "arithmatex"
"""The class of the elements in which ``pymdownx.arithmatex`` (generic) leaves LaTeX."""


class _ToMathML(Treeprocessor):
    def run(self, root: Element) -> None:
        for element in root.iter():
            if element.get("class") == FOUND and element.text:
                latex = element.text.strip().removeprefix(r"\(").removeprefix(r"\[")
                latex = latex.removesuffix(r"\)").removesuffix(r"\]")
                display = "block" if element.tag == "div" else "inline"
                element.text = AtomicString(self.md.htmlStash.store(convert(latex, display=display)))


class Equations(Extension):
    """Convert the equations that ``pymdownx.arithmatex`` found. List this extension after it."""

    def extendMarkdown(self, md: Markdown) -> None:  # noqa: N802 (the name that Markdown calls)
        # Last of all, after the inline patterns have put the elements into the tree.
        md.treeprocessors.register(_ToMathML(md), "equations", 0)


def makeExtension(**options: object) -> Equations:  # noqa: N802 (the name that Markdown looks for)
    """Create the extension for Markdown."""
    return Equations(**options)
