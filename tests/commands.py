"""Command lines in processes of their own, under environment variables that libraries read when they are imported."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path


class Commands:
    """Runs command lines in forks of one process that has imported Pixelsmith and diffusers, which takes seconds."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def run(self, folder: Path, *command: str, **environment: str) -> tuple[int, str]:
        """The exit code and what was written to standard error, of a command in a folder."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        own = {"XDG_CACHE_HOME": os.environ["XDG_CACHE_HOME"], **environment}
        self._process.stdin.write(json.dumps([str(folder), command, own]) + "\n")
        self._process.stdin.flush()
        code, said = json.loads(self._process.stdout.readline())
        return code, said


@contextmanager
def commands(environment: Mapping[str, str]) -> Iterator[Commands]:
    line = [sys.executable, "-m", "tests.commands"]
    with subprocess.Popen(
        line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **environment}
    ) as process:
        try:
            yield Commands(process)
        finally:
            process.communicate()


def _serve() -> None:
    import diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion  # noqa: F401

    import pixelsmith.cli.program  # noqa: F401

    for line in sys.stdin:
        folder, command, environment = json.loads(line)
        with tempfile.TemporaryFile() as errors:
            child = os.fork()
            if child == 0:
                os.dup2(errors.fileno(), 2)
                os.dup2(os.open(os.devnull, os.O_RDWR), 1)
                os.chdir(folder)
                os.environ.update(environment)
                _end(command)
            _, status = os.waitpid(child, 0)
            errors.seek(0)
            said = errors.read().decode()
        print(json.dumps([os.waitstatus_to_exitcode(status), said]), flush=True)  # noqa: T201


def _end(command: list[str]) -> None:
    """Run a command and end the process."""
    from pixelsmith.cli.program import main

    sys.argv, code = ["pixelsmith", *command], 70
    try:
        main()
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    _serve()
