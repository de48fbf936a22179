"""Captions for each window of a canvas: what the picture below shows there, added to the picture's prompt.

A prompt is of a whole picture, and a patch of a large one shows a part of it. Words by place are those of a fixed grid
of cells, wherever the patches of a step lie (arXiv 2602.03342 captions each tile).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pixelsmith.geometry import Size, Window


@dataclass(frozen=True)
class Cells:
    """A canvas cut into rows and columns of cells of (nearly) one size, none larger than a patch. All in latents."""

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
        """The number of the cell in which the middle of a window lies; past the canvas it is the cells once more."""
        row = (2 * window.top + window.height) * self.rows // (2 * self.canvas.height)
        column = (2 * window.left + window.width) * self.columns // (2 * self.canvas.width)
        return row % self.rows * self.columns + column % self.columns


@dataclass(frozen=True)
class Words:
    """A prompt for each cell, row by row."""

    cells: Cells
    prompts: Sequence[str]

    def at(self, window: Window) -> str:
        """The prompt of a patch that lies there."""
        return self.prompts[self.cells.under(window)]


def joined(caption: str, prompt: str) -> str:
    """What is seen at a place, and the prompt of the whole picture, whose style it keeps.

    The place comes first: text encoders weigh what comes first most, and it is the end of a text that they have no room
    for (docs/decisions/0026-captions.md).
    """
    return f"{caption}, {prompt}" if caption else prompt
