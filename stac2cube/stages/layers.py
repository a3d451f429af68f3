"""Stage 1: scenes of a mission from a catalog into a harmonised cube."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from shapely import union_all
from shapely.geometry import mapping, shape

from stac2cube.build.loop import build
from stac2cube.build.plan import VERSIONS, Block, BuildOptions, Plan, Step, Summary, known_entries, plan
from stac2cube.errors import BadInputError, ReadError
from stac2cube.executors.base import Place, place_or_threads
from stac2cube.model.cube_spec import CubeSpec, prepare_for_writing
from stac2cube.model.geometry import read_areas
from stac2cube.model.grid import Grid, GridOptions, Tile, crs_text
from stac2cube.model.image import BandRequest
from stac2cube.model.mission import Mission
from stac2cube.model.period import parse_period
from stac2cube.model.query import Query, names_of_bands
from stac2cube.model.scene import Granule, Scene
from stac2cube.pixels.open import Engine
from stac2cube.pixels.read import Sea, cells_of, intersecting_pairs, read_block, sorted_once
from stac2cube.progress import Progress
from stac2cube.search.choose_catalog import CatalogChoice, Found, catalog_choices
from stac2cube.search.cubes import (
    band_requests,
    find_scenes,
    grid_for,
    interval_texts,
    local_sources,
    query_of,
    require_bands,
    spec_for,
)
from stac2cube.search.index_headers import StoredHeaders, stored_headers
from stac2cube.search.items import is_flagged, offset_problems
from stac2cube.store.ledger import FAILED, SEALED, Entry, Ledger
from stac2cube.store.metadata import read_root
from stac2cube.version import __version__

if TYPE_CHECKING:
    import xarray as xr
    from odc.geo.geobox import GeoBox

# Scenes as steps of a cube: their ledger entries, and the blocks that they can touch.


def touching_scenes(scenes: Sequence[Scene], geoboxes: Sequence[GeoBox]) -> tuple[np.ndarray, np.ndarray]:
    """Which scenes can touch which grids.

    Returns:
        Indices of scenes, and of grids that they can touch: int64, sorted by scene, then by grid, each pair once.
    """
    granules = [granule for scene in scenes for granule in scene.granules]
    near, places = intersecting_pairs(granules, geoboxes)
    owners = np.repeat(np.arange(len(scenes)), [len(scene.granules) for scene in scenes])
    pairs = sorted_once(owners[places] * len(geoboxes) + near)
    return pairs // len(geoboxes), pairs % len(geoboxes)


def steps_for(scenes: Sequence[Scene], grid: Grid, why: str, layers: Sequence[str] = ()) -> list[Step]:
    """Convert scenes to steps, with their ledger entries and the blocks that can hold data.

    Args:
        scenes: The scenes.
        grid: Grid of the cube.
        why: Why this catalog was chosen.
        layers: Names of the cube's layers, to record which of them an item lacks.
    """
    tiles = list(grid.tiles())
    owners, blocks = touching_scenes(scenes, [grid.tile_geobox(tile) for tile in tiles])
    per_scene = np.split(blocks, np.searchsorted(owners, np.arange(1, len(scenes))))
    shared: dict[bytes, tuple[Tile, ...]] = {}  # most scenes touch the same blocks
    steps = []
    for scene, touched in zip(scenes, per_scene, strict=False):
        # A scene with a problem gets a block to fail on, so that it is recorded and not treated as empty.
        chosen = touched if touched.size or not scene.problem else np.zeros(1, dtype=touched.dtype)
        key = chosen.tobytes()
        if key not in shared:
            shared[key] = tuple(tiles[block] for block in chosen)
        steps.append(Step(_entry(scene, why, layers), _light(scene), shared[key]))
    return steps


def _entry(scene: Scene, why: str, layers: Sequence[str]) -> Entry:
    footprints = [granule.footprint for granule in scene.granules]
    if len(footprints) > 1:
        footprints = [dict(mapping(union_all([shape(footprint) for footprint in footprints])))]
    return Entry(
        key=str(scene.key),
        time=scene.time,
        status=SEALED,
        items=scene.item_ids,
        parts=scene.parts,
        footprint=footprints[0] if footprints else {},
        properties={
            "platform": scene.key.platform,
            "orbit": scene.key.orbit,
            "orbit_state": scene.orbit_state,
            "cloud_cover": scene.cloud_cover,
            "catalog": ",".join(sorted({granule.catalog for granule in scene.granules})),
            "catalog_choice": why,
            "collections": sorted({granule.collection for granule in scene.granules}),
            "baselines": sorted({granule.baseline for granule in scene.granules}),
            "shifts": {granule.id: _shift_of(granule.assets) for granule in scene.granules},
            "absent": {granule.id: absent for granule in scene.granules if (absent := _absent(granule.assets, layers))},
            "superseded_items": list(scene.superseded),
            "versions": {name: dict(version) for name, version in scene.versions.items()},
            **({"passed_over": dict(scene.passed_over)} if scene.passed_over else {}),
            **({"unreadable": dict(scene.unreadable)} if scene.unreadable else {}),
            "software": {"stac2cube": __version__},
            **({"simulated": True} if any(granule.simulated for granule in scene.granules) else {}),
        },
        sources=tuple(text for one in scene.granules for text in (one.item, *(text for _, text in one.completed_by))),
    )


def _absent(assets: Mapping[str, Any], layers: Sequence[str]) -> list[str]:
    return [name for name in layers if name not in assets]


def _shift_of(assets: Mapping[str, Any]) -> int:
    """Counts added to the bands that may have an offset."""
    return max((asset.shift for asset in assets.values()), default=0)


def _light(scene: Scene) -> Scene:
    """The scene as sent to workers: without the items' JSON and keys, which only the driver needs."""
    light = tuple(replace(granule, item="", completed_by=(), signed={}) for granule in scene.granules)
    return replace(scene, granules=light, spares={}, versions={}, passed_over={}, unreadable={})


