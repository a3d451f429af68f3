"""STAC Items and Collections of a cube."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from shapely.errors import ShapelyError
from shapely.geometry import MultiPolygon, box, mapping, shape
from shapely.geometry.base import BaseGeometry
from shapely.geometry.polygon import orient

from stac2cube.errors import BadInputError
from stac2cube.export.selection import period_ends
from stac2cube.model.catalog import catalogs
from stac2cube.model.cube_spec import CubeSpec, Layer
from stac2cube.model.geometry import WGS84, parse_crs, polygons_of, to_wgs84
from stac2cube.model.grid import Grid
from stac2cube.model.mission import Mission, find_mission, mission_names
from stac2cube.store.ledger import Entry, Ledger
from stac2cube.store.metadata import SUFFIX, levels_of, read_root
from stac2cube.version import __version__

# Layers and axes of a cube in STAC: bands, variables, dimensions.

COMMON_NAMES = frozenset(
    (
        *("pan", "coastal", "blue", "green", "green05", "yellow", "red"),
        *("rededge", "rededge071", "rededge075", "rededge078", "nir", "nir08", "nir09"),
        *("cirrus", "swir16", "swir22", "lwir", "lwir11", "lwir12"),
    )
)
"""Common names of the extension eo 2.0."""

RED_EDGE = {"rededge1": "rededge071", "rededge2": "rededge075", "rededge3": "rededge078"}
"""Names of red edge bands: numbered here, by wavelength in the extension."""


def utc_text(time: datetime) -> str:
    """Format a time as RFC 3339, UTC, with microseconds."""
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def stac_bands_of(spec: CubeSpec, mission: Mission | None) -> list[dict[str, Any]]:
    """A STAC 1.1 band per layer.

    Args:
        spec: Spec of the cube.
        mission: Mission whose bands are layers of the cube.
    """
    return [_band(layer, mission) for layer in spec.layers]


def _band(layer: Layer, mission: Mission | None) -> dict[str, Any]:
    own = mission.bands.get(layer.name) if mission else None
    common = RED_EDGE.get(own.common_name, own.common_name) if own else ""
    return {
        "name": layer.name,
        "description": layer.long_name or layer.name,
        "data_type": layer.dtype,
        # NaN as the text "nan" is valid, but a column of a table holds either numbers or texts.
        **({} if math.isnan(layer.fill) else {"nodata": _fill(layer)}),
        "unit": layer.units,
        **({"raster:scale": layer.scale, "raster:offset": layer.offset} if _packed(layer) else {}),
        **({"eo:common_name": common} if common in COMMON_NAMES else {}),
        **({"eo:center_wavelength": own.wavelength} if own and own.wavelength else {}),
        **({"classification:classes": _classes(layer)} if layer.flags else {}),
        **({"classification:bitfields": _bitfields(layer)} if layer.bits else {}),
    }


def variables_of(spec: CubeSpec) -> dict[str, Any]:
    """Layers as variables of the extension datacube."""
    return {
        layer.name: {
            "type": "data",
            "dimensions": ["time", "y", "x"],
            "description": layer.long_name or layer.name,
            "unit": layer.units,
            "data_type": layer.dtype,
            "nodata": _fill(layer),
            **({"scale": layer.scale, "offset": layer.offset} if _packed(layer) else {}),
        }
        for layer in spec.layers
    }


def dimensions_of(spec: CubeSpec, times: Sequence[datetime]) -> dict[str, Any]:
    """Axes as dimensions of the extension datacube: extents are those of pixel centres, times are listed."""
    grid = spec.grid
    code = int(grid.crs.removeprefix("EPSG:")) if grid.crs.startswith("EPSG:") else grid.crs
    west, north = grid.origin
    half, (rows, columns) = grid.resolution / 2, grid.shape
    moments = [utc_text(time) for time in times]
    horizontal = {
        "y": ([north - rows * grid.resolution + half, north - half], -grid.resolution),
        "x": ([west + half, west + columns * grid.resolution - half], grid.resolution),
    }
    return {
        "time": {"type": "temporal", "extent": [moments[0], moments[-1]], "values": moments},
        **{
            name: {"type": "spatial", "axis": name, "extent": extent, "step": step, "reference_system": code}
            for name, (extent, step) in horizontal.items()
        },
    }


def _fill(layer: Layer) -> Any:
    if math.isnan(layer.fill):
        return "nan"
    return int(layer.fill) if float(layer.fill).is_integer() else layer.fill


def _packed(layer: Layer) -> bool:
    return (layer.scale, layer.offset) != (1.0, 0.0)


def _classes(layer: Layer) -> list[dict[str, Any]]:
    return [
        {"value": value, "name": name, **({"nodata": True} if value == layer.fill else {})}
        for value, name in layer.flags
    ]


def _bitfields(layer: Layer) -> list[dict[str, Any]]:
    """Bit fields of a layer; values are shifted to the lowest bit of the mask."""
    fields = []
    for mask, members in groupby(sorted(layer.bits), key=lambda bit: bit[0]):
        offset = (mask & -mask).bit_length() - 1
        classes = [{"value": value >> offset, "name": name} for _, value, name in members]
        if all(one["value"] for one in classes):
            classes.insert(0, {"value": 0, "name": f"not_{classes[0]['name']}"})
        fields.append({"offset": offset, "length": mask.bit_length() - offset, "classes": classes})
    return fields


# Requirements of the data providers for redistribution: terms of use, attribution, and names of providers.


@dataclass(frozen=True)
class Provider:
    """An organisation that made, processed or hosts data.

    Attributes:
        name: Its own name.
        url: Its web page.
        roles: Roles in STAC: producer, licensor, processor, host.
    """

    name: str
    url: str
    roles: tuple[str, ...]


@dataclass(frozen=True)
class Origin:
    """Source of the pixels of steps.

    Attributes:
        catalogs: Names of the catalogs through which they were read, as far as known.
        simulated: Whether some are simulated.
        measured: Whether some were measured by a satellite.
    """

    catalogs: frozenset[str] = frozenset()
    simulated: bool = False
    measured: bool = True

    @classmethod
    def of_rows(cls, rows: Iterable[Entry]) -> Origin:
        """Origin of ledger rows."""
        facts = [row.properties for row in rows]
        catalogs = [str(fact.get("catalog", "")) for fact in facts]
        return cls._of(catalogs, [bool(fact.get("simulated")) for fact in facts])

    @classmethod
    def of_steps(cls, *datasets: xr.Dataset) -> Origin:
        """Origin of opened cubes, or parts of them."""
        catalogs: list[str] = []
        simulated: list[bool] = []
        for dataset in datasets:
            names, marks = (dataset.coords.get(name) for name in ("catalog", "simulated"))
            catalogs += [] if names is None else [str(name) for name in np.atleast_1d(names.values)]
            # A step without the mark is NaN beside steps with it.
            simulated += [False] if marks is None else [bool(mark == 1) for mark in np.atleast_1d(marks.values)]
        return cls._of(catalogs, simulated)

    @classmethod
    def _of(cls, catalogs: Iterable[str], simulated: Sequence[bool]) -> Origin:
        names = frozenset(name for text in catalogs for name in text.split(",") if name)
        return cls(names, any(simulated), not simulated or not all(simulated))


@dataclass(frozen=True)
class Terms:
    """The terms of a mission.

    Attributes:
        url: Page with the terms.
        attribution: Required text; ``{years}`` is replaced by the years of the data.
        providers: Providers to name.
    """

    url: str
    attribution: str
    providers: tuple[Provider, ...]

    def words(self, times: Collection[datetime]) -> str:
        """The attribution for data of these times."""
        years = sorted({time.year for time in times})
        text = "" if not years else f"{years[0]}" if len(years) == 1 else f"{years[0]}-{years[-1]}"
        return " ".join(self.attribution.format(years=text).split())


_ESA = Provider("ESA", "https://www.esa.int", ("producer",))

MISSIONS = {
    "sentinel": Terms(
        "https://sentinels.copernicus.eu/documents/247904/690755/Sentinel_Data_Legal_Notice",
        "Contains modified Copernicus Sentinel data {years}",
        (_ESA, Provider("European Union, Copernicus", "https://www.copernicus.eu", ("licensor",))),
    ),
    "landsat": Terms(
        "https://www.usgs.gov/emergency-operations-portal/data-policy",
        "Landsat data courtesy of the U.S. Geological Survey",
        (Provider("USGS", "https://www.usgs.gov", ("producer", "licensor")),),
    ),
    "cop-dem": Terms(
        "https://spacedata.copernicus.eu/collections/copernicus-digital-elevation-model",
        "Produced using Copernicus WorldDEM-30 © DLR e.V. 2010-2014 and © Airbus Defence and Space GmbH 2014-2018 "
        "provided under COPERNICUS by the European Union and ESA; all rights reserved",
        (
            Provider("DLR and Airbus Defence and Space", "https://spacedata.copernicus.eu", ("producer",)),
            Provider("European Union, Copernicus", "https://www.copernicus.eu", ("licensor",)),
        ),
    ),
}
"""Terms by prefix of the mission's name. Sources: the legal notice on Sentinel data (EU 1159/2013), USGS's data policy,
and the licence of the Copernicus DEM."""

SOURCES = {
    "terrabyte": "terrabyte of DLR and LRZ",
    "planetary-computer": "Microsoft Planetary Computer",
    "earth-search": "Earth Search by Element 84",
    "cdse": "Copernicus Data Space Ecosystem",
}
"""Catalogs through which data are read: name -> title."""

THANKS = {
    "terrabyte": "Data were accessed by terrabyte, the platform of the German Aerospace Center (DLR) and the Leibniz "
    "Supercomputing Centre (LRZ)",
}
"""Additional acknowledgements of catalogs, by name."""


SIMULATED = "Simulated by stac2cube, not measured by a satellite"
"""Notice for simulated scenes."""


def mission_of_cubes(spec: CubeSpec) -> str:
    """Name of the mission that a cube was made from, through all its parents; "" if a parent is missing."""
    while "mission" not in spec.recipe:
        parent = Path(str(spec.request.get("layers", "")))
        if not spec.request.get("layers") or not (parent / "zarr.json").exists():
            return ""
        spec = read_root(parent).spec
    return str(spec.recipe["mission"])


def terms_of(spec: CubeSpec, origin: Origin) -> Terms | None:
    """The terms of a cube's mission, None for missions without recorded terms, and if nothing was measured."""
    mission = mission_of_cubes(spec) if origin.measured else ""
    return next((terms for name, terms in MISSIONS.items() if mission.startswith(name)), None)


