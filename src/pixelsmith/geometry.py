"""Sizes and windows, in pixels or in latents. Width comes first in a ``Size``, rows first in a ``Window``."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from pixelsmith.errors import RequestError

MAX_SIDE = 10_000_000
"""The largest side of a picture in pixels, which takes terabytes even if the picture is narrow, and seconds to plan."""


@dataclass(frozen=True, order=True)
class Size:
    """Width and height of a picture (pixels) or of a canvas (latents), both at least 1.

    Raises ``RequestError`` if one of them is not a positive integer.
    """

    width: int
    height: int

    def __post_init__(self) -> None:
        if type(self.width) is not int or type(self.height) is not int or min(self.width, self.height) < 1:
            raise RequestError(f"a size needs whole numbers of at least 1, got {self.width}x{self.height}")

    @classmethod
    def parse(cls, text: str) -> Size:
        """Read ``"2048x1024"`` (width x height) or ``"2048"`` (a square). Raises ``RequestError``.

        Examples:
            >>> Size.parse("2048x1024")
            Size(width=2048, height=1024)
        """
        match = re.fullmatch(r"\s*([0-9]{1,18})(?:\s*[xX×]\s*([0-9]{1,18}))?\s*", text)
        if match is None:
            raise RequestError(f"a size is WIDTHxHEIGHT or one number, such as 2048x1024 or 2048, got {text!r}")
        width, height = match.group(1), match.group(2) or match.group(1)
        return cls(int(width), int(height))

    @property
    def area(self) -> int:
        return self.width * self.height

    @property
    def window(self) -> Window:
        """The window that covers all of it."""
        return Window(0, 0, self.height, self.width)

    def scaled(self, factor: float) -> Size:
        return Size(max(1, round(self.width * factor)), max(1, round(self.height * factor)))

    def padded(self, multiple: int) -> Size:
        """The smallest size that contains this one and whose sides are multiples of ``multiple``."""
        return Size(-(-self.width // multiple) * multiple, -(-self.height // multiple) * multiple)

    def divided(self, divisor: int) -> Size:
        return Size(self.width // divisor, self.height // divisor)

    def factor_over(self, other: Size) -> float:
        """The factor by which the other size must be scaled to cover this one."""
        return max(self.width / other.width, self.height / other.height)

    def resembles(self, other: Size) -> bool:
        """Whether the aspect ratios differ by at most 2 %."""
        return abs(self.width * other.height / (self.height * other.width) - 1) <= 0.02

    def fits_in(self, other: Size) -> bool:
        return self.width <= other.width and self.height <= other.height

    def __str__(self) -> str:
        return f"{self.width}x{self.height}"


@dataclass(frozen=True, order=True)
class Window:
    """A rectangle: rows ``top .. top + height - 1``, columns ``left .. left + width - 1``."""

    top: int
    left: int
    height: int
    width: int

    @property
    def bottom(self) -> int:
        return self.top + self.height

    @property
    def right(self) -> int:
        return self.left + self.width

    @property
    def slices(self) -> tuple[slice, slice]:
        """Indices for the last two axes of a (..., h, w) array."""
        return slice(self.top, self.bottom), slice(self.left, self.right)

    def overlaps(self, other: Window) -> bool:
        """Whether the two have a pixel in common."""
        return (
            min(self.height, self.width, other.height, other.width) > 0
            and self.top < other.bottom
            and other.top < self.bottom
            and self.left < other.right
            and other.left < self.right
        )

    def common(self, other: Window) -> Window:
        """The intersection of both, which must overlap."""
        top, left = max(self.top, other.top), max(self.left, other.left)
        return Window(top, left, min(self.bottom, other.bottom) - top, min(self.right, other.right) - left)

    def grown(self, margin: int, bounds: Size) -> Window:
        """This window with ``margin`` more on every side, cut at the bounds."""
        return self._between(self.top - margin, self.left - margin, self.bottom + margin, self.right + margin, bounds)

    def around(self, margin: int) -> Window:
        """This window with ``margin`` more on every side, without bounds."""
        return Window(self.top - margin, self.left - margin, self.height + 2 * margin, self.width + 2 * margin)

    def cut(self, bounds: Size) -> Window:
        """The part of this window inside the bounds."""
        return self.grown(0, bounds)

    def relative_to(self, other: Window) -> Window:
        """This window in coordinates relative to ``other``'s top left corner."""
        return Window(self.top - other.top, self.left - other.left, self.height, self.width)

    def within(self, other: Window) -> Window:
        """The inverse of ``relative_to``: a window relative to ``other``, in the coordinates of ``other``."""
        return Window(self.top + other.top, self.left + other.left, self.height, self.width)

    def divided(self, divisor: int) -> Window:
        """The smallest window of cells of ``divisor`` values a side that covers it."""
        top, left = self.top // divisor, self.left // divisor
        return Window(top, left, -(-self.bottom // divisor) - top, -(-self.right // divisor) - left)

    def scaled(self, factor: int) -> Window:
        """This window at ``factor`` times the resolution, such as from latents to pixels."""
        return Window(self.top * factor, self.left * factor, self.height * factor, self.width * factor)

    @staticmethod
    def _between(top: int, left: int, bottom: int, right: int, bounds: Size) -> Window:
        top, left = max(0, top), max(0, left)
        return Window(top, left, min(bottom, bounds.height) - top, min(right, bounds.width) - left)


@dataclass(frozen=True)
class Wrap:
    """The axes on which a picture continues at its opposite edge: ``x`` left and right, ``y`` top and bottom.

    On such an axis a window may have any position, on a plane that repeats the picture.
    """

    x: bool = False
    y: bool = False

    @classmethod
    def named(cls, name: str | None) -> Wrap:
        """The axes named by ``"x"``, ``"y"`` or ``"xy"``; no axes for ``None``."""
        return cls("x" in (name or ""), "y" in (name or ""))

    def __bool__(self) -> bool:
        return self.x or self.y

    def pieces(self, window: Window, size: Size) -> list[list[Window]]:
        """A window divided into rows of windows that lie inside ``size`` on the axes that wrap."""
        rows = _cut_at_edges(window.top, window.bottom, size.height if self.y else None)
        columns = _cut_at_edges(window.left, window.right, size.width if self.x else None)
        return [[Window(top, left, height, width) for left, width in columns] for top, height in rows]

    def images(self, window: Window, size: Size, extent: Window) -> Iterator[Window]:
        """The repetitions of a window on the plane that overlap ``extent``, from top left to bottom right.

        At each position the order is the same for all windows.
        """
        downs = moves(window.top, window.bottom, size.height, extent.top, extent.bottom) if self.y else (0,)
        acrosses = moves(window.left, window.right, size.width, extent.left, extent.right) if self.x else (0,)
        for down in downs:
            for across in acrosses:
                yield Window(window.top + down, window.left + across, window.height, window.width)

    def grown(self, window: Window, margin: int, bounds: Size) -> Window:
        """A window with ``margin`` more on every side, cut at the bounds on the axes that do not wrap."""
        more, cut = window.around(margin), window.grown(margin, bounds)
        top, height = (more.top, more.height) if self.y else (cut.top, cut.height)
        left, width = (more.left, more.width) if self.x else (cut.left, cut.width)
        return Window(top, left, height, width)

    def padded(self, size: Size, more: int) -> Size:
        """A size with ``more`` on the axes that wrap."""
        return Size(size.width + more * self.x, size.height + more * self.y)

    def rounded(self, size: Size, multiple: int) -> Size:
        """The nearest size whose sides are multiples on the axes that wrap."""
        width, height = (max(1, round(side / multiple)) * multiple for side in (size.width, size.height))
        return Size(width if self.x else size.width, height if self.y else size.height)


NO_WRAP = Wrap()


def _cut_at_edges(start: int, end: int, period: int | None) -> list[tuple[int, int]]:
    """The parts of an interval as (start, length); with a period, each part lies within it."""
    if period is None:
        return [(start, end - start)]
    cuts = [start, *range((start // period + 1) * period, end, period), end]
    return [(before % period, after - before) for before, after in pairwise(cuts)]


def moves(start: float, end: float, period: int, low: float, high: float) -> range:
    """The shifts by multiples of the period for which an interval overlaps another one, in ascending order."""
    first, last = math.floor((low - end) / period) + 1, math.ceil((high - start) / period) - 1
    return range(first * period, last * period + 1, period)


def tiles(bounds: Size, side: int) -> Iterator[Window]:
    """Windows of ``side`` that cover ``bounds`` without overlap, row by row; the last ones are smaller."""
    for top in range(0, bounds.height, side):
        for left in range(0, bounds.width, side):
            yield Window(top, left, side, side).cut(bounds)