# Older items as substitutes for newer ones whose files cannot be read: chosen per step, reported, and remembered.
#
# A step is always read from one choice of items; blocks of newer and older items are never mixed. The failure of the
# newer item is recorded in the ledger, so that the next run does not try it again until its catalog entry changes.

_MAY_PASS = re.compile(
    r"response code: (?:0|408|429|5\d\d)\b|timed? ?out|could not resolve|connection|temporar|try again|"
    r"No space left|Stale file handle|Input/output error|took longer|given up|search anew",
    re.IGNORECASE,
)
"""Texts of failures that may be transient; all others are permanent."""

_OF_SERVERS = re.compile(r"response code: (?:0|408|429|5\d\d)\b|timed? ?out|took longer", re.IGNORECASE)
"""Transient failures that a server may repeat for the same file forever."""


def is_for_good(reason: str) -> bool:
    """Whether a failure is permanent."""
    return _MAY_PASS.search(reason) is None


def remembered(scenes: Sequence[Scene], rows: Mapping[str, Entry]) -> tuple[Scene, ...]:
    """Scenes in which older items replace those that cannot be read according to the ledger.

    Args:
        scenes: Scenes as found.
        rows: The ledger's rows by key.
    """
    return tuple(_remembered(scene, rows.get(str(scene.key))) if scene.spares else scene for scene in scenes)


def _remembered(scene: Scene, row: Entry | None) -> Scene:
    if row is None:
        return scene
    if row.status == FAILED:
        return with_standins(scene, row.reason) or scene
    if row.status != SEALED:
        return scene
    told, had = row.properties.get("unreadable", {}), row.properties.get(VERSIONS, {})
    for name, reason in told.items():
        if had.get(name) == scene.versions.get(name):
            scene = with_standins(scene, reason, name) or scene
    return scene


def with_standins(scene: Scene, reason: str, name: str = "", *, again: bool = False) -> Scene | None:
    """Replace an item whose file cannot be read by the next older one.

    Args:
        scene: The scene.
        reason: Why its step failed; names the item.
        name: The item; the one that the reason names if "".
        again: Whether the step failed in an earlier run, too: then a server's repeated failure counts as permanent.

    Returns:
        The scene with the substitute. None if there is no substitute, or the failure may be transient.
    """
    if not is_for_good(reason) and not (again and _OF_SERVERS.search(reason)):
        return None
    for part, granule in scene.named.items():
        failed = name in granule.item_ids if name else any(f"item {one}," in reason for one in granule.item_ids)
        spares = [spare for spare in scene.spares.get(part, ()) if not _reads_the_same(spare, granule, reason)]
        if failed and spares:
            place = scene.granules.index(granule)
            granules = (*scene.granules[:place], spares[0], *scene.granules[place + 1 :])
            gone = dict.fromkeys(granule.item_ids, reason)
            others = set(scene.superseded) | set(granule.item_ids)
            return replace(
                scene,
                granules=granules,
                superseded=tuple(sorted(others - set(spares[0].item_ids))),
                passed_over={**gone, **scene.passed_over},
                unreadable={**gone, **scene.unreadable},
                spares={**scene.spares, part: tuple(spares[1:])},
            )
    return None


