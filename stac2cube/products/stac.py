"""A cube as STAC: a Collection with its dimensions and variables, and an Item per time step."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from shapely.errors import ShapelyError
from shapely.geometry import box, mapping, shape
from shapely.geometry.base import BaseGeometry

from stac2cube.cube.ledger import Entry, Ledger
from stac2cube.cube.overviews import SUFFIX, levels_of
from stac2cube.cube.root import read_root
from stac2cube.cube.spec import CubeSpec
from stac2cube.errors import BadInputError
from stac2cube.globe import WGS84, parse_crs, polygons_of, to_wgs84
from stac2cube.grid import Grid
from stac2cube.mission import Mission, find_mission, mission_names
from stac2cube.products.lineage import lineage_of
from stac2cube.products.stac_bands import bands_of, dimensions_of, utc_text, variables_of
from stac2cube.products.terms import Origin, Terms, attribution_of, mission_of, terms_of
from stac2cube.version import __version__

_EXTENSION = "https://stac-extensions.github.io/{}/schema.json"
DATACUBE = _EXTENSION.format("datacube/v2.2.0")
PROJECTION = _EXTENSION.format("projection/v2.0.0")
PROCESSING = _EXTENSION.format("processing/v1.2.0")
EO = _EXTENSION.format("eo/v2.0.0")
RASTER = _EXTENSION.format("raster/v2.0.0")
CLASSIFICATION = _EXTENSION.format("classification/v2.0.0")
XARRAY = _EXTENSION.format("xarray-assets/v1.0.0")
FILE = _EXTENSION.format("file/v2.1.0")
GRID = _EXTENSION.format("grid/v1.1.0")
SAT = _EXTENSION.format("sat/v1.1.0")
"""Versions of the STAC extensions that are written."""

ZARR = "application/vnd.zarr"
"""Media type of a Zarr store; readers compare it as a whole, so its version stands in a field of its own."""

OPENED = {"zarr:zarr_format": 3, "zarr:consolidated": True, "zarr:node_type": "group"}
"""Fields by which readers of the extension zarr open a store."""

SHOWN = (
    "valid_fraction",
    "cloud_fraction",
    "shift_x",
    "shift_y",
    "shift_accepted",
    "residual_mtf",
    "bright_fraction",
    "baselines",
    "catalog",
)
"""Facts of a step that its Item shows."""


def collection_of(cube: Path, href: str = "") -> dict[str, Any]:
    """The Collection of a cube.

    Args:
        cube: The cube.
        href: Where people find it; its own path if "".

    Raises:
        CubeError: Not a cube.
        BadInputError: It has no step yet.
    """
    spec, rows = _look(cube)
    where = href or str(cube.resolve())
    steps = list(rows.values())
    first, last = utc_text(steps[0].time), utc_text(steps[-1].time)
    footprint = _window(spec)
    origin = Origin.of_rows(steps)
    terms = terms_of(spec, origin)
    attribution = attribution_of(spec, [row.time for row in steps], origin)
    lineage = " ".join(lineage_of(spec, steps))
    summaries, asset = _summaries(spec, steps), _asset(spec)
    return {
        "type": "Collection",
        "stac_version": "1.1.0",
        "stac_extensions": [DATACUBE, PROJECTION, PROCESSING, XARRAY, *_used(summaries, asset)],
        "id": safe_id(cube.stem),
        "title": str(spec.recipe.get("title", cube.stem)),
        "description": f"{_words(spec)}, {len(steps)} time steps. {lineage}"
        + (f" {attribution}." if attribution else ""),
        "license": "other",
        "keywords": [name for name in (spec.stage, mission_of(spec)) if name],
        "providers": _providers(terms, lineage),
        "extent": {"spatial": {"bbox": [bbox_of(footprint)]}, "temporal": {"interval": [[first, last]]}},
        "summaries": summaries,
        "cube:dimensions": dimensions_of(spec, [row.time for row in steps]),
        "cube:variables": variables_of(spec),
        "item_assets": {"cube": asset},
        "assets": {"cube": {"href": where, **asset}, **_pyramid(cube, where)},
        "links": [{"rel": "license", "href": terms.url, "type": "text/html", "title": attribution}] if terms else [],
    }


def items_of(cube: Path, href: str = "") -> Iterator[dict[str, Any]]:
    """An Item per sealed step of a cube, oldest first; see :func:`collection_of` for the words."""
    spec, rows = _look(cube)
    where, lineage = href or str(cube.resolve()), " ".join(lineage_of(spec, rows.values()))
    window, asset = _window(spec), _asset(spec)
    for key, row in rows.items():
        place = _seen(row, window)
        properties = _properties(spec, row, lineage)
        yield {
            "type": "Feature",
            "stac_version": "1.1.0",
            "stac_extensions": [PROJECTION, PROCESSING, XARRAY, *_used(properties, asset)],
            "id": safe_id(key),
            "collection": safe_id(cube.stem),
            "geometry": mapping(place),
            "bbox": bbox_of(place),
            "properties": properties,
            "links": [
                *({"rel": rel, "href": "../collection.json", "type": "application/json"} for rel in UP),
                *_derived_from(row),
            ],
            "assets": {"cube": {"href": where, **asset}},
        }


def safe_id(name: str) -> str:
    """A name as an id that is safe in addresses and on any disk: lower case, digits, ``-`` and ``_``."""
    return re.sub(r"[^a-z0-9_-]+", "-", name.lower()).strip("-") or "cube"


def bbox_of(place: BaseGeometry) -> list[float]:
    """West, south, east, north of WGS84 polygons; across the antimeridian west is the larger number (RFC 7946, 5.2)."""
    west, south, east, north = place.bounds
    parts = [part.bounds for part in getattr(place, "geoms", [place])]
    if (west, east) == (-180.0, 180.0) and len(parts) > 1:
        gaps = sorted((one[0], one[2]) for one in parts)
        reach, widest, edges = gaps[0][1], 1e-6, (west, east)
        for first, last in gaps[1:]:
            if first - reach > widest:
                widest, edges = first - reach, (first, reach)
            reach = max(reach, last)
        west, east = edges
    return [west, south, east, north]


def _seen(row: Entry, window: BaseGeometry) -> BaseGeometry:
    """What a step shows of a cube; all of it where its footprint is not known, or none about a pole or 180 degrees."""
    if not row.footprint:
        return window
    try:
        seen = polygons_of(to_wgs84(shape(row.footprint), parse_crs(WGS84)).intersection(window))
    except (BadInputError, ShapelyError):
        return window
    return window if seen.is_empty else seen


def _window(spec: CubeSpec) -> BaseGeometry:
    """Where a cube lies: WGS84 polygons, split at the antimeridian, closed along a pole within it."""
    return to_wgs84(box(*spec.grid.geobox.boundingbox), parse_crs(spec.grid.crs))


UP = ("root", "parent", "collection")
"""Links of an Item to what it is in."""


def _look(cube: Path) -> tuple[CubeSpec, dict[str, Entry]]:
    root = read_root(cube)
    sealed = Ledger(cube, root.ledger).sealed()
    if not sealed:
        raise BadInputError(f"{cube} has no step to publish yet")
    return root.spec, sealed


def _mission(spec: CubeSpec) -> Mission | None:
    name = mission_of(spec)
    return find_mission(name) if name in mission_names() else None


def _words(spec: CubeSpec) -> str:
    names = ", ".join(layer.name for layer in spec.layers)
    return f"{spec.recipe.get('title', spec.stage)}: {names} at {spec.grid.resolution:g} m"


def _used(facts: Mapping[str, Any], asset: Mapping[str, Any]) -> list[str]:
    """Those of the other extensions of which some field is there."""
    names = {*facts, *asset, *(name for band in asset["bands"] for name in band)}
    known = {"eo:": EO, "raster:": RASTER, "classification:": CLASSIFICATION}
    return [uri for prefix, uri in known.items() if any(name.startswith(prefix) for name in names)]


def _providers(terms: Terms | None, lineage: str) -> list[dict[str, Any]]:
    makers = [asdict(provider) | {"roles": list(provider.roles)} for provider in (terms.providers if terms else ())]
    software = {"processing:lineage": lineage, "processing:software": {"stac2cube": __version__}}
    return [*makers, {"name": "stac2cube", "roles": ["processor"], **software}]


def _summaries(spec: CubeSpec, rows: list[Entry]) -> dict[str, Any]:
    covers = [float(cover) for row in rows if (cover := row.cloud_percent) is not None]
    mission = _mission(spec)
    found: dict[str, Any] = {
        "gsd": [spec.grid.resolution],
        "platform": sorted({str(row.properties.get("platform", "")) for row in rows} - {""}),
        "constellation": [mission.constellation] if mission and mission.constellation else [],
        "proj:code": [spec.grid.crs] if spec.grid.crs.startswith("EPSG:") else [],
        "eo:cloud_cover": {"minimum": round(min(covers), 2), "maximum": round(max(covers), 2)} if covers else {},
    }
    return {name: value for name, value in found.items() if value}


def _asset(spec: CubeSpec) -> dict[str, Any]:
    """The cube as an asset, without where it is."""
    return {
        "type": ZARR,
        "roles": ["data"],
        "title": "The cube, Zarr 3",
        **OPENED,
        "gsd": spec.grid.resolution,
        "bands": bands_of(spec, _mission(spec)),
        "xarray:open_kwargs": {"engine": "zarr", "consolidated": True},
        **projected(spec.grid),
    }


def projected(grid: Grid) -> dict[str, Any]:
    """A lattice in the words of the extension projection."""
    crs = {"proj:code": grid.crs} if grid.crs.startswith("EPSG:") else {"proj:wkt2": grid.crs}
    return {**crs, "proj:shape": list(grid.shape), "proj:transform": list(grid.transform)}


def _pyramid(cube: Path, where: str) -> dict[str, Any]:
    """The group of overviews, where the cube has some."""
    if not levels_of(cube):
        return {}
    beside = where.rstrip("/") + SUFFIX
    title = f"Overviews of pixels {', '.join(map(str, levels_of(cube)))} times as large, by the convention multiscales"
    return {"overviews": {"href": beside, "type": ZARR, **OPENED, "roles": ["overview"], "title": title}}


def _properties(spec: CubeSpec, row: Entry, lineage: str) -> dict[str, Any]:
    cover, mission = row.cloud_percent, _mission(spec)
    known = {
        "platform": row.properties.get("platform"),
        "constellation": mission.constellation if mission else None,
        "eo:cloud_cover": None if cover is None else round(float(cover), 2),
        **{f"stac2cube:{name}": row.properties.get(name) for name in SHOWN},
    }
    software = {str(name): str(version) for name, version in row.properties.get("software", {}).items()}
    return {
        "datetime": utc_text(row.time),
        "gsd": spec.grid.resolution,
        **{name: value for name, value in known.items() if value not in (None, "")},
        **projected(spec.grid),
        "processing:lineage": lineage,
        "processing:software": {"stac2cube": __version__, **software},
        "stac2cube:slot": row.slot,
        "stac2cube:commit": row.commit,
        "stac2cube:items": list(row.items),
    }


def _derived_from(row: Entry) -> Iterator[dict[str, str]]:
    """Links to the items that a step was made from, where they say where they are found."""
    for text in row.sources:
        for link in json.loads(text).get("links") or ():
            if link.get("rel") == "self" and str(link.get("href", "")).startswith("http"):
                yield {"rel": "derived_from", "href": link["href"], "type": "application/geo+json"}
