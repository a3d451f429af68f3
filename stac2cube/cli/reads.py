"""Commands that read pixels without a cube: read, sample."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stac2cube.cli.words import CUBE, grid_options, listed, resampling_words, talking
from stac2cube.errors import BadInputError
from stac2cube.trust.text import as_cells

if TYPE_CHECKING:
    from geopandas import GeoDataFrame

    from stac2cube.progress import Progress
    from stac2cube.reads.selection import Words

SOURCE = click.argument("source")
quietly = click.option("--quiet", "-q", is_flag=True, help="No progress, warnings only.")


def _wanted_options(command: Any) -> Any:
    options = [
        click.option("--bands", help="Names or common names with commas; the mission's default if not said."),
        click.option("--time", help="A year, month, day, interval or season; all times of an index if not said."),
        click.option("--mission", help="Name of a mission; what the index tells if not said."),
        click.option("--max-cloud-cover", type=float, help="Leave out scenes with more, percent."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


@click.command()
@SOURCE
@click.argument("geometries")
@click.argument("folder", type=CUBE)
@_wanted_options
@grid_options
@quietly
@click.option("--json", "machine", is_flag=True, help="For programs.")
def read(source: str, geometries: str, folder: Path, quiet: bool, machine: bool, **options: Any) -> None:
    """Read GEOMETRIES from SOURCE (an index or a catalog): FOLDER/<feature>/<scene>.tif, without building a cube."""
    from stac2cube.progress import progress_for
    from stac2cube.reads.files import save_files

    with talking(quiet or machine) as console:
        files = save_files(source, geometries, folder, _words(**options), progress_for(console, "windows"))
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
    help="Of polygons: count, mean, std, min, max, median, sum, mode, percentiles as p10; with commas.",
)
@quietly
def sample(source: str, geometries: str, out: Path, statistics: str, quiet: bool, **options: Any) -> None:
    """Read the pixels under points, or statistics of polygons, from SOURCE (an index or a catalog) into a table.

    OUT.csv, OUT.parquet or OUT.json: a row for each of GEOMETRIES and each scene.
    """
    from stac2cube.progress import progress_for

    if out.suffix not in _WRITERS:
        raise BadInputError(f"{out.name}: a table is written as {', '.join(_WRITERS)}")
    with talking(quiet) as console:
        table = _table(
            source, geometries, listed(statistics) or (), _words(**options), progress_for(console, "windows")
        )
    from stac2cube.cube.files import write_whole

    out.parent.mkdir(parents=True, exist_ok=True)
    write_whole(out, _WRITERS[out.suffix](table))
    click.echo(f"{out}: {len(table)} rows")


def _table(source: str, geometries: str, statistics: tuple[str, ...], words: Words, progress: Progress) -> GeoDataFrame:
    from stac2cube.feature import read_features
    from stac2cube.reads.features import sample_table, statistics_table

    _, features = read_features(geometries, None)
    if {feature.shape.geom_type for feature in features} == {"Point"}:
        return sample_table(source, geometries, words, progress)
    return statistics_table(source, geometries, words, statistics, progress)


def _csv(table: GeoDataFrame) -> bytes:
    """With geometries as WKT."""
    text: str = as_cells(table.to_wkt()).to_csv(index=False)
    return text.encode()


def _json(table: GeoDataFrame) -> bytes:
    """Records without geometries: those are the caller's own."""
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
) -> Words:
    from stac2cube.reads.selection import Words

    return Words(listed(bands), time, mission, resolution, crs, resampling_words(resampling), max_cloud_cover)
