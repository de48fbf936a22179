"""The pictures of a project that can be viewed: the given one, candidates, stages and versions."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from pixelsmith.errors import InputError
from pixelsmith.pixels.zoomable import Zoomable, open_file
from pixelsmith.run.directory import RunDirectory
from pixelsmith.run.shown import TILE, Shown, show
from pixelsmith.studio.jobs import Job
from pixelsmith.studio.library import Project
from pixelsmith.web.tiles import number_of, region_of, small_of, tile_of

_OPEN_FILES = 64
_CACHED_TILES = 2000


@dataclass(frozen=True)
class Look:
    """A picture: ``key`` identifies it in URLs of the project, ``label`` is shown to people.

    ``picture``: for stages and versions, the job in which the picture grew; ``current``: for versions, whether it is
    the current one.
    """

    key: str
    label: str
    source: Zoomable
    growing: bool = False
    picture: str = ""
    current: bool = True

    def to_dict(self) -> dict[str, Any]:
        """Plain values for the page."""
        size = self.source.size
        about = {"key": self.key, "label": self.label, "growing": self.growing}
        about |= {"picture": self.picture, "current": self.current}
        return about | {"width": size.width, "height": size.height, "version": self.source.version, "tile": TILE}


class Looks:
    """The viewable pictures of all projects, with caches of open files and of tiles."""

    def __init__(self) -> None:
        self._file = lru_cache(maxsize=_OPEN_FILES)(_opened)
        self._runs: dict[Path, Shown] = {}
        self.tile = lru_cache(maxsize=_CACHED_TILES)(self._tile)

    def of(self, project: Project) -> list[Look]:
        """All pictures of a project; those that cannot be read are left out."""
        found: list[Look] = []
        if project.given_path is not None:
            with suppress(InputError, OSError):
                found.append(Look("given", "given picture", self._source_of_file(project.given_path)))
        grown = 0
        for job in project.jobs():
            if job.kind == "candidates":
                found += [self._candidate(job, int(seed)) for seed in job.results]
            elif job.kind == "grow":
                grown += 1
                with suppress(InputError, OSError):
                    found += self._stages(job, grown)
                    found += self._versions(project, job, grown)
        return found

    def cover(self, project: Project) -> str | None:
        """The key of a project's thumbnail: its newest picture. Candidates are not opened."""
        for job in reversed(project.jobs()):
            with suppress(InputError, OSError):
                if job.kind == "grow" and (looks := [*self._stages(job), *self._versions(project, job)]):
                    return [look for look in looks if look.current][-1].key
            if job.kind == "candidates" and job.results:
                return f"{job.folder.name}:{job.results[0]}"
        return None if project.given is None else "given"

    def source(self, project: Project, key: str) -> Zoomable:
        """A picture by its key. Raises ``LookupError``, and ``InputError`` if it cannot be read."""
        if key == "given":
            if project.given_path is None:
                raise LookupError(key)
            return self._source_of_file(project.given_path)
        name, _, number = key.partition(":")
        job = project.job(name)
        if job.kind == "grow":
            if job.run_dir not in self._runs:
                self._stages(job)
            return list(self._runs[job.run_dir].pictures.values())[number_of(number)]
        if job.kind == "redo" and number == "0" and job.output.is_file():
            return self._source_of_file(job.output)
        if number_of(number) not in job.results:
            raise LookupError(key)
        return self._candidate(job, number_of(number)).source

    def painted(self, project: Project) -> Zoomable:
        """The Slider map. Raises as ``source`` does."""
        if project.map_path is None:
            raise LookupError("map")
        return self._source_of_file(project.map_path)

    def region(self, project: Project, key: str, box: tuple[float, float, float, float]) -> bytes:
        """A PNG of a part of a picture. Raises as ``source`` does."""
        return region_of(self.source(project, key), box)

    def small(self, project: Project, key: str, side: int) -> bytes:
        """A JPEG of all of a picture. Raises as ``source`` does."""
        return small_of(self.source(project, key), side)

    def forget(self, job: Job) -> None:
        """Close the pictures of a job that was removed: the next one may have its name."""
        self._runs.pop(job.run_dir, None)

    def _tile(self, project: Project, key: str, level: int, column: int, row: int, version: str) -> bytes:
        return tile_of(self.source(project, key), level, column, row)

    def _candidate(self, job: Job, seed: int) -> Look:
        return Look(f"{job.folder.name}:{seed}", f"seed {seed}", self._source_of_file(job.picture_of(seed)))

    def _stages(self, job: Job, number: int = 1) -> list[Look]:
        """The stages of a picture, which is the project's ``number``-th one."""
        if not RunDirectory(job.run_dir).begun:
            return []
        shown = self._runs[job.run_dir] = show(job.run_dir)
        last = len(shown.pictures) - 1
        return [
            Look(
                f"{job.folder.name}:{i}",
                f"picture {number}, {name}",
                source,
                shown.growing and i == last,
                job.folder.name,
            )
            for i, (name, source) in enumerate(shown.pictures.items())
            # While the base is empty there is nothing below it to show.
            if i or source.version
        ]

    def _versions(self, project: Project, job: Job, number: int = 1) -> list[Look]:
        """The redone versions of a picture, in order; the last one that is not undone is current."""
        later = [version for version in project.versions(job) if version.kind == "redo"]
        current = max((version.folder.name for version in later if not version.undone), default="")
        return [
            Look(
                f"{version.folder.name}:0", f"picture {number}, version {i}", self._source_of_file(version.output),
                picture=job.folder.name, current=version.folder.name == current,
            )
            for i, version in enumerate(later, start=2)
        ]  # fmt: skip

    def _source_of_file(self, path: Path) -> Zoomable:
        return self._file(path, path.stat().st_mtime_ns)


def _opened(path: Path, changed: int) -> Zoomable:
    return open_file(path)
