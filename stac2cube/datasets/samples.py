"""Make a set of samples from scenes or from steps of a cube."""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from odc.geo.geobox import GeoBox
from odc.geo.geom import Geometry
from shapely.errors import ShapelyError
from shapely.geometry import mapping, shape

from stac2cube.access.sign import is_remote, readable
from stac2cube.build.derived import Parent
from stac2cube.build.plan import BuildOptions
from stac2cube.build.scheduler import Scheduler, timed
from stac2cube.datasets.config import rules_of_words
from stac2cube.datasets.files import failure_of, made_folder, read_document
from stac2cube.datasets.index import INDEX, Sample, SampleIndex, read_sample_index, write_index
from stac2cube.datasets.rules import (
    GRID,
    AngleRules,
    CubeStep,
    GranuleFiles,
    SampleRequest,
    SampleRules,
    SampleSource,
    metadata_file,
    noting,
    scaling_of,
)
from stac2cube.datasets.sample_files import META, MakeSample, iso_text, present
from stac2cube.errors import BadInputError, IncompleteError, NothingFoundError, ReadError
from stac2cube.executors.base import Place, place_or_threads
from stac2cube.model.catalog import Catalog, find_catalog, public_catalog
from stac2cube.model.geometry import WGS84, Area, shape_in
from stac2cube.model.grid import Grid, grid_from_geobox
from stac2cube.model.image import BandRequest, Image
from stac2cube.model.mission import Band
from stac2cube.model.query import Query, stored_filters
from stac2cube.model.scene import AssetRef, Granule, Scene, is_zarr_array, split_store
from stac2cube.pixels.open import of_asset
from stac2cube.progress import Progress
from stac2cube.search.search import search
from stac2cube.store.files import remove_partials, remove_tree, write_whole
from stac2cube.store.ledger import Entry
from stac2cube.trust.names import safe_name

# Scenes of a manifest or a catalog as sources of samples; all inputs of each sample are checked.


