"""Commands about catalogs: compare, gaps, scene indexes, reading without a cube, and the page explore."""

from __future__ import annotations

import json
import math
import os
import signal
import tempfile
import webbrowser
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stac2cube.cli.options import (
    CUBE,
    TIME_FORMS,
    as_json,
    console_for,
    grid_options,
    listed,
    options_of,
    query_options,
    query_words,
    resampling_words,
    search_options,
)
from stac2cube.cli.run import wide_console
from stac2cube.errors import BadInputError
from stac2cube.model.catalog import catalogs
from stac2cube.model.mission import LOCAL, Mission, find_mission, mission_names
from stac2cube.model.query import AreaOptions, Query
from stac2cube.trust.text import as_cells

if TYPE_CHECKING:
    from geopandas import GeoDataFrame

    from stac2cube.explorer.server import LivePage
    from stac2cube.explorer.session import Explorer
    from stac2cube.index.index import Written
    from stac2cube.model.grid import GridOptions
    from stac2cube.model.query import Query
    from stac2cube.progress import Progress
    from stac2cube.search.cubes import Answer
    from stac2cube.search.search import Conditions

# Commands about the content of catalogs: compare, gaps.

catalog_list = click.option(
    "--catalogs",
    "names",
    help=("Names, URLs or paths of catalogs, separated by commas. Default: all catalogs that carry the mission."),
)


@click.command()
@query_options
@catalog_list
@as_json
def compare(names: str | None, machine: bool, **options: Any) -> None:
    """Run the same search in several catalogs: how many scenes each has, which only it has, and how fast it is."""
    from rich.table import Table

    from stac2cube.search.cubes import compare_catalogs
    from stac2cube.stages.layers import query_of_words

    with console_for(quiet=True):
        query, _ = query_of_words({**query_words(**options), "catalog": "auto"})
        answers = list(compare_catalogs(query, _listed(names) or query.page.catalogs))
    everything = Counter(key for answer in answers for key in answer.scenes)
    _require_an_answer(answers)
    if machine:
        found = {a.catalog: {"seconds": a.seconds, "problem": a.problem, "scenes": sorted(a.scenes)} for a in answers}
        click.echo(json.dumps(found, indent=1))
        return
    table = Table("catalog", "scenes", "only here", "lacks", "seconds", "remark", box=None)
    for answer in answers:
        alone = sum(everything[key] == 1 for key in answer.scenes)
        lacks = len(everything) - len(answer.scenes)
        counts = ("-", "-", "-") if not answer.answered else (str(len(answer.scenes)), str(alone), str(lacks))
        table.add_row(answer.catalog, *counts, f"{answer.seconds:.1f}", answer.problem)
    console = wide_console()
    console.print(table)
    days = Table("scene", *(answer.catalog for answer in answers), box=None)
    for key in sorted(everything, key=lambda key: key[-8:]):
        days.add_row(key, *("x" if key in answer.scenes else "" for answer in answers))
    console.print(days)


@click.command()
@click.argument("cube", type=CUBE)
@catalog_list
@as_json
def gaps(cube: Path, names: str | None, machine: bool) -> None:
    """List, per month, the scenes that a catalog has and CUBE does not have, with the reason."""
    from stac2cube.search.cubes import gaps_of, query_of

    with console_for(quiet=True):
        found, answers = gaps_of(cube, _listed(names) or query_of(cube)[1].page.catalogs)
    _require_an_answer(answers)
    silent = [f"{answer.catalog}: {answer.problem}" for answer in answers if not answer.answered]
    if machine:
        click.echo(json.dumps({"gaps": [asdict(gap) for gap in found], "silent": silent}, indent=1))
        return
    for month in sorted({gap.month for gap in found}):
        here = [gap for gap in found if gap.month == month]
        click.echo(f"{month}  {len(here)}")
        for gap in here:
            click.echo(f"  {gap.key:<34} {', '.join(gap.catalogs):<40} {gap.reason}")
    if not found:
        click.echo(f"{cube} has all scenes of {', '.join(a.catalog for a in answers if a.answered)}")
    for line in silent:
        click.echo(f"not asked: {line}")


def _listed(names: str | None) -> list[str]:
    return [] if names is None else [name.strip() for name in names.split(",") if name.strip()]


def _require_an_answer(answers: Sequence[Answer]) -> None:
    if not any(answer.answered for answer in answers):
        said = "; ".join(f"{answer.catalog}: {answer.problem}" for answer in answers)
        raise BadInputError(f"no catalog answered: {said}")


