"""The operations of the HTTP API as a table, from which the routes and the OpenAPI description are made."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from starlette.responses import FileResponse, Response

from pixelsmith import plan
from pixelsmith.errors import RequestError
from pixelsmith.studio import schemas
from pixelsmith.studio.form import Form
from pixelsmith.studio.jobs import UNFINISHED, Job
from pixelsmith.studio.library import Library, Picture, Project
from pixelsmith.studio.looks import Looks
from pixelsmith.studio.queue import Queue
from pixelsmith.system.durable import read_object
from pixelsmith.web.responses import CACHED_FOR_AN_HOUR, attachment
from pixelsmith.web.tiles import box_of, number_of, small_of

MAX_JSON = 100_000
MAX_UPLOAD = 256 * 1024 * 1024
"""The largest request body in bytes."""
SMALL_SIDE = 512
"""Pixels on the longer side of a picture in a list."""


@dataclass(frozen=True)
class Studio:
    """The state that all operations work on."""

    library: Library
    queue: Queue
    looks: Looks

    def now(self, project: Project) -> dict[str, Any]:
        """A project with the current state of its jobs."""
        jobs = [self.queue.now(job).to_dict() for job in project.jobs()]
        return project.to_dict() | {"jobs": jobs}


@dataclass(frozen=True)
class Asked:
    """A request: the parameters of its path and its query, and its body."""

    path: Mapping[str, str]
    query: Mapping[str, str]
    body: bytes = b""

    def object(self) -> dict[str, Any]:
        """The JSON object in the body. Raises ``RequestError``."""
        try:
            return read_object(self.body)
        except ValueError as error:
            raise RequestError(f"expected a JSON object: {error}") from error


@dataclass(frozen=True)
class Operation:
    """An operation. ``body``: the JSON schema of the request body; ``upload``: the body is a picture file."""

    method: str
    path: str
    name: str
    summary: str
    call: Callable[[Studio, Asked], Any]
    body: Mapping[str, Any] | None = None
    upload: bool = False
    answers: str = "application/json"
    query: tuple[str, ...] = field(default=())

    @property
    def most(self) -> int:
        """The largest body in bytes."""
        return MAX_UPLOAD if self.upload else MAX_JSON


def _projects(studio: Studio, asked: Asked) -> list[dict[str, Any]]:
    found = []
    for project in studio.library:
        picture = studio.looks.cover(project)
        about = {"name": project.name, "prompt": project.form.prompt, "created": project.created, "picture": picture}
        found.append(about | {"busy": any(job.state in UNFINISHED for job in project.jobs())})
    return found


def _create(studio: Studio, asked: Asked) -> dict[str, Any]:
    return studio.now(studio.library.create(Form.from_dict(asked.object())))


def _project(studio: Studio, asked: Asked) -> Project:
    return studio.library.project(asked.path["project"])


def _read(studio: Studio, asked: Asked) -> dict[str, Any]:
    return studio.now(_project(studio, asked))


def _change(studio: Studio, asked: Asked) -> dict[str, Any]:
    project = replace(_project(studio, asked), form=Form.from_dict(asked.object()))
    project.save()
    return studio.now(project)


def _remove(studio: Studio, asked: Asked) -> dict[str, Any]:
    project = _project(studio, asked)
    for job in project.jobs():
        studio.queue.stop(job)
    studio.library.remove(project.name)
    return {"removed": project.name}


def _keep(studio: Studio, asked: Asked, kind: Picture) -> dict[str, Any]:
    project = _project(studio, asked).with_upload(kind, asked.body)
    project.save()
    return studio.now(project)


def _take_back(studio: Studio, asked: Asked, kind: Picture) -> dict[str, Any]:
    project = _project(studio, asked).with_picture(kind, None)
    project.save()
    return studio.now(project)


def _map(studio: Studio, asked: Asked) -> Response:
    painted = studio.looks.painted(_project(studio, asked))
    return Response(small_of(painted, SMALL_SIDE), media_type="image/jpeg")


def _plan(studio: Studio, asked: Asked) -> dict[str, Any]:
    values = asked.object()
    name = values.pop("project", None)
    if not isinstance(name, str | None):
        raise RequestError(f"project: expected its name, got {name!r}")
    form, project = Form.from_dict(values), None if name is None else studio.library.project(name)
    given, painted, regions = (None,) * 3 if project is None else project.paths
    request = form.request(given, painted)
    size = {"size": [request.size.width, request.size.height], "dpi": request.dpi}
    return plan(request).to_dict() | size | {"command": form.command(given, painted, regions)}


def _start(studio: Studio, asked: Asked) -> dict[str, Any]:
    values = asked.object()
    kind, form = values.pop("kind", None), Form.from_dict(_mapping(values.pop("form", None)))
    if unknown := set(values) - set(schemas.JOB_VALUES):
        raise RequestError(f"unknown field {min(unknown)!r}; expected kind, form, {', '.join(schemas.JOB_VALUES)}")
    project = _project(studio, asked)
    given = {name: value if name == "of" else _tuple(name, value) for name, value in values.items()}
    job = project.new(kind, form, **given)
    plan(job.request)
    return studio.queue.add(job.created_on_disk()).to_dict()


def _job(studio: Studio, asked: Asked) -> Job:
    return studio.queue.now(_project(studio, asked).job(asked.path["job"]))


def _use(studio: Studio, asked: Asked) -> dict[str, Any]:
    project, job = _project(studio, asked), _job(studio, asked)
    if not job.output.is_file():
        raise RequestError(f"{job.id}: expected a finished picture")
    for changed in project.use(job):
        studio.queue.tell(changed)
    return studio.now(project)


def _forget(studio: Studio, asked: Asked) -> dict[str, Any]:
    project, job = _project(studio, asked), _job(studio, asked)
    studio.queue.remove(project, job)
    studio.looks.forget(job)
    return studio.now(project)


def _read_job(studio: Studio, asked: Asked) -> dict[str, Any]:
    return _job(studio, asked).to_dict()


def _pause(studio: Studio, asked: Asked) -> dict[str, Any]:
    return studio.queue.pause(_job(studio, asked)).to_dict()


def _resume(studio: Studio, asked: Asked) -> dict[str, Any]:
    return studio.queue.add(_job(studio, asked)).to_dict()


def _looks(studio: Studio, asked: Asked) -> list[dict[str, Any]]:
    return [look.to_dict() for look in studio.looks.of(_project(studio, asked))]


def _tile(studio: Studio, asked: Asked) -> Response:
    number = [number_of(asked.path[name]) for name in ("level", "column", "row")]
    version = asked.query.get("version", "")
    content = studio.looks.tile(_project(studio, asked), asked.path["look"], *number, version)
    return Response(content, media_type="image/jpeg", headers=CACHED_FOR_AN_HOUR)


def _small(studio: Studio, asked: Asked) -> Response:
    content = studio.looks.small(_project(studio, asked), asked.path["look"], SMALL_SIDE)
    return Response(content, media_type="image/jpeg")


def _region(studio: Studio, asked: Asked) -> Response:
    box = box_of(asked.query)
    content = studio.looks.region(_project(studio, asked), asked.path["look"], box)
    name = f"{asked.path['project']}-{box[0]:.0f}-{box[1]:.0f}.png"
    return Response(content, media_type="image/png", headers=attachment(name))


def _place(studio: Studio, asked: Asked) -> Response:
    job = _job(studio, asked)
    slider = next((number for number in job.results if f"{number:.2f}" == asked.path["slider"]), None)
    if job.kind != "place" or slider is None:
        raise LookupError(asked.path["slider"])
    return FileResponse(job.picture_of(slider), media_type="image/png")


def _file(studio: Studio, asked: Asked) -> Response:
    job = _job(studio, asked)
    if not job.output.is_file():
        raise LookupError(job.id)
    name = f"{job.project}-{job.folder.name.split('-')[0]}.tif"
    return FileResponse(job.output, media_type="image/tiff", headers=attachment(name))


def _mapping(value: object) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise RequestError(f"form: expected an object, got {value!r}")
    return value


def _tuple(name: str, value: object) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise RequestError(f"{name}: expected a list, got {json.dumps(value)}")
    return tuple(value)


_OF = "/api/projects/{project}"
_OF_JOB = _OF + "/jobs/{job}"

OPERATIONS = (
    Operation("GET", "/api/projects", "projects", "All projects, newest first.", _projects),
    Operation("POST", "/api/projects", "create_project", "Create a project.", _create, schemas.FORM),
    Operation("GET", _OF, "project", "A project: its form and its jobs.", _read),
    Operation("PUT", _OF, "change_project", "Replace the form of a project.", _change, schemas.FORM),
    Operation("DELETE", _OF, "remove_project", "Delete a project with everything in it.", _remove),
    Operation(
        "PUT", _OF + "/given", "give_picture", "Upload a picture to start from.",
        partial(_keep, kind="given"), upload=True,
    ),
    Operation(
        "DELETE", _OF + "/given", "take_picture_back", "Remove it, so that the picture starts from the model.",
        partial(_take_back, kind="given"),
    ),
    Operation("GET", _OF + "/map", "slider_map", "A thumbnail of the painted Slider map.", _map, answers="image/jpeg"),
    Operation(
        "PUT", _OF + "/map", "paint_map", "Upload a Slider map, a grey picture: white holds, black frees.",
        partial(_keep, kind="map"), upload=True,
    ),
    Operation(
        "DELETE", _OF + "/map", "remove_map", "Remove it, so that the Slider is the same everywhere.",
        partial(_take_back, kind="map"),
    ),
    Operation("POST", "/api/plan", "plan", "Estimate the cost of a picture, without making it.", _plan, schemas.PLAN),
    Operation("POST", _OF + "/jobs", "start_job", "Queue a job.", _start, schemas.JOB),
    Operation("GET", _OF_JOB, "job", "The state of a job.", _read_job),
    Operation("POST", _OF_JOB + "/pause", "pause_job", "Pause a job; its results are kept.", _pause),
    Operation("POST", _OF_JOB + "/resume", "resume_job", "Resume a job where it stopped.", _resume),
    Operation("POST", _OF_JOB + "/use", "use_version", "Make a version the current one; later ones are kept.", _use),
    Operation("DELETE", _OF_JOB, "remove_job", "Remove a job with its results.", _forget),
    Operation("GET", _OF_JOB + "/picture.tif", "file", "The finished picture.", _file, answers="image/tiff"),
    Operation(
        "GET", _OF_JOB + "/place/{slider}", "place", "The preview at one position of the Slider, such as 0.50.", _place,
        answers="image/png",
    ),
    Operation("GET", _OF + "/looks", "looks", "The pictures of a project that can be viewed.", _looks),
    Operation("GET", _OF + "/looks/{look}/small", "small", "The thumbnail of a picture.", _small, answers="image/jpeg"),
    Operation(
        "GET", _OF + "/looks/{look}/region", "region", "Part of a picture.", _region,
        answers="image/png", query=("left", "top", "right", "bottom"),
    ),
    Operation(
        "GET", _OF + "/looks/{look}/tile/{level}/{column}/{row}", "tile", "A tile; level 0 is full size.", _tile,
        answers="image/jpeg", query=("version",),
    ),
)  # fmt: skip


def studio_of(folder: Path, tell: Callable[[Job], None]) -> Studio:
    """The studio of a library's folder; ``tell`` is called with each job that changed."""
    library = Library(folder)
    return Studio(library, Queue(library, tell), Looks())
