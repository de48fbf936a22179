"""The run directory: the record of its run, a lock against other processes, and the canvases.

Its contents depend on the request alone, and every patch and tile has a checksum (``pixelsmith.canvas.slots``). To
resume after a crash is therefore to run the same request again, which skips what is finished.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import TracebackType
from typing import Any

from filelock import FileLock, Timeout

from pixelsmith.canvas import DiskSpace
from pixelsmith.errors import InputError, OutputError, RefusedError, RunError
from pixelsmith.system.digests import digest_of
from pixelsmith.system.durable import PARTIAL, NotAFileError, hold, is_incomplete, read_object, read_whole, write_whole
from pixelsmith.version import __version__

FORMAT = 1
"""The version of the directory's format; it changes when older directories can no longer be read."""
_LIBRARIES = (
    "torch", "diffusers", "transformers", "tokenizers", "safetensors", "accelerate", "peft", "compel", "gguf",
    "torchao", "bitsandbytes", "spandrel", "numpy", "pillow", "pyvips", "pyvips-binary",
)  # fmt: skip
_ANOTHER_THING = (NotAFileError, FileExistsError, IsADirectoryError, NotADirectoryError)
"""Errors of opening one of the run's files if a folder or a link has its name."""
_RECORD, _LOCK, _FINISHED = "run.json", "lock", "finished"


@dataclass(frozen=True)
class Identity:
    """Everything that determines the bytes of a run's picture, as plain JSON values.

    - ``settings``: the request, and the values chosen for ``auto`` (``FoundModel.settings``); ``batch_size``: patches
      per batch.
    - ``model``, ``pictures``: SHA-256 of the model's files and of the pictures that the request names, if any.
    - ``versions``: of Pixelsmith and of the numerical libraries.
    """

    settings: Mapping[str, Any]
    batch_size: int
    model: str
    pictures: str | None
    versions: Mapping[str, str]

    @classmethod
    def of(
        cls, settings: Mapping[str, Any], batch_size: int, model: Sequence[Path], pictures: Sequence[Path]
    ) -> Identity:
        """Hash the files and look up the versions, which reads all weights once. Raises ``RunError``.

        ``model``: the model's folders and files; ``pictures``: those that the request names.
        """
        return cls(settings, batch_size, digest_of(model), digest_of(pictures) if pictures else None, versions())

    def difference_from(self, other: Identity) -> str | None:
        """The first difference, for messages."""
        mine, theirs = _flat(vars(self)), _flat(vars(other))
        for name in mine | theirs:
            if mine.get(name) != theirs.get(name):
                return f"{name.replace('_', ' ')} was {mine.get(name)!r}, now it is {theirs.get(name)!r}"
        return None

    def difference_in_versions(self) -> str | None:
        """The first version that differs here, for messages. Other values are comparable only if there is none."""
        return self.difference_from(replace(self, versions=versions()))


@dataclass(frozen=True)
class Record:
    """The record of a run.

    - ``identity``: of the run; ``folder``: the working directory in which it was begun; ``output``: the picture file.
    - ``keep``: whether the run directory is kept once the picture is written.
    - ``software``: the versions of drivers and other software below PyTorch when the run began
      (``pixelsmith.system.repeatable``). A run can be resumed with others.

    If the run directory's path was relative, other relative paths are stored relative to it, so that a run can be
    resumed after the whole folder was moved.
    """

    identity: Identity
    folder: Path
    output: Path | None
    keep: bool
    software: Mapping[str, str] = field(default_factory=dict)

    @property
    def allows_pickle(self) -> bool:
        """Whether weights are loaded from pickles."""
        return bool(self.identity.settings["request"].get("parts", {}).get("allow_pickle"))


