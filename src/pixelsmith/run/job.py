"""A job: from the checked request to the picture file, in memory or in a run directory."""

from __future__ import annotations

import time
from base64 import b64encode
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from html import escape
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from pixelsmith.canvas import Array, MemorySpace, Space
from pixelsmith.config.plans import Plan
from pixelsmith.config.request import Request
from pixelsmith.engine.cancel import CancelToken
from pixelsmith.engine.inputs import Rung
from pixelsmith.engine.stage import Cascade
from pixelsmith.errors import InputError, RefusedError, RequestError, RunError
from pixelsmith.events import Event, Observer, PhaseFinished, Progress, RunFinished, RunStarted, StageStarted, Warned
from pixelsmith.geometry import Window
from pixelsmith.pixels.depth import Encoding, as_bytes
from pixelsmith.pixels.files import check_output, lost_place, write_into
from pixelsmith.pixels.formats import FORMATS
from pixelsmith.pixels.metadata import Metadata
from pixelsmith.pixels.output import Output, tiles_of
from pixelsmith.pixels.reading import is_transparent, read_picture, read_with_alpha
from pixelsmith.pixels.resample import Resized
from pixelsmith.pixels.zoomable import Zoomable, open_file
from pixelsmith.planning.forecast import Forecast, save_rates
from pixelsmith.run.directory import Record, RunDirectory
from pixelsmith.run.found import FoundModel
from pixelsmith.run.given import Given, about, cut_off, keeps_alpha
from pixelsmith.run.preview import with_preview
from pixelsmith.run.room import check_disk
from pixelsmith.sampling.readable import Readable
from pixelsmith.system.memory import give_back_memory
from pixelsmith.system.repeatable import software_of

SHOWN_SIDE = 768
"""The longer side in pixels of a picture in a notebook."""
_SHOWN_ROWS = 32
"""Rows of it that are made at once; for each, only the rows of the large picture that it shows are read."""
Cascades = Callable[[Request, Plan, Observer, Space], AbstractContextManager[Cascade]]
"""Returns a context manager that loads the model and yields the cascade of a request."""


@dataclass(frozen=True)
class Result:
    """A finished picture: its plan, and its file and run directory if there are any.

    ``pixels`` (height, width, 3) uint8 sRGB, with a fourth channel if the picture is transparent, are read on access,
    from memory, the run directory or the file; those of a gigapixel take 3 GB. A notebook shows a small version.
    """

    plan: Plan
    path: Path | None
    run_dir: Path | None
    picture: Readable | None

    @property
    def pixels(self) -> NDArray[np.uint8]:
        picture = self.picture or self._in_file()
        return np.asarray(as_bytes(picture.read(picture.size.window)).permute(1, 2, 0))

    def small(self, side: int = SHOWN_SIDE) -> Image.Image:
        """The whole picture with a longer side of at most ``side`` pixels, read at a low resolution of the file."""
        picture = open_file(self._file) if self.path or self.picture is None else self.picture
        size = picture.size.scaled(min(1.0, side / max(picture.size.width, picture.size.height)))
        if isinstance(picture, Zoomable):
            return picture.look((0, 0, picture.size.width, picture.size.height), size)
        small, rows = Resized(picture, picture.size, size, "lanczos"), range(0, size.height, _SHOWN_ROWS)
        bands = [small.read(Window(top, 0, min(_SHOWN_ROWS, size.height - top), size.width)) for top in rows]
        return Image.fromarray(np.asarray(as_bytes(torch.cat(bands, 1)).permute(1, 2, 0)))

    def _repr_png_(self) -> bytes:
        """The small picture for notebooks."""
        content = BytesIO()
        self.small().save(content, "PNG")
        return content.getvalue()

    def _repr_html_(self) -> str:
        """The same, with a link to the file if there is one."""
        shown = f'<img src="data:image/png;base64,{b64encode(self._repr_png_()).decode()}">'
        if self.path is None:
            return shown
        name = escape(str(self.path))
        return f'<a href="{name}">{shown}<br>{name}</a>'

    @property
    def _file(self) -> Path:
        if self.path is None:
            raise ValueError("a result has a picture or a file")
        return self.path

    def _in_file(self) -> Readable:
        path = self._file
        if FORMATS[path.suffix.lower()].alpha and is_transparent(path):
            return read_with_alpha(path)
        file = open_file(path)
        return Array(
            torch.from_numpy(np.array(file.look((0, 0, file.size.width, file.size.height), file.size))).permute(2, 0, 1)
        )


