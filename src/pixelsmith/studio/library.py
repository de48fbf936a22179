"""Projects on disk: a folder each, with what was asked for, a given picture, and a folder for each job.

    FOLDER/islands-in-a-bay-3f9a12/
      project.json            the form as it was left
      given-5d41402a          a picture to start from, if there is one
      0001-candidates/        job.json, 17.png, 18.png, ... (named by their seeds)
      0002-place/             job.json, 0.30.png, ... (named by positions of the Slider)
      0003-grow/              job.json, run/ (a run directory), picture.tif

Everything is written whole or not at all, so nothing is lost however the server ends.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

from pixelsmith.errors import PictureError, RequestError, RunError
from pixelsmith.geometry import tiles
from pixelsmith.pixels.reading import picture_size, read_start
from pixelsmith.studio.form import Form
from pixelsmith.system.durable import PARTIAL, read_object, read_whole, write_whole

Kind = Literal["candidates", "place", "grow"]
State = Literal["waiting", "running", "paused", "done", "failed"]
FORMAT = 1
"""Of the files of a library."""
MOST_CANDIDATES = 16
MOST_POSITIONS = 9
MOST_GIVEN = 250_000_000
"""Pixels of a picture that is given on the page; larger ones are for the command line."""
_PROJECT, _JOB = "project.json", "job.json"
_GIVEN = "given"
_GIVEN_NAME = re.compile(r"given-[0-9a-f]{8}")
_PROJECT_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,79}")
_JOB_NAME = re.compile(rf"[0-9]{{4,9}}-(?:{'|'.join(get_args(Kind))})")
_WORDS_OF_NAME = 5
_READ_SIDE = 2048


@dataclass(frozen=True)
class Job:
    """Something to compute, and how far it is. ``folder`` is its own; the rest is kept in it.

    - ``form``: what of; ``seeds``: of candidates; ``at`` and ``sliders``: of a place, as ``LoadedModel.preview`` takes
      them; ``given``: the file in the project that the picture starts from, if it does not start from the model's.
    - ``state``: ``waiting`` for its turn, ``running``, ``paused``, ``done`` or ``failed``, with ``error`` in words.
    - ``share``: 0..1 of the work that is done; ``seconds_left``: as far as it is known; ``doing``: what is done now.
    """

    folder: Path
    kind: Kind
    form: Form
    seeds: tuple[int, ...] = ()
    at: tuple[float, float] = (0.5, 0.5)
    sliders: tuple[float, ...] = ()
    given: str | None = None
    state: State = "waiting"
    error: str | None = None
    share: float = 0.0
    seconds_left: float | None = None
    doing: str = ""
    created: float = field(default_factory=time.time)

    @property
    def id(self) -> str:
        """Its project and its own name."""
        return f"{self.project}/{self.folder.name}"

    @property
    def project(self) -> str:
        return self.folder.parent.name

    @property
    def given_path(self) -> Path | None:
        return None if self.given is None else self.folder.parent / self.given

    @property
    def run_dir(self) -> Path:
        return self.folder / "run"

    @property
    def output(self) -> Path:
        return self.folder / "picture.tif"

    def picture_of(self, number: float) -> Path:
        """Where the picture of a seed or of a position of the Slider is."""
        return self.folder / (f"{number}.png" if self.kind == "candidates" else f"{number:.2f}.png")

    @property
    def results(self) -> list[float]:
        """The seeds, or positions of the Slider, whose pictures are there."""
        wanted = {"candidates": self.seeds, "place": self.sliders, "grow": ()}[self.kind]
        return [number for number in wanted if self.picture_of(number).is_file()]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for the page and for programs."""
        return self._kept() | {"id": self.id, "results": self.results, "file": self.output.is_file()}

    def save(self) -> None:
        """Keep it in its folder."""
        write_whole(self.folder / _JOB, json.dumps(self._kept(), indent=1).encode())

    def _kept(self) -> dict[str, Any]:
        values = {name: value for name, value in vars(self).items() if name not in ("folder", "form")}
        return values | {"format": FORMAT, "form": self.form.to_dict()}

    @classmethod
    def read(cls, folder: Path) -> Job:
        """The one in a folder. Raises ``RunError`` where there is none that can be read."""
        try:
            values = read_object(read_whole(folder / _JOB))
            if values.pop("format") != FORMAT:
                raise ValueError("its format is another one")
            for name in ("seeds", "at", "sliders"):
                values[name] = tuple(values[name])
            return cls(folder, **values | {"form": Form.from_dict(values["form"])})
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunError(f"{folder}: its {_JOB} cannot be used ({error})") from error


