"""Scenes and grid of a cube: search by a query, define the grid, read the query back, compare with catalogs."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from shapely import to_geojson
from shapely.geometry import shape
from shapely.geometry.base import BaseGeometry

from stac2cube.errors import BadInputError, CatalogError, NothingFoundError
from stac2cube.model.catalog import is_index, public_catalog
from stac2cube.model.cube_spec import CubeSpec, Layer
from stac2cube.model.geometry import Area, read_areas, utm_code
from stac2cube.model.grid import (
    Grid,
    GridOptions,
    crs_text,
    grid_from_geobox,
    grid_over,
    native_crs,
    resolution_for,
)
from stac2cube.model.image import BandRequest
from stac2cube.model.mission import Band
from stac2cube.model.query import Query, stored_filters
from stac2cube.model.scene import Granule, Scene
from stac2cube.pixels.open import file_geobox
from stac2cube.search.choose_catalog import CatalogChoice, Found, catalog_choices, crs_of_file, find
from stac2cube.search.items import offset_problems
from stac2cube.search.parsing import counted_reasons, utm_of_tile
from stac2cube.store.ledger import FAILED, Ledger
from stac2cube.store.metadata import read_root

# Whether the scenes found can be used: problems, lacking bands, and CRS.

log = logging.getLogger(__name__)


def without_standins(scene: Scene) -> Scene:
    """The scene, marked as having a problem if an older item replaces the newest one."""
    if scene.problem or not scene.passed_over:
        return replace(scene, spares={})
    name, why = next(iter(scene.passed_over.items()))
    return replace(scene, spares={}, problem=f"item {name} cannot be used, and none may stand in for it: {why}")


def lacking(scenes: Sequence[Scene], bands: Sequence[Band]) -> dict[str, int]:
    """The number of usable scenes without an item that has a band, by band; bands that all have are left out."""
    usable = [scene for scene in scenes if scene.granules and not scene.problem]
    counts = {
        band.name: sum(all(band.name not in granule.assets for granule in scene.granules) for scene in usable)
        for band in bands
    }
    return {name: count for name, count in counts.items() if count}


def report_absent(scenes: Sequence[Scene], bands: Sequence[Band]) -> None:
    """Log the bands that some scenes lack."""
    for name, count in lacking(scenes, bands).items():
        log.warning("%d of %d scenes have no item with band %s: it has no data there", count, len(scenes), name)


def require_usable(scenes: Sequence[Scene]) -> None:
    """Check that a grid can be defined for the scenes.

    Raises:
        BadInputError: All scenes have a problem, and no item declares a CRS.
    """
    problems = [scene.problem for scene in scenes if scene.problem]
    if problems and not any(granule.crs for scene in scenes for granule in scene.granules):
        raise BadInputError(f"none of the {len(scenes)} scenes found can be used: {counted_reasons(problems)}")


def require_bands(scenes: Sequence[Scene], bands: Sequence[Band]) -> None:
    """Check that an item of some scene has each band.

    Raises:
        BadInputError: No usable scene has one of the bands: its layer would be empty.
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
"""Most files that are opened to read their CRS."""


def footprints_of(scenes: Sequence[Scene]) -> list[tuple[str, BaseGeometry]]:
    """CRS and footprint of each granule; if no item declares a CRS, it is read from some of the files.

    Raises:
        BadInputError: Neither an item nor a file has a CRS.
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
    told_by_file = _doubtful_crs(granules)
    return [(told_by_file.get((g.tile, g.crs), g.crs), shape(g.footprint)) for g in granules]


def _doubtful_crs(granules: Sequence[Granule]) -> dict[tuple[str, str], str]:
    """CRSs of files that differ from the declared ones, by tile and declared CRS.

    A few files are opened, only for declared CRSs that may be those of previews: the CRS of web maps, which no product
    uses, and a UTM zone that differs from the one in the code of a Sentinel-2 tile.
    """
    doubtful = {
        (granule.tile, granule.crs): granule
        for granule in granules
        if granule.crs and (granule.crs == _WEB_MERCATOR or granule.crs != (utm_of_tile(granule.tile) or granule.crs))
    }
    told = {key: crs_of_file(granule)[0] for key, granule in list(doubtful.items())[:_LOOKED_AT]}
    wrong = {key: crs for key, crs in told.items() if crs and crs != key[1]}
    for (tile, said), crs in wrong.items():
        log.warning(
            "items of tile %s say that they lie in %s, and their files in %s: the files are right", tile, said, crs
        )
    return wrong


_WEB_MERCATOR = "EPSG:3857"


def corner_of_files(scenes: Sequence[Scene], crs: str) -> tuple[float, float] | None:
    """Upper left corner of the first granule's pixels in a CRS, as declared by its item, or else read from its file."""
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


# Scenes for a cube, its grid, and its specification.

STAGE = "layers"
"""Name of the stage in the cubes it makes."""


