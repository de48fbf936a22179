"""Projects on disk: a folder each, with what was asked for, a given picture, and a folder for each job.

    FOLDER/islands-in-a-bay-3f9a12/
      project.json            the form as it was left
      regions.json            its regions with prompts of their own, as pixelsmith generate --regions reads them
      given-5d41402a          a picture to start from, if there is one
      map-7b52009b            a painted Slider map, if there is one
      0001-candidates/        job.json, 17.png, 18.png, ... (named by their seeds)
      0002-place/             job.json, 0.30.png, ... (named by positions of the Slider)
      0003-grow/              job.json, run/ (a run directory), picture.tif
      0004-redo/              job.json, mask.png (the place), picture.tif (the next version of that picture)

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

from pixelsmith.config.regions import Point, Region
from pixelsmith.config.request import Request
from pixelsmith.errors import PictureError, RequestError, RunError
from pixelsmith.geometry import tiles
from pixelsmith.pixels.reading import picture_size, read_start
from pixelsmith.studio.form import Form
from pixelsmith.system.durable import PARTIAL, read_object, read_whole, write_whole

Kind = Literal["candidates", "place", "grow", "redo"]
VALUES: Mapping[str, tuple[str, ...]] = {
    "candidates": ("seeds",), "place": ("at", "sliders"), "grow": (), "redo": ("of", "polygon"),
}  # fmt: skip
"""What a job of each kind is given besides its form."""
State = Literal["waiting", "running", "paused", "done", "failed"]
FORMAT = 1
"""Of the files of a library."""
MOST_CANDIDATES = 16
MOST_POSITIONS = 9
MOST_GIVEN = 250_000_000
"""Pixels of a picture that is given on the page; larger ones are for the command line."""
_PROJECT, _JOB, _OUTPUT = "project.json", "job.json", "picture.tif"
MOST_CORNERS = 2000
"""Of the outline of a place."""
_REGIONS = "regions.json"
Picture = Literal["given", "map"]
"""What a project has of the user's own: a picture to start from, and a painted Slider map."""
_PICTURE_NAME = re.compile(rf"(?:{'|'.join(get_args(Picture))})-[0-9a-f]{{8}}")
_PROJECT_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,79}")
_JOB_NAME = re.compile(rf"[0-9]{{4,9}}-(?:{'|'.join(get_args(Kind))})")
_WORDS_OF_NAME = 5
_READ_SIDE = 2048


@dataclass(frozen=True)
class Job:
    """Something to compute, and how far it is. ``folder`` is its own; the rest is kept in it.

    - ``form``: what of; ``seeds``: of candidates; ``at`` and ``sliders``: of a place, as ``LoadedModel.preview`` takes
      them; ``given`` and ``map``: the files in the project that the picture starts from, if it does not start from the
      model's, and of its painted Slider map.
    - ``of`` and ``polygon``: of a place that is made again: the job whose picture has it, and its corners in percent of
      width and height. The result is a version of that picture; ``undone``: an earlier one has taken its place.
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
    map: str | None = None
    of: str | None = None
    polygon: tuple[Point, ...] = ()
    undone: bool = False
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
    def request(self) -> Request:
        """What it is made of. Raises ``InputError``."""
        folder = self.folder.parent
        if self.kind == "candidates":
            # They are what the model makes, whatever the project starts from.
            return self.form.request()
        if self.kind == "redo":
            return self.form.request(redo_of=self.before)
        return self.form.request(_inside(folder, self.given), _inside(folder, self.map))

    @property
    def before(self) -> Path:
        """The file that a place of is made again."""
        return self.folder.parent / (self.of or "") / _OUTPUT

    @property
    def mask(self) -> Path:
        """Where the place is kept as a picture."""
        return self.folder / "mask.png"

    @property
    def run_dir(self) -> Path:
        return self.folder / "run"

    @property
    def output(self) -> Path:
        return self.folder / _OUTPUT

    def picture_of(self, number: float) -> Path:
        """Where the picture of a seed or of a position of the Slider is."""
        return self.folder / (f"{number}.png" if self.kind == "candidates" else f"{number:.2f}.png")

    @property
    def results(self) -> list[float]:
        """The seeds, or positions of the Slider, whose pictures are there."""
        wanted = {"candidates": self.seeds, "place": self.sliders}.get(self.kind, ())
        return [number for number in wanted if self.picture_of(number).is_file()]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for the page and for programs."""
        return self._kept() | {"id": self.id, "results": self.results, "file": self.output.is_file()}

    def begun(self) -> Job:
        """The same in a folder of its own, where it waits."""
        self.folder.mkdir()
        self.save()
        return self

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
            values["polygon"] = tuple(tuple(corner) for corner in values.get("polygon", ()))
            if values.get("of") is not None and not _JOB_NAME.fullmatch(values["of"]):
                raise ValueError("what it is a version of has another name")
            return cls(folder, **values | {"form": Form.from_dict(values["form"])})
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunError(f"{folder}: its {_JOB} cannot be used ({error})") from error


