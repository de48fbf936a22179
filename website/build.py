"""Build the site into ``build/site``: gather the pages, then run Zensical, strict and without a network.

    python -m website.build

The site keeps the layout of the repository, so a link from page to page is the same in both, and the README is the
site's first page.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = ROOT / "build" / "pages"
"""What Zensical reads (``docs_dir`` in zensical.toml)."""
GATHERED = ("*.md", "LICENSE", "NOTICE", "docs/**/*", "benchmarks/*.md", "training/*.md")
"""Patterns of what belongs to the site."""


def gather(root: Path = ROOT, pages: Path = PAGES) -> None:
    """Copy what belongs to the site into an empty folder, with the layout of the repository."""
    shutil.rmtree(pages, ignore_errors=True)
    for source in (path for pattern in GATHERED for path in root.glob(pattern) if path.is_file()):
        target = pages / source.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)


def main() -> None:
    """Gather and build; ends with Zensical's exit code: a broken link is an error."""
    gather()
    command = [sys.executable, "-m", "zensical", "build", "--clean", "--strict"]
    sys.exit(subprocess.run(command, cwd=ROOT, check=False).returncode)


if __name__ == "__main__":
    main()