def attribution_of(spec: CubeSpec, times: Collection[datetime], origin: Origin) -> str:
    """The attribution that a cube's providers and catalogs require; "" if none is required.

    Simulated scenes are marked as simulated, without naming a provider.

    Args:
        spec: Spec of the cube.
        times: Times of its steps.
        origin: Source of their pixels.
    """
    terms = terms_of(spec, origin)
    said = [terms.words(times)] if terms else []
    said += [SIMULATED] if origin.simulated else []
    return ". ".join([*said, *(THANKS[name] for name in sorted(origin.catalogs & THANKS.keys()))])


# Lineage of a cube in sentences, for users who did not make it.


def lineage_of(spec: CubeSpec, rows: Iterable[Entry]) -> list[str]:
    """One sentence per processing step, in order.

    Args:
        spec: Spec of the cube.
        rows: Ledger rows of its sealed steps.
    """
    return list(_sentences(spec, list(rows)))


def sources_of(rows: Iterable[Entry]) -> list[str]:
    """Titles of the catalogs that steps were read from; catalogs defined by the user become "a local catalog"."""
    known = catalogs()
    names = Origin.of_rows(rows).catalogs
    return sorted({SOURCES.get(name, name if name in known else "a local catalog") for name in names})


def _sentences(spec: CubeSpec, rows: list[Entry]) -> Iterator[str]:
    recipe = spec.recipe
    mission = mission_of_cubes(spec)
    title = find_mission(mission).title if mission in mission_names() else mission
    if title:
        via = f" through {', '.join(sources)}" if (sources := sources_of(rows)) else ""
        simulated = Origin.of_rows(rows).simulated
        yield f"Scenes like {title} were simulated, and read{via}." if simulated else f"{title} was read{via}."
    if methods := recipe.get("resampling"):
        common = max(set(methods.values()), key=list(methods.values()).count)
        others = [f"{band} {method}" for band, method in methods.items() if method != common]
        besides = f" ({', '.join(others)})" if others else ""
        yield f"Pixels that lay on other lattices were resampled: {common}{besides}."
    if shifts := recipe.get("shifts"):
        yield (
            f"Scenes were co-registered by the engine {shifts['engine']}, band {shifts['band']}, against the reference "
            f"{shifts['reference']!r}, and moved by {shifts['resampling']} resampling."
        )
    if recipe.get("masked_by"):
        yield f"Pixels under {' or '.join(recipe['masked_by'])} hold no data; {_clouds(recipe['clouds'])}."
    elif "method" in recipe and "dilate_m" in recipe:
        yield f"{_clouds(recipe).capitalize()}."
    if superres := recipe.get("superres"):
        yield (
            f"Bands were put on a grid of {superres['target']:g} m by {superres['backend']} (agreement with what was "
            f"measured: {superres['consistency']}); details are not of that size."
        )
    if indices := recipe.get("indices"):
        yield f"Spectral indices were computed: {', '.join(indices)}."
    if composite := recipe.get("composite"):
        yield f"Observations of every {composite['period']} were made one by the method {composite['method']}."
    if overview := recipe.get("overview"):
        yield f"Pixels are means (classes: the most frequent) of {overview['factor']} x {overview['factor']} pixels."


