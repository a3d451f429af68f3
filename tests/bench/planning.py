"""What planning an archive of many tiles costs: CPU seconds and memory, from a scene index of made-up items.

    .venv/bin/python -m tests.bench.planning [--tiles 230] [--steps 261] [--grid] [--profile FILE]

Items have the size of those of Earth Search (9 KB) and lie on tiles of 109.8 km, 100 km apart. The index is made once,
under ``--folder``. Prints a row as in docs/scale.md, and a hash by which two plans are compared.
"""

from __future__ import annotations

import argparse
import cProfile
import hashlib
import json
import resource
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import shapely
from pyproj import Transformer
from shapely.geometry import mapping

from stac2cube.archives.run import ArchivePlan, plan_archive, store_plan
from stac2cube.cli.archives import archive_request
from stac2cube.cli.recipes import layers_words, recipe_at
from stac2cube.search.index_commits import create, records_of
from stac2cube.search.index_files import IndexManifest
from stac2cube.stages.layers import query_of_words
from stac2cube.testing.archive import ArchiveSpec, simulate

COLUMNS = 16
"""Tiles from west to east."""

CORNER = (300_000.0, 4_000_000.0)
"""Lower left corner of the first tile in UTM zone 32, metres."""

APART, EDGE = 100_000.0, 109_800.0
"""Of tiles of Sentinel-2, metres."""

RECIPE = """
cubes: {folder}/archive
tiles: {tiles}
layers: {{mission: sentinel-2-l2a, aoi: area.geojson, time: 2015/2030, bands: [red, nir, scl],
  catalog: index, resolution: 20}}
clouds: {{method: scl}}
"""


def corner_of(number: int) -> tuple[float, float]:
    """Lower left corner of a tile, metres."""
    return CORNER[0] + APART * (number % COLUMNS), CORNER[1] + APART * (number // COLUMNS)


def code_of(number: int) -> str:
    """A code of the form of MGRS; its letters are numbers, no places."""
    letters = "ABCDEFGHJKLMNPQRSTUVWXYZ"
    return f"32T{letters[number // COLUMNS]}{letters[number % COLUMNS]}"


def items(template: dict[str, Any], tiles: int, steps: int) -> Iterator[dict[str, Any]]:
    """So many items of each tile, made from one item."""
    degrees = Transformer.from_crs(32632, 4326, always_xy=True).transform
    text = json.dumps(template)
    for number in range(tiles):
        x, y = corner_of(number)
        shape = shapely.transform(shapely.box(x, y, x + EDGE, y + EDGE), degrees, interleaved=False)
        for step in range(steps):
            item = json.loads(text.replace("32TPT", code_of(number)))
            moment = datetime(2016, 1, 1, 10, tzinfo=UTC) + timedelta(days=5 * step)
            item["id"] = f"S2A_{code_of(number)}_{moment:%Y%m%d}_0_L2A"
            item["geometry"], item["bbox"] = mapping(shape), list(shape.bounds)
            item["properties"]["datetime"] = moment.isoformat().replace("+00:00", "Z")
            for asset in item["assets"].values():
                pixel = asset["gsd"]
                asset["proj:transform"] = [pixel, 0.0, x, 0.0, -pixel, y + EDGE]
                asset["proj:shape"] = [round(EDGE / pixel)] * 2
            yield item


def prepare_folder(folder: Path, tiles: int, steps: int, tiling: str) -> Path:
    """The index, the area and the recipe; an index of as many items that is there is used."""
    index = folder / "index"
    if not index.exists():
        source = simulate(folder / "source", ArchiveSpec(years=(2023,), dates_per_year=1, tile_px=60))
        template = next(item for item in source.items("earth-search") if "32TPT" in item["id"])
        create(index, records_of(items(template, tiles, steps)), IndexManifest(0, "earth-search"))
    degrees = Transformer.from_crs(32632, 4326, always_xy=True).transform
    squares = [shapely.box(x, y, x + APART, y + APART) for x, y in map(corner_of, range(tiles))]
    area = shapely.transform(shapely.union_all(squares), degrees, interleaved=False)
    (folder / "area.geojson").write_text(json.dumps(mapping(area)))
    path = folder / "recipe.yaml"
    path.write_text(RECIPE.format(folder=folder, tiles=tiling))
    return path


def planned(path: Path) -> ArchivePlan:
    """The plan of a recipe, as ``stac2cube run`` makes it."""
    recipe = recipe_at(path, ())
    return plan_archive(archive_request(recipe, *query_of_words(layers_words(recipe))))


def main() -> None:
    """Make the index if need be, plan, and store the items of the tiles."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("build/bench-planning"))
    parser.add_argument("--tiles", type=int, default=230)
    parser.add_argument("--steps", type=int, default=261)
    parser.add_argument("--grid", action="store_true", help="A regular grid instead of the mission's tiles.")
    parser.add_argument("--profile", type=Path, help="Write a profile of the plan there.")
    chosen = parser.parse_args()
    tiling = "{tiling: grid, crs: 'EPSG:32632', edge: 100000, origin: [50000, 50000]}" if chosen.grid else "mgrs"
    folder = chosen.folder.resolve() / f"{chosen.tiles}x{chosen.steps}"
    folder.mkdir(parents=True, exist_ok=True)
    path = prepare_folder(folder, chosen.tiles, chosen.steps, tiling)
    profile = cProfile.Profile() if chosen.profile else None
    before = time.process_time()
    plan = profile.runcall(planned, path) if profile else planned(path)
    middle = time.process_time()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    store_plan(plan, "bench")
    after = time.process_time()
    if profile:
        profile.dump_stats(chosen.profile)
    found = len(plan.items or ())
    print(
        f"| {len(plan.todo)} tiles, {found} items | plan {middle - before:.1f} s CPU, {memory:.0f} MiB | "
        f"store {after - middle:.1f} s CPU |"
    )
    marks = json.dumps([[one.tile.name, one.fingerprint, one.found, one.lacking] for one in plan.todo])
    print(f"plan {hash_of(marks)}")


def hash_of(text: str) -> str:
    """By which two plans are compared."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


if __name__ == "__main__":
    main()