def local_sources(choices: Sequence[CatalogChoice]) -> list[Path]:
    """Indexes and files among the catalogs to try that may hold headers of images."""
    paths = [Path(choice.catalog.url) for choice in choices if choice.catalog.is_local]
    return [path for path in paths if is_index(path) or path.suffix == ".parquet"]


def find_scenes(query: Query, choices: Sequence[CatalogChoice]) -> Found:
    """Search the catalogs for a cube.

    Args:
        query: The query.
        choices: The catalogs to try, in order, see :func:`stac2cube.search.choose_catalog.catalog_choices`.

    Raises:
        NothingFoundError: No scene was found.
        CatalogError: The catalog cannot be read.
    """
    try:
        found = _filled(find(query, choices), query)
        report_absent(found.scenes, query.chosen)
        if query.strict:
            found = replace(found, scenes=tuple(map(without_standins, found.scenes)))
        if not (query.strict and query.page.identity == "sentinel-2"):
            return found
        words = offset_problems(found.scenes)
        judged = (replace(s, problem=s.problem or doubt) for s, doubt in zip(found.scenes, words, strict=True))
        return replace(found, scenes=tuple(judged))
    except NothingFoundError as error:
        limit = query.max_cloud_cover
        clouds = "" if limit is None else f" with at most {limit:g} % cloud cover"
        raise NothingFoundError(f"{error} over {area_of(query).name!r} in {query.period}{clouds}") from error


def area_of(query: Query) -> Area:
    """The area of a query for a cube.

    Raises:
        BadInputError: The query has no area: a cube cannot cover the whole Earth.
    """
    if query.area is None:
        raise BadInputError("say also aoi")
    return query.area


def _filled(found: Found, query: Query) -> Found:
    """Scenes of a tiled elevation model, followed by granules of its coarser sibling if the query wants gaps filled."""
    if not query.fill:
        return found
    sibling = replace(query, mission=query.page.filler, bands=tuple(band.name for band in query.chosen), fill=False)
    others = [granule for scene in find(sibling, (found.choice,)).scenes for granule in scene.granules]
    # If the lattices differ, the reader uses the first granules and fills their gaps with the following ones.
    return replace(found, scenes=tuple(replace(s, granules=(*s.granules, *others)) for s in found.scenes))


def grid_for(query: Query, options: GridOptions, scenes: Sequence[Scene]) -> Grid:
    """The grid of a new cube.

    Args:
        query: The query searched for.
        options: The user's options for the grid.
        scenes: The scenes found.

    Raises:
        BadInputError: No scene can be used, no CRS can be found, or the area cannot be expressed in it.
    """
    from pyproj import CRS

    area, mission, gsds = area_of(query), query.page, [band.gsd for band in query.chosen]
    require_usable(scenes)
    if options.geobox is not None:
        return grid_from_geobox(options.geobox)
    footprints = [] if options.crs else footprints_of(scenes)
    crs = crs_text(options.crs or _metric(native_crs(area.geometry, footprints, area.longitude), area))
    resolution = resolution_for(options.resolution, min(gsds), crs)
    if CRS(crs).is_geographic and area.bounds[0] > area.bounds[2]:
        raise BadInputError(
            f"area {area.name!r} crosses the antimeridian, where {crs} begins and ends: a cube over it would "
            f"go around the globe. Say a CRS of the area, as crs='{_metric(crs, area)}'"
        )
    if CRS(crs).is_geographic:
        # Band sizes are in metres; here the product's own pixels are the lattice, if they are in degrees too.
        lattice = corner_of_files(scenes, crs) or mission.lattice
        return grid_over(area.native, area.native_crs, crs, resolution, lattice=lattice)
    # Corners on the lattice of the coarsest band, so that each of its pixels holds whole pixels of the cube.
    step = float(max(gsds)) if max(gsds) % resolution == 0 else resolution
    lattice = mission.lattice
    if mission.lattice_step % resolution != 0:
        # No lattice of such pixels fits all scenes: at least the first tile's pixels need not be resampled.
        corners = sorted((g.tile, g.corner) for s in scenes for g in s.granules if g.corner and g.crs == crs)
        lattice = corners[0][1] if corners else lattice
    return grid_over(area.native, area.native_crs, crs, resolution, lattice=lattice, step=step)


def _metric(crs: str, area: Area) -> str:
    """The CRS itself, or the area's UTM zone if the CRS is in degrees: a cube's pixels are in metres."""
    from pyproj import CRS

    if not CRS(crs).is_geographic:
        return crs
    # UTM ends at 80 S and 84 N; its CRS is in metres beyond that too.
    return utm_code(area.longitude, min(max(area.geometry.representative_point().y, -80), 84))


