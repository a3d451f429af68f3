"""Neighbouring tiles that are co-registered to one image agree at their border, on simulated ground."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import shapely
from click.testing import CliRunner
from pyproj import Transformer
from shapely.geometry import mapping

import stac2cube
from stac2cube.archives.archive import read_archive
from stac2cube.cli import cli
from stac2cube.store.ledger import Ledger
from stac2cube.store.metadata import read_root
from tests.items import catalog
from tests.stages.shifted import EPSG, ORIGIN, Take, write

TAKES = (
    Take("2022-06-05"),
    Take("2022-06-15", 12, -7),
    Take("2022-06-25", -23, 15, cover=0.2),
)

EDGE = 3000

RECIPE = f"""
cubes: made
tiles: {{tiling: grid, crs: "EPSG:{EPSG}", edge: {EDGE}, origin: [{ORIGIN[0]}, {ORIGIN[1]}]}}
layers: {{mission: sentinel-2-l2a, aoi: area.geojson, time: 2022, bands: [red, scl], catalog: items.json}}
coregister: {{engine: phase, reference: 20220605-B04.tif, source: scenes}}
"""


def test_shifts_on_both_sides_of_a_border_are_one(tmp_path: Path) -> None:
    catalog(tmp_path / "items.json", [write(tmp_path, take) for take in TAKES])
    x, y = ORIGIN
    degrees = Transformer.from_crs(EPSG, 4326, always_xy=True).transform
    area = shapely.transform(shapely.box(x + 50, y - EDGE + 50, x + 2 * EDGE - 50, y - 50), degrees, interleaved=False)
    (tmp_path / "area.geojson").write_text(json.dumps(mapping(area)))
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    done = CliRunner().invoke(cli, ["run", str(tmp_path / "recipe.yaml"), "-q"], standalone_mode=False)
    assert (done.exception, done.return_value) == (None, 0), done.output
    archive = read_archive(tmp_path / "made")
    west, east = (archive.cube(tile, "coregister") for tile in archive.tiles.values())
    rows = [Ledger(cube, read_root(cube).ledger).entries() for cube in (west, east)]
    assert rows[0].keys() == rows[1].keys()
    assert len(rows[0]) == len(TAKES)
    for take, key in zip(TAKES, sorted(rows[0]), strict=True):
        one, other = (side[key].properties for side in rows)
        assert one["shift_accepted"], (take, one["shift_reason"])
        assert other["shift_accepted"], (take, other["shift_reason"])
        for axis, known in (("shift_x", -take.x), ("shift_y", -take.y)):
            assert abs(one[axis] - known) < 1.0, (take, axis)
            # 0.05 pixels of 10 m.
            assert abs(one[axis] - other[axis]) < 0.5, (take, axis, one[axis], other[axis])
    whole = stac2cube.open_archive(tmp_path / "made", "coregister", bands=["B04"])
    border = EDGE // 10
    clear = whole["B04"].isel(time=1, y=slice(30, -30)).values
    across = np.abs(clear[:, border] - clear[:, border - 1]).mean()
    beside = np.mean([np.abs(clear[:, at] - clear[:, at - 1]).mean() for at in (border - 40, border + 40)])
    assert across < 1.5 * beside, "no seam"
