"""What the tests of archives are made from: simulated scenes under two UTM zones, four tiles, a recipe."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from shapely import box
from shapely.geometry import mapping

from stac2cube.testing.archive import Archive, ArchiveSpec, simulate

CORNERS = {"a": (11.984, 47.490), "b": (11.992, 47.490), "c": (12.0, 47.490), "d": (12.008, 47.490)}
"""Lower left corners of four tiles; zone 33 begins at 12 degrees."""

EDGE = 0.008

RECIPE = """
cubes: made
tiles: {tiling: file, path: tiles.geojson, priority: rank}
layers:
  mission: sentinel-2-l2a
  aoi: area.geojson
  time: 2023
  bands: [red, scl]
  catalog: source/earth-search.json
clouds: {method: scl}
"""


def feature(name: str, shape: Any, **properties: Any) -> dict[str, Any]:
    return {"type": "Feature", "properties": {"name": name, **properties}, "geometry": mapping(shape)}


def write_inputs(folder: Path) -> Archive:
    """A simulated archive under two UTM zones, four tiles over it, and a recipe."""
    archive = simulate(folder / "source", ArchiveSpec(years=(2023,), dates_per_year=2, tile_px=360))
    archive.catalog("earth-search")
    shapes = {name: box(x, y, x + EDGE, y + EDGE) for name, (x, y) in CORNERS.items()}
    tiles = [feature(name, shape, rank=rank) for rank, (name, shape) in enumerate(shapes.items())]
    (folder / "tiles.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": tiles}))
    area = box(11.985, 47.491, 12.015, 47.497)
    (folder / "area.geojson").write_text(json.dumps(mapping(area)))
    (folder / "recipe.yaml").write_text(RECIPE)
    return archive
