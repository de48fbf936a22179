"""Resuming a run: its record, with the values that the user changes or must confirm."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path

from pixelsmith.config.compute import Placement
from pixelsmith.config.parts import located
from pixelsmith.config.request import EMBEDDED, Request
from pixelsmith.errors import RunError
from pixelsmith.run.directory import Identity, Record, RunDirectory
from pixelsmith.run.found import FoundModel


@dataclass(frozen=True)
class Resumed:
    """A locked run directory, its record, and its request with paths that are valid in this working directory."""

    run: RunDirectory
    record: Record
    request: Request
    moved: bool

    def identity(self, model: FoundModel) -> Identity:
        """The identity that the run would have if it began now. Raises ``RunError`` if the device differs."""
        return model.identity(self.record.identity.settings, self.request, self.moved)


@contextmanager
def resumed(run_dir: Path, output: Path | None, allow_pickle: bool, placement: Placement) -> Iterator[Resumed]:
    """Lock a run directory while its run continues, with the changes of ``placement``.

    Raises ``RunError`` if the run cannot be resumed with these versions, or an argument must be confirmed.
    """
    with RunDirectory.begun_at(run_dir) as run:
        record = _confirmed(run, output, allow_pickle)
        if difference := record.identity.difference_in_versions():
            raise RunError(f"{run_dir}: it cannot go on here: {difference}")
        request = located_request(record)
        moved = placement.workers is not None or placement.device not in (None, request.compute.device)
        compute = placement.of(request.compute)
        if placement.batch_size is not None:
            record = replace(record, identity=replace(record.identity, batch_size=placement.batch_size))
        elif moved:
            # The batch size that was chosen for the other device.
            compute = replace(compute, batch_size=record.identity.batch_size)
        if moved:
            compute = replace(compute, dtype=record.identity.settings["dtype"])
        yield Resumed(run, record, replace(request, compute=compute), moved)


def located_request(record: Record) -> Request:
    """A run's request, with its relative paths resolved against the folder in which the run began."""
    return _located(Request.from_dict(record.identity.settings["request"]), record.folder)


def check_same_picture(run_dir: Path, request: Request) -> None:
    """Raise ``RunError`` if the run has another request, apart from its Slider, its file and where it is computed.

    ``request``: as a run of it would store it, with no open settings, its model and parts pinned.
    """
    stored = located_request(RunDirectory(run_dir).read())
    of_file = {name: getattr(stored, name) for name in ("compute", "depth", "dither", "profile", "dpi", "strip")}
    same = replace(_located(request, Path.cwd()), **of_file)
    same = same.with_method(slider=stored.method.slider, slider_map=stored.method.slider_map)
    if names := [item.name for item in fields(Request) if getattr(same, item.name) != getattr(stored, item.name)]:
        raise RunError(
            f"{run_dir}: it is the run of another picture; it differs in {', '.join(names).replace('_', ' ')}"
        )


def _located(request: Request, folder: Path) -> Request:
    """The request, with its relative paths resolved against a folder."""
    picture = None if request.from_image is None else str(folder / request.from_image)
    painted = request.method.painted_map
    method = replace(request.method, slider_map=str(folder / painted)) if painted else request.method
    # This name always means the embedded model, even if there is a folder of this name.
    model = request.model if request.model == EMBEDDED else located(request.model, folder)
    parts = request.parts.located(folder)
    mask = None if request.mask is None else str(folder / request.mask)
    regions = tuple(region.located(folder) for region in request.regions)
    control, images = (
        tuple(str(folder / name) for name in names) for names in (request.control_images, request.ip_adapter_images)
    )
    return replace(
        request, from_image=picture, mask=mask, method=method, model=model, parts=parts, regions=regions,
        control_images=control, ip_adapter_images=images,
    )  # fmt: skip


def _confirmed(run: RunDirectory, output: Path | None, allow_pickle: bool) -> Record:
    """The record, with the arguments that the user confirms. Raises ``RunError`` if a confirmation is missing."""
    record = run.read()
    if record.allows_pickle and not allow_pickle:
        raise RunError(
            f"{run.path}: its model is read from pickles, which can run any code; --allow-pickle loads them from a "
            "source that you trust"
        )
    if output is not None:
        return replace(record, output=output)
    if record.output is not None and not run.holds(record.output):
        raise RunError(
            f"{run.path}: its picture goes to {record.output}, outside of the directory's folder; give the place that "
            "is right with --output"
        )
    return record
