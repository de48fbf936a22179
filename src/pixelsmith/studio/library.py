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
from pixelsmith.studio.jobs import FORMAT, JOB_FILE, JOB_NAME, UNFINISHED, Job, Kind, check_job, file_in
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
    """A folder of a library, with its form; ``given`` and ``map`` are names of files in it, as in ``Job``."""

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
        """The files of its given picture, its Slider map and its regions, in the order of ``Form.command``."""
        return self.given_path, self.map_path, self.regions_path

    @property
    def regions_path(self) -> Path | None:
        return self.folder / _REGIONS_FILE if self.form.regions else None

    def jobs(self) -> list[Job]:
        """All jobs that can be read, in the order in which they were created."""
        found = []
        for folder in sorted(self.folder.iterdir()):
            if JOB_NAME.fullmatch(folder.name):
                with suppress(RunError):
                    found.append(Job.read(folder))
        return found

    def job(self, name: str) -> Job:
        """A job by its name. Raises ``LookupError``."""
        if not JOB_NAME.fullmatch(name) or not (self.folder / name / JOB_FILE).is_file():
            raise LookupError(name)
        return Job.read(self.folder / name)

    def new(self, kind: Kind, form: Form, **values: Any) -> Job:
        """A new job, not yet on disk. Raises ``RequestError`` for invalid values."""
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
            raise RequestError(f"of: expected the name of a job with a finished picture, got {of!r}") from error
        if not before.output.is_file():
            raise RequestError(f"of: {of} has no finished picture; wait until it is done")
        own = replace(form, size=before.form.size, regions=())
        Region(own.prompt, polygon=polygon, unit="percent").corners(picture_size(before.output))
        return own

    def versions(self, job: Job) -> list[Job]:
        """The finished versions of the picture that a job belongs to, oldest first: the grown one and all redos."""
        grown: dict[str, str] = {}
        for one in (jobs := self.jobs()):
            # A version comes after the one it was made from; if that was removed by hand, it belongs to no picture.
            if one.kind == "grow":
                grown[one.folder.name] = one.folder.name
            elif one.kind == "redo" and one.of in grown:
                grown[one.folder.name] = grown[one.of]
        picture = grown.get(job.folder.name)
        return [one for one in jobs if picture and grown.get(one.folder.name) == picture and one.output.is_file()]

    def use(self, version: Job) -> list[Job]:
        """Make a version the current one; later ones are marked as undone. Returns the jobs that changed."""
        later = [job for job in self.versions(version) if job.folder.name > version.folder.name]
        changed = [replace(job, undone=True) for job in later if not job.undone]
        changed += [replace(version, undone=False)] if version.undone else []
        for job in changed:
            job.save()
        return changed

    def remove_job(self, job: Job) -> list[Job]:
        """Remove a job with its results; versions made from a redo are attached to the one before it. Returns those.

        ``job`` has its current state. Raises ``RequestError`` while it, or a version made from it, waits or runs, and
        for a grown picture with versions.
        """
        after = [one for one in self.jobs() if one.of == job.folder.name]
        if job.state in UNFINISHED:
            raise RequestError(f"{job.id}: it is {job.state}; pause it first")
        if any(one.state in UNFINISHED for one in after):
            raise RequestError(f"{job.id}: another version is being made from it; wait, or pause that job")
        if after and job.kind != "redo":
            raise RequestError(f"{job.id}: other versions were made from it; remove those first")
        changed = [replace(one, of=job.of) for one in after]
        for one in changed:
            one.save()
        shutil.rmtree(job.folder)
        return changed

    def save(self) -> None:
        """Write the form, and the regions as a file for the command line."""
        pictures = {"given": self.given, "map": self.map}
        values = {"format": FORMAT, "form": self.form.to_dict(), "created": self.created, **pictures}
        write_whole(self.folder / _PROJECT_FILE, json.dumps(values, indent=1).encode())
        if self.regions_path is not None:
            write_whole(self.regions_path, json.dumps(self.form.to_dict()["regions"], indent=1).encode())

    def with_upload(self, kind: Picture, content: bytes) -> Project:
        """The project with an uploaded picture. Raises ``PictureError`` if that cannot be read."""
        name = f"{kind}-{hashlib.sha256(content).hexdigest()[:8]}"
        partial = self.folder / f"{name}{PARTIAL}"
        write_whole(partial, content)
        try:
            size = picture_size(partial)
            if size.area > MAX_GIVEN:
                raise PictureError(f"expected a picture of at most {MAX_GIVEN:,} pixels, got one of {size}")
            picture, _ = read_start(partial)
            # Read completely, so that a truncated file is refused now.
            for window in tiles(size, _READ_SIDE):
                picture.read(window)
            partial.replace(self.folder / name)
        finally:
            partial.unlink(missing_ok=True)
        return self.with_picture(kind, name)

    def with_picture(self, kind: Picture, name: str | None) -> Project:
        """The project with another file of this kind, or none."""
        return replace(self, given=name) if kind == "given" else replace(self, map=name)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for the page and for programs."""
        jobs = [job.to_dict() for job in self.jobs()]
        about = {"name": self.name, "created": self.created, "given": self.given, "map": self.map}
        return about | {"form": self.form.to_dict(), "jobs": jobs}


class Library:
    """The projects in a folder, which is created if needed. Raises ``RequestError`` if it cannot be."""

    def __init__(self, folder: Path) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RequestError(f"{folder}: projects cannot be stored here ({error.strerror})") from error
        self.folder = folder.resolve()

    def __iter__(self) -> Iterator[Project]:
        """All projects, newest first."""
        found = []
        for folder in self.folder.iterdir():
            with suppress(LookupError):
                found.append(self.project(folder.name))
        return iter(sorted(found, key=lambda project: project.created, reverse=True))

    def project(self, name: str) -> Project:
        """A project by its name. Raises ``LookupError`` if there is none, or if it is a symbolic link."""
        folder = self.folder / name
        if not _PROJECT_NAME.fullmatch(name) or folder.is_symlink():
            raise LookupError(name)
        try:
            values = read_object(read_whole(folder / _PROJECT_FILE))
            pictures = {name: values.get(name) for name in get_args(Picture)}
            if not all(name is None or _PICTURE_NAME.fullmatch(name) for name in pictures.values()):
                raise ValueError("a name in 'given' or 'map' is not that of an uploaded picture")
            return Project(folder, Form.from_dict(values["form"]), float(values["created"]), **pictures)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise LookupError(name) from error

    def create(self, form: Form) -> Project:
        """Create a project, named by the first words of its prompt."""
        words = re.findall(r"[a-z0-9]+", form.prompt.lower())[:_WORDS_OF_NAME]
        folder = self.folder / "-".join([*(word[:12] for word in words), secrets.token_hex(3)])
        folder.mkdir()
        project = Project(folder, form, time.time())
        project.save()
        return project

    def remove(self, name: str) -> None:
        """Delete a project with everything in it. Raises ``LookupError``."""
        shutil.rmtree(self.project(name).folder)
