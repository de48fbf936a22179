"""The path of a picture file, which one process at a time locks and to which the file is moved atomically."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import tempfile
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from filelock import FileLock, Timeout

from pixelsmith.errors import PictureError
from pixelsmith.system.durable import flush, hold


def tiles_of(path: Path) -> Path:
    """The folder of tiles next to a ``.dzi``."""
    return path.with_name(f"{path.stem}_files")


class Output:
    """The path of a picture file; use it in a ``with`` statement, which locks the path for this process.

    The file is created in ``folder``, a new temporary folder, and ``put_in_place`` moves it to ``path``. Files left by
    a process that was killed are removed by the next one for the same path.

    Raises ``PictureError``, before any work, if another process has the lock, the file cannot be created, or it exists
    and ``overwrite`` is not set. A link is replaced, not followed.
    """

    def __init__(self, path: Path, overwrite: bool = False) -> None:
        self.path, self._overwrite = path, overwrite
        digest = hashlib.sha256(os.fsencode(os.path.normcase(path.name))).hexdigest()[:16]
        # A digest, because the name of the output may already have the largest length.
        self._prefix = f".pixelsmith-{digest}"
        self._lock = FileLock(path.parent / f"{self._prefix}.lock", timeout=0)

    def __enter__(self) -> Output:
        try:
            hold(self._lock)
        except Timeout as error:
            raise PictureError(f"{self.path}: another process is writing it") from error
        except OSError as error:
            raise self._unwritable(error) from error
        try:
            self._check_what_is_there()
            self._remove_temporary()
            self.folder = Path(tempfile.mkdtemp(prefix=f"{self._prefix}-", dir=self.path.parent))
            self._try_names()
        except OSError as error:
            self._release()
            raise self._unwritable(error) from error
        except BaseException:
            self._release()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._release()

    @property
    def partial(self) -> Path:
        """The file in ``folder``, with a plain name and the suffix of the output."""
        return self.folder / f"picture{self.path.suffix.lower()}"

    def put_in_place(self) -> None:
        """Flush the finished file, and a folder of tiles, to disk and rename them to the path."""
        if self.path.suffix.lower() == ".dzi":
            tiles, target = tiles_of(self.partial), tiles_of(self.path)
            flush(*tiles.rglob("*"), self.partial)
            if target.exists():
                target.replace(self.folder / "old")
            tiles.replace(target)
        else:
            flush(self.partial)
        self.partial.replace(self.path)
        flush(self.path.parent)

    def _check_what_is_there(self) -> None:
        path = self.path
        there = path.lstat() if os.path.lexists(path) else None
        if there is not None:
            is_file = stat.S_ISREG(there.st_mode)
            if not is_file and not stat.S_ISLNK(there.st_mode):
                raise PictureError(f"{path}: expected the name of a file, there is something else")
            if is_file and not os.access(path, os.W_OK):
                raise PictureError(f"{path}: it cannot be written; check its permissions or choose another place")
            if is_file and there.st_size == 0:
                # An empty file has no content to lose; some programs create one to reserve its name.
                return
        tiles = path.suffix.lower() == ".dzi" and os.path.lexists(tiles_of(path))
        if (there is not None or tiles) and not self._overwrite:
            raise PictureError(f"{path}: there is a file already; choose another name, or overwrite it (--overwrite)")

    def _try_names(self) -> None:
        """Create and remove files with the names that will be needed; the rules for names depend on the file system."""
        (self.folder / self.path.name).touch(exist_ok=False)
        (self.folder / self.path.name).unlink()
        if self.path.suffix.lower() == ".dzi":
            tiles_of(self.folder / self.path.name).mkdir()
            tiles_of(self.folder / self.path.name).rmdir()
        try:
            os.fsencode(self.folder).decode()
        except UnicodeDecodeError as error:
            raise PictureError(f"{self.path}: the name of its folder is not in UTF-8; choose another place") from error

    def _unwritable(self, error: OSError) -> PictureError:
        return PictureError(f"{self.path}: it cannot be written ({error.strerror}); choose another name or place")

    def _remove_temporary(self) -> None:
        """Remove the temporary files of this process and of earlier ones that were killed; the lock must be held."""
        for folder in self.path.parent.glob(f"{self._prefix}-*"):
            if folder.is_symlink():
                folder.unlink(missing_ok=True)
            shutil.rmtree(folder, ignore_errors=True)

    def _release(self) -> None:
        self._remove_temporary()
        # The lock file is removed before the lock is released, so that no other process locks a removed file.
        with suppress(OSError):
            Path(self._lock.lock_file).unlink()
        self._lock.release()
