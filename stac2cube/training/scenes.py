"""Scenes of a manifest or a catalog as sources of samples, each checked for all that its sample needs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from odc.geo.geobox import GeoBox
from odc.geo.geom import Geometry
from shapely.geometry import box

from stac2cube.area import Area
from stac2cube.catalog import Catalog, find_catalog
from stac2cube.errors import BadInputError, NothingFoundError, ReadError
from stac2cube.globe import WGS84
from stac2cube.grid import Grid, grid_from_geobox
from stac2cube.mission import Band, find_mission
from stac2cube.names import safe_name
from stac2cube.period import parse_period
from stac2cube.scene import AssetRef, Granule, Scene
from stac2cube.source.attempts import of_asset
from stac2cube.source.band import BandRequest
from stac2cube.source.image import Image
from stac2cube.source.search import Query, search
from stac2cube.source.sign import is_remote, readable
from stac2cube.stages.request import ALWAYS
from stac2cube.training.rules import GRID, SampleRules
from stac2cube.training.sources import Part, Request, SampleSource, metadata_file, noting, scaling_of

EVERYWHERE = box(-180, -90, 180, 90)


def scene_sources(request: Request, rules: SampleRules) -> list[SampleSource]:
    """The samples of a manifest or a catalog, oldest first; each with what it lacks.

    Raises:
        BadInputError: Request and rules do not fit.
        NothingFoundError: No scene.
        CatalogError: The catalog cannot be read.
    """
    if rules.target == GRID and request.grid is None:
        raise BadInputError("target 'grid' needs a grid: say an area, with crs and resolution")
    if rules.target != GRID and request.grid is not None:
        raise BadInputError(f"target is the band {rules.target}, so there is no grid to give; or say target 'grid'")
    catalog = find_catalog(request.source)
    if rules.factored and rules.scaling == "product" and not catalog.is_local:
        raise BadInputError(
            f"{catalog.name} is a remote catalog: fetch its products with `stac2cube download` first, or say scaling "
            "'item' to take scale and offset from its items"
        )
    scenes = search(_query(request, rules.mission, needed_bands(rules)), catalog)
    if not scenes:
        raise NothingFoundError(f"{request.source} has no scene of {rules.mission} for these words")
    classes = _class_granules(request, catalog) if rules.labels is not None and rules.labels.backend == "scl" else {}
    found = sorted(_units(scenes, rules), key=lambda unit: (unit[0].time, unit[1]))
    return [_source(*unit, request, rules, classes) for unit in found[: request.max_scenes]]


def needed_bands(rules: SampleRules) -> tuple[Band, ...]:
    """The bands of a set and, where it is another, the one whose pixels they are brought to."""
    target = [rules.page.bands[rules.target_band]] if rules.target_band else []
    return tuple({band.name: band for band in [*rules.chosen, *target]}.values())


def _query(request: Request, mission: str, bands: tuple[Band, ...]) -> Query:
    area, longitude = (EVERYWHERE, 0.0) if request.area is None else (request.area.geometry, request.area.longitude)
    period = parse_period(request.time or ALWAYS)
    return Query(find_mission(mission), area, longitude, period.intervals, bands, request.max_cloud_cover)


Unit = tuple[Scene, str, tuple[Granule, ...]]
"""A scene, the id of a sample of it, and the granules that make that sample."""


def _units(scenes: Sequence[Scene], rules: SampleRules) -> Iterator[Unit]:
    """A sample per granule on a band's pixels, one per scene on a grid."""
    for scene in scenes:
        if rules.target == GRID or not scene.granules:
            yield scene, str(scene.key), scene.granules
            continue
        tiles = [granule.tile for granule in scene.granules]
        for granule in scene.granules:
            strip = f"_{granule.datastrip}" if tiles.count(granule.tile) > 1 else ""
            name = f"{scene.key.platform}_R{scene.key.orbit:03d}_{granule.time:%Y%m%dT%H%M%S}_{granule.tile}{strip}"
            yield scene, safe_name(name.rstrip("_")), (granule,)


def _class_granules(request: Request, catalog: Catalog) -> Classes:
    """Level-2A of everything, by who it is."""
    mission = "sentinel-2-l2a"
    query = _query(request, mission, find_mission(mission).choose_bands(["SCL"]))
    scenes = search(query, catalog)
    return {_acquisition(scene, granule): granule for scene in scenes for granule in scene.granules}


def _acquisition(scene: Scene, granule: Granule) -> tuple[str, ...]:
    """What Level-1C and Level-2A of one granule have in common."""
    return scene.key.platform, str(scene.key.orbit), str(scene.key.day), granule.tile, granule.datastrip


