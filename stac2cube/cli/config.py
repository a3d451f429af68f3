"""Commands about recipes themselves: config schema, config show."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import click

from stac2cube.cli.kinds import KINDS, check_recipe, command_lines, recipe_at
from stac2cube.cli.recipes import RECIPE, set_option
from stac2cube.cli.words import CUBE


@click.group()
def config() -> None:
    """Look at what recipes may say, and at what one says."""


@config.command()
@click.argument("out", type=CUBE, required=False)
def schema(out: Path | None) -> None:
    """Print the JSON Schema of recipes, or write it to OUT: editors complete and check by it."""
    text = schema_text()
    if out is None:
        click.echo(text, nl=False)
        return
    from stac2cube.cube.files import write_whole

    write_whole(out, text.encode())
    click.echo(f"begin a recipe with: # yaml-language-server: $schema={out}")


@config.command()
@RECIPE
@set_option
@click.option("--commands", is_flag=True, help="The commands that would run, to be typed as they stand.")
def show(recipe: Path, changes: tuple[str, ...], commands: bool) -> None:
    """Check RECIPE and print it resolved: in order, every variable filled in, with what holds where nothing is said."""
    from stac2cube.recipe.file import show_recipe

    wanted = recipe_at(recipe, changes)
    check_recipe(wanted)
    if not commands:
        click.echo(show_recipe(wanted), nl=False)
        return
    for entry in wanted.entries:
        for line in command_lines(wanted, entry):
            click.echo(shlex.join(["stac2cube", *line]))


def schema_text() -> str:
    """The JSON Schema of recipes."""
    from stac2cube.recipe.schema import schema_of

    return json.dumps(schema_of(KINDS), indent=1, ensure_ascii=False) + "\n"
