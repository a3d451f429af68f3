"""A cube as STAC: a Collection with its dimensions and variables, and an Item per time step."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC
from pathlib import Path
from typing import Any

from shapely.geometry import mapping, shape

from stac2cube import __version__
from stac2cube.cube.files import write_whole
from stac2cube.cube.ledger import Entry, Ledger
from stac2cube.cube.root import read_root
from stac2cube.cube.spec import CubeSpec
from stac2cube.errors import BadInputError, CatalogError

DATACUBE = "https://stac-extensions.github.io/datacube/v2.2.0/schema.json"
PROJECTION = "https://stac-extensions.github.io/projection/v2.0.0/schema.json"
PROCESSING = "https://stac-extensions.github.io/processing/v1.2.0/schema.json"
"""Versions of the STAC extensions that are written."""

ZARR = "application/vnd.zarr; version=3"

SENTINEL_TERMS = "https://sentinels.copernicus.eu/documents/247904/690755/Sentinel_Data_Legal_Notice"
LANDSAT_TERMS = "https://www.usgs.gov/emergency-operations-portal/data-policy"
DEM_TERMS = "https://spacedata.copernicus.eu/collections/copernicus-digital-elevation-model"

_TERMS = {
    "sentinel": (SENTINEL_TERMS, "Contains modified Copernicus Sentinel data", "ESA", "https://www.esa.int"),
    "landsat": (LANDSAT_TERMS, "Landsat data courtesy of the U.S. Geological Survey", "USGS", "https://www.usgs.gov"),
    "cop-dem": (
        DEM_TERMS,
        "Produced using Copernicus WorldDEM-30 © DLR e.V. 2010-2014 and © Airbus Defence and Space GmbH 2014-2018 "
        "provided under COPERNICUS by the European Union and ESA; all rights reserved",
        "DLR and Airbus Defence and Space",
        "https://spacedata.copernicus.eu",
    ),
}
"""By the beginning of a mission's name: terms of use, the attribution they ask for, producer and its page."""


def collection_of(cube: Path, href: str = "") -> dict[str, Any]:
    """The Collection of a cube.

    Args:
        cube: The cube.
        href: Where people find it; its own path if "".

    Raises:
        CubeError: Not a cube.
        BadInputError: It has no step yet.
    """
    root = read_root(cube)
    rows = _rows(cube)
    spec, where = root.spec, href or str(cube.resolve())
    first, last = next(iter(rows.values())).time, list(rows.values())[-1].time
    footprint = shape(spec.grid.geobox.footprint("EPSG:4326").json)
    terms, attribution, producer, page = _terms(spec)
    return {
        "type": "Collection",
        "stac_version": "1.1.0",
        "stac_extensions": [DATACUBE, PROJECTION, PROCESSING],
        "id": cube.stem,
        "title": str(spec.recipe.get("title", cube.stem)),
        "description": f"{_words(spec)}, {len(rows)} time steps. {attribution}.",
        "license": "other",
        "keywords": [name for name in (spec.stage, str(spec.recipe.get("mission", ""))) if name],
        "providers": [{"name": producer, "roles": ["producer", "licensor"], "url": page}],
        "extent": {
            "spatial": {"bbox": [list(footprint.bounds)]},
            "temporal": {"interval": [[_text(first), _text(last)]]},
        },
        "summaries": {
            "gsd": [spec.grid.resolution],
            "platform": sorted({str(row.properties.get("platform", "")) for row in rows.values()} - {""}),
        },
        "cube:dimensions": _dimensions(spec, _text(first), _text(last)),
        "cube:variables": _variables(spec),
        "proj:code": spec.grid.crs if spec.grid.crs.startswith("EPSG:") else None,
        "processing:software": {"stac2cube": __version__},
        "item_assets": {"cube": {"type": ZARR, "roles": ["data"], "title": "The cube"}},
        "assets": {
            "cube": {
                "href": where,
                "type": ZARR,
                "roles": ["data"],
                "title": "The cube",
                "xarray:open_kwargs": {"engine": "zarr", "consolidated": True},
            }
        },
        "links": [{"rel": "license", "href": terms, "type": "text/html"}],
    }


def items_of(cube: Path, href: str = "") -> Iterator[dict[str, Any]]:
    """An Item per sealed step of a cube, oldest first; see :func:`collection_of` for the words."""
    root = read_root(cube)
    grid, where = root.spec.grid, href or str(cube.resolve())
    window = shape(grid.geobox.footprint("EPSG:4326").json)
    for key, row in _rows(cube).items():
        seen = shape(row.footprint).intersection(window) if row.footprint else window
        place = window if seen.is_empty else seen
        facts = {name: row.properties[name] for name in _SHOWN if row.properties.get(name) is not None}
        cover = row.cloud_percent
        yield {
            "type": "Feature",
            "stac_version": "1.1.0",
            "stac_extensions": [PROJECTION, PROCESSING],
            "id": key,
            "collection": cube.stem,
            "geometry": mapping(place),
            "bbox": list(place.bounds),
            "properties": {
                "datetime": _text(row.time),
                "platform": row.properties.get("platform"),
                **({} if cover is None else {"eo:cloud_cover": round(float(cover), 2)}),
                "proj:code": grid.crs if grid.crs.startswith("EPSG:") else None,
                "proj:shape": list(grid.shape),
                "proj:transform": list(grid.transform),
                "processing:software": {"stac2cube": __version__},
                "stac2cube:slot": row.slot,
                "stac2cube:commit": row.commit,
                "stac2cube:items": list(row.items),
                **{f"stac2cube:{name}": value for name, value in facts.items()},
            },
            "links": [
                {"rel": rel, "href": "../collection.json", "type": "application/json"}
                for rel in ("root", "parent", "collection")
            ],
            "assets": {"cube": {"href": where, "type": ZARR, "roles": ["data"]}},
        }


