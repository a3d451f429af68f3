"""A group whose help lists its commands by what one wants to do, in the order in which one comes to want it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import click


class Sections(click.Group):
    """Commands under headings.

    Attributes:
        sections: Commands per heading, in the order of the help.
    """

    sections: Mapping[str, Sequence[click.Command]] = {}

    def add_sections(self, sections: Mapping[str, Sequence[click.Command]]) -> None:
        """Add all commands, each under its heading."""
        self.sections = sections
        for commands in sections.values():
            for command in commands:
                self.add_command(command)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click asks so
        """Write the first sentence of each command, never cut short, under its heading."""
        # One column for all headings, so that the sentences begin below each other.
        widest = max(len(str(command.name)) for commands in self.sections.values() for command in commands)
        for heading, commands in self.sections.items():
            rows = [(f"{command.name:{widest}}", command.get_short_help_str(limit=500)) for command in commands]
            with formatter.section(heading):
                formatter.write_dl(rows)