def _clouds(recipe: Mapping[str, Any]) -> str:
    return f"clouds were found by {recipe['method']}, and widened by {recipe['dilate_m']:g} m"


# A cube as STAC: a Collection with its dimensions and variables, and an Item per time step.

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
"""STAC extensions in use, with versions."""

ZARR = "application/vnd.zarr"
"""Media type of a Zarr store; readers compare the whole text, so the version of Zarr is in a separate field."""

OPENED = {"zarr:zarr_format": 3, "zarr:consolidated": True, "zarr:node_type": "group"}
"""Fields that readers of the extension zarr use to open a store."""

MOMENT = timedelta(microseconds=1)
"""Subtracted from the end of a period: it is exclusive here, and inclusive in STAC."""

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
"""Properties of a step that are in its Item."""


def collection_of(cube: Path, href: str = "", name: str = "") -> dict[str, Any]:
    """The Collection of a cube.

    Args:
        cube: The cube.
        href: Public address of the cube; its own path if "".
        name: Source of the id; the cube's file name if "".

    Raises:
        CubeError: Not a cube.
        BadInputError: The cube has no step yet.
    """
    spec, rows = _look(cube)
    where = href or str(cube.resolve())
    steps = list(rows.values())
    ends = [end - MOMENT for end in period_ends(spec, rows).values()]
    first, last = utc_text(steps[0].time), utc_text(max([*ends, steps[-1].time]))
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
        "id": safe_id(name or cube.stem),
        "title": str(spec.recipe.get("title", cube.stem)),
        "description": f"{_words(spec)}, {len(steps)} time steps. {lineage}"
        + (f" {attribution}." if attribution else ""),
        "license": "other",
        "keywords": [name for name in (spec.stage, mission_of_cubes(spec)) if name],
        "providers": _providers(terms, lineage),
        "extent": {"spatial": {"bbox": [bbox_of(footprint)]}, "temporal": {"interval": [[first, last]]}},
        "summaries": summaries,
        "cube:dimensions": dimensions_of(spec, [row.time for row in steps]),
        "cube:variables": variables_of(spec),
        "item_assets": {"cube": asset},
        "assets": {"cube": {"href": where, **asset}, **_pyramid(cube, where)},
        "links": [{"rel": "license", "href": terms.url, "type": "text/html", "title": attribution}] if terms else [],
    }