def _reads_the_same(spare: Granule, granule: Granule, reason: str) -> bool:
    """Whether a substitute reads the same file that could not be read according to the reason."""
    named = _BAND.search(reason)
    band = named[1] if named else ""
    return band in granule.assets and band in spare.assets and spare.assets[band].href == granule.assets[band].href


_BAND = re.compile(r"item .*?, band (\w+): ")
"""Matches the beginning of reasons of failed reads."""


def words_of(entry: Entry) -> str:
    """Description of a step with substituted items, "" if it has none."""
    passed = entry.properties.get("passed_over", {})
    if not passed:
        return ""
    named = [f"{'a part of ' if name in entry.items else ''}{name}: {why}" for name, why in passed.items()]
    return f"{', '.join(entry.items)} in the place of {'; '.join(named)}"


def add(summary: Summary, more: Summary) -> None:
    """Add the results of a further build of failed steps to a summary."""
    done = {*more.sealed, *more.replaced, *more.empty}
    summary.failed = {key: why for key, why in summary.failed.items() if key not in done} | more.failed
    summary.sealed += more.sealed
    summary.replaced += more.replaced
    summary.empty |= more.empty
    summary.stopped = more.stopped
    summary.seconds += more.seconds


# Reading of a scene's pixels: the task of layers, also used for lazy Datasets and reads without a cube.


@dataclass(frozen=True)
class ReadScene:
    """The task of layers: reads the granules of a scene into one block.

    Attributes:
        bands: Bands to read.
        seamless: Whether granules are joined before they are resampled.
        sea: Rules for missing tiles, None if there are none.
        headers: Headers of images stored with the catalog, None if it stores none.
    """

    bands: tuple[BandRequest, ...]
    seamless: bool = False
    sea: Sea | None = None
    headers: StoredHeaders | None = None

    def __call__(self, scene: Scene, place: Block | GeoBox) -> dict[str, np.ndarray]:
        """Pixels of one block, see :func:`stac2cube.pixels.read.read_block`.

        Args:
            scene: The scene.
            place: A block of a cube, or any grid.

        Raises:
            ReadError: The scene has a problem, or an asset is missing or cannot be read.
        """
        if scene.problem:
            raise ReadError(scene.problem)
        geobox = place.geobox if isinstance(place, Block) else place
        engine = replace(Engine.of_environment(), headers=self.headers)
        pixels = read_block(scene.granules, self.bands, geobox, seamless=self.seamless, engine=engine)
        if self.sea is None:
            return pixels
        found = cells_of(scene.granules)
        return {name: self.sea.fill(layer, geobox, found) for name, layer in pixels.items()}


def reader_of(query: Query, spec: CubeSpec, choices: Sequence[CatalogChoice]) -> ReadScene:
    """The task that reads the blocks of a cube.

    Args:
        query: The query searched for.
        spec: Specification of the cube.
        choices: The catalogs to try; an index among them may hold headers of images.
    """
    mission = query.page
    seamless = mission.joins_granules(query.chosen, spec.grid.resolution)
    bands = band_requests(query, spec.recipe["resampling"])
    return ReadScene(bands, seamless, sea_of(mission), stored_headers(local_sources(choices)))


def sea_of(mission: Mission) -> Sea | None:
    """Rules for missing tiles of a mission, None if there are none."""
    return None if math.isnan(mission.sea) else Sea(mission.sea, mission.withheld)


def name_missing(steps: Sequence[Step], sea: Sea, grid: Grid) -> list[Step]:
    """Record missing tiles in the ledger entries of steps; steps with sea tiles visit every block."""
    named = []
    for step in steps:
        lacking, open_sea = sea.missing(grid.geobox, cells_of(step.payload.granules))
        if lacking:
            log.warning("tiles that hold land are missing, there is no data there: %s", ", ".join(lacking))
        facts = {"missing_tiles": lacking, "sea_tiles": open_sea}
        properties = {**step.entry.properties, **{name: tiles for name, tiles in facts.items() if tiles}}
        tiles = tuple(grid.tiles()) if open_sea else step.tiles
        named.append(replace(step, entry=replace(step.entry, properties=properties), tiles=tiles))
    return named