Classes = Mapping[tuple[str, ...], Granule]
"""Level-2A granules by who they are, see :func:`_acquisition`."""


def _source(
    scene: Scene, name: str, granules: tuple[Granule, ...], request: Request, rules: SampleRules, classes: Classes
) -> SampleSource:
    lacking = [scene.problem] if scene.problem else []
    parts = tuple(_part(scene, granule, rules, classes, lacking) for granule in granules)
    grid = request.grid
    if rules.target != GRID and granules and not lacking:
        with noting(lacking):
            grid = _target_grid(granules[0], rules.target_band, request.area)
    return SampleSource(
        id=name,
        key=str(scene.key),
        time=min((granule.time for granule in granules), default=scene.time),
        tile=granules[0].tile if len({granule.tile for granule in granules}) == 1 else "",
        platform=scene.key.platform,
        orbit=scene.key.orbit,
        cloud_cover=granules[0].cloud_cover if len(granules) == 1 else scene.cloud_cover,
        grid=grid,
        items=tuple(name for part in parts for one in (part.granule, part.classes) if one for name in one.item_ids),
        versions={f"{granule.tile}/{granule.datastrip}": granule.baseline for granule in granules},
        parts=parts,
        lacking=tuple(lacking),
    )


def _part(scene: Scene, granule: Granule, rules: SampleRules, classes: Classes, lacking: list[str]) -> Part:
    items = granule.items
    item = {**items[0], "assets": {key: about for one in reversed(items) for key, about in one["assets"].items()}}
    for band in needed_bands(rules):
        with noting(lacking):
            _require(granule, band.name)
    factors: dict[str, tuple[float, float]] = {}
    with noting(lacking):
        factors = _factors(granule, item, rules)
    tile, paired = "", None
    if rules.angles is not None:
        with noting(lacking):
            tile = metadata_file(item, "tile_metadata")
    if rules.labels is not None and rules.labels.backend == "scl":
        paired = granule if "SCL" in granule.assets else classes.get(_acquisition(scene, granule))
        with noting(lacking):
            if paired is None:
                raise ReadError(f"SCL: there is no Level-2A of {granule.id}")
            _require(paired, "SCL")
    return Part(_light(granule), factors, tile, None if paired is None else _light(paired))


def _light(granule: Granule) -> Granule:
    """Without the whole item and its keys, which only the driver wants."""
    parts = tuple((name, "") for name, _ in granule.completed_by)
    return replace(granule, item="", completed_by=parts, signed={})


def _require(granule: Granule, band: str) -> None:
    asset = granule.assets.get(band)
    if asset is None:
        raise ReadError(f"{band}: item {granule.id} has no such asset")
    path = readable(asset.href, "none")
    if not is_remote(asset.href) and not Path(path).is_file():  # nor a pipe or a device
        raise ReadError(f"{band}: {path} does not exist")


def _factors(granule: Granule, item: Mapping[str, Any], rules: SampleRules) -> dict[str, tuple[float, float]]:
    if not rules.factored:
        return {band.name: (1.0, 0.0) for band in rules.chosen}
    if rules.scaling == "product":
        scaling = scaling_of(metadata_file(item, "product_metadata"))
        return {band.name: scaling.factors(band.name) for band in rules.chosen}
    # The stored form is count + shift; what it means is the mission's.
    return {
        band.name: (
            band.quantity.scale,
            band.quantity.offset + band.quantity.scale * granule.assets[band.name].shift,
        )
        for band in rules.chosen
        if band.name in granule.assets
    }


def _target_grid(granule: Granule, band: str, area: Area | None) -> Grid:
    """The pixels of a band, cut to the area.

    Raises:
        ReadError: The file cannot be opened, has no square pixels, or does not touch the area.
    """

    def look(image: Image, _asset: AssetRef) -> GeoBox:
        return image.geobox

    geobox = of_asset(granule, BandRequest(band, "float32", 0, "continuous"), look)
    if area is not None and geobox is not None and geobox.crs is not None:
        outline = Geometry(area.geometry, WGS84).to_crs(geobox.crs)
        rows, columns = geobox.overlap_roi(geobox.enclosing(outline))
        geobox = geobox[rows, columns]
    if geobox is None or not all(geobox.shape):
        raise ReadError(f"{band}: item {granule.id} does not touch the area")
    try:
        return grid_from_geobox(geobox)
    except BadInputError as error:
        raise ReadError(f"{band}: {granule.id} makes no target grid: {error}") from None
