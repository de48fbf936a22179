"""The pictures that the viewer shows: one picture file, or all stages of a run directory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any, get_args

from pixelsmith.config.request import WrapName
from pixelsmith.errors import PictureError
from pixelsmith.pixels.settings_inside import read_settings
from pixelsmith.pixels.zoomable import StagePicture, Zoomable, open_file
from pixelsmith.run.directory import RunDirectory
from pixelsmith.system.durable import write_whole
from pixelsmith.system.places import given_place

TILE = 256
"""The side of the served tiles in pixels."""


PREVIEW = 1024
"""The longest side of a preview in pixels."""


@dataclass(frozen=True)
class Shown:
    """Pictures of the same subject by name, the most detailed one last, and their settings.

    ``growing``: whether more of the run may follow, of which nothing need exist yet; ``output``: the file that the run
    will write.
    """

    title: str
    settings: Mapping[str, Any]
    pictures: dict[str, Zoomable]
    growing: bool
    output: Path | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for the page."""
        request = self.settings.get("request", {})
        pictures = [
            {"name": name, "width": source.size.width, "height": source.size.height, "version": source.version}
            for name, source in self.pictures.items()
        ]
        return {
            "title": self.title,
            "prompt": request.get("prompt", ""),
            # The prompt is the heading of the settings.
            "settings": [[name, _text(value)] for name, value in _flat(self.settings) if name != "prompt"],
            "pictures": pictures,
            "growing": self.growing,
            # A picture file of unknown origin may contain any value here.
            "wrap": wrap if (wrap := request.get("wrap")) in get_args(WrapName) else "",
            "tile": TILE,
        }


def show(path: Path, before: Path | None = None) -> Shown:
    """The pictures that exist now; ``before``: a picture file to show first.

    Raises ``PictureError`` or ``RunError`` if ``path`` is neither a picture nor a run, or ``before`` is no picture.
    """
    shown = _run(path) if given_place(path).is_dir() else _file(path)
    if before is None:
        return shown
    source = open_file(before)
    return replace(shown, pictures={f"{before.name}, {source.size}": source, **shown.pictures})


def write_preview(run_dir: Path) -> Path:
    """Write a small picture of what a run has made so far into its directory as ``preview.jpg``, atomically.

    Raises ``LookupError`` if it has made nothing yet.
    """
    source = list(show(run_dir).pictures.values())[-1]
    size = source.size.scaled(min(1.0, PREVIEW / max(source.size.width, source.size.height)))
    target, content = run_dir / "preview.jpg", BytesIO()
    source.look((0, 0, source.size.width, source.size.height), size).save(content, "JPEG", quality=90)
    write_whole(target, content.getvalue())
    return target


def _run(path: Path) -> Shown:
    run = RunDirectory(path)
    record = run.read()
    pictures: dict[str, Zoomable] = {}
    below: Zoomable | None = None
    numbers = (folder.name.removeprefix("stage-") for folder in path.glob("stage-*"))
    for stage in sorted(int(number) for number in numbers if number.isdecimal()):
        try:
            picture = below = StagePicture.of(path / f"stage-{stage}", below)
        except LookupError:
            continue
        pictures[f"{f'stage {stage}' if stage else 'base'}, {picture.size}"] = picture
    if not pictures and run.finished:
        raise PictureError(f"{path}: its pictures were removed; look at {record.output}")
    return Shown(path.name, record.identity.settings, pictures, not run.finished, record.output)


def _file(path: Path) -> Shown:
    source = open_file(path)
    try:
        settings = read_settings(path)
    except PictureError:
        settings = {}
    return Shown(path.name, settings, {f"{source.size}": source}, growing=False)


def _flat(values: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """The names and values of nested settings, without those that are ``None``."""
    found: list[tuple[str, Any]] = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            found += _flat(value)
        elif value not in (None, "", []):
            found.append((name.replace("_", " "), value))
    return found


def _text(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