# Stage 1: scenes of a mission from a catalog into a harmonised cube.

log = logging.getLogger(__name__)


def get_stac_layers(
    out: str | Path | None = None,
    *,
    mission: str | None = None,
    aoi: Any = None,
    time: Any = None,
    bands: Sequence[str] | None = None,
    resolution: float | None = None,
    crs: str | None = None,
    resampling: str | Mapping[str, str] | None = None,
    max_cloud_cover: float | None = None,
    orbit: str | int | None = None,
    fill: bool | None = None,
    strict: bool | None = None,
    catalog: str | None = None,
    place: Place | None = None,
    update: bool = False,
) -> xr.Dataset:
    """Build a cube from a STAC catalog for an area and a time, extend it, or read the same pixels without building.

    If you call it again with the same arguments, nothing changes. With a longer time, or with ``update=True`` and a new
    time only, the missing time steps are added, also earlier ones.

    Args:
        out: Path of the cube, created or extended. None gives a lazy Dataset and writes nothing.
        mission: Name of a mission, ``"sentinel-2-l2a"``.
        aoi: Area of interest: any input of :func:`stac2cube.model.geometry.read_areas` (a file, GeoJSON, a box, a
            geometry, a GeoDataFrame), or an :class:`odc.geo.geobox.GeoBox`, which is used as the grid itself.
        time: Any input of :func:`stac2cube.model.period.parse_period`: ``"2018"``, ``"2018-06/2018-08"``,
            ``"2018/2020 06-01/08-31"``.
        bands: Names or common names, several or one text with commas; the mission's default if None.
        resolution: Pixel edge in units of the CRS; the finest band's if None.
        crs: CRS of the cube; the native one of most of the area if None.
        resampling: Method for continuous bands where lattices differ (bilinear if None), or one per band. Classes
            always use nearest or mode.
        max_cloud_cover: Percent; scenes (all granules of an overpass together) with higher cloud cover are left out.
        orbit: ``"ascending"``, ``"descending"``, or the number of a relative orbit; all if None.
        fill: Fill missing tiles of a model from its coarser sibling (GLO-30 from GLO-90); the ledger names them.
        strict: Refuse Sentinel-2 scenes whose pixels contradict their metadata about the offset; a preview of each
            scene is read first. Also refuse to use an older item if the newest one lacks a band or cannot be read.
            These steps fail with that reason, the others are built.
        catalog: Name, URL of a STAC API, or path of a local catalog; chosen automatically if None or "auto".
        place: Where the work runs; threads of this process if None.
        update: Take all arguments except ``time`` from the cube. Other arguments that are given must agree with it.

    Returns:
        The cube, opened by :func:`stac2cube.open_cube`; or the lazy Dataset. Layers ``(time, y, x)``.

    Raises:
        BadInputError: An argument is invalid, nothing was found, no item has one of the bands, or the path cannot be
            written.
        CatalogError: The catalog cannot be read.
        CubeMismatchError: The cube was made with other options; nothing was changed.
        CubeLockedError: Another process is writing it.
        IncompleteError: Some steps failed; the others are sealed, and the same call tries the failed ones again.
    """
    words = {
        "mission": mission,
        "bands": names_of_bands(bands),
        "resolution": resolution,
        "crs": crs,
        "resampling": resampling,
        "max_cloud_cover": max_cloud_cover,
        "orbit": None if orbit is None else str(orbit),
        "fill": fill,
        "strict": strict,
        "catalog": None if catalog is None else str(catalog),
        "time": None if time is None else parse_period(time).text,
        **area_words(aoi),
    }
    from stac2cube.store.reader import open_cube  # needs xarray and pandas, which workers and commands do not

    path = None if out is None else Path(out)
    place = place_or_threads(place)
    job = prepare(path, *query_of_words(words, path if update else None), on_cluster=place.on_cluster)
    if path is None:
        return lazy_layers(job)
    summary = run(job, place)
    summary.require_complete(path)
    return open_cube(path)


def area_words(aoi: Any, **reading: Any) -> dict[str, Any]:
    """An area of interest, or a GeoBox, as parameters for :func:`query_of_words`.

    Raises:
        BadInputError: See :func:`stac2cube.model.geometry.read_areas`.
    """
    from odc.geo.geobox import GeoBox

    if aoi is None:
        return {}
    if isinstance(aoi, GeoBox):
        (area,) = read_areas(aoi.footprint("EPSG:4326").geom)
        return {"area": replace(area, name="geobox"), "geobox": aoi}
    return {"area": read_areas(aoi, **reading)[0]}


