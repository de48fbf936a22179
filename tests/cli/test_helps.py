"""The help of the command line."""

from __future__ import annotations

import re
import shlex

import click
import pytest
from click.testing import CliRunner

from pixelsmith.cli.helps import FIRST_STEPS, Command, GroupedOption
from pixelsmith.cli.program import cli
from pixelsmith.config.method import PRESET_NOTES, PRESETS
from pixelsmith.config.settings import Group

WITH_A_REQUEST = ("generate", "batch", "preview", "plan")


def said(*words: str) -> str:
    result = CliRunner().invoke(cli, list(words), prog_name="pixelsmith")
    assert result.exit_code == 0, result.output
    return result.output


def options_in(text: str) -> set[str]:
    """The long options at the start of the lines of a help text."""
    return set(re.findall(r"^  (?:-\w, )?(--[\w-]+)", text, re.MULTILINE))


def headings_in(text: str) -> list[str]:
    return re.findall(r"^(\S.*):$", text, re.MULTILINE)


@pytest.mark.parametrize("name", WITH_A_REQUEST)
def test_help_shows_common_options_and_help_all_every_option(name: str) -> None:
    command = cli.commands[name]
    options = [one for one in command.params if isinstance(one, click.Option)]
    rare = {one.opts[0] for one in options if isinstance(one, GroupedOption) and not one.common}
    every = {next(opt for opt in one.opts if opt.startswith("--")) for one in options} | {"--help"}
    brief, full = options_in(said(name, "--help")), options_in(said(name, "--help-all"))
    assert full == every
    assert brief == every - rare
    assert f"{len(rare)} more options: pixelsmith {name} --help-all" in said(name, "--help")
    assert "more options" not in said(name, "--help-all")


def test_help_shows_about_ten_options_in_groups() -> None:
    text = said("generate", "--help")
    assert 10 <= len(options_in(text) - {"--help", "--help-all"}) <= 14
    headings = headings_in(text)
    assert headings[0] == "Examples"
    assert headings[-1] == "Presets"
    groups = [heading for heading in headings if heading in set(Group)]
    assert groups == [group for group in Group if group in groups], "in the order of the groups"


def test_every_option_of_a_picture_has_a_group() -> None:
    ungrouped = {one.opts[0] for one in cli.commands["generate"].params if not isinstance(one, GroupedOption)}
    assert ungrouped == {"prompt", "--help-all"}


def test_examples_are_valid_commands() -> None:
    command = cli.commands["generate"]
    assert isinstance(command, Command)
    assert len(command.examples) == 2
    for line in command.examples.values():
        program, name, *words = shlex.split(line)
        assert (program, cli.commands[name]) == ("pixelsmith", command)
        command.make_context(name, words)
        assert line in said("generate", "--help")


def test_presets_are_described() -> None:
    assert set(PRESET_NOTES) == set(PRESETS)
    for note in PRESET_NOTES.values():
        assert " ".join(note.split()) in " ".join(said("generate", "--help").split())


@pytest.mark.parametrize("words", [(), ("models",)])
def test_short_helps_are_complete_sentences(words: tuple[str, ...]) -> None:
    text = said(*words, "--help")
    assert "..." not in text.replace("[ARGS]...", "")
    assert set(re.findall(r"^  (\w+)  ", text, re.MULTILINE)) == set(
        (cli if not words else cli.commands["models"]).commands  # type: ignore[attr-defined]
    )


def test_without_a_command_the_first_steps_are_shown() -> None:
    assert said() == f"{FIRST_STEPS}\n"
    for line in re.findall(r"pixelsmith (\w+)", FIRST_STEPS):
        assert line in {*cli.commands, "turns"}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shell_completion_works(shell: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "_PIXELSMITH_COMPLETE" in said("completion", shell)
    monkeypatch.setenv("COMP_WORDS", "pixelsmith gen")
    monkeypatch.setenv("COMP_CWORD", "gen" if shell == "fish" else "1")
    monkeypatch.setenv("_PIXELSMITH_COMPLETE", f"{shell}_complete")
    result = CliRunner().invoke(cli, [], prog_name="pixelsmith")
    assert "generate" in result.output
    assert "batch" not in result.output
