"""Commands that show and export a cube, write application packages and process single items."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stac2cube.cli.archives import archive_folder, has_steps, over_archive
from stac2cube.cli.options import (
    AREA,
    AREA_FORMS,
    CUBE,
    as_json,
    console_for,
    look_of,
    mask_options,
    options_of,
    selection_options,
    style_options,
    value_of,
    where_options,
)
from stac2cube.cli.run import RunOptions
from stac2cube.errors import BadInputError, ReadError
from stac2cube.model.grid import GridOptions
from stac2cube.model.query import AreaOptions, Query
from stac2cube.trust.address import is_http
from stac2cube.views.options import Columns, Export, Film, Hiding, TimeSelection

# The command that writes application packages for workflow runners.


@click.command()
@click.argument("out", type=CUBE)
@click.option(
    "--image", default="", help="Container image for runners that use containers, built from envs/Containerfile."
)
@click.option("--workers", default=4, show_default=True, help="Largest number of workers of a Dask Gateway cluster.")
@click.option("--cores", default=2, show_default=True, help="Cores per worker, and for the program itself.")
@click.option("--memory", default=8, show_default=True, help="Memory per worker, and for the program itself, in GiB.")
def cwl(out: Path, image: str, workers: int, cores: int, memory: int) -> None:
    """Write CWL v1.2 documents into the folder OUT: run.cwl for recipes, item.cwl for single STAC items."""
    import yaml

    from stac2cube.recipe.cwl import Package
    from stac2cube.store.files import write_whole

    documents = Package(image, workers, cores, memory).documents()
    out.mkdir(parents=True, exist_ok=True)
    for name, document in documents.items():
        plain = json.loads(json.dumps(document))  # separate copies, or YAML would write references between them
        text = yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=120)
        write_whole(out / f"{name}.cwl", f"#!/usr/bin/env cwl-runner\n{text}".encode())
        click.echo(out / f"{name}.cwl")


# The command for a single item, as application packages of Earth observation platforms run it.

if TYPE_CHECKING:
    import numpy as np

    from stac2cube.model.grid import Grid, Tile
    from stac2cube.progress import Progress
    from stac2cube.reading.item import MakeProducts, ProductBand

    Block = tuple[Tile, dict[str, np.ndarray]]


@click.command()
@click.argument("item")
@click.argument("out", type=CUBE)
@click.option("--index", "indices", multiple=True, help="Spectral index, see `stac2cube indices`. Repeatable.")
@click.option("--colour", "colours", multiple=True, help="Colour composite: true, false, swir ... Repeatable.")
@options_of(
    AreaOptions,
    "aoi",
    unset="off",
    helps={"aoi": f"Area of interest: {AREA_FORMS}. Default: the whole item."},
)
@options_of(GridOptions, "resolution", unset="off")
@click.option("--clear", is_flag=True, help="Leave out indices where the scene's classes say cloud, shadow or no data.")
@options_of(
    Query,
    "mission",
    unset="off",
    helps={"mission": "Name of a mission. Default: found from the item's collection."},
)
@where_options
def item(item: str, out: Path, indices: tuple[str, ...], colours: tuple[str, ...], **options: Any) -> int:
    """Write products of one STAC item into the folder OUT: a static catalog, and one GeoTIFF (COG) per product.

    ITEM is the address or the path of the item, or a folder that holds only this item.
    """
    from stac2cube.reading.item import ItemRequest, OneItem, blocks_of, require_free, write_item_products
    from stac2cube.search.clients import read_item

    if not indices and not colours:
        raise BadInputError("say what to make: --index ndvi, --colour true")
    with console_for(options["quiet"]) as console:
        require_free(out)
        run_options = RunOptions.of(options, console)
        one = OneItem.of(read_item(item), options["mission"], options["aoi"], item if is_http(item) else "")
        wanted = ItemRequest(indices, colours, options["resolution"], options["clear"])
        try:
            task = wanted.of(one)
            blocks = _counted(blocks_of(task, run_options.place), task.spec.grid, run_options.progress())
            click.echo(write_item_products(out, one.item, task.spec.grid, _bands(task), blocks))
        except ReadError as error:
            click.echo(f"stac2cube: {error}", err=True)
            return 2
    return 0


def _bands(task: MakeProducts) -> dict[str, ProductBand]:
    from stac2cube.reading.item import ProductBand
    from stac2cube.views.indices import describe_index

    bands = {}
    for product in task.products:
        if product.index:
            about = describe_index(product.index)
            facts: dict[str, Any] = {f"stac2cube:{word}": about[word] for word in ("formula", "reference")}
        else:
            facts = {"stac2cube:bands": list(product.bands), "stac2cube:white": round(product.white, 4)}
        bands[product.name] = ProductBand(product.title, not product.index, facts)
    return bands


def _counted(blocks: Iterator[Block], grid: Grid, progress: Progress) -> Iterator[Block]:
    """The blocks unchanged, with progress shown."""
    with progress.over(sum(1 for _ in grid.tiles())):
        for block in blocks:
            yield block
            progress.advance()


# Commands that export a cube for people and programs: export, series, report, publish.


@click.command()
@click.argument("cubes", nargs=-1, required=True, type=CUBE, metavar="CUBE... OUT")
@click.option(
    "--step", "steps", multiple=True, help="Scene key or date of a time step, for example 2023-07-14. Repeatable."
)
@options_of(Export, "layers")
@click.option(
    "--clip",
    type=AREA,
    help=("Polygons; pixels outside become no data: a file, GeoJSON text, or a box 'west,south,east,north'."),
)
@options_of(Export, "format", flags={"format": ("--format", "kind")})
@selection_options
@mask_options
@style_options
@click.option("--quiet", "-q", is_flag=True, help="Print warnings only, no progress.")
def export(cubes: tuple[Path, ...], kind: str, **options: Any) -> None:
    """Write CUBE for programs that do not read Zarr 3: one step as OUT.tif or OUT.png, all as OUT.nc or a folder OUT.

    Several cubes on one grid become a mosaic. With --show, pictures are written instead of numbers.
    """
    from stac2cube.export.export import export
    from stac2cube.progress import Progress, progress_for

    if len(cubes) < 2:
        raise click.UsageError("give the cube, and where to write")
    quiet = options.pop("quiet")
    shown = any(options[name] for name in ("show", "balance", "ramp")) or options["stretch"] != "series"
    how = value_of(
        Export,
        {**options, "format": kind},
        look=look_of(options) if shown else None,
        clip=options["clip"],
        hiding=value_of(Hiding, options),
        choice=value_of(TimeSelection, options),
    )
    with console_for(quiet) as console:
        progress = Progress() if quiet else progress_for(console, "steps")
        for file in export(cubes[:-1], cubes[-1], how, progress=progress):
            click.echo(file)


@click.command()
@click.argument("cube", type=CUBE)
@click.argument("places")
@click.argument("out", type=CUBE)
@options_of(Columns)
@selection_options
@mask_options
@click.option("--quiet", "-q", is_flag=True, help="Print warnings only, no progress.")
def series(cube: Path, places: str, out: Path, **options: Any) -> None:
    """Write time series of points or polygons from CUBE: OUT.csv or OUT.parquet, one row per place and time step.

    PLACES is a GeoJSON, GeoPackage, Shapefile or KML file, GeoJSON text, or a point 'lat,lon'.
    """
    from stac2cube.export.series import write_series
    from stac2cube.progress import Progress, progress_for

    columns = value_of(Columns, options)
    hiding, choice = value_of(Hiding, options), value_of(TimeSelection, options)
    with console_for(options["quiet"]) as console:
        progress = Progress() if options["quiet"] else progress_for(console, "places")
        click.echo(write_series(cube, places, out, columns=columns, hiding=hiding, choice=choice, progress=progress))


@click.command()
@click.argument("paths", nargs=-1, required=True, type=CUBE, metavar="CUBE... [OUT.html]")
@as_json
def report(paths: tuple[Path, ...], machine: bool) -> None:
    """Write one self-contained HTML page about one CUBE or several, or about an archive.

    Without OUT it is report.html in the folder of the first, or in the archive.
    """
    from stac2cube.archives.archive import is_archive
    from stac2cube.archives.status import write_archive_report
    from stac2cube.export.report import figures_of, write_report

    named = paths[-1].suffix in (".html", ".htm")
    cubes = paths[:-1] if named else paths
    if len(cubes) == 1 and is_archive(cubes[0]) and not machine:
        folder = archive_folder(cubes[0])
        click.echo(write_archive_report(folder, paths[-1] if named else folder / "report.html"))
        return
    if machine:
        if named:
            raise click.UsageError("--json writes to standard output: name no page")
        click.echo(json.dumps([figures_of(cube) for cube in cubes], indent=1))
        return
    if not cubes:
        raise click.UsageError("give the cube that the page is about")
    click.echo(write_report(cubes, paths[-1] if named else cubes[0].parent / "report.html"))


def _published(tile: str, product: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Options for publishing one cube of an archive: its own folder, address and Collection."""
    own = {"name": f"{tile}-{product}", "out": options["out"] and options["out"] / tile / product}
    own["href"] = options["href"] and f"{options['href'].rstrip('/')}/{tile}/{product}.zarr"
    own["address"] = options["address"] and f"{options['address'].rstrip('/')}/{tile}/{product}"
    return {**options, **own}


