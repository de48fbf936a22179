"""What goes out with a release says one version, and has all that it needs."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from pixelsmith import __version__

ROOT = Path(__file__).parents[1]


def test_the_citation_is_of_this_version() -> None:
    said = re.search(r"^version: (.+)$", (ROOT / "CITATION.cff").read_text("utf-8"), re.MULTILINE)
    assert said is not None
    assert said[1] == __version__


def test_the_container_gets_what_the_wheel_is_built_from() -> None:
    """What the Dockerfile copies from the checkout is there, and not kept from it by .dockerignore."""
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if line.startswith("!")}
    copies = re.findall(r"^COPY (?!--from)(.+) \S+$", (ROOT / "Dockerfile").read_text("utf-8"), re.MULTILINE)
    copied = {name for line in copies for name in line.split()}
    assert copied == kept
    assert all((ROOT / name).exists() for name in copied)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert {project["readme"], *project["license-files"], "pyproject.toml", "src"} <= copied


def test_all_is_every_extra_but_those_that_are_apart() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    (whole,) = extras["all"]
    apart = {"all", "dev", "docs", "inception", "upsampler"}
    assert set(whole.removeprefix("pixelsmith[").removesuffix("]").split(",")) == set(extras) - apart


def test_the_page_of_installing_names_every_extra_for_users() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    page = (ROOT / "docs" / "install.md").read_text("utf-8")
    assert {f"`{name}`" for name in extras} - {"`dev`", "`docs`"} <= set(
        re.findall(r"^\| (`\w+`) ", page, re.MULTILINE)
    )