def query_of_words(words: Mapping[str, Any], update_of: Path | None = None) -> tuple[Query, GridOptions]:
    """The query and grid options for the given parameters; in an update missing parameters are taken from the cube.

    Args:
        words: Fields of :class:`Query` and of :class:`GridOptions`; None counts as not given.
        update_of: The cube to be updated.

    Raises:
        BadInputError: A parameter is invalid or missing.
        CubeError: The path to be updated is not a cube.
    """
    given = {name: value for name, value in words.items() if value is not None}
    layout = {field.name: given.pop(field.name) for field in fields(GridOptions) if field.name in given}
    if update_of is not None:
        spec, before = query_of(update_of)
        query, layout = replace(before, **given), {"resampling": spec.recipe["resampling"], **layout}
    else:
        query = Query(**given)
        lacking = [word for field, word in _NEEDED.items() if not getattr(query, field)]
        if lacking and not (lacking == ["time"] and query.page.static):
            raise BadInputError(f"say also {', '.join(lacking)} (or update an existing cube)")
    options = GridOptions(**layout)
    band_requests(query, options.resampling)
    return query, options


_NEEDED = {"mission": "mission", "area": "aoi", "time": "time"}


@dataclass(frozen=True)
class LayersJob:
    """A query with its scenes and grid: all that a build needs.

    Attributes:
        out: Path of the cube, None for a lazy Dataset.
        query: The query.
        scenes: The scenes found.
        spec: Specification of the cube.
        steps: The scenes as steps.
        choices: The catalogs to try, in order.
        found: Result of the search, None if there was no search.
    """

    out: Path | None
    query: Query
    scenes: tuple[Scene, ...]
    spec: CubeSpec
    steps: tuple[Step, ...] = ()
    choices: tuple[CatalogChoice, ...] = ()
    found: Found | None = None

    def task(self) -> ReadScene:
        """The task that makes a block."""
        return reader_of(self.query, self.spec, self.choices)

    def plan(self) -> Plan:
        """The plan of a build."""
        return plan(self.steps, known_entries(self.out, self.steps) if self.out else {})


def prepare(out: Path | None, query: Query, options: GridOptions, *, on_cluster: bool = False) -> LayersJob:
    """Search for scenes and define the grid, before any pixel is read.

    An existing cube keeps its CRS. It keeps its whole grid unless a new area is given: then the grid that follows from
    the parameters must equal the cube's, which is checked.

    Args:
        out: Path of the cube, None for a lazy Dataset.
        query: The query.
        options: The user's options for the grid.
        on_cluster: Whether blocks are made on the nodes of a cluster.

    Raises:
        BadInputError: The catalog is unknown, no grid can be defined, or no item found has a band.
        NothingFoundError: No scene was found.
        CatalogError: The catalog cannot be read.
        CubeMismatchError: The cube was made with other options.
    """
    choices = catalog_choices(query, on_cluster=on_cluster)
    old = query_of(out)[0] if out is not None and out.exists() else None
    found = find_scenes(query, choices)
    scenes = found.scenes
    if old is None:
        require_bands(scenes, query.chosen)
        grid = grid_for(query, options, scenes)
    elif _same_grid_words(query, options, old):
        grid = old.grid
    else:
        grid = grid_for(query, replace(options, crs=options.crs or old.grid.crs), scenes)
    spec = spec_for(query, grid, options.resampling)
    if old is not None:
        old.require_same(spec, str(out))
        spec = replace(spec, request={**spec.request, "times": _all_times(old, query)})
    if out is not None and old is not None and not query.strict:
        scenes = remembered(scenes, Ledger(out, read_root(out).ledger).entries(whole=False, keys=_keys(scenes)))
    layers = [layer.name for layer in spec.layers]
    steps = steps_for(scenes, spec.grid, found.choice.why, layers)
    if sea := sea_of(query.page):
        steps = name_missing(steps, sea, spec.grid)
    return LayersJob(out, query, scenes, spec, tuple(steps), choices, found)


def _keys(scenes: Sequence[Scene]) -> list[str]:
    return [str(scene.key) for scene in scenes]


