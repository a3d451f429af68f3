"""What a person asks for: mission, area, time, bands, grid, catalog; resolved and checked."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from shapely import to_geojson
from shapely.geometry import box, shape
from shapely.geometry.base import BaseGeometry

from stac2cube.errors import BadInputError, NothingFoundError
from stac2cube.model.catalog import is_index, public_catalog
from stac2cube.model.cube_spec import CubeSpec, Layer
from stac2cube.model.geometry import Area, read_areas
from stac2cube.model.grid import Grid, crs_text, grid_from_geobox, grid_over, native_crs
from stac2cube.model.image import BandRequest
from stac2cube.model.mission import Band, find_mission
from stac2cube.model.period import parse_period
from stac2cube.model.scene import Scene
from stac2cube.pixels.offset_check import offset_problems
from stac2cube.pixels.open import file_geobox
from stac2cube.search.choose_catalog import CatalogChoice, Found, catalog_choices, crs_of_file, find
from stac2cube.search.parsing import counted_reasons
from stac2cube.search.search import Query
from stac2cube.store.metadata import read_root

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

# Whether what was found can be used: problems, bands that are lacking, and where it lies.

log = logging.getLogger(__name__)


def without_standins(scene: Scene) -> Scene:
    """A scene that has a problem if an older item stands in for the newest."""
    if scene.problem or not scene.passed_over:
        return replace(scene, spares={})
    name, why = next(iter(scene.passed_over.items()))
    return replace(scene, spares={}, problem=f"item {name} cannot be used, and none may stand in for it: {why}")


def lacking(scenes: Sequence[Scene], bands: Sequence[Band]) -> dict[str, int]:
    """How many of the usable scenes have no item with a band, by band; without those that all have."""
    usable = [scene for scene in scenes if scene.granules and not scene.problem]
    counts = {
        band.name: sum(all(band.name not in granule.assets for granule in scene.granules) for scene in usable)
        for band in bands
    }
    return {name: count for name, count in counts.items() if count}


def report_absent(scenes: Sequence[Scene], bands: Sequence[Band]) -> None:
    """Log which bands some scenes have no item with."""
    for name, count in lacking(scenes, bands).items():
        log.warning("%d of %d scenes have no item with band %s: it has no data there", count, len(scenes), name)


def require_usable(scenes: Sequence[Scene]) -> None:
    """Be sure that there is something to lay out a grid for.

    Raises:
        BadInputError: All scenes have a problem, and nothing tells their CRS.
    """
    problems = [scene.problem for scene in scenes if scene.problem]
    if problems and not any(granule.crs for scene in scenes for granule in scene.granules):
        raise BadInputError(f"none of the {len(scenes)} scenes found can be used: {counted_reasons(problems)}")


def require_bands(scenes: Sequence[Scene], bands: Sequence[Band]) -> None:
    """Be sure that each band is in an item of some scene.

    Raises:
        BadInputError: No usable scene has one of them: its layer would hold nothing.
    """
    usable = len([scene for scene in scenes if scene.granules and not scene.problem])
    absent = lacking(scenes, bands)
    nowhere = [name for name, count in absent.items() if count == usable]
    if not nowhere:
        return
    having = [f"{band.name} ({usable - absent.get(band.name, 0)})" for band in bands if band.name not in nowhere]
    raise BadInputError(
        f"no item of the {usable} scenes found has band {', '.join(nowhere)}"
        + (f"; of the others asked for they have {', '.join(having)}" if having else "")
        + ": leave it out, or ask another catalog (`stac2cube missions NAME` says which has which)"
    )


_LOOKED_AT = 12
"""Files that are opened at most to find out their CRS."""


def footprints_of(scenes: Sequence[Scene]) -> list[tuple[str, BaseGeometry]]:
    """CRS and footprint of each granule; where no item says its CRS, the files of some do.

    Raises:
        BadInputError: No item says its CRS, and no file tells it.
    """
    granules = [granule for scene in scenes if not scene.problem for granule in scene.granules]
    granules = granules or [granule for scene in scenes for granule in scene.granules]
    if not any(granule.crs for granule in granules):
        one_per_tile = list({granule.tile: granule for granule in granules}.values())[:_LOOKED_AT]
        told = [(granule, *crs_of_file(granule)) for granule in one_per_tile]
        if not any(crs for _, crs, _ in told):
            names = counted_reasons(
                f"item {granule.id} does not say its CRS, and {problem}" for granule, _, problem in told
            )
            raise BadInputError(f"{names}. Give the CRS of the cube: --crs EPSG:32632")
        return [(crs, shape(granule.footprint)) for granule, crs, _ in told if crs]
    return [(granule.crs, shape(granule.footprint)) for granule in granules]


def corner_of_files(scenes: Sequence[Scene], crs: str) -> tuple[float, float] | None:
    """Upper left corner of the first granule's pixels in a CRS: as its item says, or else its file."""
    granules = sorted((g for s in scenes for g in s.granules), key=lambda granule: (granule.tile, granule.id))
    for granule in granules:
        if granule.corner and granule.crs and crs_text(granule.crs) == crs:
            return granule.corner
    for granule in granules[:1]:
        asset = next(iter(granule.assets.values()), None)
        geobox = None if asset is None else file_geobox(asset, granule.signer)
        if geobox is not None and geobox.crs == crs:
            return float(geobox.transform.c), float(geobox.transform.f)
    return None


