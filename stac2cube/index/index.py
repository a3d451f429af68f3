"""Create, update, filter, export and list scene indexes."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from shapely import to_geojson
from shapely.geometry import shape

from stac2cube.errors import BadInputError
from stac2cube.model.catalog import Catalog, index_path, indexes_folder, is_index
from stac2cube.model.geometry import read_areas
from stac2cube.model.period import parse_period
from stac2cube.model.query import Query, names_of_bands, stored_filters
from stac2cube.model.scene import Scene
from stac2cube.progress import Progress
from stac2cube.search.choose_catalog import Found, catalog_choices
from stac2cube.search.cubes import area_of, find_scenes, interval_texts, local_sources
from stac2cube.search.index_commits import (
    Index,
    IndexDifference,
    Key,
    Record,
    commit,
    compare,
    create,
    lock,
    read_index,
    records_of,
    remove_strays,
    with_headers,
    write_index_file,
)
from stac2cube.search.index_files import IndexManifest, read_index_manifest
from stac2cube.search.index_headers import Target, changed, read_headers, stored_headers
from stac2cube.search.search import Conditions, scenes_of

# Reports of scene indexes: their properties, a list of the user's own, and all items as one file.


def export_index(name: str | Path, out: str | Path) -> Path:
    """Write an index as one file: ``.parquet`` (STAC GeoParquet, headers included) or ``.json`` (ItemCollection).

    Args:
        name: Name or path of the index.
        out: The file to write. Its suffix determines the format.

    Returns:
        The file.

    Raises:
        BadInputError: Another suffix.
    """
    old, file = read_index(index_path(name)), Path(out)
    if file.suffix not in (".parquet", ".json", ".geojson"):
        raise BadInputError(f"{file.name}: an index is written as .parquet or as .json")
    write_index_file(file, old.records)
    return file


def index_info(name: str | Path) -> dict[str, Any]:
    """Describe an index, as plain JSON values.

    Args:
        name: Name or path of the index.

    Returns:
        Path, catalog, number of items, first and last time, files, and bytes.

    Raises:
        BadInputError: There is no such index, or its files cannot be read.
    """
    path = index_path(name)
    index = read_index(path)
    items = [record.item for record in index.records.values()]
    times = sorted(str(item["properties"].get("datetime")) for item in items)
    return {
        "path": str(path),
        "catalog": index.manifest.catalog,
        "request": index.manifest.request,
        "conditions": index.manifest.conditions,
        "updated": index.manifest.updated,
        "commit": index.manifest.commit,
        "items": len(items),
        "first": times[0] if times else None,
        "last": times[-1] if times else None,
        "collections": dict(Counter(str(item.get("collection")) for item in items)),
        "platforms": dict(Counter(str(item["properties"].get("platform")) for item in items)),
        "headers": dict(Counter(row["format"] for record in index.records.values() for row in record.headers)),
        "bytes": sum(part.size for part in index.manifest.parts),
        "files": [str(path / part.file) for part in index.manifest.parts],
    }


def list_indexes() -> list[dict[str, Any]]:
    """List the user's own indexes: name, path, and properties from the manifest."""
    folder = indexes_folder()
    paths = sorted(path for path in folder.iterdir() if is_index(path)) if folder.is_dir() else []
    return [{"name": path.name, "path": str(path), **_short(read_index_manifest(path))} for path in paths]


def _short(manifest: IndexManifest) -> dict[str, Any]:
    facts = {name: value for name, value in asdict(manifest).items() if name in ("catalog", "updated", "headers")}
    return {"mission": manifest.request.get("mission", ""), "items": manifest.rows, **facts}


# Scene indexes from queries: searched once, stored as files, updated by differences.


@dataclass(frozen=True)
class Written:
    """Result of a change of an index.

    Attributes:
        path: The index.
        manifest: Its current manifest.
        difference: The changes.
    """

    path: Path
    manifest: IndexManifest
    difference: IndexDifference


def create_index(
    name: str | Path,
    *,
    mission: str,
    aoi: Any,
    time: Any,
    bands: Sequence[str] | None = None,
    max_cloud_cover: float | None = None,
    orbit: str | int | None = None,
    catalog: str = "auto",
    where: Sequence[str] = (),
    headers: bool = False,
) -> Path:
    """Search a catalog, and store the items as a catalog of your own.

    The index is a folder of STAC GeoParquet by year and month, accepted as ``catalog=`` everywhere.

    Args:
        name: A path, or a name among the user's own indexes.
        mission: Name of a mission.
        aoi: Area of interest, as for :func:`stac2cube.get_stac_layers`.
        time: Period, likewise.
        bands: Bands whose headers are stored; the mission's default if None. The index always holds all assets.
        max_cloud_cover: Percent; scenes with more are left out.
        orbit: ``"ascending"``, ``"descending"``, or the number of a relative orbit.
        catalog: Name, URL of a STAC API, or path; chosen automatically if "auto".
        where: Conditions on items as CQL2 texts, ``"s2:nodata_pixel_percentage < 20"``.
        headers: Also read the headers of the images, and store them.

    Returns:
        Path of the index.

    Raises:
        BadInputError: An argument is invalid, nothing was found, or the path exists already.
        CatalogError: The catalog cannot be read.
    """
    query = Query(
        mission=mission,
        area=read_areas(aoi)[0],
        time=parse_period(time).text,
        bands=names_of_bands(bands),
        max_cloud_cover=max_cloud_cover,
        orbit="" if orbit is None else str(orbit),
        catalog=catalog,
        where=tuple(where),
    )
    return make_index(name, query, headers=headers).path


