"""Check memory and disk space before a run starts, not after hours of work."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from pixelsmith.config.plans import Plan
from pixelsmith.config.request import Request
from pixelsmith.errors import RequestError
from pixelsmith.events import Observer, Warned
from pixelsmith.families import memory_of
from pixelsmith.pixels.formats import format_of
from pixelsmith.run.found import FoundModel
from pixelsmith.run.given import keeps_alpha
from pixelsmith.system.terminal import amount


def check_memory(the_plan: Plan, model: FoundModel, request: Request, observer: Observer) -> None:
    """Raise ``RequestError`` if a CPU has too little memory; for an accelerator's memory, only warn.

    With workers it is theirs, because the machine of the run holds no model.
    """
    team, needed = model.team, the_plan.peak_memory_bytes
    if request.compute.memory in ("offload", "sequential"):
        return
    if team is None:
        rooms: Mapping[str, int | None] = {str(model.device): memory_of(model.device)}
        each, fewer, modes = "", "", "encoders-released, offload"
    else:
        rooms = team.rooms
        each, fewer, modes = " for each worker", "fewer workers there, ", "offload"
    for device, there in rooms.items():
        if there is None or needed <= there:
            continue
        what = f"{request.model} needs about {amount(needed)} of memory at this size, "
        what += f"{device} has {amount(there)}{each}"
        if device == "cpu":
            remedy = f"take a smaller model or --dtype bfloat16, {fewer}or a machine with more"
            raise RequestError(f"memory: {what}; {remedy}")
        observer(Warned(f"{what}; --memory {modes} or sequential keep less of it there"))


def check_disk(the_plan: Plan, request: Request, run_dir: Path | None, path: Path | None) -> None:
    """Raise ``RequestError`` if the disks of the run directory and of the output have too little space.

    Raises ``PictureError`` if the given picture is damaged.
    """
    needed: dict[int, float] = {}
    file_bytes = 0.0
    if path is not None:
        kind = format_of(path, request.size, keeps_alpha(request), request.depth)
        file_bytes = request.size.area * kind.pixel_bytes
    for place, count in ((run_dir, the_plan.canvas_bytes), (path, file_bytes)):
        if place is None:
            continue
        folder = next(parent for parent in (place.absolute(), *place.absolute().parents) if _is_folder(parent))
        disk = folder.stat().st_dev
        needed[disk] = needed.get(disk, 0) + count
        free = shutil.disk_usage(folder).free
        if needed[disk] > free:
            raise RequestError(
                f"disk: up to {amount(needed[disk])} are needed at {folder}, {amount(free)} are free; make room, or "
                "choose another place for the output or the run directory"
            )


def _is_folder(path: Path) -> bool:
    """Whether a folder exists; invalid names are reported when the folder is created."""
    try:
        return path.is_dir()
    except OSError:
        return False