@dataclass(frozen=True)
class Project:
    """A folder of a library; ``form``: as it was left; ``given``: the file in it to start from, if there is one."""

    folder: Path
    form: Form
    created: float
    given: str | None = None

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def given_path(self) -> Path | None:
        return None if self.given is None else self.folder / self.given

    def jobs(self) -> list[Job]:
        """All of them, in the order in which they were asked for."""
        found = []
        for folder in sorted(self.folder.iterdir()):
            if _JOB_NAME.fullmatch(folder.name):
                with suppress(RunError):
                    found.append(Job.read(folder))
        return found

    def job(self, name: str) -> Job:
        """One by its name. Raises ``LookupError``."""
        if not _JOB_NAME.fullmatch(name) or not (self.folder / name / _JOB).is_file():
            raise LookupError(name)
        return Job.read(self.folder / name)

    def add(self, kind: Kind, form: Form, **values: Any) -> Job:
        """A new job in a folder of its own, which waits. Raises ``RequestError`` for values that make no sense."""
        check_job(kind, values)
        taken = [int(path.name.split("-")[0]) for path in self.folder.iterdir() if _JOB_NAME.fullmatch(path.name)]
        folder = self.folder / f"{max(taken, default=0) + 1:04d}-{kind}"
        folder.mkdir()
        job = Job(folder, kind, form, given=self.given, **values)
        job.save()
        return job

    def save(self) -> None:
        """Keep its form."""
        values = {"format": FORMAT, "form": self.form.to_dict(), "created": self.created, "given": self.given}
        write_whole(self.folder / _PROJECT, json.dumps(values, indent=1).encode())

    def giving(self, content: bytes) -> Project:
        """The same, which starts from this picture. Raises ``PictureError`` where it is none that can be read."""
        name = f"{_GIVEN}-{hashlib.sha256(content).hexdigest()[:8]}"
        partial = self.folder / f"{name}{PARTIAL}"
        write_whole(partial, content)
        try:
            size = picture_size(partial)
            if size.area > MOST_GIVEN:
                raise PictureError(f"expected a picture of at most {MOST_GIVEN:,} pixels, got one of {size}")
            picture, _ = read_start(partial)
            # All of it: a file that ends too early is told now.
            for window in tiles(size, _READ_SIDE):
                picture.read(window)
            partial.replace(self.folder / name)
        finally:
            partial.unlink(missing_ok=True)
        return replace(self, given=name)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for the page and for programs."""
        jobs = [job.to_dict() for job in self.jobs()]
        about = {"name": self.name, "created": self.created, "given": self.given}
        return about | {"form": self.form.to_dict(), "jobs": jobs}


class Library:
    """The projects in a folder, which is made where there is none. Raises ``RequestError`` where that cannot be."""

    def __init__(self, folder: Path) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RequestError(f"{folder}: it cannot be a library of projects ({error.strerror})") from error
        self.folder = folder.resolve()

    def __iter__(self) -> Iterator[Project]:
        """Its projects, the newest first."""
        found = []
        for folder in self.folder.iterdir():
            with suppress(LookupError):
                found.append(self.project(folder.name))
        return iter(sorted(found, key=lambda project: project.created, reverse=True))

    def project(self, name: str) -> Project:
        """One by its name. Raises ``LookupError`` for none, and for a link that leads elsewhere."""
        folder = self.folder / name
        if not _PROJECT_NAME.fullmatch(name) or folder.is_symlink():
            raise LookupError(name)
        try:
            values = read_object(read_whole(folder / _PROJECT))
            given = values["given"]
            if given is not None and not _GIVEN_NAME.fullmatch(given):
                raise ValueError("its picture to start from has another name")
            return Project(folder, Form.from_dict(values["form"]), float(values["created"]), given)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise LookupError(name) from error

    def create(self, form: Form) -> Project:
        """A new project, named by the first words of its prompt."""
        words = re.findall(r"[a-z0-9]+", form.prompt.lower())[:_WORDS_OF_NAME]
        folder = self.folder / "-".join([*(word[:12] for word in words), secrets.token_hex(3)])
        folder.mkdir()
        project = Project(folder, form, time.time())
        project.save()
        return project

    def remove(self, name: str) -> None:
        """A project with all that is in it. Raises ``LookupError``."""
        shutil.rmtree(self.project(name).folder)


def check_job(kind: str, values: Mapping[str, Any]) -> None:
    """What a job is asked to do. Raises ``RequestError``."""
    if kind not in get_args(Kind):
        raise RequestError(f"kind: expected one of {', '.join(get_args(Kind))}, got {kind!r}")
    seeds, at, sliders = (values.get(name, ()) for name in ("seeds", "at", "sliders"))
    if kind == "candidates" and not (0 < len(seeds) <= MOST_CANDIDATES and all(map(_is_seed, seeds))):
        raise RequestError(f"seeds: expected 1 to {MOST_CANDIDATES} whole numbers from 0, got {list(seeds)}")
    if kind == "place":
        if len(at) != 2 or not all(map(_is_share, at)):
            raise RequestError(f"at: expected two shares in 0..1 such as [0.3, 0.6], got {list(at)}")
        if not 0 < len(sliders) <= MOST_POSITIONS or not all(map(_is_share, sliders)):
            raise RequestError(f"sliders: expected 1 to {MOST_POSITIONS} shares in 0..1, got {list(sliders)}")


def _is_seed(value: object) -> bool:
    return type(value) is int and 0 <= value < 2**53


def _is_share(value: object) -> bool:
    return type(value) in (int, float) and 0 <= value <= 1  # type: ignore[operator]