def make_index(name: str | Path, query: Query, *, headers: bool = False, progress: Progress | None = None) -> Written:
    """Search, and store the items found.

    Args:
        name: A path, or a name among the user's own indexes.
        query: The query, with an area.
        headers: Also read the headers of the images, and store them.
        progress: Called for every file whose header is read.

    Raises:
        BadInputError: Several catalogs, or the index exists already.
        NothingFoundError: No scene.
        CatalogError: The catalog cannot be read.
    """
    path = index_path(name)
    if is_index(path):
        raise BadInputError(f"{path} is there already: choose another name, or `stac2cube index update`")
    choices = catalog_choices(query)
    if len(choices) > 1 and choices[0].together:
        raise BadInputError("an index is of one catalog: make one of each, and give them with commas as --catalog A,B")
    found = find_scenes(query, choices)
    records = _kept(found, query)
    if headers:
        records = _with_missing_headers(records, found.scenes, progress)
    manifest = create(path, records, _manifest(query, found.choice.catalog, headers=headers))
    return Written(path, manifest, IndexDifference(new=tuple(sorted(key[1] for key in records))))


def update_index(
    name: str | Path, *, time: Any = None, check: bool = False, progress: Progress | None = None
) -> Written:
    """Search again with the options of an index, and apply new, changed and removed items.

    Args:
        name: The index.
        time: An additional period; the search then covers all periods requested so far.
        check: Compare size and ETag of every file with a stored header, and read changed headers again.
        progress: Called for every file whose header is read.

    Raises:
        BadInputError: The index was not made by a search, or nothing at all is found now; nothing was changed.
        CatalogError: The index or the catalog cannot be read.
        CubeLockedError: Another process is writing the index.
    """
    path = index_path(name)
    read_index_manifest(path)
    with lock(path):
        old = read_index(path)
        query = _query_of(path, old.manifest, time)
        found = find_scenes(query, catalog_choices(query))
        kept = _fulfilling(_kept(found, query), Conditions.from_json(old.manifest.conditions))
        records, difference = compare(old.records, kept)
        if old.manifest.headers:
            stale = _stale(records, found.scenes, progress) if check else set()
            before = {row["href"] for record in records.values() for row in record.headers} - stale
            records = _without(records, stale)
            records = _with_missing_headers(records, found.scenes, progress)
            read = {row["href"] for record in records.values() for row in record.headers} - before
            difference = replace(difference, headers=tuple(sorted(read)))
        words = replace(old.manifest, request={**old.manifest.request, "times": interval_texts(query.intervals)})
        nothing = records == old.records and words.request == old.manifest.request
        if nothing:
            remove_strays(path, old.manifest)  # of an update that was killed after its commit
            return Written(path, old.manifest, difference)
        return Written(path, commit(path, Index(words, old.records, old.places), records), difference)


def filter_index(name: str | Path, out: str | Path, conditions: Conditions) -> Written:
    """Make a smaller index of the items that fulfil conditions, with their headers.

    Args:
        name: The index.
        out: Path or name of the new index.
        conditions: Conditions on items; they also apply to later updates of the new index.

    Raises:
        BadInputError: No item fulfils them, or ``out`` exists already.
    """
    old = read_index(index_path(name))
    chosen = _fulfilling(old.records, conditions)
    if not chosen:
        raise BadInputError(f"none of the {len(old.records)} items of {name} fulfils these conditions")
    before = Conditions.from_json(old.manifest.conditions)
    words = replace(old.manifest, conditions=_both(before, conditions).to_json())
    path = index_path(out)
    manifest = create(path, chosen, words)
    return Written(path, manifest, IndexDifference(new=tuple(sorted(key[1] for key in chosen))))


def _kept(found: Found, query: Query) -> dict[Key, Record]:
    """The items found, without those excluded by the filters and conditions of the query."""
    records = records_of(found.items)
    if (everything := query.unfiltered()) != query:
        dropped = _ids(scenes_of(found.items, everything, found.choice.catalog)) - _ids(found.scenes)
        records = {key: record for key, record in records.items() if key[1] not in dropped}
    return _fulfilling(records, Conditions(where=query.where))


