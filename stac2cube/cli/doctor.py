"""The command that examines a site."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click
from rich.table import Table

from stac2cube.cli.tables import wide_console
from stac2cube.cli.words import CUBE
from stac2cube.errors import BadInputError


@click.command()
@click.option("--site", default="example", show_default=True, help="Which, see `stac2cube sites`.")
@click.option("--folder", type=CUBE, default=Path(), help="On the file system for cubes; here if not said.")
@click.option("--wait", default=300.0, show_default=True, help="Seconds that the test job may wait in the queue.")
@click.option("--write", "name", help="Write what was found as the site file NAME, to be edited.")
@click.option("--probe", type=CUBE, hidden=True)
def doctor(site: str, folder: Path, wait: float, name: str | None, probe: Path | None) -> int:
    """Try whether a site does what stac2cube needs: submits two tiny jobs, and prints what to mend."""
    from stac2cube import doctor as practice
    from stac2cube.site import find_site

    if probe is not None:
        practice.probe(probe, int(os.environ["SLURM_PROCID"]))
        return 0
    examined = find_site(site)
    table = Table("", "check", "found", box=None)
    signs = {True: "ok", False: "NO", None: "-"}
    otherwise: dict[str, Any] = {}
    found = []
    for check in practice.checks(examined, folder, wait, otherwise):
        found.append(check)
        table.add_row(signs[check.ok], check.name, check.words)
    wide_console().print(table)
    if name is not None:
        click.echo(_written(name, practice.site_text(examined, otherwise)))
    return 1 if any(check.ok is False for check in found) else 0


def _written(name: str, text: str) -> str:
    from stac2cube.table import config_folder

    target = config_folder() / "sites" / f"{name}.toml"
    if target.exists():
        raise BadInputError(f"{target} exists already: remove it first, or choose another name")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text)
    return f"wrote {target}: look through it, then use --site {name}"