def spec_for(query: Query, grid: Grid, resampling: str | Mapping[str, str] = "bilinear") -> CubeSpec:
    """The specification of a cube.

    Args:
        query: The query searched for.
        grid: The grid.
        resampling: Method for continuous bands, or one per band.

    Raises:
        BadInputError: Methods are given for bands that are not in the query.
    """
    area, mission = area_of(query), query.page
    return CubeSpec(
        stage=STAGE,
        grid=grid,
        layers=tuple(_layer(band) for band in query.chosen),
        recipe={
            "mission": mission.name,
            "title": mission.title,
            "resampling": {band.name: band.resampling for band in band_requests(query, resampling)},
            **({"filled from": mission.filler} if query.fill else {}),
        },
        request={
            "area": {"name": area.name, "geometry": json.loads(to_geojson(area.geometry))},
            "times": interval_texts(query.intervals),
            "catalog": public_catalog(query.catalog),
            **query.filters(),
            "strict": query.strict,
            **({"tile": query.tile} if query.tile else {}),
        },
    )


def query_of(path: Path) -> tuple[CubeSpec, Query]:
    """The specification of a cube, and the query for its next update.

    Raises:
        CubeError: The path is not a cube.
        BadInputError: The cube was made by another stage.
    """
    spec = read_root(path).spec
    if spec.stage != STAGE:
        raise BadInputError(f"{path} is a cube of stage {spec.stage!r}, not of {STAGE!r}")
    (area,) = read_areas(shape(spec.request["area"]["geometry"]))
    query = Query(
        mission=spec.recipe["mission"],
        area=replace(area, name=spec.request["area"]["name"]),
        time=",".join(spec.request["times"]),
        bands=tuple(layer.name for layer in spec.layers),
        **stored_filters(spec.request),
        strict=spec.request.get("strict", False),
        fill="filled from" in spec.recipe,
        catalog=spec.request["catalog"],
        tile=spec.request.get("tile", ""),
    )
    return spec, query


def interval_texts(intervals: Sequence[tuple[datetime, datetime]]) -> list[str]:
    """Intervals as texts that :func:`stac2cube.model.period.parse_period` reads."""
    return [f"{first:%Y-%m-%dT%H:%M:%S.%fZ}/{last:%Y-%m-%dT%H:%M:%S.%fZ}" for first, last in intervals]


def band_requests(query: Query, resampling: str | Mapping[str, str]) -> tuple[BandRequest, ...]:
    """The bands of a query, and how each is resampled to a lattice.

    Args:
        query: The query.
        resampling: Method for continuous bands, or one per band.

    Raises:
        BadInputError: Methods are given for bands that are not in the query.
    """
    bands = query.chosen
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


# Comparison of catalogs with each other and with a cube.


@dataclass(frozen=True)
class Answer:
    """Scenes of one catalog.

    Attributes:
        catalog: Its name.
        scenes: Its scenes by key.
        seconds: Duration of the search.
        problem: Why it has none, "" if it has some.
        answered: Whether the catalog responded.
    """

    catalog: str
    scenes: dict[str, Scene]
    seconds: float
    problem: str = ""
    answered: bool = True


@dataclass(frozen=True)
class Gap:
    """A scene that some catalog has and a cube lacks.

    Attributes:
        key: Its key.
        month: ``"2023-07"``.
        catalogs: The catalogs that have it.
        reason: Why the cube lacks it.
    """

    key: str
    month: str
    catalogs: tuple[str, ...]
    reason: str


def compare_catalogs(query: Query, names: Sequence[str]) -> Iterator[Answer]:
    """Search several catalogs with the same query.

    Args:
        query: The query.
        names: Names, URLs or paths of the catalogs.

    Raises:
        BadInputError: An argument is invalid, or a catalog does not carry the mission.
    """
    for name in names:
        asked = replace(query, catalog=name)
        choices = catalog_choices(asked)
        begun = time.perf_counter()
        try:
            found = {str(scene.key): scene for scene in find(asked, choices).scenes}
            problem = ""
            answered = True
        except (CatalogError, NothingFoundError) as error:
            found, problem, answered = {}, str(error), isinstance(error, NothingFoundError)
        yield Answer(public_catalog(name), found, time.perf_counter() - begun, problem, answered)


def gaps_of(cube: Path, names: Sequence[str]) -> tuple[list[Gap], list[Answer]]:
    """Scenes that catalogs have for a cube's query and that the cube lacks.

    Args:
        cube: Path of the cube.
        names: Catalogs to search.

    Returns:
        The gaps by key, and the result of each catalog.

    Raises:
        CubeError: The path is not a cube.
    """
    _, query = query_of(cube)
    answers = list(compare_catalogs(query, names))
    rows = Ledger(cube, read_root(cube).ledger).entries()
    lacking: dict[str, list[str]] = {}
    for answer in answers:
        for key in answer.scenes:
            row = rows.get(key)
            if row is None or row.status == FAILED:
                lacking.setdefault(key, []).append(answer.catalog)
    gaps = []
    for key, having in sorted(lacking.items()):
        row, scene = rows.get(key), next(answer.scenes[key] for answer in answers if key in answer.scenes)
        reason = f"failed: {row.reason}" if row else scene.problem or "not built: late, or not in the catalog used"
        gaps.append(Gap(key, f"{scene.time:%Y-%m}", tuple(having), reason))
    return gaps, answers