def _ids(scenes: Iterable[Scene]) -> set[str]:
    return {name for scene in scenes for name in (*scene.item_ids, *scene.superseded)}


def _fulfilling(records: Mapping[Key, Record], conditions: Conditions) -> dict[Key, Record]:
    kept = conditions.keep([record.item for record in records.values()])
    return {key: record for (key, record), keep in zip(records.items(), kept, strict=True) if keep}


def _both(one: Conditions, other: Conditions) -> Conditions:
    """The conjunction of two conditions.

    Raises:
        BadInputError: Both set the same condition, other than by CQL2.
    """
    first, second = one.to_json(), other.to_json()
    where = [*first.pop("where", []), *second.pop("where", [])]
    if clash := first.keys() & second.keys():
        raise BadInputError(
            f"the index was filtered by {', '.join(sorted(clash))} before: filter the first one instead"
        )
    return Conditions.from_json({**first, **second, "where": where})


def _manifest(query: Query, catalog: Catalog, *, headers: bool) -> IndexManifest:
    area = area_of(query)
    return IndexManifest(
        commit=0,
        # Items of a known catalog are read by its rules, found by its name; others are read by the items' metadata.
        catalog=catalog.name if catalog.like or catalog.is_foreign else catalog.url,
        request={
            "mission": query.mission,
            "area": {"name": area.name, "geometry": json.loads(to_geojson(area.geometry))},
            "times": interval_texts(query.intervals),
            "bands": None if query.bands is None else list(query.bands),
            **query.filters(),
            "catalog": catalog.url if catalog.is_local else catalog.name,
        },
        conditions=Conditions(where=query.where).to_json(),
        headers=headers,
    )


def _query_of(path: Path, manifest: IndexManifest, time: Any) -> Query:
    words = manifest.request
    if not words:
        raise BadInputError(f"{path} was not made by a search: there is nothing to update it by")
    times = [*words["times"], *([] if time is None else [parse_period(time).text])]
    (area,) = read_areas(shape(words["area"]["geometry"]))
    return Query(
        mission=words["mission"],
        area=replace(area, name=words["area"]["name"]),
        time=",".join(times),
        bands=None if words["bands"] is None else tuple(words["bands"]),
        **stored_filters(words),
        catalog=words["catalog"],
    )


def _targets(records: Mapping[Key, Record], scenes: Sequence[Scene]) -> list[Target]:
    """Files of the requested bands, of the stored items."""
    hrefs = {asset["href"] for record in records.values() for asset in record.item["assets"].values()}
    granules = [granule for scene in scenes for granule in scene.granules]
    files = [(band, asset, granule.signer) for granule in granules for band, asset in granule.assets.items()]
    return [Target(band, asset, signer) for band, asset, signer in files if asset.href in hrefs]


def _with_missing_headers(
    records: Mapping[Key, Record], scenes: Sequence[Scene], progress: Progress | None
) -> dict[Key, Record]:
    known = {row["href"] for record in records.values() for row in record.headers}
    missing = [target for target in _targets(records, scenes) if target.asset.href not in known]
    return with_headers(records, read_headers(missing, progress))


def _stale(records: Mapping[Key, Record], scenes: Sequence[Scene], progress: Progress | None) -> set[str]:
    rows = [row for record in records.values() for row in record.headers]
    return changed(rows, _targets(records, scenes), progress)


def _without(records: Mapping[Key, Record], stale: set[str]) -> dict[Key, Record]:
    made = {}
    for key, record in records.items():
        kept = tuple(row for row in record.headers if row["href"] not in stale)
        made[key] = record if len(kept) == len(record.headers) else replace(record, headers=kept)
    return made


# A search in advance, for compute nodes without a network.


@dataclass(frozen=True)
class StoredSearch:
    """A stored search.

    Attributes:
        catalog: Name of the searched catalog, needed when the items are used.
        why: Reason for its choice.
        scenes: Number of scenes of the items.
        items: The file, STAC GeoParquet.
    """

    catalog: str
    why: str
    scenes: int
    items: Path


def store_search(query: Query, file: Path, *, on_cluster: bool = True) -> StoredSearch:
    """Search now, and store the items for a build without a network.

    Args:
        query: The query.
        file: Path of the items.
        on_cluster: Whether the build will run on the nodes of a cluster, for the choice of the catalog.

    Raises:
        NothingFoundError: No scene.
        CatalogError: The catalog cannot be read.
    """
    choices = catalog_choices(query, on_cluster=on_cluster)
    found = find_scenes(query, choices)
    records = records_of(found.items)
    if headers := stored_headers(local_sources(choices)):
        records = with_headers(records, headers.rows())
    write_index_file(file, records)
    return StoredSearch(found.choice.catalog.name, found.choice.why, len(found.scenes), file)
