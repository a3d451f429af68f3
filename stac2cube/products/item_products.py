"""Indices and pictures of one STAC item: cloud-optimised GeoTIFFs and the static catalog that describes them."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import rasterio
from rasterio.shutil import copy as copy_raster
from rasterio.windows import Window

from stac2cube.errors import BadInputError
from stac2cube.globe import parse_crs, polygons_of, to_wgs84
from stac2cube.grid import Grid, Tile
from stac2cube.names import safe_name
from stac2cube.products.stac import EO, FILE, GRID, PROCESSING, PROJECTION, SAT, bbox_of, projected, safe_id
from stac2cube.products.static_catalog import CATALOG, save_catalog
from stac2cube.trust.address import public
from stac2cube.trust.text import is_printable
from stac2cube.version import __version__

Item = Mapping[str, Any]

KEPT = ("platform", "constellation", "instruments", "gsd", "eo:cloud_cover", "grid:code", "sat:relative_orbit")
"""Properties that hold for what is derived, too."""

SHA256 = "1220"
"""How a SHA-256 begins as a multihash, which the extension file wants: its code, and 32 bytes
(github.com/multiformats/multicodec)."""


def require_free(out: Path) -> None:
    """See that there is nothing to be overwritten.

    Raises:
        BadInputError: There is.
    """
    if out.is_symlink() and not out.exists():
        raise BadInputError(f"{out} is a link that leads nowhere: name another folder, or remove it first")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise BadInputError(f"{out} exists: name another folder, or remove it first")


@dataclass(frozen=True)
class Band:
    """What is known of a product before its pixels are.

    Attributes:
        title: What it is.
        picture: Whether it is a picture, uint8 red, green, blue and alpha; else an index, float32, NaN without data.
        facts: Further fields of its asset.
    """

    title: str
    picture: bool = False
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def dtype(self) -> str:
        """Of its pixels."""
        return "uint8" if self.picture else "float32"


def write_item_products(
    out: Path,
    item: Item,
    grid: Grid,
    products: Mapping[str, Band],
    blocks: Iterable[tuple[Tile, Mapping[str, np.ndarray]]],
) -> Path:
    """Write products of an item; the folder is there whole, or not at all.

    Args:
        out: The folder, new or empty: ``catalog.json``, and a folder of the item with its description and files.
        item: What they are derived from.
        grid: Their lattice.
        products: By name.
        blocks: Every block of the lattice once, in any order: ``(bands, rows, columns)`` of each product.

    Returns:
        The catalog's file.

    Raises:
        BadInputError: The folder holds something.
    """
    import pystac

    require_free(out)
    target = out.absolute()
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.{uuid4().hex[:8]}.partial")
    identity = str(item["id"])
    name = safe_name(identity)
    try:
        (partial / name).mkdir(parents=True)
        files = {product: partial / name / f"{product}.tif" for product in products}
        _write_files(files, products, grid, blocks)
        described = _described(item, grid)
        for product, band in products.items():
            described.add_asset(product, _asset(files[product], band))
        catalog = pystac.Catalog(f"{described.id}-products", f"Products of {identity}, made by stac2cube")
        catalog.add_item(described)
        save_catalog(catalog, partial, {described.id: identity})
        if target.exists():
            target.rmdir()  # it is empty
        partial.replace(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return target / CATALOG


def _write_files(
    files: Mapping[str, Path],
    products: Mapping[str, Band],
    grid: Grid,
    blocks: Iterable[tuple[Tile, Mapping[str, np.ndarray]]],
) -> None:
    """All products block by block, then each as a COG."""
    raw = {name: path.with_suffix(".raw.tif") for name, path in files.items()}
    with ExitStack() as stack:
        opened = {
            name: stack.enter_context(rasterio.open(raw[name], "w", **_profile(band, grid)))
            for name, band in products.items()
        }
        for name, file in opened.items():
            channels = ("red", "green", "blue", "alpha") if products[name].picture else (name,)
            for number, channel in enumerate(channels, start=1):
                file.set_band_description(number, channel)
        for tile, made in blocks:
            for name, file in opened.items():
                file.write(made[name], window=Window.from_slices(*grid.window(tile)))
    for name, band in products.items():
        options = {"compress": "deflate", "predictor": 2 if band.picture else 3, "bigtiff": "if_safer"}
        copy_raster(raw[name], files[name], driver="COG", overview_resampling="average", **options)
        raw[name].unlink()


def _profile(band: Band, grid: Grid) -> dict[str, Any]:
    rows, columns = grid.shape
    return {
        "driver": "GTiff",
        "height": rows,
        "width": columns,
        "count": 4 if band.picture else 1,
        "dtype": band.dtype,
        "crs": grid.crs,
        "transform": grid.geobox.transform,
        "tiled": True,
        "bigtiff": "if_safer",
        **({"photometric": "rgb", "alpha": "yes"} if band.picture else {"nodata": np.nan}),
    }


def _described(item: Item, grid: Grid) -> Any:
    """The item of the products, without assets."""
    import pystac
    from shapely.geometry import box, mapping

    from stac2cube.source.identity import time_of
    from stac2cube.source.lying import footprint_of

    whole, window = footprint_of(item), to_wgs84(box(*grid.geobox.boundingbox), parse_crs(grid.crs))
    seen = polygons_of(whole.intersection(window))
    # The corners of a rectangle of pixels are no straight line on the globe: what is all there keeps its own outline.
    place = whole if seen.area > 0.999 * whole.area else seen
    described = pystac.Item(
        id=safe_id(str(item["id"])),
        geometry=dict(mapping(place)),
        bbox=bbox_of(place),
        datetime=time_of(item).astimezone(UTC),
        properties={
            **{name: item["properties"][name] for name in KEPT if item["properties"].get(name) is not None},
            **projected(grid),
            "processing:software": {"stac2cube": __version__},
        },
        stac_extensions=[PROJECTION, PROCESSING, FILE],
    )
    used = {"eo:cloud_cover": EO, "grid:code": GRID, "sat:relative_orbit": SAT}
    described.stac_extensions += [uri for name, uri in used.items() if name in described.properties]
    links = [link.get("href") for link in item.get("links", ()) if link.get("rel") == "self"]
    for source in (public(href) for href in links if isinstance(href, str) and href and is_printable(href)):
        described.add_link(pystac.Link("derived_from", source, "application/geo+json"))
    return described


def _asset(path: Path, band: Band) -> Any:
    import pystac

    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    # Without data it is NaN. That as the text "nan" is valid, but a column of a table holds either numbers or texts.
    facts = {"data_type": band.dtype, **band.facts}
    return pystac.Asset(
        str(path.absolute()),
        title=band.title,
        media_type=pystac.MediaType.COG,
        roles=["visual" if band.picture else "data"],
        extra_fields={**facts, "file:size": path.stat().st_size, "file:checksum": f"{SHA256}{digest}"},
    )