class RunDirectory:
    """A directory that one process at a time uses, in a ``with`` statement, which holds the lock.

    An error that leaves the context gets a note on how to continue; an ``OSError`` (such as no space left) becomes an
    ``OutputError``.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = FileLock(path / _LOCK, timeout=0)

    @classmethod
    def create(cls, path: Path) -> RunDirectory:
        """Create a run directory. Raises ``RunError`` if the folder is not empty or cannot be created."""
        try:
            if cls(path).begun:
                raise RunError(f"{path}: there is a run in it; {cls(path).advice}, or remove it")
            # Left by a process that was killed while it removed an earlier run.
            shutil.rmtree(cls(path)._gone, ignore_errors=True)
            path.mkdir(parents=True, exist_ok=True)
            if any(item.name != _LOCK and not is_incomplete(item) for item in path.iterdir()):
                raise RunError(f"{path}: expected a new or an empty directory")
        except OSError as error:
            raise RunError(f"{path}: it cannot be used as a run directory ({error.strerror})") from error
        return cls(path)

    @classmethod
    def begun_at(cls, path: Path) -> RunDirectory:
        """The run directory at a path. Raises ``RunError`` if there is none, without leaving a lock file there."""
        run = cls(path)
        run.read()
        return run

    def begin(self, record: Record) -> None:
        """Write the record. Raises ``RunError`` if another process has just written one."""
        if self.begun:
            raise RunError(f"{self.path}: another process has just begun a run in it")
        values = {
            "format": FORMAT,
            "identity": vars(record.identity),
            "folder": self._kept(record.folder, relative=True),
            "output": None
            if record.output is None
            else self._kept(record.output, relative=not record.output.is_absolute()),
            "keep": record.keep,
            "software": dict(record.software),
        }
        write_whole(self.path / _RECORD, json.dumps({**values, "checksum": _checksum(values)}, indent=1).encode())

    def read(self) -> Record:
        """Read the record. Raises ``RunError`` if it is missing or damaged."""
        try:
            values = read_object(read_whole(self.path / _RECORD))
            if values.pop("checksum") != _checksum(values):
                raise ValueError("its checksum is wrong")
            if values["format"] != FORMAT:
                raise ValueError(f"its format is {values['format']}, here it is {FORMAT}")
            output, identity = values["output"], Identity(**values["identity"])
            request = identity.settings["request"]
            if not all(isinstance(part, dict) for part in (identity.versions, request, request.get("parts", {}))):
                raise TypeError("expected versions, and a request with parts")
            return Record(
                identity=identity,
                folder=self._found(values["folder"]),
                output=None if output is None else self._found(output),
                keep=bool(values["keep"]),
                software=dict(values.get("software", {})),
            )
        except (FileNotFoundError, NotADirectoryError) as error:
            raise RunError(f"{self.path}: it is not a run directory, there is no {_RECORD} in it") from error
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            reason = f"it lacks {error}" if isinstance(error, KeyError) else getattr(error, "strerror", None) or error
            raise RunError(f"{self.path}: its {_RECORD} cannot be used: {reason}") from error

    def _kept(self, path: Path, relative: bool) -> str:
        if relative and not self.path.is_absolute():
            return os.path.relpath(path.resolve(), self.path.resolve())
        return str(path.absolute())

    def _found(self, path: str) -> Path:
        return Path(os.path.normpath(self.path.resolve() / path))

    def holds(self, output: Path) -> bool:
        """Whether an output lies in this directory's parent folder, where even a foreign run may write it."""
        return output.parent.resolve().is_relative_to(self.path.absolute().parent.resolve())

    def space(self) -> DiskSpace:
        """The space for the canvases of this run."""
        return DiskSpace(self.path)

    def finish(self) -> None:
        """Mark the run as finished."""
        write_whole(self.path / _FINISHED, b"")

    @property
    def advice(self) -> str:
        """The command that resumes this run, for messages."""
        words = ["pixelsmith", "resume", str(self.path)]
        with suppress(RunError):
            record = self.read()
            if record.output is not None and not self.holds(record.output):
                words += ["--output", str(record.output)]
            words += ["--allow-pickle"] if record.allows_pickle else []
        return f"go on with '{shlex.join(words)}'"

    @property
    def finished(self) -> bool:
        return (self.path / _FINISHED).exists()

    @property
    def begun(self) -> bool:
        """Whether the directory contains a run that can be resumed."""
        # A name can be too long, such as a prompt.
        with suppress(OSError):
            return (self.path / _RECORD).exists()
        return False

    def delete(self) -> None:
        """Remove the directory. It is renamed first, so that no half-removed run is left if the process is killed."""
        shutil.rmtree(self._gone, ignore_errors=True)
        with suppress(OSError):
            self.path.rename(self._gone)
        for path in (self._gone, self.path):
            shutil.rmtree(path, ignore_errors=True)

    @property
    def _gone(self) -> Path:
        """The directory's name while it is being removed, which no user would choose."""
        return self.path.with_name(f".{self.path.name}.pixelsmith-removed")

    def __enter__(self) -> RunDirectory:
        if not self.path.is_dir():
            raise RunError(f"{self.path}: it is not a run directory, there is no {_RECORD} in it")
        # The lock file may be writable although the directory is not.
        if not os.access(self.path, os.W_OK):
            raise RunError(f"{self.path}: it cannot be written to; check its permissions")
        try:
            hold(self._lock)
        except Timeout as error:
            raise RunError(f"{self.path}: another process works in it") from error
        except OSError as error:
            raise RunError(f"{self.path}: it cannot be written to ({error.strerror})") from error
        # Left by a process that was killed during an atomic write.
        for partial in filter(is_incomplete, self.path.rglob(f"*{PARTIAL}")):
            partial.unlink(missing_ok=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.release()
        if error is None or isinstance(error, InputError | RefusedError):
            return
        # Without a record there is nothing to resume.
        advice = [self.advice] if self.begun else []
        if isinstance(error, _ANOTHER_THING) and error.filename:
            # Resuming would fail in the same way until it is removed.
            what = f"{error.filename}: something else lies where the run has a file of its own ({error.strerror})"
            remedy = "remove it: what belongs there is made again"
            raise RunError("; ".join([what, remedy, *advice])) from error
        if isinstance(error, OSError):
            raise OutputError("; ".join([f"{self.path}: {error.strerror or error}", *advice])) from error
        for note in advice:
            error.add_note(note)


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{prefix}{name} ")
        else:
            found[prefix + name] = value
    return found


def versions() -> dict[str, str]:
    """The versions of Pixelsmith and of the numerical libraries that are installed."""
    found = {"pixelsmith": __version__}
    for name in _LIBRARIES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def _checksum(record: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()