@click.command()
@click.argument("cube", type=CUBE)
@click.argument("out", type=CUBE, required=False)
@click.option("--api", help="Address of a STAC API with the transaction extension, instead of OUT.")
@click.option("--href", default="", help="Address at which people find the cube. Default: its path.")
@click.option("--address", default="", help="Address at which people will find OUT, for self links.")
@click.option("--header", multiple=True, help="HTTP header 'NAME: VALUE' that is sent to the API, for example a token.")
@as_json
def publish(cube: Path, out: Path | None, api: str | None, address: str, **options: Any) -> int | None:
    """Describe CUBE as a STAC Collection with one Item per time step, in the folder OUT or in a STAC API.

    CUBE may be an archive: each of its cubes then becomes a Collection TILE-PRODUCT, in OUT/TILE/PRODUCT.
    """
    if (out is None) == (api is None):
        raise click.UsageError("give a folder, or --api URL")
    if address and out is None:
        raise click.UsageError("--address is where OUT will be found: an API makes its own links")
    from stac2cube.archives.archive import is_archive
    from stac2cube.archives.mosaic import write_catalog

    code: int | None = _publish(cube, out=out, api=api, address=address, **options)
    if code != 10 and out is not None and is_archive(cube):
        click.echo(write_catalog(cube, out, address), err=options["machine"])
    return code


