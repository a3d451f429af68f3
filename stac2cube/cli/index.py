"""Commands about scene indexes: index create, update, filter, export, info, list."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.table import Table

from stac2cube.cli.tables import wide_console
from stac2cube.cli.words import CUBE, as_json, listed, search_options, talking, what_words

if TYPE_CHECKING:
    from stac2cube.source.conditions import Conditions
    from stac2cube.stages.indexing import Written

NAME = click.argument("name")

quietly = click.option("--quiet", "-q", is_flag=True, help="No progress, warnings only.")
where_option = click.option(
    "--where", multiple=True, help="Condition in CQL2, as 's2:nodata_pixel_percentage < 20'; several times: all hold."
)


@click.group()
def index() -> None:
    """Keep catalogs of your own: searched once, stored with the headers of their images, brought up to date.

    An index is named where it is used, as `--catalog NAME`: by a path, or by a name alone, which lies with your data.
    """


@index.command()
@NAME
@search_options
@where_option
@click.option("--headers", is_flag=True, help="Read the headers of the images of --bands, and keep them.")
@quietly
@as_json
def create(name: str, where: tuple[str, ...], headers: bool, quiet: bool, machine: bool, **options: Any) -> None:
    """Search, and keep what is found as the index NAME."""
    from stac2cube.progress import progress_for
    from stac2cube.source.conditions import Conditions
    from stac2cube.stages.indexing import make_index
    from stac2cube.stages.layers import make_request

    with talking(quiet or machine) as console:
        request = make_request(what_words(**options))
        progress = progress_for(console, "headers")
        _say(make_index(name, request, Conditions(where=where), headers=headers, progress=progress), machine)


@index.command()
@NAME
@click.option("--time", help="A further time; every time asked for so far if not said.")
@click.option("--check", is_flag=True, help="Ask for size and ETag of every file whose header is kept.")
@quietly
@as_json
def update(name: str, time: str | None, check: bool, quiet: bool, machine: bool) -> None:
    """Search again, and take over what is new, changed or gone."""
    from stac2cube.progress import progress_for
    from stac2cube.stages.indexing import update_index

    with talking(quiet or machine) as console:
        _say(update_index(name, time=time, check=check, progress=progress_for(console, "headers")), machine)


@index.command(name="filter")
@NAME
@click.argument("out")
@click.option("--time", help="A year, a month, a day, an interval, a season; several with commas.")
@click.option("--aoi", help="Area that items must touch, as of `stac2cube layers`; a box 'w,s,e,n' for example.")
@click.option("--aoi-crs", help="CRS of the numbers in --aoi; WGS84 if not said.")
@click.option("--platform", help="Names with commas: sentinel-2a,sentinel-2b.")
@click.option("--orbit", help="ascending, descending, or the number of a relative orbit.")
@click.option("--max-cloud-cover", type=float, help="Of the single item, percent.")
@where_option
@as_json
def filter_(name: str, out: str, machine: bool, **options: Any) -> None:
    """Make the index OUT of those items of NAME that fulfil all conditions."""
    from stac2cube.stages.indexing import filter_index

    _say(filter_index(name, out, _conditions(**options)), machine)


@index.command()
@NAME
@click.argument("out", type=CUBE)
def export(name: str, out: Path) -> None:
    """Write the index NAME as one file: OUT.parquet (STAC GeoParquet) or OUT.json (ItemCollection)."""
    from stac2cube.stages.index_facts import export_index

    click.echo(export_index(name, out))


@index.command()
@NAME
@as_json
def info(name: str, machine: bool) -> None:
    """Say what the index NAME holds, and in which files."""
    from stac2cube.stages.index_facts import index_info

    facts = index_info(name)
    if machine:
        click.echo(json.dumps(facts, indent=1))
        return
    facts["request"] = {word: part for word, part in facts["request"].items() if word != "area" and part}
    facts["files"] = len(facts["files"])
    for word, value in facts.items():
        text = ", ".join(f"{key} {part}" for key, part in value.items()) if isinstance(value, dict) else value
        click.echo(f"{word:<12} {'-' if text in (None, '') else text}")


@index.command(name="list")
@as_json
def list_(machine: bool) -> None:
    """List your own indexes, those that have a name only."""
    from stac2cube.stages.index_facts import list_indexes

    found = list_indexes()
    if machine:
        click.echo(json.dumps(found, indent=1))
        return
    table = Table("name", "mission", "catalog", "items", "headers", "updated", box=None)
    for entry in found:
        kept = "yes" if entry["headers"] else "no"
        table.add_row(entry["name"], entry["mission"], entry["catalog"], str(entry["items"]), kept, entry["updated"])
    wide_console().print(table)


def _conditions(
    time: str | None,
    aoi: str | None,
    aoi_crs: str | None,
    platform: str | None,
    orbit: str | None,
    max_cloud_cover: float | None,
    where: tuple[str, ...],
) -> Conditions:
    from stac2cube.area import read_areas
    from stac2cube.period import parse_period
    from stac2cube.source.conditions import Conditions

    return Conditions(
        area=None if aoi is None else read_areas(aoi, crs=aoi_crs)[0].geometry,
        intervals=() if time is None else tuple(parse_period(time).intervals),
        platforms=listed(platform) or (),
        orbit=orbit or "",
        max_cloud_cover=max_cloud_cover,
        where=where,
    )


def _say(written: Written, machine: bool) -> None:
    difference, manifest = written.difference, written.manifest
    if machine:
        facts = {name: getattr(difference, name) for name in ("new", "changed", "gone", "same", "headers")}
        click.echo(json.dumps({"path": str(written.path), "items": manifest.rows, **facts}, indent=1))
        return
    counts = [(len(difference.new), "new"), (len(difference.changed), "changed"), (len(difference.gone), "gone")]
    said = [f"{count} {word}" for count, word in [*counts, (difference.same, "as before")] if count]
    click.echo(f"{written.path}: {manifest.rows} items ({', '.join(said) or 'none'})")