# What is asked of the first stage, word by word: mission, area, time, bands, grid, catalog.

ALWAYS = "1900/2100"
"""The time of a mission that has no time series."""

STAGE = "layers"
"""Name of the stage in the cubes it makes."""


@dataclass(frozen=True)
class Request:
    """What a person asks for, in their own words; checked and understood by :func:`resolve`.

    Attributes:
        mission: Name of a mission page.
        area: Area of interest.
        time: Time words, see :func:`stac2cube.model.period.parse_period`.
        bands: Names or common names, None for the mission's default.
        resolution: Pixel edge in units of the CRS, None for the finest band asked for.
        crs: CRS of the cube, None for the native one of most of the area.
        geobox: The grid itself, instead of area, resolution and crs.
        resampling: Method for continuous bands; or per band, also for classes.
        max_cloud_cover: Percent, per scene.
        orbit: ``"ascending"``, ``"descending"`` or the number of a relative orbit; "" for all.
        fill: Fill missing tiles from the coarser product that the mission names.
        strict: Look at a small picture of each Sentinel-2 scene; refuse those whose pixels contradict their metadata.
            Refuse also scenes whose newest item lacks a band or cannot be read.
        catalog: Name, URL or path; or "auto", see :func:`stac2cube.search.choose_catalog.catalog_choices`.
        items: A stored search result of that catalog, searched instead of it.
        without: Ids of items that were withdrawn, whatever the catalog says.
        tile: Code of the only tile of the mission whose items are taken, ``"32TPT"``; "" for all.
    """

    mission: str
    area: Area
    time: str
    bands: tuple[str, ...] | None = None
    resolution: float | None = None
    crs: str | None = None
    geobox: GeoBox | None = field(default=None, repr=False)
    resampling: str | Mapping[str, str] = "bilinear"
    max_cloud_cover: float | None = None
    orbit: str = ""
    fill: bool = False
    strict: bool = False
    catalog: str = "auto"
    items: Path | None = None
    without: frozenset[str] = field(default=frozenset(), repr=False)
    tile: str = ""


@dataclass(frozen=True)
class ResolvedRequest:
    """A request understood: what to search and how to read what is found."""

    query: Query
    choices: tuple[CatalogChoice, ...]
    bands: tuple[BandRequest, ...]
    request: Request


def resolve(request: Request, *, on_cluster: bool = False) -> ResolvedRequest:
    """Check a request word by word.

    Args:
        request: What is asked for.
        on_cluster: Whether blocks are made on the nodes of a cluster.

    Raises:
        BadInputError: Naming the word that is wrong.
    """
    mission = find_mission(request.mission)
    bands = mission.choose_bands(request.bands)
    period = parse_period(request.time)
    limit = request.max_cloud_cover
    if limit is not None and not 0 <= limit <= 100:
        raise BadInputError(f"max_cloud_cover is a percentage, 0 to 100, not {limit}")
    if request.orbit not in ("", "ascending", "descending") and not request.orbit.isdigit():
        raise BadInputError(f"orbit {request.orbit!r}: say ascending, descending, or the number of a relative orbit")
    west, south, east, north = mission.coverage
    covered = box(west, south, east, north)
    if not request.area.geometry.intersects(covered):
        raise BadInputError(
            f"area {request.area.name!r} lies outside what {mission.name} covers "
            f"({south:g} to {north:g} degrees north, {west:g} to {east:g} east)"
        )
    if request.fill and not mission.filler:
        raise BadInputError(f"{mission.name} has no coarser product to fill its gaps from")
    area = request.area
    query = Query(
        mission=mission,
        area=area.geometry,
        longitude=area.longitude,
        intervals=period.intervals,
        bands=bands,
        max_cloud_cover=limit,
        orbit=request.orbit,
        without=request.without,
        tile=request.tile,
    )
    candidates = catalog_choices(request.catalog, mission, on_cluster=on_cluster, items=request.items)
    return ResolvedRequest(query, candidates, _band_requests(bands, request.resampling), request)