# Commands about scene indexes: index create, update, filter, export, info, list.

NAME = click.argument("name")

quietly = click.option("--quiet", "-q", is_flag=True, help="Print warnings only, no progress.")
where_option = click.option(
    "--where",
    multiple=True,
    help=("Condition in CQL2, for example 's2:nodata_pixel_percentage < 20'. Repeatable: all conditions must hold."),
)


@click.group()
def index() -> None:
    """Keep a search result as a catalog of your own, with the headers of its images, and keep it up to date.

    Use an index as `--catalog NAME`. NAME is a path, or a plain name for an index in your data folder.
    """


@index.command()
@NAME
@search_options
@where_option
@click.option("--headers", is_flag=True, help="Read and store the headers of the images of --bands.")
@quietly
@as_json
def create(name: str, where: tuple[str, ...], headers: bool, quiet: bool, machine: bool, **options: Any) -> None:
    """Search a catalog, and store the result as the index NAME."""
    from stac2cube.index.index import make_index
    from stac2cube.progress import progress_for
    from stac2cube.stages.layers import query_of_words

    with console_for(quiet or machine) as console:
        query, _ = query_of_words({**query_words(**options), "where": where})
        _say(make_index(name, query, headers=headers, progress=progress_for(console, "headers")), machine)


@index.command()
@NAME
@click.option("--time", help="Additional time. Default: all times requested so far.")
@click.option("--check", is_flag=True, help="Request size and ETag of every file whose header is stored.")
@quietly
@as_json
def update(name: str, time: str | None, check: bool, quiet: bool, machine: bool) -> None:
    """Search again, and apply what is new, changed or gone."""
    from stac2cube.index.index import update_index
    from stac2cube.progress import progress_for

    with console_for(quiet or machine) as console:
        _say(update_index(name, time=time, check=check, progress=progress_for(console, "headers")), machine)


@index.command(name="filter")
@NAME
@click.argument("out")
@options_of(
    Query,
    "time",
    unset="off",
    helps={"time": TIME_FORMS},
)
@options_of(
    AreaOptions,
    *("aoi", "aoi_crs"),
    unset="off",
    helps={"aoi": "Area that items must intersect: a file, GeoJSON text, or a box 'west,south,east,north' in degrees."},
)
@click.option("--platform", help="Platforms, separated by commas: sentinel-2a,sentinel-2b.")
@options_of(
    Query,
    *("orbit", "max_cloud_cover"),
    unset="off",
    helps={
        "orbit": "ascending, descending, or the number of a relative orbit.",
        "max_cloud_cover": "Largest cloud cover of a single item, in percent.",
    },
)
@where_option
@as_json
def filter_(name: str, out: str, machine: bool, **options: Any) -> None:
    """Write the index OUT with the items of NAME that meet all conditions."""
    from stac2cube.index.index import filter_index

    _say(filter_index(name, out, _conditions(**options)), machine)


@index.command()
@NAME
@click.argument("out", type=CUBE)
def export(name: str, out: Path) -> None:
    """Write the index NAME as one file: OUT.parquet (STAC GeoParquet) or OUT.json (ItemCollection)."""
    from stac2cube.index.index import export_index

    click.echo(export_index(name, out))


@index.command()
@NAME
@as_json
def info(name: str, machine: bool) -> None:
    """Print what the index NAME holds, and in which files."""
    from stac2cube.index.index import index_info

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
    """List the indexes in your data folder."""
    from rich.table import Table

    from stac2cube.index.index import list_indexes

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
    from stac2cube.model.geometry import read_areas
    from stac2cube.model.period import parse_period
    from stac2cube.search.search import Conditions

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


# Mission tables for other uses: Markdown for docs/missions.md, and JSON for programs.


def mission_tables() -> str:
    """Tables in Markdown: missions by catalog, with the evidence; then each mission's bands."""
    missions = [find_mission(name) for name in mission_names()]
    return "\n".join([*_matrix(missions), *(line for mission in missions for line in _bands(mission))]) + "\n"