@over_archive(has_steps, _published)
def _publish(
    cube: Path,
    out: Path | None,
    api: str | None,
    href: str,
    address: str,
    header: tuple[str, ...],
    machine: bool = False,
    name: str = "",
) -> None:
    from stac2cube.export.publish import post_stac, write_stac
    from stac2cube.export.stac import safe_id

    if out is not None:
        where, items = str(write_stac(cube, out, href, address, name)), len(list((out / "items").glob("*.json")))
    else:
        pairs = [line.partition(":") for line in header]
        headers = {key.strip(): value.strip() for key, _, value in pairs}
        items = post_stac(cube, str(api), href, headers, name)
        where = f"{str(api).rstrip('/')}/collections/{safe_id(name or cube.stem)}"
    click.echo(json.dumps({"collection": where, "items": items}) if machine else f"{where}: {items} items")


# Commands that show a cube: quicklook, timelapse, slider.


@click.command()
@click.argument("cube", type=CUBE)
@click.argument("out", type=CUBE)
@click.option("--most", default=24, show_default=True, help="Largest number of dates, spread over the whole time.")
@selection_options
@mask_options
@style_options
def quicklook(cube: Path, out: Path, most: int, **options: Any) -> None:
    """Draw CUBE: OUT.png with one panel per date, or OUT.gif."""
    from stac2cube.export.pictures import draw

    look, hiding, choice = look_of(options), value_of(Hiding, options), value_of(TimeSelection, options)
    click.echo(draw(cube, out, most, look=look, hiding=hiding, choice=choice))


@click.command()
@click.argument("cube", type=CUBE)
@click.argument("out", type=CUBE)
@options_of(Film, "title", "most", "width", "seconds")
@selection_options
@mask_options
@style_options
def timelapse(cube: Path, out: Path, **options: Any) -> None:
    """Make a film of CUBE: OUT.gif or OUT.mp4, with dates, legend, scale bar, north arrow and attribution."""
    from stac2cube.export.animation import write_timelapse

    hiding, choice = value_of(Hiding, options), value_of(TimeSelection, options)
    film = value_of(Film, options, look=look_of(options), hiding=hiding, choice=choice)
    click.echo(write_timelapse(cube, out, film))


@click.command()
@click.argument("cube", type=CUBE)
@click.argument("before")
@click.argument("after")
@click.argument("out", type=CUBE)
@click.option("--width", default=1200, show_default=True, help="Longer edge of the pictures, in pixels.")
@mask_options
@style_options
def slider(cube: Path, before: str, after: str, out: Path, width: int, **options: Any) -> None:
    """Write the page OUT.html that compares two steps of CUBE with a slider. BEFORE and AFTER: scene keys or dates."""
    from stac2cube.export.pictures import write_slider

    look, hiding = look_of(options), value_of(Hiding, options)
    click.echo(write_slider(cube, (before, after), out, look=look, hiding=hiding, width=width))
