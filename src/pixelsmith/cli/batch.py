"""Batches of pictures from rows of a file, which continue after an interruption."""

from __future__ import annotations

import csv
import io
import json
import re
import secrets
import string
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pixelsmith.config.request import MAX_SEED, Request
from pixelsmith.errors import InputError, RefusedError, RequestError, RunError
from pixelsmith.run.directory import RunDirectory
from pixelsmith.system.durable import read_object, read_whole
from pixelsmith.system.places import at_home, given_place

Row = Mapping[str, Any]
"""The values of a row by the names of options; strings if it comes from CSV."""
Outcome = Literal["made", "there", "failed"]
PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".gif", ".avif", ".heic", ".jxl", ".jp2")
"""Suffixes of the files of a folder that are used as pictures to start from."""
RANDOM = "random"
MOST_ROWS = 1_000_000
_RANDOM_SEEDS = 2**32
_SLUG = 60
"""The largest number of characters of a text in a file name."""


@dataclass(frozen=True)
class Task:
    """A picture of a batch: its number from 1, the request, the output, and whether any seed is accepted."""

    number: int
    request: Request
    output: Path
    any_seed: bool = False


@dataclass(frozen=True)
class Done:
    """The outcome of a picture, with the reason of a failure."""

    task: Task
    outcome: Outcome
    reason: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        task = self.task
        about = {"number": task.number, "path": str(task.output), "outcome": self.outcome}
        return about | ({"reason": self.reason} if self.reason else {})


def rows_of(path: Path) -> list[Row]:
    """The rows of a ``.csv``, ``.jsonl`` or ``.toml`` file.

    CSV has a line of names; JSON lines has an object per line; TOML has a table ``[[picture]]`` per row, and values
    before them apply to all. Empty cells are ignored. Raises ``RequestError`` if the file cannot be read.
    """
    readers: dict[str, Callable[[str], Iterable[Row]]] = {
        ".csv": _csv, ".jsonl": _json_lines, ".ndjson": _json_lines, ".toml": _toml
    }  # fmt: skip
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise RequestError(f"{path}: expected a file that ends in {', '.join(readers)}")
    try:
        return list(reader(read_whole(given_place(path)).decode("utf-8-sig")))
    except UnicodeDecodeError as error:
        raise RequestError(f"{path}: expected text in UTF-8 ({error.reason} at byte {error.start})") from error
    except OSError as error:
        raise RequestError(f"{path}: it cannot be read ({error.strerror})") from error
    except (ValueError, csv.Error) as error:
        raise RequestError(f"{path}: {error}") from error


def _csv(text: str) -> Iterator[Row]:
    reader = csv.DictReader(io.StringIO(text, newline=""), skipinitialspace=True)
    for row in reader:
        if None in row:
            raise ValueError(f"line {reader.line_num} has more cells than the first line has names")
        yield {name: value for name, value in row.items() if value}


def _json_lines(text: str) -> Iterator[Row]:
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            try:
                yield read_object(line)
            except ValueError as error:
                raise ValueError(f"line {number} is not a JSON object ({error})") from error


def _toml(text: str) -> Iterator[Row]:
    values = tomllib.loads(text)
    tables = values.pop("picture", None)
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise ValueError("expected a table [[picture]] for each picture")
    return (values | table for table in tables)


def spread(row: Row) -> Iterator[Row]:
    """A row for each picture of a folder given as ``from_image``, and each of its ``seeds`` (``0-9,20``).

    Raises ``RequestError`` for a folder without pictures, and for invalid seeds.
    """
    rows = [row]
    folder = row.get("from_image")
    if isinstance(folder, str) and folder.strip() and given_place(folder).is_dir():
        there = given_place(folder).iterdir()
        files = sorted(file for file in there if file.suffix.lower() in PICTURES and not file.name.startswith("."))
        if not files:
            raise RequestError(f"from image: there are no pictures in the folder {folder}")
        rows = [{**row, "from_image": str(file)} for file in files]
    if row.get("seeds") is None:
        return iter(rows)
    if row.get("seed") is not None:
        raise RequestError("seeds: give one seed, or several with seeds, not both")
    rest = {"seeds": None}
    return ({**one, **rest, "seed": seed} for one in rows for seed in seeds_of(str(row["seeds"])))


def seeds_of(text: str) -> list[int]:
    """The numbers of ``0-9,20``. Raises ``RequestError``."""
    found: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*([0-9]{1,20})\s*(?:-\s*([0-9]{1,20})\s*)?", part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if last < first or last > MAX_SEED or last - first >= MOST_ROWS:
            raise RequestError(f"seeds: expected numbers and ranges such as 0-9,20, got {text!r}")
        found += range(first, last + 1)
    return found


def random_seed() -> int:
    """A random seed."""
    return secrets.randbelow(_RANDOM_SEEDS)


def output_of(template: str, number: int, count: int, request: Request) -> Path:
    """The path of a picture from a template such as ``out/{index}-{name}-{seed}.png``.

    ``{index}`` is its number, with as many digits as ``count``; ``{name}`` is the name of the picture that it starts
    from without the suffix, or otherwise the prompt; the others are fields of the request. Raises ``RequestError`` for
    unknown names.
    """
    fields = {name: value for name, value in vars(request).items() if isinstance(value, str | int | float)}
    fields["size"] = str(request.size)
    start = None if request.from_image is None else Path(request.from_image)
    name = request.prompt if start is None else start.stem
    values = {key: _slug(value) if isinstance(value, str) else value for key, value in fields.items()}
    values |= {"index": _Padded(str(number).zfill(len(str(count)))), "name": _slug(name)}
    try:
        return at_home(string.Formatter().vformat(template, (), values))
    except (KeyError, IndexError, ValueError, AttributeError) as error:
        names = ", ".join(f"{{{key}}}" for key in sorted(values))
        raise RequestError(f"output: expected a name with {names}, got {template!r}") from error


