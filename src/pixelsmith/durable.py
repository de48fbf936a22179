"""What was written, and that it is still there after a power loss."""

from __future__ import annotations

import os
from pathlib import Path


def settle(*paths: Path) -> None:
    """Return when files and the entries of folders would survive a power loss, where the system can tell."""
    if os.name != "posix":
        return
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