def local_sources(wanted: ResolvedRequest) -> list[Path]:
    """Indexes and files among the catalogs to try that may keep headers of images."""
    paths = [Path(choice.catalog.url) for choice in wanted.choices if choice.catalog.is_local]
    return [path for path in paths if is_index(path) or path.suffix == ".parquet"]


def find_scenes(wanted: ResolvedRequest) -> Found:
    """Search.

    Raises:
        NothingFoundError: No scene.
        CatalogError: The catalog cannot be read.
    """
    try:
        found = _filled(find(wanted.query, wanted.choices), wanted)
        report_absent(found.scenes, wanted.query.bands)
        if wanted.request.strict:
            found = replace(found, scenes=tuple(map(without_standins, found.scenes)))
        if not (wanted.request.strict and wanted.query.mission.identity == "sentinel-2"):
            return found
        words = offset_problems(found.scenes)
        judged = (replace(s, problem=s.problem or doubt) for s, doubt in zip(found.scenes, words, strict=True))
        return replace(found, scenes=tuple(judged))
    except NothingFoundError as error:
        where = f" over {wanted.request.area.name!r} in {wanted.request.time}"
        raise NothingFoundError(f"{error}{where}{_cloud_words(wanted.query.max_cloud_cover)}") from error


def _filled(found: Found, wanted: ResolvedRequest) -> Found:
    """Scenes of a model in tiles, with those of its coarser sibling behind them where that is asked for."""
    if not wanted.request.fill:
        return found
    sibling = find_mission(wanted.query.mission.filler)
    query = replace(wanted.query, mission=sibling, bands=sibling.choose_bands([b.name for b in wanted.query.bands]))
    others = [granule for scene in find(query, (found.choice,)).scenes for granule in scene.granules]
    # Where lattices differ, the reader takes what comes first and fills its gaps with what follows.
    return replace(found, scenes=tuple(replace(s, granules=(*s.granules, *others)) for s in found.scenes))


def grid_for(wanted: ResolvedRequest, scenes: Sequence[Scene]) -> Grid:
    """The lattice of a new cube.

    Raises:
        BadInputError: No scene can be used, no CRS can be found, or the area cannot be expressed in it.
    """
    from pyproj import CRS

    request, mission = wanted.request, wanted.query.mission
    require_usable(scenes)
    if request.geobox is not None:
        return grid_from_geobox(request.geobox)
    footprints = [] if request.crs else footprints_of(scenes)
    crs = crs_text(
        request.crs or _metric(native_crs(request.area.geometry, footprints, wanted.query.longitude), request)
    )
    if CRS(crs).is_geographic and request.resolution is None:
        raise BadInputError(
            f"{crs} counts in degrees: say resolution= too, for example {min(_gsds(wanted)) / 108_000:.3g}"
        )
    if CRS(crs).is_geographic and request.area.bounds[0] > request.area.bounds[2]:
        raise BadInputError(
            f"area {request.area.name!r} crosses the antimeridian, where {crs} begins and ends: a cube over it would "
            f"go around the globe. Say a CRS of the area, as crs='{_metric(crs, request)}'"
        )
    gsds = _gsds(wanted)
    resolution = float(request.resolution or min(gsds))
    if CRS(crs).is_geographic:
        # Sizes of bands are metres; here the product's own pixels are the lattice, if they are degrees too.
        lattice = corner_of_files(scenes, crs) or mission.lattice
        return grid_over(request.area.native, request.area.native_crs, crs, resolution, lattice=lattice)
    # Corners on the lattice of the coarsest band, so that each of its pixels holds whole pixels of the cube.
    step = float(max(gsds)) if max(gsds) % resolution == 0 else resolution
    lattice = mission.lattice
    if mission.lattice_step % resolution != 0:
        # No lattice of such pixels fits all scenes: at least the first tile's pixels need not be moved.
        corners = sorted((g.tile, g.corner) for s in scenes for g in s.granules if g.corner and g.crs == crs)
        lattice = corners[0][1] if corners else lattice
    return grid_over(request.area.native, request.area.native_crs, crs, resolution, lattice=lattice, step=step)


