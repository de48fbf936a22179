"""Build the site into ``build/site``: gather the pages, run Zensical, check the result.

    python -m website.build

The site keeps the layout of the repository, so a link from page to page is the same in both, and the README is the
site's first page. Neither building nor reading the site fetches anything from other servers: fonts are those of the
reader's system, equations are MathML.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).parents[1]
PAGES, SITE = ROOT / "build" / "pages", ROOT / "build" / "site"
"""The folders that Zensical reads and writes (zensical.toml)."""
GATHERED = ("*.md", "LICENSE", "NOTICE", "docs/**/*", "benchmarks/*.md", "training/*.md", "website/*.css")
"""Patterns of the files that belong to the site."""


def gather(root: Path = ROOT, pages: Path = PAGES) -> None:
    """Copy the files of the site into an empty folder, with the layout of the repository."""
    shutil.rmtree(pages, ignore_errors=True)
    for source in (path for pattern in GATHERED for path in root.glob(pattern) if path.is_file()):
        target = pages / source.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)


class _References(HTMLParser):
    """The resources that a page loads (``loaded``), and its links (``links``)."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.loaded, self.links = list[str](), list[str]()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value for name, value in attrs if value}
        (self.links if tag == "a" else self.loaded).extend(given[name] for name in ("src", "href") if name in given)


def defects(site: Path = SITE) -> Iterator[str]:
    """The defects of a built site's pages, one line each: missing files, and resources from other servers.

    Zensical checks links between pages, but not pictures, folders and other files.
    """
    for page in sorted(site.rglob("*.html")):
        found, name = _References(page.read_text("utf-8")), page.relative_to(site)
        for reference in (*found.loaded, *found.links):
            address = urlsplit(reference)
            if address.scheme or address.netloc:
                if reference in found.loaded and address.scheme != "data":
                    yield f"{name}: it would load {reference} from another server"
            elif address.path:
                start = site if address.path.startswith("/") else page.parent
                target = start / unquote(address.path).lstrip("/")
                if not (target / "index.html" if target.is_dir() else target).exists():
                    yield f"{name}: {reference} is not there"


def main() -> None:
    """Gather, build and check; a defect makes the exit code 1."""
    gather()
    command = [sys.executable, "-m", "zensical", "build", "--clean", "--strict"]
    built = subprocess.run(command, cwd=ROOT, check=False).returncode  # noqa: S603 (no words of a user's)
    wrong = list(defects()) if built == 0 else []
    for line in wrong:
        print(line, file=sys.stderr)  # noqa: T201
    sys.exit(built or bool(wrong))


if __name__ == "__main__":
    main()