def write_stac(cube: Path, out: Path, href: str = "") -> Path:
    """Write a static catalog: ``collection.json`` and an Item per step, linked to each other.

    Args:
        cube: The cube.
        out: The folder; files of the same names are replaced.
        href: Where people find the cube; its own path if "".

    Returns:
        The Collection's file.

    Raises:
        CubeError: Not a cube.
        BadInputError: It has no step yet.
    """
    collection = collection_of(cube, href)
    target = out / "collection.json"
    (out / "items").mkdir(parents=True, exist_ok=True)
    for item in items_of(cube, href):
        name = f"{item['id']}.json"
        write_whole(out / "items" / name, json.dumps(item, indent=1).encode())
        collection["links"].append({"rel": "item", "href": f"./items/{name}", "type": "application/geo+json"})
    collection["links"].append({"rel": "root", "href": "./collection.json", "type": "application/json"})
    write_whole(target, json.dumps(collection, indent=1).encode())
    return target


def post_stac(cube: Path, api: str, href: str = "", headers: Mapping[str, str] | None = None) -> int:
    """Put a cube into a STAC API that has the transaction extension; what is there already is replaced.

    Args:
        cube: The cube.
        api: Landing page of the API.
        href: Where people find the cube; its own path if "".
        headers: Sent along, a token for example.

    Returns:
        Number of Items.

    Raises:
        CatalogError: The API cannot be reached, or refuses.
        BadInputError: The cube has no step yet.
    """
    import requests

    collection = collection_of(cube, href)
    base, count = f"{api.rstrip('/')}/collections", 0
    with requests.Session() as session:
        session.headers.update(headers or {})

        def put(url: str, name: str, body: Mapping[str, Any]) -> None:
            try:
                answer = session.post(url, json=body, timeout=60)
                if answer.status_code == 409:
                    answer = session.put(f"{url}/{name}", json=body, timeout=60)
            except requests.RequestException as error:
                raise CatalogError(f"{api} cannot be reached: {error}") from error
            if not answer.ok:
                raise CatalogError(f"{api} refuses {name}: {answer.status_code} {answer.text[:200]}")

        put(base, collection["id"], collection)
        for item in items_of(cube, href):
            put(f"{base}/{collection['id']}/items", item["id"], {**item, "links": []})
            count += 1
    return count


_SHOWN = (
    "valid_fraction",
    "cloud_fraction",
    "shift_x",
    "shift_y",
    "shift_accepted",
    "residual_mtf",
    "baselines",
    "catalog",
)
"""Facts of a step that its Item shows."""


def _rows(cube: Path) -> dict[str, Entry]:
    sealed = Ledger(cube, read_root(cube).ledger).sealed()
    if not sealed:
        raise BadInputError(f"{cube} has no step to publish yet")
    return sealed


def attribution_of(spec: CubeSpec) -> str:
    """The attribution that the terms of a cube's data ask for."""
    return _terms(spec)[1]


def credit(attribution: str, times: Sequence[str]) -> str:
    """The attribution with the years of ISO times, as Copernicus asks for."""
    years = sorted({time[:4] for time in times})
    span = years[0] if len(years) == 1 else f"{years[0]}-{years[-1]}"
    return f"{attribution} {span}" if "Sentinel" in attribution else attribution


def _terms(spec: CubeSpec) -> tuple[str, str, str, str]:
    mission = str(spec.recipe.get("mission", "sentinel"))
    return next((terms for name, terms in _TERMS.items() if mission.startswith(name)), _TERMS["sentinel"])


def _words(spec: CubeSpec) -> str:
    names = ", ".join(layer.name for layer in spec.layers)
    return f"{spec.recipe.get('title', spec.stage)}: {names} at {spec.grid.resolution:g} m"


def _dimensions(spec: CubeSpec, first: str, last: str) -> dict[str, Any]:
    grid = spec.grid
    code = int(grid.crs.removeprefix("EPSG:")) if grid.crs.startswith("EPSG:") else grid.crs
    west, north = grid.origin
    half, (rows, columns) = grid.resolution / 2, grid.shape
    return {
        "time": {"type": "temporal", "extent": [first, last]},
        "y": {
            "type": "spatial",
            "axis": "y",
            "extent": [north - rows * grid.resolution + half, north - half],
            "step": -grid.resolution,
            "reference_system": code,
        },
        "x": {
            "type": "spatial",
            "axis": "x",
            "extent": [west + half, west + columns * grid.resolution - half],
            "step": grid.resolution,
            "reference_system": code,
        },
    }


def _variables(spec: CubeSpec) -> dict[str, Any]:
    return {
        layer.name: {
            "type": "data",
            "dimensions": ["time", "y", "x"],
            "description": layer.long_name or layer.name,
            "unit": layer.units,
            "data_type": layer.dtype,
            "nodata": "nan" if math.isnan(layer.fill) else layer.fill,
            **({"scale": layer.scale, "offset": layer.offset} if (layer.scale, layer.offset) != (1.0, 0.0) else {}),
        }
        for layer in spec.layers
    }


def _text(time: Any) -> str:
    return str(time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"))
