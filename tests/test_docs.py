"""That the documentation is complete and true: generated parts, links, commands, examples."""

from __future__ import annotations

import doctest
import importlib
import re
import shlex
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import fields
from pathlib import Path

import click
import pytest

import pixelsmith
from pixelsmith.cli.program import cli
from website import options
from website.build import GATHERED, ROOT, defects
from website.write import WRITTEN, anew, filled

PAGES = sorted({path for pattern in GATHERED for path in ROOT.glob(pattern) if path.suffix == ".md"})
NAMES = [path.relative_to(ROOT).as_posix() for path in PAGES]
EXAMPLES = ("api.functions", "api.pipeline", "config.method", "config.parts", "config.request", "geometry")
"""Modules with examples in their docstrings."""


@pytest.mark.parametrize("page", WRITTEN, ids=lambda page: page.name)
def test_generated_parts_are_as_they_would_be_made_now(page: Path) -> None:
    assert page.read_text("utf-8") == anew(page), "run: python -m website.write"


def test_a_part_goes_between_its_markers_and_nowhere_else() -> None:
    start, end = "<!-- a: made by python -m website.write -->\n", "<!-- end of a -->"
    page = f"above\n{start}old\n{end}\nbelow\n"
    assert filled(page, {"a": "new"}) == f"above\n{start}\nnew\n{end}\nbelow\n"
    with pytest.raises(ValueError, match="end of b"):
        filled(page, {"b": "new"})


def test_every_option_of_every_command_is_on_the_page() -> None:
    page = options.PAGE.read_text("utf-8")
    for name, command in options.commands_in(cli):
        assert f"pixelsmith {name}" in page
        for option in options.options_of(command):
            for spelling in (*option.opts, *option.secondary_opts):
                assert f"`{spelling}`" in page, f"{spelling} of {name}"


@pytest.mark.parametrize("owner", options.OWNERS)
def test_every_field_is_described_and_on_the_page(owner: type) -> None:
    page, said = options.PAGE.read_text("utf-8"), options.descriptions(owner)
    for item in fields(owner):
        assert said.get(item.name), f"the docstring of {owner.__name__} has no bullet for {item.name}"
        if item.name not in options.CONTAINERS:
            assert f"`{owner.__name__}.{item.name}`" in page


def test_every_public_name_is_in_the_reference() -> None:
    page = (ROOT / "docs" / "api.md").read_text("utf-8")
    shown = set(re.findall(r"^::: pixelsmith\.(\w+)$", page, re.MULTILINE))
    assert shown == set(pixelsmith.__all__) - {"__version__"}


@pytest.mark.parametrize("name", NAMES)
def test_links_and_pictures_are_there(name: str) -> None:
    """The build looks at links between pages; this looks at all files, folders and pictures too."""
    page = ROOT / name
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
        if not target.startswith(("http://", "https://", "#")):
            assert (page.parent / target.partition("#")[0]).exists(), target


def commands_of(page: str) -> Iterator[list[str]]:
    """The ``pixelsmith`` commands in the code of a page, as lists of words."""
    for block in re.findall(r"^(?:    .*\n)+|^```(?:sh|console)\n(?:.*\n)*?```$", page, re.MULTILINE):
        text = re.sub(r"\\\n", " ", re.sub(r"^ *\$ ", "    ", block, flags=re.MULTILINE))
        for line in re.findall(r"^ *pixelsmith (?!:)(.*)$", text, re.MULTILINE):
            yield shlex.split(line, comments=True)


@pytest.mark.parametrize("name", NAMES)
def test_commands_are_understood(name: str) -> None:
    """Every command that a page names is parsed, but not run: no option is misspelt or gone."""
    for words in commands_of((ROOT / name).read_text("utf-8")):
        command: click.Command = cli
        context = click.Context(cli)
        while isinstance(command, click.Group) and words and words[0] in command.commands:
            command, words = command.commands[words[0]], words[1:]
        with suppress(click.exceptions.Exit):  # of --help
            command.make_context(command.name, [word for word in words if not word.startswith("$")], parent=context)


@pytest.mark.parametrize("module", EXAMPLES)
def test_examples_in_docstrings(module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    failed, tried = doctest.testmod(importlib.import_module(f"pixelsmith.{module}"))
    assert tried
    assert not failed


def test_every_page_can_be_reached_from_the_menu() -> None:
    """But decisions and results, which their own pages list."""
    menu = re.findall(r'= "([^"]+\.md)"', (ROOT / "zensical.toml").read_text("utf-8"))
    listed = ("docs/decisions/", "docs/results/")
    assert sorted(menu) == sorted(name for name in NAMES if not name.startswith(listed) or name.endswith("README.md"))


def test_what_is_wrong_with_a_built_page_is_said(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "index.html").write_text(
        '<a href="../there/"></a><a href="https://example.org/"></a><img src="data:image/png;base64,">'
    )
    (tmp_path / "index.html").write_text(
        '<a href="gone/"></a><a href="there/#x"></a><img src="gone.png"><script src="//example.org/x.js"></script>'
    )
    assert sorted(defects(tmp_path)) == [
        "index.html: gone.png is not there",
        "index.html: gone/ is not there",
        "index.html: it would load //example.org/x.js from another server",
    ]


def test_equations_become_mathml() -> None:
    markdown = pytest.importorskip("markdown")
    pytest.importorskip("latex2mathml")
    extensions = ["pymdownx.arithmatex", "website.equations"]
    page = markdown.markdown(
        "Latents $x_t$ cost $5.\n\n$$\\frac{a}{b}$$\n",
        extensions=extensions,
        extension_configs={"pymdownx.arithmatex": {"generic": True}},
    )
    assert '<math xmlns="http://www.w3.org/1998/Math/MathML" display="inline"><mrow><msub>' in page
    assert 'display="block"><mrow><mfrac>' in page
    assert "cost $5." in page
    assert "\\" not in page
