"""The command for a single item, as application packages of Earth observation platforms run it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stac2cube.cli.steps import Manner
from stac2cube.cli.where import where_options
from stac2cube.cli.words import CUBE, talking
from stac2cube.errors import BadInputError, ReadError
from stac2cube.trust.address import is_http

if TYPE_CHECKING:
    import numpy as np

    from stac2cube.grid import Grid, Tile
    from stac2cube.products.item_products import Band
    from stac2cube.progress import Progress
    from stac2cube.stages.one_item import MakeProducts

    Block = tuple[Tile, dict[str, np.ndarray]]


@click.command()
@click.argument("item")
@click.argument("out", type=CUBE)
@click.option("--index", "indices", multiple=True, help="A spectral index, see `stac2cube indices`; repeatable.")
@click.option("--colour", "colours", multiple=True, help="A colour composite, true, false, swir ...; repeatable.")
@click.option("--aoi", help="Only this area, as for `stac2cube layers`; all of the item if not said.")
@click.option("--resolution", type=float, help="Pixel edge in units of the CRS; the finest band's if not said.")
@click.option("--clear", is_flag=True, help="No indices where the scene's classes say cloud, shadow or no data.")
@click.option("--mission", help="Name of a mission; as the item's collection says if not said.")
@where_options
def item(item: str, out: Path, indices: tuple[str, ...], colours: tuple[str, ...], **options: Any) -> int:
    """Write products of one STAC item into the folder OUT: a static catalog, and a GeoTIFF (COG) per product.

    ITEM is the address or the path of the item, or a folder that holds it and no other.
    """
    from stac2cube.products.item_products import require_free, write_item_products
    from stac2cube.source.single import read_item
    from stac2cube.stages.one_item import OneItem, Wanted, blocks_of

    if not indices and not colours:
        raise BadInputError("say what to make: --index ndvi, --colour true")
    with talking(options["quiet"]) as console:
        require_free(out)
        manner = Manner.of(options, console)
        one = OneItem.of(read_item(item), options["mission"], options["aoi"], item if is_http(item) else "")
        wanted = Wanted(indices, colours, options["resolution"], options["clear"])
        try:
            task = wanted.of(one)
            blocks = _counted(blocks_of(task, manner.place), task.spec.grid, manner.progress())
            click.echo(write_item_products(out, one.item, task.spec.grid, _bands(task), blocks))
        except ReadError as error:
            click.echo(f"stac2cube: {error}", err=True)
            return 2
    return 0


def _bands(task: MakeProducts) -> dict[str, Band]:
    from stac2cube.products.item_products import Band
    from stac2cube.views.spectral import described

    bands = {}
    for product in task.products:
        if product.index:
            about = described(product.index)
            facts: dict[str, Any] = {f"stac2cube:{word}": about[word] for word in ("formula", "reference")}
        else:
            facts = {"stac2cube:bands": list(product.bands), "stac2cube:white": round(product.white, 4)}
        bands[product.name] = Band(product.title, not product.index, facts)
    return bands


def _counted(blocks: Iterator[Block], grid: Grid, progress: Progress) -> Iterator[Block]:
    """The same blocks, with progress shown."""
    with progress.over(sum(1 for _ in grid.tiles())):
        for block in blocks:
            yield block
            progress.advance()
