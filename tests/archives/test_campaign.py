"""An archive that is killed again and again, by two people at once, ends as the one that nobody disturbed."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
import shapely
from pyproj import Transformer
from shapely.geometry import mapping

from stac2cube.archives.archive import read_archive
from stac2cube.archives.status import archive_status
from stac2cube.store.reader import differences
from stac2cube.testing.archive import ArchiveSpec, simulate

KILLS = 30

RECIPE = """
cubes: {folder}
tiles: {{tiling: grid, crs: "EPSG:32632", edge: 1200, origin: [{x}, {y}]}}
layers:
  mission: sentinel-2-l2a
  aoi: area.geojson
  time: 2022/2023
  bands: [red, scl]
  catalog: source/earth-search.json
clouds: {{method: scl}}
mask:
"""


def begin(recipe: Path) -> subprocess.Popen[bytes]:
    words = [sys.executable, "-m", "stac2cube", "run", str(recipe), "-q"]
    return subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@pytest.mark.soak
def test_an_archive_survives_kills_and_two_impatient_people(tmp_path: Path) -> None:
    source = simulate(tmp_path / "source", ArchiveSpec(years=(2022, 2023), dates_per_year=3, tile_px=480))
    source.catalog("earth-search")
    x, y = source.tiles[0].origin
    degrees = Transformer.from_crs(32632, 4326, always_xy=True).transform
    area = shapely.transform(shapely.box(x + 100, y - 3500, x + 4700, y - 100), degrees, interleaved=False)
    (tmp_path / "area.geojson").write_text(json.dumps(mapping(area)))
    for name in ("quiet", "killed"):
        (tmp_path / f"{name}.yaml").write_text(RECIPE.format(folder=name, x=x, y=y))
    assert begin(tmp_path / "quiet.yaml").wait() == 0
    chance = random.Random(29)
    for _ in range(KILLS):
        people = [begin(tmp_path / "killed.yaml") for _ in range(2)]
        time.sleep(chance.uniform(2, 12))
        for one in people:
            one.kill()
            one.wait()
    assert begin(tmp_path / "killed.yaml").wait() == 0
    quiet, killed = read_archive(tmp_path / "quiet"), read_archive(tmp_path / "killed")
    status = archive_status(tmp_path / "killed")
    assert (status.done, status.failed, status.behind, status.writing) == (len(quiet.tiles), (), (), ())
    cubes = list(quiet.cubes())
    assert len(cubes) == 3 * len(quiet.tiles) >= 36
    for tile, product, cube in cubes:
        assert differences(cube, killed.cube(tile, product)) == [], (tile.name, product)