def mission_facts(mission: Mission) -> dict[str, Any]:
    """A mission, its bands in their stored form, and its collection in each catalog, for JSON."""
    bands = [
        {
            "name": band.name,
            "common_name": band.common_name,
            "gsd": band.gsd,
            "dtype": band.quantity.dtype,
            "fill": None if math.isnan(band.quantity.fill) else band.quantity.fill,
            "scale": band.quantity.scale,
            "offset": band.quantity.offset,
            "units": band.quantity.units,
            "long_name": band.long_name,
            "default": band.name in mission.default_bands,
        }
        for band in mission.bands.values()
    ]
    collections = [{"catalog": page.catalog, "collection": page.collection} for page in mission.pages]
    return {"name": mission.name, "title": mission.title, "bands": bands, "collections": collections}


def _matrix(missions: list[Mission]) -> Iterator[str]:
    names = list(catalogs())
    yield f"| mission | {' | '.join(names)} |"
    yield "| --- |" + " --- |" * len(names)
    counts: dict[str, int] = {}
    for mission in missions:
        cells = []
        for name in names:
            known = {page.evidence for page in mission.pages if page.catalog == name}
            cell = "recorded" if "recorded" in known else "from documentation" if known else "absent"
            counts[cell] = counts.get(cell, 0) + 1
            cells.append(cell)
        yield f"| `{mission.name}` | {' | '.join(cells)} |"
    yield ""
    yield ", ".join(f"{count} {what}" for what, count in sorted(counts.items(), reverse=True)) + "."


def _bands(mission: Mission) -> Iterator[str]:
    yield ""
    yield f"### {mission.name}"
    yield ""
    yield f"{mission.title}. Default bands: {', '.join(mission.default_bands)}."
    yield ""
    yield "| band | common name | metres | stored as | no data | scale | offset | unit | what |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- | --- |"
    for band in mission.bands.values():
        form = band.quantity
        numbers = f"{form.fill:g} | {form.scale:g} | {form.offset:g} | {form.units}"
        what = band.long_name + (" (may be absent)" if band.optional else "")
        yield f"| {band.name} | {band.common_name} | {band.gsd} | {form.dtype} | {numbers} | {what} |"
    yield ""
    for page in mission.pages:
        where = "local copies" if page.catalog == LOCAL else page.catalog
        assets = ", ".join(f"`{name}`" for name in page.assets)
        yield f"* {where}: collection `{page.collection}`, assets {assets} ({page.evidence})"


# Commands that read pixels without a cube: read, sample.

SOURCE = click.argument("source")


_wanted_options = options_of(
    Query,
    *("bands", "time", "mission", "max_cloud_cover"),
    unset="off",
    helps={
        "bands": "Bands by name or common name, separated by commas. Default: those of the mission.",
        "time": "A year, month, day, interval or season. Default: all times of an index.",
        "mission": "Name of a mission. Default: that of the index.",
    },
)


@click.command()
@SOURCE
@click.argument("geometries")
@click.argument("folder", type=CUBE)
@_wanted_options
@grid_options
@quietly
@click.option("--json", "machine", is_flag=True, help="Print JSON for scripts.")
def read(source: str, geometries: str, folder: Path, quiet: bool, machine: bool, **options: Any) -> None:
    """Read GEOMETRIES from SOURCE (an index or a catalog): FOLDER/<feature>/<scene>.tif, without building a cube."""
    from stac2cube.progress import progress_for
    from stac2cube.reading.read import save_files

    with console_for(quiet or machine) as console:
        files = save_files(source, geometries, folder, *_words(**options), progress_for(console, "windows"))
    if machine:
        click.echo(json.dumps([str(file) for file in files], indent=1))
    else:
        click.echo(f"{folder}: {len(files)} files")


@click.command()
@SOURCE
@click.argument("geometries")
@click.argument("out", type=CUBE)
@_wanted_options
@grid_options
@click.option(
    "--statistics",
    default="count,mean,std,min,max",
    show_default=True,
    help=(
        "Statistics of polygons, separated by commas: count, mean, std, min, max, median, sum, mode, "
        "or percentiles such as p10."
    ),
)
@quietly
def sample(source: str, geometries: str, out: Path, statistics: str, quiet: bool, **options: Any) -> None:
    """Read the pixels under points, or statistics of polygons, from SOURCE (an index or a catalog) into a table.

    OUT.csv, OUT.parquet or OUT.json: a row for each of GEOMETRIES and each scene.
    """
    from stac2cube.progress import progress_for

    if out.suffix not in _WRITERS:
        raise BadInputError(f"{out.name}: a table is written as {', '.join(_WRITERS)}")
    with console_for(quiet) as console:
        table = _table(
            source, geometries, listed(statistics) or (), *_words(**options), progress_for(console, "windows")
        )
    from stac2cube.store.files import write_whole

    out.parent.mkdir(parents=True, exist_ok=True)
    write_whole(out, _WRITERS[out.suffix](table))
    click.echo(f"{out}: {len(table)} rows")