def scene_sources(request: SampleRequest, rules: SampleRules) -> list[SampleSource]:
    """The samples of a manifest or a catalog, oldest first; each with its missing inputs.

    Raises:
        BadInputError: Request and rules contradict each other.
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
    bands = tuple(band.name for band in needed_bands(rules))
    scenes = search(replace(request.query, mission=rules.mission, bands=bands), catalog)
    if not scenes:
        raise NothingFoundError(f"{request.source} has no scene of {rules.mission} for these words")
    classes = _class_granules(request, catalog) if rules.labels is not None and rules.labels.backend == "scl" else {}
    found = sorted(_units(scenes, rules), key=lambda unit: (unit[0].time, unit[1]))
    return [_source_of_scene(*unit, request, rules, classes) for unit in found[: request.max_scenes]]


def needed_bands(rules: SampleRules) -> tuple[Band, ...]:
    """The bands of a set, and the target band if it is not among them."""
    target = [rules.page.bands[rules.target_band]] if rules.target_band else []
    return tuple({band.name: band for band in [*rules.chosen, *target]}.values())


Unit = tuple[Scene, str, tuple[Granule, ...]]
"""A scene, the id of a sample, and the granules of that sample."""


def _units(scenes: Sequence[Scene], rules: SampleRules) -> Iterator[Unit]:
    """One sample per granule for a target band, one per scene for a grid."""
    for scene in scenes:
        if rules.target == GRID or not scene.granules:
            yield scene, str(scene.key), scene.granules
            continue
        tiles = [granule.tile for granule in scene.granules]
        for granule in scene.granules:
            strip = f"_{granule.datastrip}" if tiles.count(granule.tile) > 1 else ""
            name = f"{scene.key.platform}_R{scene.key.orbit:03d}_{granule.time:%Y%m%dT%H%M%S}_{granule.tile}{strip}"
            yield scene, safe_name(name.rstrip("_")), (granule,)


def _class_granules(request: SampleRequest, catalog: Catalog) -> Classes:
    """All Level-2A granules, by acquisition."""
    scenes = search(replace(request.query, mission="sentinel-2-l2a", bands=("SCL",)), catalog)
    return {_acquisition(scene, granule): granule for scene in scenes for granule in scene.granules}


def _acquisition(scene: Scene, granule: Granule) -> tuple[str, ...]:
    """Key that Level-1C and Level-2A of one granule share."""
    return scene.key.platform, str(scene.key.orbit), str(scene.key.day), granule.tile, granule.datastrip


Classes = Mapping[tuple[str, ...], Granule]
"""Level-2A granules by acquisition, see :func:`_acquisition`."""


def _source_of_scene(
    scene: Scene, name: str, granules: tuple[Granule, ...], request: SampleRequest, rules: SampleRules, classes: Classes
) -> SampleSource:
    lacking = [scene.problem] if scene.problem else []
    parts = tuple(_part(scene, granule, rules, classes, lacking) for granule in granules)
    grid = request.grid
    if rules.target != GRID and granules and not lacking:
        with noting(lacking):
            grid = _target_grid(granules[0], rules.target_band, request.query.area)
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


def _part(scene: Scene, granule: Granule, rules: SampleRules, classes: Classes, lacking: list[str]) -> GranuleFiles:
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
            tile = _angles_file(item, rules.angles)
    if rules.labels is not None and rules.labels.backend == "scl":
        paired = granule if "SCL" in granule.assets else classes.get(_acquisition(scene, granule))
        with noting(lacking):
            if paired is None:
                raise ReadError(f"SCL: there is no Level-2A of {granule.id}")
            _require(paired, "SCL")
    return GranuleFiles(_light(granule), factors, tile, None if paired is None else _light(paired))


def _angles_file(item: Mapping[str, Any], rules: AngleRules) -> str:
    """Path or address of the angles of a granule: its metadata file, or its Zarr store.

    Raises:
        ReadError: There are no angles, or not the requested ones.
    """
    hrefs = [str(about["href"]) for about in item["assets"].values()]
    store = next((found[0] for href in hrefs if (found := split_store(href))), "")
    if not store:
        return metadata_file(item, "tile_metadata")
    if rules.view == "per_band":
        raise ReadError(
            f"angles of the view per band: {store} has them under the names of other bands (so do all stores of EOPF's "
            "converters, 2.5.6 to 3.1.0); ask for view: single, which is their mean over all bands"
        )
    return readable(store, "none") if not is_remote(store) else store


def _light(granule: Granule) -> Granule:
    """A granule without the complete item and its signed addresses, which only the driver needs."""
    parts = tuple((name, "") for name, _ in granule.completed_by)
    return replace(granule, item="", completed_by=parts, signed={})


def _require(granule: Granule, band: str) -> None:
    asset = granule.assets.get(band)
    if asset is None:
        raise ReadError(f"{band}: item {granule.id} has no such asset")
    path = readable(asset.href, "none")
    if is_zarr_array(asset.href) and Path(path).is_dir():
        return
    if not is_remote(asset.href) and not Path(path).is_file():  # this refuses pipes and devices, too
        raise ReadError(f"{band}: {path} does not exist")


def _factors(granule: Granule, item: Mapping[str, Any], rules: SampleRules) -> dict[str, tuple[float, float]]:
    if not rules.factored:
        return {band.name: (1.0, 0.0) for band in rules.chosen}
    if rules.scaling == "product":
        scaling = scaling_of(metadata_file(item, "product_metadata"))
        return {band.name: scaling.factors(band.name) for band in rules.chosen}
    # The stored value is count + shift; scale and offset are the mission's.
    return {
        band.name: (
            band.quantity.scale,
            band.quantity.offset + band.quantity.scale * granule.assets[band.name].shift,
        )
        for band in rules.chosen
        if band.name in granule.assets
    }


def _target_grid(granule: Granule, band: str, area: Area | None) -> Grid:
    """The pixel grid of a band, cut to the area.

    Raises:
        ReadError: The file cannot be opened, has no square pixels, or does not touch the area.
    """

    def look(image: Image, _asset: AssetRef) -> GeoBox:
        return image.geobox

    geobox = of_asset(granule, BandRequest(band, "float32", 0, "continuous"), look)
    if area is not None and geobox is not None and geobox.crs is not None:
        outline = Geometry(shape_in(area.geometry, WGS84, str(geobox.crs)), geobox.crs)
        rows, columns = geobox.overlap_roi(geobox.enclosing(outline))
        geobox = geobox[rows, columns]
    if geobox is None or not all(geobox.shape):
        raise ReadError(f"{band}: item {granule.id} does not touch the area")
    try:
        return grid_from_geobox(geobox)
    except BadInputError as error:
        raise ReadError(f"{band}: {granule.id} makes no target grid: {error}") from None


# Steps of a cube as sources of samples.


def step_sources(request: SampleRequest, rules: SampleRules) -> list[SampleSource]:
    """The samples of a cube: one per step, on the cube's own grid; each with its missing inputs.

    Raises:
        BadInputError: Request and rules do not fit the cube.
        NothingFoundError: No step fits the request.
        CubeError: The source is not a cube.
    """
    parent = Parent.read(request.source)
    layers = {layer.name: layer for layer in parent.spec.layers}
    if parent.mission != rules.mission:
        raise BadInputError(f"{request.source} is a cube of {parent.mission or 'no mission'}, not of {rules.mission}")
    if rules.target != GRID or request.grid is not None or request.query.area is not None:
        raise BadInputError("samples of a cube lie on the cube's own grid: say target 'grid', and neither area nor crs")
    if not rules.factored:
        raise BadInputError("a cube holds harmonised numbers, not counts as delivered: raw samples need the products")
    lacking = [name for name in rules.names if name not in layers]
    wants_classes = rules.labels is not None and rules.labels.backend == "scl"
    if wants_classes and "SCL" not in layers:
        lacking.append("SCL")
    if lacking:
        raise BadInputError(f"{request.source} has no layer {', '.join(lacking)}; it has {', '.join(layers)}")
    wanted = tuple(layers[name] for name in [*rules.names, *(["SCL"] if wants_classes else [])])
    rows = [row for row in parent.rows.values() if _fits(row, request.query)][: request.max_scenes]
    if not rows:
        raise NothingFoundError(f"{request.source} has no step for these words")
    return [_source_of_step(parent, row, CubeStep(parent.stored(row), wanted, parent.spec.grid), rules) for row in rows]


def with_clouds(sources: list[SampleSource], path: Path) -> list[SampleSource]:
    """Add the steps of a clouds cube to sources, by the scene's key.

    Raises:
        CubeError: The path is not a cube.
        BadInputError: The cube has no cloud masks.
    """
    parent = Parent.read(path)
    layers = {layer.name: layer for layer in parent.spec.layers}
    if "cloud_mask" not in layers:
        raise BadInputError(f"{path} is no clouds cube: it has no layer cloud_mask")
    wanted = tuple(layers[name] for name in ("cloud_mask", "shadow_mask") if name in layers)
    out = []
    for source in sources:
        row = parent.rows.get(source.key)
        if row is None:
            out.append(replace(source, lacking=(*source.lacking, f"labels: {path} has no step {source.key}")))
        else:
            out.append(replace(source, clouds=CubeStep(parent.stored(row), wanted, parent.spec.grid)))
    return out


def _fits(row: Entry, query: Query) -> bool:
    limit, cover = query.max_cloud_cover, row.cloud_percent
    return (not query.time or row.time in query.period) and (limit is None or cover is None or cover <= limit)


def _source_of_step(parent: Parent, row: Entry, step: CubeStep, rules: SampleRules) -> SampleSource:
    lacking: list[str] = []
    parts: list[GranuleFiles] = []
    if rules.angles is not None:
        if not row.sources:
            lacking.append("tile_metadata: the cube does not keep the items of this step; take samples of its layers")
        for text in row.sources:
            item = json.loads(text)
            with noting(lacking):
                parts.append(GranuleFiles(_nameless(item["id"], row), {}, metadata_file(item, "tile_metadata")))
    return SampleSource(
        id=row.key,
        key=row.key,
        time=row.time,
        tile="",
        platform=str(row.properties.get("platform", "")),
        orbit=int(row.properties.get("orbit", 0)),
        cloud_cover=row.properties.get("cloud_cover"),
        grid=parent.spec.grid,
        items=row.items,
        versions=parent.entry(row).parts,
        parts=tuple(parts),
        step=step,
        lacking=tuple(lacking),
    )


def _nameless(item: str, row: Entry) -> Granule:
    """A granule of which only the metadata file is read."""
    return Granule(item, "", "", "none", row.time, "", "", "", None, {}, "", None, {}, "")


# Sets of samples: planned, made at any place, and listed in one index.

log = logging.getLogger(__name__)

Incomplete = Literal["refuse", "list"]
"""Behaviour of a run with missing inputs: make nothing; or make all other samples, and list the incomplete ones as
failed."""


@dataclass
class Report:
    """Result of a run.

    Attributes:
        index: The current index of the set.
        made: Ids of the samples made.
        present: Ids of the samples that existed already.
        failed: Id -> reason of the samples that failed; the next run retries them.
        stopped: Whether a stop was requested before the end.
    """

    index: SampleIndex
    made: list[str] = field(default_factory=list)
    present: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    stopped: bool = False

    @property
    def exit_code(self) -> int:
        """0 done, 2 some failed, 10 stopped in time: after 2 and 10 the same command continues."""
        return 10 if self.stopped else 2 if self.failed else 0


def make_samples(
    source: str | Path | SampleRequest,
    out: str | Path,
    rules: SampleRules | None = None,
    *,
    place: Place | None = None,
    overwrite: bool = False,
    incomplete: Incomplete = "refuse",
) -> SampleIndex:
    """Make training samples of every scene of a manifest, a catalog or a cube.

    Run it again to make missing samples; existing samples stay as they are.

    Args:
        source: A manifest of ``stac2cube download`` or its folder, another catalog, a cube, or a request that chooses
            scenes of one of these.
        out: Folder of the set: ``index.json``, and a folder per sample with ``x.tif`` (bands and validity, float32),
            ``y.tif`` (classes, uint8), ``angles.tif`` (float32) and ``meta.json``. As a cube:
            :func:`stac2cube.make_sample_cube`.
        rules: Rules that determine the values.
        place: Where the work runs; threads of this process if None.
        overwrite: Replace an existing set that was made with other rules.
        incomplete: See :data:`Incomplete`.

    Returns:
        The index.

    Raises:
        BadInputError: An argument is invalid, inputs are missing (all are named), or the set was made by other rules.
        CatalogError: The catalog cannot be read.
        IncompleteError: Some samples failed; the others were made, the index lists both.
    """
    request = SampleRequest.of(source)
    report = run_samples(
        request, Path(out), rules or SampleRules(), place_or_threads(place), overwrite=overwrite, incomplete=incomplete
    )
    if report.failed:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in report.failed.items())
        raise IncompleteError(f"{len(report.failed)} sample(s) of {out} failed, run again to try them: {reasons}")
    return report.index


def plan_samples(request: SampleRequest, rules: SampleRules, incomplete: Incomplete = "refuse") -> list[SampleSource]:
    """Plan the samples to make, each with its missing inputs.

    Raises:
        BadInputError: Options contradict each other, or inputs are missing and ``incomplete`` is ``"refuse"``.
        NothingFoundError: No scene.
        CatalogError: The catalog cannot be read.
    """
    sources = step_sources(request, rules) if request.is_cube else scene_sources(request, rules)
    if rules.labels is not None and rules.labels.backend == "clouds":
        sources = with_clouds(sources, Path(rules.labels.path))
    if rules.labels is not None and rules.labels.backend in ("raster", "vector"):
        sources = [_with_label_file(source, rules.labels.path) for source in sources]
    lacking = [source for source in sources if source.lacking]
    if lacking and incomplete == "refuse":
        lines = "\n".join(f"  {source.id}: {'; '.join(source.lacking)}" for source in lacking)
        raise BadInputError(
            f"{len(lacking)} of {len(sources)} samples lack an input; nothing was made. Fetch what is missing, or say "
            f"--incomplete list to make the others and have these listed as failed:\n{lines}"
        )
    return sources


def run_samples(
    request: SampleRequest,
    out: Path,
    rules: SampleRules,
    place: Place,
    *,
    overwrite: bool = False,
    incomplete: Incomplete = "refuse",
    options: BuildOptions | None = None,
    progress: Progress | None = None,
) -> Report:
    """Make or complete a set; raises as :func:`make_samples`, except for failed samples, which are in the report."""
    sources = plan_samples(request, rules, incomplete)
    before = _before(out, rules, overwrite=overwrite)
    known = {} if overwrite else {s.id: found for s in sources if (found := present(out, s, rules)) is not None}
    made_folder(out)
    remove_partials(out)
    _remember(out, request, rules)
    report = Report(_index(rules, sources, before), present=sorted(known))
    samples = {sample.id: sample for sample in before} | known
    todo = [source for source in sources if source.id not in known]
    scheduler = Scheduler(place, options or BuildOptions(), progress or Progress())
    try:
        for source, made, reason in _made(todo, MakeSample(rules, str(out.resolve())), scheduler):
            samples[source.id] = made or _failed(source, reason)
            if made is None:
                report.failed[source.id] = reason
                log.info("%s: %s", source.id, reason)
            else:
                report.made.append(source.id)
    finally:
        report.index = replace(report.index, samples=tuple(samples[name] for name in sorted(samples)))
        write_index(out, report.index)
    report.stopped = len(report.made) + len(report.failed) < len(todo)
    if overwrite:
        _clear(out, samples)
    return report


def _made(
    todo: Sequence[SampleSource], task: MakeSample, scheduler: Scheduler
) -> Iterator[tuple[SampleSource, Sample | None, str]]:
    """Submit samples, a limited number at a time, and yield each with its result or the reason of its failure."""
    if not todo:
        return
    with (
        scheduler.place.open() as executor,
        scheduler.progress.over(len(todo)),
        closing(scheduler.handed_out(iter(todo), partial(executor.submit, timed, task))) as coming,
    ):
        for source, future in coming:
            if reason := failure_of(future, scheduler):
                scheduler.progress.advance()
                yield source, None, reason
            else:
                made, seconds = future.result()
                scheduler.made(seconds)
                yield source, made, ""


def _with_label_file(source: SampleSource, pattern: str) -> SampleSource:
    path = source.labels_path(pattern)
    return source if path.is_file() else replace(source, lacking=(*source.lacking, f"labels: {path} does not exist"))


# The request of a set is stored beside its index, so that it can be extended by the same options.

REQUEST = "request.json"
"""Name of the file."""

REQUEST_SCHEMA = "stac2cube-samples-request/1"
"""Name and version of the format; other versions are refused."""


def request_to_json(request: SampleRequest) -> dict[str, Any]:
    """Convert a request to plain JSON values, to repeat it; paths become absolute, keys of catalogs are left out."""
    source = Path(request.source)
    return {
        "source": str(source.resolve()) if source.exists() else public_catalog(request.source),
        "area": None if request.query.area is None else json.loads(json.dumps(mapping(request.query.area.geometry))),
        "time": request.query.time,
        "max_cloud_cover": request.query.max_cloud_cover,
        "max_scenes": request.max_scenes,
    }


def request_from_json(value: Mapping[str, Any]) -> SampleRequest:
    """Read the output of :func:`request_to_json`."""
    outline = None if value["area"] is None else shape(value["area"])
    area = None if outline is None else Area("area", outline, outline, WGS84)
    query = Query(area=area, time=value["time"], catalog=value["source"], **stored_filters(value))
    return SampleRequest(query, max_scenes=value["max_scenes"])


def _remember(out: Path, request: SampleRequest, rules: SampleRules) -> None:
    grid = None if request.grid is None else request.grid.to_json()
    value = {
        "schema": REQUEST_SCHEMA,
        "request": request_to_json(request),
        "grid": grid,
        "rules": rules.to_json(),
    }
    write_whole(out / REQUEST, (json.dumps(value, indent=1) + "\n").encode())


def recall(out: Path) -> tuple[SampleRequest, SampleRules]:
    """Read the request and rules of the last run that made or extended a folder of samples.

    If the source is not at its old path, it is searched beside the folder, as both may have been moved.

    Raises:
        BadInputError: The folder has no stored request, or it is damaged.
    """
    value = read_document(
        out / REQUEST, REQUEST_SCHEMA, "request of samples", f"run `stac2cube samples SOURCE {out}` again"
    )
    try:
        request = request_from_json(value["request"])
        grid = None if value["grid"] is None else Grid.from_json(value["grid"])
        rules = rules_of_words(value["rules"])
    except (KeyError, TypeError, ValueError, AttributeError, ShapelyError) as error:
        raise BadInputError(f"{out / REQUEST} is damaged: {error!r}") from None
    beside = out.resolve().parent / Path(request.source).name
    moved = "://" not in request.source and not Path(request.source).exists() and beside.exists()
    query = replace(request.query, catalog=str(beside)) if moved else request.query
    return replace(request, grid=grid, query=query), rules


def drop_samples(out: Path, ids: Collection[str]) -> None:
    """Remove samples from a folder: first from its index, then their files.

    Args:
        out: The folder.
        ids: Ids of the samples.
    """
    if not ids:
        return
    index = read_sample_index(out)
    write_index(out, replace(index, samples=tuple(sample for sample in index.samples if sample.id not in ids)))
    for sample in index.samples:
        if sample.id in ids and (out / sample.id / META).exists():
            remove_tree(out / sample.id)


def _before(out: Path, rules: SampleRules, *, overwrite: bool) -> tuple[Sample, ...]:
    """Samples of an existing set.

    Raises:
        BadInputError: The set was made by other rules, or the folder is not a set.
    """
    if not (out / INDEX).exists():
        if out.exists() and any(path.name not in (INDEX, REQUEST) for path in out.iterdir()) and not _ours(out):
            raise BadInputError(f"{out} holds something else: give a folder that is new, or one of samples")
        return ()
    old = read_sample_index(out)
    if overwrite:
        return ()
    new = _index(rules, (), old.samples)
    differing = [name for name in _AGREED if str(getattr(old, name)) != str(getattr(new, name))]
    if differing:
        told = "; ".join(f"{name}: it has {getattr(old, name)}, asked for {getattr(new, name)}" for name in differing)
        raise BadInputError(f"{out} was made by other rules. {told}. Give another folder, or say --overwrite")
    return old.samples


_AGREED = ("mission", "bands", "radiometry", "nodata", "target_grid", "validity", "angles", "labels")


def _ours(out: Path) -> bool:
    """Whether a folder contains only samples, as left by a run that was killed before it wrote an index."""
    return all(path.name.startswith(".") or path.name == REQUEST or (path / META).exists() for path in out.iterdir())


def _index(rules: SampleRules, sources: Sequence[SampleSource], before: Sequence[Sample]) -> SampleIndex:
    sizes = [source.grid.resolution for source in sources if source.grid is not None]
    sizes += [sample.grid.resolution for sample in before if sample.grid is not None]
    return SampleIndex(
        mission=rules.mission,
        bands=rules.names,
        radiometry=rules.kind,
        nodata=rules.nodata,
        target_grid=rules.target_band or GRID,
        resolution=sizes[0] if sizes else 0.0,
        validity=rules.described_validity,
        angles=None if rules.angles is None else rules.angles.described(rules.names),
        labels=None if rules.labels is None else rules.labels.described(),
        samples=tuple(before),
    )


def _failed(source: SampleSource, reason: str) -> Sample:
    return Sample(
        id=source.id,
        status="failed",
        reason=reason,
        x_path=None,
        y_path=None,
        angles_path=None,
        meta_path=None,
        time=iso_text(source.time),
        tile=source.tile,
        platform=source.platform,
        orbit=source.orbit,
        cloud_cover=source.cloud_cover,
    )


def _clear(out: Path, samples: dict[str, Sample]) -> None:
    """Remove samples that are no longer in the set."""
    for meta in sorted(out.glob(f"*/{META}")):
        known = samples.get(meta.parent.name)
        if known is None or known.status == "failed":
            remove_tree(meta.parent)