def items_of(cube: Path, href: str = "", name: str = "") -> Iterator[dict[str, Any]]:
    """An Item per sealed step of a cube, oldest first; arguments as for :func:`collection_of`."""
    spec, rows = _look(cube)
    where, lineage = href or str(cube.resolve()), " ".join(lineage_of(spec, rows.values()))
    window, asset, ends = _window(spec), _asset(spec), period_ends(spec, rows)
    for key, row in rows.items():
        place = _seen(row, window)
        properties = _properties(spec, row, lineage)
        if key in ends:
            properties |= {"start_datetime": utc_text(row.time), "end_datetime": utc_text(ends[key] - MOMENT)}
        yield {
            "type": "Feature",
            "stac_version": "1.1.0",
            "stac_extensions": [PROJECTION, PROCESSING, XARRAY, *_used(properties, asset)],
            "id": safe_id(key),
            "collection": safe_id(name or cube.stem),
            "geometry": geojson_of(place),
            "bbox": bbox_of(place),
            "properties": properties,
            "links": [
                *({"rel": rel, "href": "../collection.json", "type": "application/json"} for rel in UP),
                *_derived_from(row),
            ],
            "assets": {"cube": {"href": where, **asset}},
        }


def safe_id(name: str) -> str:
    """Convert a name to an id that is safe in URLs and on any file system: lower case, digits, ``-`` and ``_``."""
    return re.sub(r"[^a-z0-9_-]+", "-", name.lower()).strip("-") or "cube"


