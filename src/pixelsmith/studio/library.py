"""Projects on disk: a folder each, with its form, pictures that the user gave, and a folder for each job.

    FOLDER/islands-in-a-bay-3f9a12/
      project.json            the form
      regions.json            its regions with prompts of their own, for pixelsmith generate --regions
      given-5d41402a          a picture to start from, if there is one
      map-7b52009b            a painted Slider map, if there is one
      0001-candidates/        job.json, 17.png, 18.png, ... (named by seed)
      0002-place/             job.json, 0.30.png, ... (named by position of the Slider)
      0003-grow/              job.json, run/ (a run directory), picture.tif
      0004-redo/              job.json, mask.png (the part that changes), picture.tif (the new version)

Every file is written atomically, so nothing is lost however the server ends.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from pixelsmith.config.regions import Point, Region
from pixelsmith.errors import PictureError, RequestError, RunError
from pixelsmith.geometry import tiles
from pixelsmith.pixels.reading import picture_size, read_start
from pixelsmith.studio.form import Form
from pixelsmith.studio.jobs import FORMAT, JOB_FILE, JOB_NAME, Job, Kind, check_job, file_in
from pixelsmith.system.durable import PARTIAL, read_object, read_whole, write_whole

Picture = Literal["given", "map"]
"""Pictures that the user gives to a project: one to start from, and a painted Slider map."""
MAX_GIVEN = 250_000_000
"""Pixels of a picture that is uploaded; larger ones are for the command line."""
_PROJECT_FILE, _REGIONS_FILE = "project.json", "regions.json"
_PICTURE_NAME = re.compile(rf"(?:{'|'.join(get_args(Picture))})-[0-9a-f]{{8}}")
_PROJECT_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,79}")
_WORDS_OF_NAME = 5
_READ_SIDE = 2048


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
        return file_in(self.folder, self.given)

    @property
    def map_path(self) -> Path | None:
        return file_in(self.folder, self.map)

    @property
    def paths(self) -> tuple[Path | None, Path | None, Path | None]:
        """Of its given picture, its Slider map and its regions, as ``Form.command`` takes them."""
        return self.given_path, self.map_path, self.regions_path

    @property
    def regions_path(self) -> Path | None:
        return self.folder / _REGIONS_FILE if self.form.regions else None

    def jobs(self) -> list[Job]:
        """All of them, in the order in which they were asked for."""
        found = []
        for folder in sorted(self.folder.iterdir()):
            if JOB_NAME.fullmatch(folder.name):
                with suppress(RunError):
                    found.append(Job.read(folder))
        return found

    def job(self, name: str) -> Job:
        """One by its name. Raises ``LookupError``."""
        if not JOB_NAME.fullmatch(name) or not (self.folder / name / JOB_FILE).is_file():
            raise LookupError(name)
        return Job.read(self.folder / name)

    def new(self, kind: Kind, form: Form, **values: Any) -> Job:
        """A job that is nowhere yet. Raises ``RequestError`` for values that make no sense."""
        check_job(kind, values)
        if kind == "redo":
            form = self._form_of_redo(form, **values)
        else:
            values |= {"given": self.given, "map": self.map}
        taken = [int(path.name.split("-")[0]) for path in self.folder.iterdir() if JOB_NAME.fullmatch(path.name)]
        folder = self.folder / f"{max(taken, default=0) + 1:04d}-{kind}"
        return Job(folder, kind, form, **values)

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
        write_whole(self.folder / _PROJECT_FILE, json.dumps(values, indent=1).encode())
        if self.regions_path is not None:
            write_whole(self.regions_path, json.dumps(self.form.to_dict()["regions"], indent=1).encode())

    def keeping(self, kind: Picture, content: bytes) -> Project:
        """The same with this picture. Raises ``PictureError`` where it is none that can be read."""
        name = f"{kind}-{hashlib.sha256(content).hexdigest()[:8]}"
        partial = self.folder / f"{name}{PARTIAL}"
        write_whole(partial, content)
        try:
            size = picture_size(partial)
            if size.area > MAX_GIVEN:
                raise PictureError(f"expected a picture of at most {MAX_GIVEN:,} pixels, got one of {size}")
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
            values = read_object(read_whole(folder / _PROJECT_FILE))
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
