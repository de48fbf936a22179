"""A client for the studio's HTTP API, with the standard library alone."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import parse_qs, urlencode, urlsplit
from urllib.request import Request, urlopen

from pixelsmith.errors import PixelsmithError, RequestError

_SECONDS = 60
_ENDED = ("done", "failed", "paused")


class StudioClient:
    """A client for the studio at ``url``, which is the URL with a token that ``pixelsmith studio`` prints.

    All methods raise ``RequestError`` with the studio's message when it refuses a request, and ``PixelsmithError`` when
    it cannot be reached.

    Example::

        studio = StudioClient("http://127.0.0.1:8000/?token=...")
        project = studio.create({"prompt": "map of a coast", "size": "1024x1024"})
        job = studio.start(project["name"], "grow")
        for state in studio.events(job["id"]):
            print(state["share"])
        studio.save(job["id"], "coast.tif")
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        tokens = parse_qs(parts.query).get("token", [])
        if parts.scheme != "http" or len(tokens) != 1:
            raise RequestError(f"expected the URL that 'pixelsmith studio' prints, with its token, got {url!r}")
        self._root, self._token = f"http://{parts.netloc}", tokens[0]

    def create(self, form: Mapping[str, Any]) -> dict[str, Any]:
        """Create a project; ``form`` has the fields of ``pixelsmith.studio.form.Form``."""
        return self._object("POST", "/api/projects", form)

    def projects(self) -> list[dict[str, Any]]:
        """All projects, newest first."""
        return list(json.loads(self.ask("GET", "/api/projects")))

    def project(self, name: str) -> dict[str, Any]:
        """A project with its form and its jobs."""
        return self._object("GET", f"/api/projects/{name}")

    def give(self, name: str, picture: str | Path) -> dict[str, Any]:
        """Upload a picture file for a project to start from."""
        return dict(json.loads(self.ask("PUT", f"/api/projects/{name}/given", Path(picture).read_bytes())))

    def paint(self, name: str, slider_map: str | Path) -> dict[str, Any]:
        """Upload a Slider map: a grey picture file that covers the result; white holds, black frees."""
        return dict(json.loads(self.ask("PUT", f"/api/projects/{name}/map", Path(slider_map).read_bytes())))

    def start(self, name: str, kind: str, form: Mapping[str, Any] | None = None, **values: Any) -> dict[str, Any]:
        """Queue a job of a project.

        - ``kind``: ``candidates`` (with ``seeds``), ``place`` (``at``, ``sliders``), ``grow``, or ``redo`` (``of``: the
          name of the job with the finished picture, without its project; ``polygon``: corners in percent).
        - ``form``: by default the project's.
        """
        chosen = self.project(name)["form"] if form is None else form
        return self._object("POST", f"/api/projects/{name}/jobs", {"kind": kind, "form": chosen, **values})

    def job(self, job: str) -> dict[str, Any]:
        """The current state of a job, by its id."""
        return self._object("GET", self._path(job))

    def pause(self, job: str) -> dict[str, Any]:
        """Pause a job; its results are kept."""
        return self._object("POST", f"{self._path(job)}/pause", {})

    def resume(self, job: str) -> dict[str, Any]:
        """Resume a job where it stopped."""
        return self._object("POST", f"{self._path(job)}/resume", {})

    def use(self, job: str) -> dict[str, Any]:
        """Make a version of a picture the current one; later versions are undone, but kept until they are removed."""
        return self._object("POST", f"{self._path(job)}/use", {})

    def remove(self, job: str) -> dict[str, Any]:
        """Remove a job with its results, unless it waits or runs, or is a grown picture with versions."""
        return self._object("DELETE", self._path(job))

    def events(self, job: str) -> Iterator[dict[str, Any]]:
        """The states of a job, from now until it is done, failed or paused."""
        with self._opened("GET", "/api/events") as stream:
            state = self.job(job)
            yield state
            while state["state"] not in _ENDED:
                line = stream.readline().decode()
                if not line:
                    raise PixelsmithError("the studio stopped; resume the job after it has started again")
                if line.startswith("data: ") and (told := json.loads(line[6:]))["id"] == job:
                    state = told
                    yield state

    def save(self, job: str, path: str | Path) -> None:
        """Write the finished picture (TIFF) to a file."""
        with self._opened("GET", f"{self._path(job)}/picture.tif") as answer, Path(path).open("wb") as file:
            while part := answer.read(1 << 20):
                file.write(part)

    def ask(self, method: str, path: str, body: bytes | None = None) -> bytes:
        """The response to any other request."""
        with self._opened(method, path, body) as answer:
            return bytes(answer.read())

    @staticmethod
    def _path(job: str) -> str:
        project, _, name = job.partition("/")
        return f"/api/projects/{project}/jobs/{name}"

    def _object(self, method: str, path: str, values: Mapping[str, Any] | None = None) -> dict[str, Any]:
        return dict(json.loads(self.ask(method, path, None if values is None else json.dumps(values).encode())))

    def _opened(self, method: str, path: str, body: bytes | None = None) -> Any:
        address = f"{self._root}{path}?{urlencode({'token': self._token})}"
        try:
            return urlopen(Request(address, body, method=method), timeout=_SECONDS)  # noqa: S310 (http, as checked)
        except HTTPError as error:
            with error:
                try:
                    said = json.loads(error.read())["error"]
                except (ValueError, KeyError, TypeError):
                    said = f"the studio responded with status {error.code}"
            raise RequestError(said) from error
        except URLError as error:
            raise PixelsmithError(f"{self._root}: the studio cannot be reached ({error.reason})") from error