def run(
    job: LayersJob, place: Place, *, options: BuildOptions | None = None, progress: Progress | None = None
) -> Summary:
    """Build or extend the cube of a job; raises the errors of :func:`stac2cube.build.loop.build`.

    If the file of an item permanently cannot be read, or its server fails as in an earlier run, the step is made from
    the next older item that has all bands, and the summary reports it; not if the request is strict.
    """
    if job.out is None:
        raise BadInputError("a cube needs a path")
    steps, failed = doubted(job), _failed_before(job)
    summary = build(job.out, job.spec, steps, job.task(), place, options=options, progress=progress)
    while summary.failed and not summary.stopped and not job.query.strict:
        again = [scene for scene in job.scenes if str(scene.key) in summary.failed and scene.spares]
        tried = ((s, summary.failed[str(s.key)], str(s.key) in failed) for s in again)
        standing = [one for scene, why, twice in tried if (one := with_standins(scene, why, again=twice))]
        if not standing:
            break
        for scene in standing:
            log.warning("%s: tried again with older items: %s", scene.key, summary.failed[str(scene.key)])
        why = job.found.choice.why if job.found else ""
        fresh = steps_for(standing, job.spec.grid, why, [layer.name for layer in job.spec.layers])
        more = build(job.out, job.spec, fresh, job.task(), place, options=options, progress=progress)
        add(summary, more)
        steps = (*(step for step in steps if step.entry.key not in set(_keys(standing))), *fresh)
        job = replace(job, scenes=tuple({**_by_key(job.scenes), **_by_key(standing)}.values()))
    made = {*summary.sealed, *summary.replaced}
    summary.substituted = {
        step.entry.key: words for step in steps if step.entry.key in made and (words := words_of(step.entry))
    }
    return summary


def _failed_before(job: LayersJob) -> set[str]:
    """Keys of steps that failed in an earlier run."""
    if job.out is None or not job.out.exists():
        return set()
    rows = Ledger(job.out, read_root(job.out).ledger).entries(whole=False, keys=_keys(job.scenes))
    return {key for key, row in rows.items() if row.status == FAILED}


def _by_key(scenes: Sequence[Scene]) -> dict[str, Scene]:
    return {str(scene.key): scene for scene in scenes}


def doubted(job: LayersJob) -> tuple[Step, ...]:
    """The steps of a job; ledger entries of steps to be made record whether pixels contradict their metadata.

    Only scenes with the provider's flag of a changed offset are checked; ``strict`` checks all, and refuses them.
    """
    todo = {step.entry.key for step in job.plan().todo}
    scenes = [scene for scene in job.scenes if str(scene.key) in todo and is_flagged(scene)]
    words = {str(scene.key): doubt for scene, doubt in zip(scenes, offset_problems(scenes), strict=True) if doubt}
    for doubt in words.values():
        log.warning("%s; used all the same, --strict refuses it", doubt)
    return tuple(_with_doubt(step, words.get(step.entry.key, "")) for step in job.steps)


def _with_doubt(step: Step, doubt: str) -> Step:
    if not doubt:
        return step
    return replace(step, entry=replace(step.entry, properties={**step.entry.properties, "doubt": doubt}))


def lazy_layers(job: LayersJob) -> xr.Dataset:
    """The pixels of a cube as a lazy Dataset, to inspect them before building.

    Returns:
        Layers with dims ``(time, y, x)`` in physical units (float64, NaN without data; classes stay integers), one dask
        task per block and time step.
    """
    import xarray as xr

    from stac2cube.pixels.lazy import lazy_scenes  # needs dask, which building does not

    scenes, task = sorted(job.scenes, key=lambda scene: (scene.time, str(scene.key))), job.task()
    stored = lazy_scenes(scenes, task.bands, job.spec.grid, task)
    for layer in job.spec.layers:
        stored[layer.name].attrs.update(layer.attributes())
    decoded = xr.decode_cf(stored)
    prepare_for_writing(decoded)
    return decoded.assign_attrs(title=job.query.page.title, mission=job.query.mission)


def _same_grid_words(query: Query, options: GridOptions, old: CubeSpec) -> bool:
    """Whether the parameters agree with the cube's grid: then it is used, and not derived again from other scenes."""
    from shapely.geometry import shape

    return (
        options.geobox is None
        and query.geometry.equals(shape(old.request["area"]["geometry"]))
        and options.resolution in (None, old.grid.resolution)
        and (options.crs is None or crs_text(options.crs) == old.grid.crs)
    )


def _all_times(old: CubeSpec, query: Query) -> list[str]:
    """All times ever requested, merged: the next update without a time searches them."""
    now = interval_texts(query.intervals)
    return interval_texts(parse_period(",".join([*old.request["times"], *now])).intervals)
