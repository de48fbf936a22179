"""Regions of a picture, each with its own prompt, as small frozen values."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pixelsmith.config.checks import check_choices, check_range, check_text, check_unicode
from pixelsmith.errors import RequestError
from pixelsmith.geometry import MAX_SIDE, Size
from pixelsmith.system.durable import read_whole
from pixelsmith.system.places import given_place, picture_path

Unit = Literal["pixels", "percent"]
RegionsIn = Literal["all", "stages"]
Point = tuple[float, float]

_FORM = "expected X,Y,W,H: PROMPT in pixels of the result or in percent, such as '0,0,50%,100%: a forest'"
_SHAPES = ("box", "polygon", "mask")


@dataclass(frozen=True)
class Region:
    """A part of the picture with its own prompt.

    - ``prompt``: used in the region instead of the picture's prompt.
    - Exactly one of ``box`` (left, top, width, height), ``polygon`` (three or more corners, each x, y) and ``mask``
      (the path of a grey picture with the aspect ratio of the result: white is the region) gives its position.
      ``unit``: of box and polygon: ``pixels`` of the result, or ``percent`` of its width and height.
    - ``negative_prompt``: ``None`` uses that of the picture.
    - ``strength``: 0..1, the weight of its prompt; the layers below it get the rest.
    - ``feather``: the width of its edges in percent of the result's shorter side, 0..100.

    Raises ``RequestError`` for values out of range.
    """

    prompt: str
    box: tuple[float, float, float, float] | None = None
    polygon: tuple[Point, ...] = ()
    mask: str | None = None
    unit: Unit = "pixels"
    negative_prompt: str | None = None
    strength: float = 1.0
    feather: float = 5.0

    def __post_init__(self) -> None:
        check_unicode("region", self.prompt)
        check_text("region", self.prompt, "a prompt")
        if self.negative_prompt is not None:
            check_unicode("negative prompt of a region", self.negative_prompt)
        if sum(map(bool, (self.box, self.polygon, self.mask))) != 1:
            raise RequestError(f"region {self.prompt!r}: expected one of {', '.join(_SHAPES)}")
        check_choices(self, unit=Unit)
        check_range("strength of a region", self.strength, 0, 1)
        check_range("feather of a region", self.feather, 0, 100)
        if self.mask:
            object.__setattr__(self, "mask", picture_path("mask of a region", str(self.mask)))
        if self.box:
            object.__setattr__(self, "box", self._numbers("box", self.box))
            if len(self.box) != 4 or min(self.box[2:]) <= 0:
                raise RequestError(
                    f"region {self.prompt!r}: box: expected X,Y,W,H with a width and a height above 0, got {self.box}"
                )
        object.__setattr__(self, "polygon", tuple(self._numbers("polygon", corner) for corner in self.polygon))
        if self.polygon and (len(self.polygon) < 3 or any(len(corner) != 2 for corner in self.polygon)):
            raise RequestError(
                f"region {self.prompt!r}: polygon: expected three corners X,Y or more, got {self.polygon}"
            )

    def _numbers(self, name: str, values: object) -> Any:
        if not isinstance(values, list | tuple):
            raise RequestError(f"region {self.prompt!r}: {name}: expected numbers, got {values!r}")
        for value in values:
            check_range(f"region {self.prompt!r}: {name}", value, -MAX_SIDE, MAX_SIDE)
        return tuple(values)

    def corners(self, picture: Size) -> tuple[Point, ...]:
        """Of its box or polygon in a picture of this size, in pixels; none of a mask. Raises ``RequestError``.

        Examples:
            >>> Region("a sea", box=(0, 0, 50, 100), unit="percent").corners(Size(640, 480))
            ((0.0, 0.0), (320.0, 0.0), (320.0, 480.0), (0.0, 480.0))
        """
        corners = self.polygon
        if self.box:
            left, top, width, height = self.box
            right, bottom = left + width, top + height
            corners = ((left, top), (right, top), (right, bottom), (left, bottom))
        across, down = (1.0, 1.0) if self.unit == "pixels" else (picture.width / 100, picture.height / 100)
        found = tuple((x * across, y * down) for x, y in corners)
        if found:
            xs, ys = zip(*found, strict=True)
            if max(xs) <= 0 or min(xs) >= picture.width or max(ys) <= 0 or min(ys) >= picture.height:
                raise RequestError(
                    f"region {self.prompt!r}: it lies outside the picture of {picture}; expected a part of it"
                )
        return found

    def located(self, folder: Path) -> Region:
        """The same region with the path of its mask resolved against ``folder``."""
        return self if self.mask is None else replace(self, mask=str(folder / self.mask))

    @classmethod
    def parse(cls, text: str) -> Region:
        """Read ``X,Y,W,H: PROMPT``, the numbers in pixels or with ``%``. Raises ``RequestError``.

        Examples:
            >>> Region.parse("50%,0,50%,100%: a forest").box
            (50.0, 0.0, 50.0, 100.0)
        """
        place, _, prompt = text.partition(":")
        parts = [re.fullmatch(r"\s*(-?[0-9]{1,12}(?:\.[0-9]*)?)\s*(%?)\s*", part) for part in place.split(",")]
        found = [part for part in parts if part is not None]
        if len(found) != 4 or len(parts) != 4 or not prompt.strip():
            raise RequestError(f"region: {_FORM}, got {text!r}")
        percent = any(part[2] for part in found)
        if percent and any(float(part[1]) and not part[2] for part in found):
            raise RequestError(f"region: expected either pixels or percent, got both in {text!r}")
        left, top, width, height = (float(part[1]) for part in found)
        return cls(prompt.strip(), (left, top, width, height), unit="percent" if percent else "pixels")


def regions_from(values: Iterable[Any]) -> tuple[Region, ...]:
    """Make regions from plain values. Raises ``TypeError`` for unknown names, ``RequestError`` for wrong values."""
    return tuple(value if isinstance(value, Region) else Region(**_object(value)) for value in values)


def read_regions(path: str) -> tuple[Region, ...]:
    """The regions of a JSON file: a list of objects with the fields of ``Region``.

    Paths of masks are relative to the file's folder. Raises ``RequestError``.
    """
    try:
        place = given_place(path)
        values = json.loads(read_whole(place).decode("utf-8-sig"))
        if not isinstance(values, list):
            raise TypeError(f"got {type(values).__name__}")
        return tuple(region.located(place.parent) for region in regions_from(values))
    except OSError as error:
        raise RequestError(f"regions: {path} cannot be read ({error.strerror})") from error
    except (ValueError, TypeError, RecursionError) as error:
        raise RequestError(
            f"regions: {path}: expected a JSON list of objects such as "
            f'{{"prompt": "a forest", "box": [0, 0, 512, 512]}} ({error})'
        ) from error


def check_regions(regions: Sequence[Region], picture: Size) -> None:
    """Raise ``RequestError`` where one of them lies outside of the picture."""
    for region in regions:
        region.corners(picture)


def _object(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise TypeError(f"got {value!r}")
    return value