@dataclass(frozen=True)
class Job:
    """A picture to make.

    - ``request``: with no open settings in its method; ``plan``: of the request.
    - ``model``: the found model; ``cascades``: loads it.
    - ``settings``: the settings stored in the file; ``output``: the locked file, if there is one.
    - ``observer``: is called with each event; ``cancel``: ends the job.
    """

    request: Request
    plan: Plan
    model: FoundModel
    cascades: Cascades
    settings: Mapping[str, Any]
    output: Output | None
    observer: Observer
    cancel: CancelToken

    @property
    def path(self) -> Path | None:
        return None if self.output is None else self.output.path

    def begin(self, run_dir: str | Path | None) -> Result:
        """Make the picture, in a run directory if one is given or the canvases are too large for memory."""
        if run_dir is None and not self.plan.on_disk:
            check_disk(self.plan, self.request, None, self.path)
            return self._run(MemorySpace(), None)
        place = self._place_of_run(run_dir)
        check_disk(self.plan, self.request, place, self.path)
        identity, keep = self.model.identity(self.settings, self.request), run_dir is not None
        work = _Work(self.observer)
        with RunDirectory.create(place) as run:
            run.begin(Record(identity, Path.cwd(), self.path, keep, software_of(self.model.device)))
            try:
                return replace(self, observer=work).go_on(run, keep)
            except InputError as error:
                # If no patch was denoised yet, the user can correct the input and repeat the same command.
                if work.began:
                    error.add_note(run.advice)
                else:
                    run.delete()
                raise

    def go_on(self, run: RunDirectory, keep: bool) -> Result:
        """Make what is missing in a run directory; ``keep``: whether the directory is kept at the end."""
        space = run.space()
        try:
            result = replace(self, observer=with_preview(self.observer, run.path))._run(space, run.path)
        except RefusedError:
            # A resumed run would make the same picture, which would be refused again.
            space.close()
            run.delete()
            raise
        if keep or self.path is None:
            run.finish()
            return result
        space.close()
        run.delete()
        return replace(result, picture=None, run_dir=None)

    def _place_of_run(self, run_dir: str | Path | None) -> Path:
        path = self.path
        if run_dir is None and path is None:
            raise RequestError(
                f"run directory: a picture of {self.request.size} needs one; give a run_dir or an output"
            )
        place = Path(f"{path}.run" if run_dir is None else run_dir)
        if not place.name:
            raise RequestError(f"run directory: expected a folder with a name, got {str(run_dir)!r}")
        if path is not None and place.absolute() in (path.absolute(), tiles_of(path).absolute()):
            raise RunError(f"{place}: the picture is to be written there; choose another run directory")
        return place

    def _run(self, space: Space, run_dir: Path | None) -> Result:
        request, began = self.request, time.monotonic()
        method_at = partial(request.method.at, recommended=self.model.facts.recommended)
        forecast = Forecast(self.plan, method_at, self.model.rates)

        def observer(event: Event) -> None:
            self.cancel.check()
            forecast(event)
            if isinstance(event, Progress):
                event = replace(event, share=forecast.share, seconds_left=forecast.seconds_left)
            self.observer(event)

        given = given_of(request)
        said = about(request, [stage.size for stage in self.plan.stages])
        observer(RunStarted(self.plan, None if run_dir is None else str(run_dir)))
        for remark in (cut_off(request), None if self.path is None else lost_place(said, self.path)):
            if remark:
                observer(Warned(remark))
        picture = self._climbed(observer, space, given)
        if self.output is not None:
            self._write(self.output, picture, said, observer)
        if forecast.known and (self.plan.base is None or self.plan.base.patches_per_step == 1):
            # The time of a whole canvas in one call says nothing about that of a patch.
            save_rates(forecast.rates, *self.model.machine)
        observer(RunFinished(None if self.path is None else str(self.path), time.monotonic() - began))
        return Result(self.plan, self.path, run_dir, picture)

    def _climbed(self, observer: Observer, space: Space, given: Given | None) -> Readable:
        with torch.inference_mode(), self.cascades(self.request, self.plan, observer, space) as cascade:
            return climb(cascade, self.plan, given)

    def _write(self, output: Output, picture: Readable, said: Metadata, observer: Observer) -> None:
        began, last = time.monotonic(), len(self.plan.stages)
        give_back_memory()
        write_into(
            output,
            picture,
            self.settings,
            lambda done, total: observer(Progress(last, "write", 1, 1, done, total)),
            said,
            Encoding(self.request.depth, self.request.dither, self.request.profile),
        )
        observer(PhaseFinished(last, "write", time.monotonic() - began))


@dataclass
class _Work:
    """An observer that records whether any patch was denoised, and forwards all events."""

    observer: Observer
    began: bool = False

    def __call__(self, event: Event) -> None:
        self.began |= isinstance(event, Progress) and event.phase == "denoise"
        self.observer(event)


def given_of(request: Request) -> Given | None:
    """The given picture, if there is one. Damaged pictures of the request are reported before a model is loaded."""
    given = Given.of(request)
    painted = request.method.painted_map
    for name in (*([painted] if painted else []), *request.control_images, *request.ip_adapter_images):
        # These are read completely too, which finds damage.
        read_picture(Path(name))
    return given


def check_file(path: Path, request: Request, settings: Mapping[str, Any]) -> None:
    """Raise ``PictureError`` if the format of the file cannot hold the picture with its settings and metadata."""
    check_output(path, request.size, settings, about(request), keeps_alpha(request), request.depth)


def climb(cascade: Cascade, the_plan: Plan, given: Given | None) -> Readable:
    """Run all stages, from the given picture or the base, and resize the last picture to the requested size."""
    sizes, target = [stage.size for stage in the_plan.stages], cascade.request.size
    rung = Rung(given.picture, None) if given else base_of(cascade, the_plan)
    for number, size in enumerate(sizes, start=1):
        cascade.observer(StageStarted(number, len(sizes), size))
        rung = cascade.stage(number, rung, size)
        if given:
            # The next stage starts from the masked picture.
            rung = replace(rung, picture=given.kept(rung.picture, sizes[:number]))
    picture = rung.picture
    if picture.size != target:
        picture = Resized(picture, picture.size, target, "lanczos", wrap=cascade.request.wrapped_axes)
    return given.transparent(picture, [*sizes, target]) if given else picture


def base_of(cascade: Cascade, the_plan: Plan) -> Rung:
    """Generate the base picture."""
    if the_plan.base is None:
        raise ValueError("a plan without a base needs a picture to start from")
    cascade.observer(StageStarted(0, len(the_plan.stages), the_plan.base.size))
    return cascade.base(the_plan.base.size)
