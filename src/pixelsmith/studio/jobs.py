"""Jobs of a project: each is a folder with ``job.json`` and its results."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from pixelsmith.config.regions import Point
from pixelsmith.config.request import Request
from pixelsmith.errors import RequestError, RunError
from pixelsmith.studio.form import Form
from pixelsmith.system.durable import read_object, read_whole, write_whole

Kind = Literal["candidates", "place", "grow", "redo"]
State = Literal["waiting", "running", "paused", "done", "failed"]
UNFINISHED: tuple[State, ...] = ("waiting", "running")
"""States of jobs that the queue has."""
VALUES: Mapping[str, tuple[str, ...]] = {
    "candidates": ("seeds",), "place": ("at", "sliders"), "grow": (), "redo": ("of", "polygon"),
}  # fmt: skip
"""The values that a job of each kind has besides its form."""
FORMAT = 1
"""Version of the files in a library."""
MAX_CANDIDATES = 16
MAX_POSITIONS = 9
MAX_CORNERS = 2000
"""Of the outline of a redo."""
JOB_NAME = re.compile(rf"[0-9]{{4,9}}-(?:{'|'.join(get_args(Kind))})")
JOB_FILE, OUTPUT = "job.json", "picture.tif"


@dataclass(frozen=True)
class Job:
    """A job and its state, stored in ``folder``.

    - ``form``: the form that it was started with. ``seeds``: for candidates. ``at`` and ``sliders``: for a place, as in
      ``LoadedModel.preview``. ``given`` and ``map``: names of files in the project: the picture to start from and the
      painted Slider map.
    - ``of`` and ``polygon``: for a redo, the name of the job with the picture, and the corners of the part in percent
      of width and height. The result is a new version of that picture; ``undone``: an earlier version is current.
    - ``state``: ``waiting`` in the queue, ``running``, ``paused``, ``done``, or ``failed`` with the message ``error``.
    - ``share``: 0..1, the part of the work that is done; ``seconds_left``: where known; ``doing``: the current phase.
      ``warnings``: what was said of it so far, each once.
    """

    folder: Path
    kind: Kind
    form: Form
    seeds: tuple[int, ...] = ()
    at: tuple[float, float] = (0.5, 0.5)
    sliders: tuple[float, ...] = ()
    given: str | None = None
    map: str | None = None
    of: str | None = None
    polygon: tuple[Point, ...] = ()
    undone: bool = False
    state: State = "waiting"
    error: str | None = None
    share: float = 0.0
    seconds_left: float | None = None
    doing: str = ""
    warnings: tuple[str, ...] = ()
    created: float = field(default_factory=time.time)

    @property
    def id(self) -> str:
        """The names of its project and its folder: ``project/job``."""
        return f"{self.project}/{self.folder.name}"

    @property
    def project(self) -> str:
        return self.folder.parent.name

    @property
    def request(self) -> Request:
        """The request to compute. Raises ``InputError``."""
        folder = self.folder.parent
        if self.kind == "candidates":
            # Candidates always come from the model, even where the project starts from a picture.
            return self.form.request()
        if self.kind == "redo":
            return self.form.request(redo_of=self.before)
        return self.form.request(given=file_in(folder, self.given), slider_map=file_in(folder, self.map))

    @property
    def before(self) -> Path:
        """For a redo: the file of the picture before it."""
        return self.folder.parent / (self.of or "") / OUTPUT

    @property
    def mask(self) -> Path:
        """For a redo: the file of the part as a mask."""
        return self.folder / "mask.png"

    @property
    def run_dir(self) -> Path:
        return self.folder / "run"

    @property
    def output(self) -> Path:
        return self.folder / OUTPUT

    def picture_of(self, number: float) -> Path:
        """The file of one result: of a seed, or of a position of the Slider."""
        return self.folder / (f"{number}.png" if self.kind == "candidates" else f"{number:.2f}.png")

    @property
    def results(self) -> list[float]:
        """The seeds, or positions of the Slider, that are finished."""
        wanted = {"candidates": self.seeds, "place": self.sliders}.get(self.kind, ())
        return [number for number in wanted if self.picture_of(number).is_file()]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for the page and for programs."""
        return self._kept() | {"id": self.id, "results": self.results, "file": self.output.is_file()}

    def created_on_disk(self) -> Job:
        """Create its folder and save it there."""
        self.folder.mkdir()
        self.save()
        return self

    def save(self) -> None:
        """Write it to its folder."""
        write_whole(self.folder / JOB_FILE, json.dumps(self._kept(), indent=1).encode())

    def _kept(self) -> dict[str, Any]:
        values = {name: value for name, value in vars(self).items() if name not in ("folder", "form")}
        return values | {"format": FORMAT, "form": self.form.to_dict()}

    @classmethod
    def read(cls, folder: Path) -> Job:
        """Read the job in a folder. Raises ``RunError`` if it cannot be used."""
        try:
            values = read_object(read_whole(folder / JOB_FILE))
            if values.pop("format") != FORMAT:
                raise ValueError("it has another format")
            for name in ("seeds", "at", "sliders"):
                values[name] = tuple(values[name])
            values["warnings"] = tuple(values.get("warnings", ()))
            values["polygon"] = tuple(tuple(corner) for corner in values.get("polygon", ()))
            if values.get("of") is not None and not JOB_NAME.fullmatch(values["of"]):
                raise ValueError("the name in 'of' is not that of a job")
            return cls(folder, **values | {"form": Form.from_dict(values["form"])})
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunError(f"{folder}: {JOB_FILE} cannot be used ({error})") from error