@dataclass(frozen=True)
class Project:
    """A folder of a library; ``form``: as it was left; ``given`` and ``map``: files in it, as in ``Job``."""

    folder: Path
    form: Form
    created: float
    given: str | None = None
    map: str | None = None

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def given_path(self) -> Path | None:
        return _inside(self.folder, self.given)

    @property
    def map_path(self) -> Path | None:
        return _inside(self.folder, self.map)

    @property
    def paths(self) -> tuple[Path | None, Path | None, Path | None]:
        """Of its given picture, its Slider map and its regions, as ``Form.command`` takes them."""
        return self.given_path, self.map_path, self.regions_path

    @property
    def regions_path(self) -> Path | None:
        return self.folder / _REGIONS if self.form.regions else None

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

    def new(self, kind: Kind, form: Form, **values: Any) -> Job:
        """A job that is nowhere yet. Raises ``RequestError`` for values that make no sense."""
        check_job(kind, values)
        pictures = {"given": self.given, "map": self.map}
        if kind == "redo":
            form, pictures = self._form_of_redo(form, **values), {}
        taken = [int(path.name.split("-")[0]) for path in self.folder.iterdir() if _JOB_NAME.fullmatch(path.name)]
        folder = self.folder / f"{max(taken, default=0) + 1:04d}-{kind}"
        return Job(folder, kind, form, **pictures, **values)

    def _form_of_redo(self, form: Form, of: str, polygon: tuple[Point, ...]) -> Form:
        """The form of a redo: its own prompt, seed and Slider; the size of the picture; no regions."""
        try:
            before = self.job(of)
        except LookupError as error:
            raise RequestError(f"of: expected a job with a finished picture, got {of!r}") from error
        if not before.output.is_file():
            raise RequestError(f"of: {of} has no finished picture; wait until it is done")
        own = replace(form, size=before.form.size, regions=())
        Region(own.prompt, polygon=polygon, unit="percent").corners(picture_size(before.output))
        return own

    def versions(self, job: Job) -> list[Job]:
        """The finished versions of a picture, the first one first: what has grown, and what was made of it again."""
        grown: dict[str, str] = {}
        for one in (jobs := self.jobs()):
            # Versions come after what they are made from; one whose origin was removed by hand belongs to no picture.
            if one.kind == "grow":
                grown[one.folder.name] = one.folder.name
            elif one.kind == "redo" and one.of in grown:
                grown[one.folder.name] = grown[one.of]
        picture = grown.get(job.folder.name)
        return [one for one in jobs if picture and grown.get(one.folder.name) == picture and one.output.is_file()]

    def use(self, version: Job) -> list[Job]:
        """Let a version stand for its picture: later ones are undone, and stay. Returns those that changed."""
        later = [job for job in self.versions(version) if job.folder.name > version.folder.name]
        changed = [replace(job, undone=True) for job in later if not job.undone]
        changed += [replace(version, undone=False)] if version.undone else []
        for job in changed:
            job.save()
        return changed

    def forget(self, version: Job) -> list[Job]:
        """Remove a version that was made again; those made from it follow the one before. Returns these.

        Raises as ``check_version``.
        """
        changed = [replace(job, of=version.of) for job in self.check_version(version)]
        for job in changed:
            job.save()
        shutil.rmtree(version.folder)
        return changed

    def check_version(self, version: Job) -> list[Job]:
        """What was made from a version that is to be removed.

        Raises ``RequestError`` for any other job, and while another one is made from it.
        """
        if version.kind != "redo":
            raise RequestError(f"{version.id}: expected a place that was made again; remove the project to remove all")
        after = [job for job in self.jobs() if job.of == version.folder.name]
        if any(job.state in ("waiting", "running") for job in after):
            raise RequestError(f"{version.id}: another version is made from it; wait, or pause that")
        return after

    def save(self) -> None:
        """Keep its form, and its regions for the command line."""
        pictures = {"given": self.given, "map": self.map}
        values = {"format": FORMAT, "form": self.form.to_dict(), "created": self.created, **pictures}
        write_whole(self.folder / _PROJECT, json.dumps(values, indent=1).encode())
        if self.regions_path is not None:
            write_whole(self.regions_path, json.dumps(self.form.to_dict()["regions"], indent=1).encode())

    def keeping(self, kind: Picture, content: bytes) -> Project:
        """The same with this picture. Raises ``PictureError`` where it is none that can be read."""
        name = f"{kind}-{hashlib.sha256(content).hexdigest()[:8]}"
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
        return self.with_picture(kind, name)

    def with_picture(self, kind: Picture, name: str | None) -> Project:
        """The same with another file of this kind, or with none."""
        return replace(self, given=name) if kind == "given" else replace(self, map=name)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for the page and for programs."""
        jobs = [job.to_dict() for job in self.jobs()]
        about = {"name": self.name, "created": self.created, "given": self.given, "map": self.map}
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
            pictures = {name: values.get(name) for name in get_args(Picture)}
            if not all(name is None or _PICTURE_NAME.fullmatch(name) for name in pictures.values()):
                raise ValueError("its pictures have other names")
            return Project(folder, Form.from_dict(values["form"]), float(values["created"]), **pictures)
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
    if unknown := set(values) - set(VALUES[kind]):
        raise RequestError(
            f"{min(unknown)}: a job {kind!r} has no such value, only {', '.join(VALUES[kind]) or 'none'}"
        )
    seeds, at, sliders = (values.get(name, ()) for name in ("seeds", "at", "sliders"))
    if kind == "candidates" and not (0 < len(seeds) <= MOST_CANDIDATES and all(map(_is_seed, seeds))):
        raise RequestError(f"seeds: expected 1 to {MOST_CANDIDATES} whole numbers from 0, got {list(seeds)}")
    if kind == "place":
        if len(at) != 2 or not all(map(_is_share, at)):
            raise RequestError(f"at: expected two shares in 0..1 such as [0.3, 0.6], got {list(at)}")
        if not 0 < len(sliders) <= MOST_POSITIONS or not all(map(_is_share, sliders)):
            raise RequestError(f"sliders: expected 1 to {MOST_POSITIONS} shares in 0..1, got {list(sliders)}")
    if kind == "redo":
        _check_outline(values.get("of"), values.get("polygon", ()))


def _check_outline(of: object, polygon: tuple[Any, ...]) -> None:
    if not isinstance(of, str):
        raise RequestError(f"of: expected the name of a job with a finished picture, got {of!r}")
    corners = all(isinstance(corner, list | tuple) and len(corner) == 2 for corner in polygon)
    if not 3 <= len(polygon) <= MOST_CORNERS or not corners:
        raise RequestError(f"polygon: expected 3 to {MOST_CORNERS:,} corners [x, y] in percent")
    xs, ys = zip(*polygon, strict=True)
    if not all(map(_is_percent, (*xs, *ys))):
        raise RequestError("polygon: expected corners in 0..100 percent of width and height")
    if min(xs) == max(xs) or min(ys) == max(ys):
        raise RequestError("polygon: it has no inside; draw around a place")


def _inside(folder: Path, name: str | None) -> Path | None:
    return None if name is None else folder / name


def _is_percent(value: object) -> bool:
    return type(value) in (int, float) and 0 <= value <= 100  # type: ignore[operator]


def _is_seed(value: object) -> bool:
    return type(value) is int and 0 <= value < 2**53


def _is_share(value: object) -> bool:
    return type(value) in (int, float) and 0 <= value <= 1  # type: ignore[operator]
