"""The form of the page, and the request made from it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from pixelsmith import PRESETS, Parts, Request, Size
from pixelsmith.config.checks import check_range, check_text, check_unicode
from pixelsmith.config.regions import Region, regions_from
from pixelsmith.config.request import EMBEDDED
from pixelsmith.config.sizes import asked_size
from pixelsmith.errors import RequestError
from pixelsmith.families.catalogue import inspect_model
from pixelsmith.pixels.reading import picture_size

MAX_TEXT = 10_000
"""Characters of a prompt."""
MAX_REGIONS = 32


@dataclass(frozen=True)
class Form:
    """The fields of the form on the page.

    - ``prompt``, ``negative_prompt``: at most ``MAX_TEXT`` characters.
    - ``size``: pixels (``2048x1024``), a print (``60x90cm@300dpi``) or an area (``40MP``).
    - ``model``: ``embedded``, a folder, a file or a hub id; ``preset``: the name of one of ``PRESETS``.
    - ``seed``: 0 to 2^53 − 1, the whole numbers that JavaScript represents exactly.
    - ``slider``: 0..1, or ``None`` for the model's recommendation.
    - ``regions``: at most ``MAX_REGIONS`` parts with prompts of their own, each a box or a polygon.

    Raises ``RequestError`` for anything else.
    """

    prompt: str = ""
    negative_prompt: str = ""
    size: str = "2048x2048"
    model: str = EMBEDDED
    preset: str = "fast"
    seed: int = 0
    slider: float | None = None
    regions: tuple[Region, ...] = ()

    def __post_init__(self) -> None:
        for name in ("prompt", "negative_prompt", "size", "model", "preset"):
            value = getattr(self, name)
            check_unicode(name.replace("_", " "), value)
            if len(value) > MAX_TEXT:
                raise RequestError(f"{name}: expected at most {MAX_TEXT:,} characters, got {len(value):,}")
        check_text("size", self.size, "a size such as 2048x2048, 60x90cm@300dpi or 40MP")
        if self.preset not in PRESETS:
            raise RequestError(f"preset: expected one of {', '.join(PRESETS)}, got {self.preset!r}")
        if type(self.seed) is not int or not 0 <= self.seed < 2**53:
            raise RequestError(f"seed: expected a whole number from 0 to {2**53 - 1}, got {self.seed!r}")
        if self.slider is not None:
            check_range("slider", self.slider, 0, 1)
        if len(self.regions) > MAX_REGIONS:
            raise RequestError(f"regions: expected at most {MAX_REGIONS}, got {len(self.regions)}")
        if any(region.mask is not None for region in self.regions):
            # Its path could point to any file of this machine.
            raise RequestError("regions: expected a box or a polygon, got a mask")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Form:
        """Read plain values. Raises ``RequestError`` for unknown names."""
        names = [item.name for item in fields(cls)]
        if unknown := [name for name in values if name not in names]:
            raise RequestError(f"unknown field {unknown[0]!r}; expected {', '.join(names)}")
        try:
            regions = regions_from(values.get("regions", ()))
        except TypeError as error:
            raise RequestError(f"regions: expected objects with a prompt and a box or a polygon ({error})") from error
        return cls(**{**values, "regions": regions})

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        # Through JSON, so that tuples become lists as in a file that is read again.
        return dict(json.loads(json.dumps(asdict(self))))

    @property
    def parts(self) -> Parts:
        """The ``fast`` preset uses few-step weights where the model has them."""
        return Parts(few_steps=None if self.preset == "fast" else False)

    def request(
        self, given: Path | None = None, slider_map: Path | None = None, redo_of: Path | None = None
    ) -> Request:
        """The request. Raises ``InputError``.

        - ``given``: a picture to start from; ``slider_map``: a painted Slider map.
        - ``redo_of``: for a redo, the finished picture; the request has its size instead of the form's.
        """

        def shape() -> Size:
            return picture_size(given) if given else Size.parse(inspect_model(self.model, self.parts)["native_size"])

        size, dpi = (picture_size(redo_of), None) if redo_of else asked_size(self.size, None, shape)
        request = Request(
            prompt=self.prompt,
            size=size,
            negative_prompt=self.negative_prompt,
            seed=self.seed,
            model=self.model,
            from_image=None if given is None else str(given),
            dpi=dpi,
            method=PRESETS[self.preset],
            parts=self.parts,
            regions=self.regions,
        )
        own = {"slider": self.slider, "slider_map": None if slider_map is None else str(slider_map)}
        return request.with_method(**{name: value for name, value in own.items() if value is not None})

    def command(self, given: Path | None = None, slider_map: Path | None = None, regions: Path | None = None) -> str:
        """The command line that makes the same picture; ``regions``: the file that contains them."""
        words = ["pixelsmith", "generate", self.prompt, "--size", self.size, "--seed", str(self.seed)]
        words += ["--preset", self.preset] if self.preset != "default" else []
        words += ["--negative-prompt", self.negative_prompt] if self.negative_prompt else []
        words += ["--model", self.model] if self.model != EMBEDDED else []
        words += ["--slider", f"{self.slider:g}"] if self.slider is not None else []
        for name, path in (("--from-image", given), ("--slider-map", slider_map), ("--regions", regions)):
            words += [name, str(path)] if path else []
        return shlex.join([*words, "--output", "picture.tif"])

    def with_seed(self, seed: int) -> Form:
        return replace(self, seed=seed)
