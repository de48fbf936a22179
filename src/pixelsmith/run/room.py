"""Check memory and disk space before a run starts, not after hours of work."""

from __future__ import annotations

import shutil
from pathlib import Path

from pixelsmith.config.plans import Plan
from pixelsmith.config.request import Request
from pixelsmith.errors import RequestError
from pixelsmith.events import Observer, Warned
from pixelsmith.families import choose_device, memory_of
from pixelsmith.pixels.formats import format_of
from pixelsmith.run.given import keeps_alpha
from pixelsmith.system.terminal import amount


def check_memory(the_plan: Plan, request: Request, observer: Observer) -> None:
    """Raise ``RequestError`` if the machine has too little memory; for an accelerator's memory, only warn."""
    device = choose_device(request.compute.device)
    there, needed = memory_of(device), the_plan.peak_memory_bytes
    if there is None or needed <= there or request.compute.memory in ("offload", "sequential"):
        return
    what = f"{request.model} needs about {amount(needed)} of memory at this size, {device} has {amount(there)}"
    if device.type == "cpu":
        raise RequestError(f"memory: {what}; take a smaller model or --dtype bfloat16, or a machine with more")
    observer(Warned(f"{what}; --memory encoders-released, offload or sequential keep less of it there"))


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