def geojson_of(place: BaseGeometry) -> dict[str, Any]:
    """WGS84 polygons as a GeoJSON geometry: outer rings counterclockwise, holes clockwise (RFC 7946, 3.1.6)."""
    parts = [orient(part) for part in getattr(place, "geoms", [place])]
    return dict(mapping(parts[0] if len(parts) == 1 else MultiPolygon(parts)))


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
    """The part of a cube's extent that a step covers; all if its footprint is unknown, or invalid at a pole or 180°."""
    if not row.footprint:
        return window
    try:
        seen = polygons_of(to_wgs84(shape(row.footprint), parse_crs(WGS84)).intersection(window))
    except (BadInputError, ShapelyError):
        return window
    return window if seen.is_empty else seen


def _window(spec: CubeSpec) -> BaseGeometry:
    """Extent of a cube: WGS84 polygons, split at the antimeridian, closed along a pole within it."""
    return to_wgs84(box(*spec.grid.geobox.boundingbox), parse_crs(spec.grid.crs))


UP = ("root", "parent", "collection")
"""Relations of the links from an Item to its containers."""


def _look(cube: Path) -> tuple[CubeSpec, dict[str, Entry]]:
    root = read_root(cube)
    sealed = Ledger(cube, root.ledger).sealed()
    if not sealed:
        raise BadInputError(f"{cube} has no step to publish yet")
    return root.spec, sealed


def _mission(spec: CubeSpec) -> Mission | None:
    name = mission_of_cubes(spec)
    return find_mission(name) if name in mission_names() else None


def _words(spec: CubeSpec) -> str:
    names = ", ".join(layer.name for layer in spec.layers)
    return f"{spec.recipe.get('title', spec.stage)}: {names} at {metres_of(spec.grid):g} m"


def _used(facts: Mapping[str, Any], asset: Mapping[str, Any]) -> list[str]:
    """URIs of the optional extensions with a field in use."""
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
        "gsd": [metres_of(spec.grid)],
        "platform": sorted({str(row.properties.get("platform", "")) for row in rows} - {""}),
        "constellation": [mission.constellation] if mission and mission.constellation else [],
        "proj:code": [spec.grid.crs] if spec.grid.crs.startswith("EPSG:") else [],
        "eo:cloud_cover": {"minimum": round(min(covers), 2), "maximum": round(max(covers), 2)} if covers else {},
    }
    return {name: value for name, value in found.items() if value}


def _asset(spec: CubeSpec) -> dict[str, Any]:
    """The cube as an asset, without its href."""
    return {
        "type": ZARR,
        "roles": ["data"],
        "title": "The cube, Zarr 3",
        **OPENED,
        "gsd": metres_of(spec.grid),
        "bands": stac_bands_of(spec, _mission(spec)),
        "xarray:open_kwargs": {"engine": "zarr", "consolidated": True},
        **projected(spec.grid),
    }


def metres_of(grid: Grid) -> float:
    """Edge of the pixels in metres for STAC's ``gsd``, six digits; for pixels in degrees, along the equator."""
    return float(f"{grid.metres:.6g}")


def projected(grid: Grid) -> dict[str, Any]:
    """A lattice as fields of the extension projection."""
    crs = {"proj:code": grid.crs} if grid.crs.startswith("EPSG:") else {"proj:wkt2": grid.crs}
    return {**crs, "proj:shape": list(grid.shape), "proj:transform": list(grid.transform)}


def _pyramid(cube: Path, where: str) -> dict[str, Any]:
    """The group of overviews as an asset, if the cube has overviews."""
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
        "gsd": metres_of(spec.grid),
        **{name: value for name, value in known.items() if value not in (None, "")},
        **projected(spec.grid),
        "processing:lineage": lineage,
        "processing:software": {"stac2cube": __version__, **software},
        "stac2cube:slot": row.slot,
        "stac2cube:commit": row.commit,
        "stac2cube:items": list(row.items),
    }


def _derived_from(row: Entry) -> Iterator[dict[str, str]]:
    """Links to the source items of a step, for items with a ``self`` link."""
    for text in row.sources:
        for link in json.loads(text).get("links") or ():
            if link.get("rel") == "self" and str(link.get("href", "")).startswith("http"):
                yield {"rel": "derived_from", "href": link["href"], "type": "application/geo+json"}