def _table(
    source: str, geometries: str, statistics: tuple[str, ...], query: Query, options: GridOptions, progress: Progress
) -> GeoDataFrame:
    from stac2cube.model.geometry import read_features
    from stac2cube.reading.read import sample_table, statistics_table

    _, features = read_features(geometries, None)
    if {feature.shape.geom_type for feature in features} == {"Point"}:
        return sample_table(source, geometries, query, options, progress)
    return statistics_table(source, geometries, query, options, statistics, progress)


def _csv(table: GeoDataFrame) -> bytes:
    """The table as CSV with geometries as WKT."""
    text: str = as_cells(table.to_wkt()).to_csv(index=False)
    return text.encode()


def _json(table: GeoDataFrame) -> bytes:
    """Records as JSON without geometries: the caller has those."""
    text: str = table.drop(columns="geometry").to_json(orient="records", date_format="iso")
    return text.encode()


def _parquet(table: GeoDataFrame) -> bytes:
    import io

    sink = io.BytesIO()
    table.to_parquet(sink)
    return sink.getvalue()


_WRITERS = {".csv": _csv, ".json": _json, ".parquet": _parquet}


def _words(
    bands: str | None,
    time: str | None,
    mission: str | None,
    resolution: float | None,
    crs: str | None,
    resampling: str | None,
    max_cloud_cover: float | None,
) -> tuple[Query, GridOptions]:
    from stac2cube.reading.selection import query_of_pixels

    return query_of_pixels(listed(bands), time, mission, resolution, crs, resampling_words(resampling), max_cloud_cover)


@click.command()
@click.argument("folder", type=CUBE, default=Path())
@click.option("--catalog", default="auto", show_default=True, help="Catalog that the page searches first.")
@click.option("--mission", default="sentinel-2-l2a", show_default=True, help="Mission that the page searches first.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Port on this machine. Default: any free port.")
@click.option("--no-browser", is_flag=True, help="Print the address, and open no browser.")
@click.option("--behind", default="", help="Address at which a proxy shows the page.")
@click.option(
    "--tiles", default="", help="Address of map tiles for the background, https://.../{z}/{x}/{y}.png. Needs a network."
)
def explore(folder: Path, catalog: str, mission: str, port: int, no_browser: bool, behind: str, tiles: str) -> None:
    """Choose area and dates on a local web page with a map and a calendar, which writes a recipe into FOLDER.

    From another machine, use ssh -L PORT:127.0.0.1:PORT HOST and open the printed address. Stop it with Ctrl-C.
    If FOLDER is an archive, the page shows its status, refreshes it every 15 seconds, and writes nothing.
    """
    from stac2cube.archives.archive import is_archive
    from stac2cube.archives.status import archive_status, draw_archive
    from stac2cube.explorer.server import LivePage
    from stac2cube.explorer.session import explore as begin

    opened: LivePage | Explorer
    if is_archive(folder):
        archive_status(folder)  # reports errors of the archive here, not on the page
        opened, said = LivePage(partial(draw_archive, folder), port, behind), f"how {folder} stands"
    else:
        opened = begin(folder, catalog=catalog, mission=mission, port=port, behind=behind, tiles=tiles)
        said = f"recipes go into {opened.folder}"
    with console_for(quiet=False), opened as page:
        # A reader of the address may press Ctrl-C before anything else is done here.
        try:
            signal.signal(signal.SIGTERM, signal.default_int_handler)
            click.echo(page.url)
            click.echo(f"{said}; Ctrl-C ends this page", err=True)
            seen = any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))
            with tempfile.TemporaryDirectory(prefix="stac2cube-") as door:
                if seen and not no_browser:
                    webbrowser.open(_door(Path(door), page.url).as_uri())
                signal.pause()
        except KeyboardInterrupt:
            click.echo("the page has ended", err=True)


def _door(folder: Path, url: str) -> Path:
    """Write a file that redirects to the page: all users of this machine could read an address on a command line."""
    file = folder / "explore.html"
    file.write_text(
        f'<!doctype html><meta http-equiv="refresh" content="0; url={url}"><a href="{url}">stac2cube</a>',
        encoding="utf-8",
    )
    file.chmod(0o600)
    return file
