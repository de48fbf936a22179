"""Captions of the previous stage for each window of a canvas, which are added to the picture's prompt.

A prompt describes the whole picture, but a patch of a large one shows only a part of it. Captions belong to a fixed
grid of cells, independent of the positions of a step's patches (arXiv 2602.03342 captions each tile).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pixelsmith.geometry import Size, Window


@dataclass(frozen=True)
class Cells:
    """The cells of a canvas, of nearly equal size and none larger than a patch. All values are in latents."""

    canvas: Size
    patch: Size

    @property
    def rows(self) -> int:
        return math.ceil(self.canvas.height / self.patch.height)

    @property
    def columns(self) -> int:
        return math.ceil(self.canvas.width / self.patch.width)

    def __len__(self) -> int:
        return self.rows * self.columns

    def __iter__(self) -> Iterator[Window]:
        """The cells, row by row."""
        for row in range(self.rows):
            top, bottom = (i * self.canvas.height // self.rows for i in (row, row + 1))
            for column in range(self.columns):
                left, right = (i * self.canvas.width // self.columns for i in (column, column + 1))
                yield Window(top, left, bottom - top, right - left)

    def under(self, window: Window) -> int:
        """The index of the cell that contains the centre of a window; beyond the canvas the cells repeat."""
        row = (2 * window.top + window.height) * self.rows // (2 * self.canvas.height)
        column = (2 * window.left + window.width) * self.columns // (2 * self.canvas.width)
        return row % self.rows * self.columns + column % self.columns


@dataclass(frozen=True)
class Words:
    """A prompt for each cell, row by row."""

    cells: Cells
    prompts: Sequence[str]

    def at(self, window: Window) -> str:
        """The prompt of a patch with this window."""
        return self.prompts[self.cells.under(window)]


def joined(caption: str, prompt: str) -> str:
    """A caption followed by the prompt of the whole picture, which contains the style.

    The caption comes first, because text encoders give the first tokens the most weight, and truncate the end of a text
    (docs/decisions/0026-captions.md).
    """
    return f"{caption}, {prompt}" if caption else prompt
