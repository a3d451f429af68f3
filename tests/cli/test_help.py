"""The help of the command line."""

from __future__ import annotations

import re

import pytest
from click.testing import CliRunner

from stac2cube.cli import cli

COMMANDS = sorted(cli.commands)


def test_every_command_stands_under_one_heading_with_a_whole_sentence() -> None:
    said = CliRunner().invoke(cli, ["--help"], terminal_width=80).output.partition("Options:")[2]
    listed = [str(command.name) for commands in cli.sections.values() for command in commands]
    assert sorted(listed) == COMMANDS
    assert "..." not in said.replace("4, 8 ...", "")
    for heading in cli.sections:
        assert f"\n{heading}:\n" in said
    for name in COMMANDS:
        assert said.count(f"\n  {name} ") == 1


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_and_argument_is_explained(name: str) -> None:
    said = CliRunner().invoke(cli, [name, "--help"], terminal_width=110).output
    command = cli.commands[name]
    for parameter in command.params:
        if parameter.param_type_name == "option" and not parameter.hidden:
            assert parameter.help, f"{name} {parameter.opts}"
    usage, _, rest = said.partition("\n\n")
    for parameter in command.params:
        if parameter.param_type_name == "argument":
            words = re.findall(r"[A-Z]{2,}", str(parameter.human_readable_name))
            assert all(word in rest for word in words), f"{name} does not say what its arguments are: {usage}"