def _gsds(wanted: ResolvedRequest) -> list[int]:
    return [band.gsd for band in wanted.query.bands]


def _metric(crs: str, request: Request) -> str:
    """The CRS itself, or the UTM zone of the area where it counts in degrees: a cube's pixels are metres."""
    from pyproj import CRS

    if not CRS(crs).is_geographic:
        return crs
    centre = request.area.geometry.representative_point()
    zone = math.floor((request.area.longitude + 180) / 6) % 60 + 1
    return f"EPSG:{326 if centre.y >= 0 else 327}{zone:02d}"


def spec_for(wanted: ResolvedRequest, grid: Grid) -> CubeSpec:
    """What the cube is, from a request and a grid."""
    request, mission = wanted.request, wanted.query.mission
    return CubeSpec(
        stage=STAGE,
        grid=grid,
        layers=tuple(_layer(band) for band in wanted.query.bands),
        recipe={
            "mission": mission.name,
            "title": mission.title,
            "resampling": {band.name: band.resampling for band in wanted.bands},
            **({"filled from": mission.filler} if request.fill else {}),
        },
        request={
            "area": {"name": request.area.name, "geometry": json.loads(to_geojson(request.area.geometry))},
            "times": interval_texts(wanted.query.intervals),
            "catalog": public_catalog(request.catalog),
            "max_cloud_cover": request.max_cloud_cover,
            "orbit": request.orbit,
            "strict": request.strict,
            **({"tile": request.tile} if request.tile else {}),
        },
    )


def request_of(path: Path) -> tuple[CubeSpec, Request]:
    """What a cube was made with, as the request of its next update.

    Raises:
        CubeError: Not a cube.
        BadInputError: Made by another stage.
    """
    spec = read_root(path).spec
    if spec.stage != STAGE:
        raise BadInputError(f"{path} is a cube of stage {spec.stage!r}, not of {STAGE!r}")
    (area,) = read_areas(shape(spec.request["area"]["geometry"]))
    request = Request(
        mission=spec.recipe["mission"],
        area=replace(area, name=spec.request["area"]["name"]),
        time=",".join(spec.request["times"]),
        bands=tuple(layer.name for layer in spec.layers),
        resampling=spec.recipe["resampling"],
        max_cloud_cover=spec.request["max_cloud_cover"],
        orbit=spec.request.get("orbit", ""),
        strict=spec.request.get("strict", False),
        fill="filled from" in spec.recipe,
        catalog=spec.request["catalog"],
        tile=spec.request.get("tile", ""),
    )
    return spec, request


def interval_texts(intervals: Sequence[tuple[datetime, datetime]]) -> list[str]:
    """Intervals as the texts that :func:`stac2cube.model.period.parse_period` understands."""
    return [f"{first:%Y-%m-%dT%H:%M:%S.%fZ}/{last:%Y-%m-%dT%H:%M:%S.%fZ}" for first, last in intervals]


def _band_requests(bands: Sequence[Band], resampling: str | Mapping[str, str]) -> tuple[BandRequest, ...]:
    per_band = dict(resampling) if isinstance(resampling, Mapping) else {}
    unknown = set(per_band) - {word for band in bands for word in (band.name, band.common_name)}
    if unknown:
        raise BadInputError(f"resampling names bands that are not asked for: {', '.join(sorted(unknown))}")
    overall = resampling if isinstance(resampling, str) else "bilinear"
    return tuple(
        BandRequest(
            name=band.name,
            dtype=band.quantity.dtype,
            fill=band.quantity.fill,
            kind="class" if band.quantity.is_class else "continuous",
            above=band.quantity.above,
            optional=band.optional,
            resampling=per_band.get(band.name)
            or per_band.get(band.common_name)
            or ("nearest" if band.quantity.is_class else overall),
        )
        for band in bands
    )


def _layer(band: Band) -> Layer:
    quantity = band.quantity
    return Layer(
        name=band.name,
        dtype=quantity.dtype,
        fill=quantity.fill,
        scale=quantity.scale,
        offset=quantity.offset,
        units=quantity.units,
        long_name=band.long_name,
        standard_name=quantity.standard_name,
        flags=quantity.flags,
        bits=quantity.bits,
    )


def _cloud_words(limit: float | None) -> str:
    return "" if limit is None else f" with at most {limit:g} % cloud cover"
