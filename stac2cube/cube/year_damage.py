"""Looking for what is wrong with the store of a sealed year."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from stac2cube.cube.axes import UNREADABLE, axis_files, look_at_axes
from stac2cube.cube.census import KINDS, Damage, strays, take_census
from stac2cube.cube.files import read_plain
from stac2cube.cube.ledger import Entry
from stac2cube.cube.pixel_files import look_at_shard, microseconds, read_coordinates
from stac2cube.cube.root import Root
from stac2cube.cube.shard import shard_file
from stac2cube.cube.spec import CubeSpec
from stac2cube.cube.years import SHARDS, YearStore, version_of
from stac2cube.errors import CubeError


def look_at_year(folder: Path, year: int, rows: Mapping[str, Entry], spec: CubeSpec, *, deep: bool) -> Iterator[Damage]:
    """What is wrong with the store of a year; that steps changed since is not.

    Args:
        folder: Of the store.
        year: UTC.
        rows: Sealed steps of the cube by key, whole.
        spec: Of the cube.
        deep: Compare checksums too.
    """
    where = f"../{folder.parent.name}/{folder.name}"
    try:
        root = Root(json.loads(read_plain(folder / "zarr.json")))
        store = YearStore.read(folder)
        shards, nodes, _ = store.shards, root.nodes(), root.steps
    except (CubeError, *UNREADABLE, AttributeError) as error:
        yield Damage("year", where, str(year), str(error))
        return
    if lies := _lies(root, store, year, spec):
        yield Damage("year", f"{where}/zarr.json", str(year), f"{lies} not what was sealed")
        return
    for version in store.versions:
        row = rows.get(version.key)
        if row is not None and row.commit == version.commit and version.checksum != version_of(row).checksum:
            yield Damage("year", where, str(year), f"{version.key} was made from other pixels than the ledger has")
    census = take_census(folder)
    known = {str(shard_file(Path(shard.layer) / "c" / "0", shard.tile)): shard for shard in shards if shard.size}
    expected = {"zarr.json", SHARDS, "time/c/0", "scene/c/0", *axis_files(spec.grid), *known}
    expected |= {f"{name}/zarr.json" for name in nodes}
    found = [*census.found, *strays(census, expected, {layer.name for layer in spec.layers})]
    found += [
        Damage("metadata", str(path.relative_to(folder)), "", KINDS["metadata"]) for path in root.strayed(folder, nodes)
    ]
    for path, shard in known.items():
        found += look_at_shard(folder, path, shard, str(year), census, deep=deep)
    found += look_at_axes(folder, spec.grid, census)
    found += _coordinates(folder, store, rows)
    for damage in found:
        yield replace(damage, kind="year", key=str(year), path=f"{where}/{damage.path}")


def _lies(root: Root, store: YearStore, year: int, spec: CubeSpec) -> str:
    """Which part of a year's root is not what cube and grid say, "" if none."""
    attributes, grid = root.document["attributes"], spec.grid
    if attributes.get("spatial:transform") != list(grid.transform):
        return "the place of its grid is"
    if store.year != year or len(store.versions) != root.steps:
        return "its year or its number of steps is"
    nodes = {name: json.loads(node) for name, node in root.nodes().items()}
    for layer in spec.layers:
        if nodes.get(layer.name, {}).get("shape") != [root.steps, *grid.shape]:
            return f"what it says of {layer.name} is"
    return ""


def _coordinates(folder: Path, store: YearStore, rows: Mapping[str, Entry]) -> Iterator[Damage]:
    try:
        times, scenes = read_coordinates(folder)
    except UNREADABLE as error:
        yield Damage("year", "time", "", f"time or scene cannot be read: {error}")
        return
    if [str(scene) for scene in scenes] != [version.key for version in store.versions]:
        yield Damage("year", "scene", "", "scene keys are not those that were sealed")
    for version, time in zip(store.versions, times, strict=False):
        row = rows.get(version.key)
        if row is not None and row.commit == version.commit and time != microseconds(row):
            yield Damage("year", "time", "", f"the time of {version.key} is not the ledger's")