def tasks_of(
    rows: Iterable[Row] | None,
    defaults: Row,
    read: Callable[[Row, Row], tuple[dict[str, Any], Request]],
    sheet: Path | None = None,
) -> list[Task]:
    """The pictures of all rows, with a path for each; ``sheet``: of a contact sheet.

    ``rows``: ``None`` without a file; then ``defaults`` are a row. ``defaults``: values for rows without their own.
    ``read``: returns the options of a row with its defaults, and their request. Raises ``RequestError`` for any invalid
    row, before anything is made.
    """
    if defaults.get("seed") is not None and defaults.get("seeds") is not None:
        raise RequestError("seeds: give one seed, or several with seeds, not both")
    several = {name: value for name, value in defaults.items() if name in ("from_image", "seeds")}
    asked: list[tuple[dict[str, Any], Request]] = []
    folders: set[Path] = set()
    for number, row in enumerate([{}] if rows is None else rows, start=1):
        named = {name.strip().lower().replace("-", "_"): value for name, value in row.items()}
        own = (several if named.get("seed") is None else {**several, "seeds": None}) | named
        try:
            asked += [read(_said(one), {**defaults, "seeds": None}) for one in spread(own)]
            if own.get("from_image"):
                folders.add(given_place(str(own["from_image"])).resolve())
        except InputError as error:
            if rows is None:
                raise
            raise RequestError(f"row {number}: {error}") from error
    tasks = [
        Task(number, request, output_of(options["output"], number, len(asked), request), options["seed"] == RANDOM)
        for number, (options, request) in enumerate(asked, start=1)
    ]
    check_tasks(tasks)
    for path in [task.output for task in tasks] + ([sheet] if sheet else []):
        if path.suffix.lower() in PICTURES and path.parent.resolve() in folders:
            raise RequestError(
                f"output: {path} would be among the pictures to start from when this command is given again; write "
                "into another folder"
            )
    return tasks


def _said(row: Row) -> Row:
    return {name: value for name, value in row.items() if value is not None}


class _Padded(str):
    """A zero-padded number, which a template may pad further."""

    def __format__(self, spec: str) -> str:
        return format(int(self), spec) if spec else str(self)


def _slug(text: str) -> str:
    """Text for a file name: letters and digits of any script, and hyphens."""
    return re.sub(r"[^\w.]+|_+", "-", text).strip("-.")[:_SLUG].strip("-.") or "picture"


def check_tasks(tasks: Sequence[Task]) -> None:
    """Raise ``RequestError`` if there is nothing to make, or two pictures have the same path."""
    if not tasks:
        raise RequestError("batch: there are no pictures to make; give a file with rows, --seeds or a folder")
    seen: dict[Path, int] = {}
    for task in tasks:
        other = seen.setdefault(task.output.absolute(), task.number)
        if other != task.number:
            raise RequestError(
                f"output: pictures {other} and {task.number} would both be {task.output}; put {{index}} or {{seed}} "
                "into the name"
            )


@dataclass(frozen=True)
class Known:
    """Checks of existing pictures.

    - ``settings``: returns the settings of a request's future file; ``inside``: those in a file, or ``None``.
    """

    settings: Callable[[Request], Mapping[str, Any]]
    inside: Callable[[Path], Mapping[str, Any] | None]

    def is_there(self, task: Task) -> bool:
        """Whether the file of a task exists with its settings."""
        return task.output.exists() and self._same(task, self.inside(task.output))

    def begun(self, task: Task) -> Path | None:
        """The run directory of a task, if its run was begun. Raises ``RunError`` if it belongs to another picture."""
        directory = RunDirectory(Path(f"{task.output}.run"))
        if not directory.begun:
            return None
        if not self._same(task, directory.read().identity.settings):
            raise RunError(f"{directory.path}: there is a run of another picture in it; finish or remove it")
        return directory.path

    def _same(self, task: Task, settings: Mapping[str, Any] | None) -> bool:
        """Whether settings are those of a task, with any seed if any is accepted."""
        if settings is None:
            return False
        request, seed = task.request, settings["request"].get("seed")
        if task.any_seed and isinstance(seed, int) and 0 <= seed <= MAX_SEED:
            request = replace(request, seed=seed)
        return json.dumps(settings, sort_keys=True) == json.dumps(self.settings(request), sort_keys=True)


def run_batch(
    tasks: Sequence[Task], known: Known, make: Callable[[Task, Path | None], object], tell: Callable[[Done], None]
) -> list[Done]:
    """Make the pictures that do not exist, one after the other. Returns the outcome of each.

    ``make``: makes a picture, or resumes a run directory. A picture that cannot be made (``InputError``,
    ``RefusedError``) does not stop the others; other errors, such as a full disk, end the batch. ``tell`` is called
    after each.
    """
    finished: list[Done] = []
    for task in tasks:
        outcome, reason = _made(task, known, make)
        finished.append(Done(task, outcome, reason))
        tell(finished[-1])
    return finished


def _made(task: Task, known: Known, make: Callable[[Task, Path | None], object]) -> tuple[Outcome, str]:
    try:
        if known.is_there(task):
            return "there", ""
        run_dir = known.begun(task)
        task.output.parent.mkdir(parents=True, exist_ok=True)
        make(task, run_dir)
    except (InputError, RefusedError) as error:
        return "failed", "; ".join([str(error), *getattr(error, "__notes__", [])])
    return "made", ""