def file_in(folder: Path, name: str | None) -> Path | None:
    """The path of a project's file; ``None`` where it has none."""
    return None if name is None else folder / name


def check_job(kind: str, values: Mapping[str, Any]) -> None:
    """Check the values of a new job. Raises ``RequestError``."""
    if kind not in get_args(Kind):
        raise RequestError(f"kind: expected one of {', '.join(get_args(Kind))}, got {kind!r}")
    if unknown := set(values) - set(VALUES[kind]):
        raise RequestError(
            f"{min(unknown)}: not a value of {kind!r} jobs; they take {', '.join(VALUES[kind]) or 'none'}"
        )
    seeds, at, sliders = (values.get(name, ()) for name in ("seeds", "at", "sliders"))
    if kind == "candidates" and not (0 < len(seeds) <= MAX_CANDIDATES and all(map(_is_seed, seeds))):
        raise RequestError(f"seeds: expected 1 to {MAX_CANDIDATES} whole numbers from 0, got {list(seeds)}")
    if kind == "place":
        if len(at) != 2 or not all(map(_is_share, at)):
            raise RequestError(f"at: expected two numbers in 0..1 such as [0.3, 0.6], got {list(at)}")
        if not 0 < len(sliders) <= MAX_POSITIONS or not all(map(_is_share, sliders)):
            raise RequestError(f"sliders: expected 1 to {MAX_POSITIONS} numbers in 0..1, got {list(sliders)}")
    if kind == "redo":
        _check_outline(values.get("of"), values.get("polygon", ()))


def _check_outline(of: object, polygon: tuple[Any, ...]) -> None:
    if not isinstance(of, str):
        raise RequestError(f"of: expected the name of a job with a finished picture, got {of!r}")
    corners = all(isinstance(corner, list | tuple) and len(corner) == 2 for corner in polygon)
    if not 3 <= len(polygon) <= MAX_CORNERS or not corners:
        raise RequestError(f"polygon: expected 3 to {MAX_CORNERS:,} corners [x, y] in percent")
    xs, ys = zip(*polygon, strict=True)
    if not all(map(_is_percent, (*xs, *ys))):
        raise RequestError("polygon: expected corners in 0..100 percent of width and height")
    if min(xs) == max(xs) or min(ys) == max(ys):
        raise RequestError("polygon: its area is zero")


def _is_percent(value: object) -> bool:
    return type(value) in (int, float) and 0 <= value <= 100  # type: ignore[operator]


def _is_seed(value: object) -> bool:
    return type(value) is int and 0 <= value < 2**53


def _is_share(value: object) -> bool:
    return type(value) in (int, float) and 0 <= value <= 1  # type: ignore[operator]
