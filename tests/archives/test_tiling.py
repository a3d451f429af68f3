"""Tilings lie on their own lattices, without gaps; names from files stay names."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import shapely
from shapely.geometry import mapping

from stac2cube.archives.archive import read_archive
from stac2cube.archives.tiling import tiles_for
from stac2cube.errors import BadInputError
from stac2cube.model.geometry import read_areas
from stac2cube.model.query import TilingWords

LATTICE = (0.0, 0.0)


def test_equi7_tiles_have_the_names_and_corners_of_the_grid() -> None:
    # The corner of Equi7Grid's tile EU_E051N015T1: 5100 km, 1500 km in EPSG:27704.
    (area,) = read_areas([16.2, 48.1, 16.5, 48.3])
    tiles = tiles_for(TilingWords("equi7", zone="EU"), area, 10.0, LATTICE)
    by_name = {tile.name: tile for tile in tiles}
    assert all(tile.crs == "EPSG:27704" and tile.shape == (10_000, 10_000) for tile in tiles)
    for name, tile in by_name.items():
        east, north = int(name[4:7]), int(name[8:11])
        assert tile.bounds[:2] == (east * 100_000.0, north * 100_000.0)
    wide = tiles_for(TilingWords("equi7", zone="EU", level="T6"), area, 500.0, LATTICE)
    assert all(tile.shape == (1200, 1200) and tile.name.endswith("T6") for tile in wide)
    assert all(int(tile.name[4:7]) % 6 == 0 and int(tile.name[8:11]) % 6 == 0 for tile in wide)


def test_glance7_tiles_count_from_the_upper_left_corner() -> None:
    (area,) = read_areas([11.0, 47.0, 13.5, 48.5])
    tiles = tiles_for(TilingWords("glance7", zone="EU"), area, 30.0, LATTICE)
    for tile in tiles:
        column, row = int(tile.name[4:6]), int(tile.name[7:9])
        assert tile.origin == (-5_505_560.0 + 150_000 * column, 3_346_245.0 - 150_000 * row)
        assert tile.shape == (5000, 5000)
    assert len(tiles) == len({tile.name for tile in tiles}) > 1


@pytest.mark.parametrize(
    "words",
    [
        TilingWords("grid", crs="EPSG:3035", edge=20_000.0, origin=(5_000.0, 7_000.0)),
        TilingWords("grid", crs="EPSG:32632", edge=10_240.0),
        TilingWords("glance7", zone="EU"),
        TilingWords("equi7", zone="EU"),
    ],
)
def test_tiles_cover_the_area_without_gaps_or_overlaps(words: TilingWords) -> None:
    (area,) = read_areas([11.0, 47.0, 12.1, 47.6])
    tiles = tiles_for(words, area, 10.0, LATTICE)
    boxes = [shapely.box(*tile.bounds) for tile in tiles]
    union = shapely.union_all(boxes)
    assert union.area == pytest.approx(sum(box.area for box in boxes))
    from stac2cube.archives.tiling import _area_in

    shape = _area_in(area, tiles[0].crs)
    assert shape.difference(union).area < 1.0
    assert all(box.intersection(shape).area > 0 for box in boxes)


def test_a_tile_that_only_touches_the_area_is_not_taken() -> None:
    (area,) = read_areas(shapely.box(600_000, 5_200_000, 620_000, 5_220_000), crs="EPSG:32632")
    tiles = tiles_for(TilingWords("grid", crs="EPSG:32632", edge=20_000.0), area, 10.0, LATTICE)
    assert [tile.bounds for tile in tiles] == [(600_000, 5_200_000, 620_000, 5_220_000)]


HOSTILE = ("../../etc", "jobs", "archive.json", "CON", "a" * 300, "\uff21", "con.", "..", "-rf", "x\ny", ".hidden")


def test_names_from_a_file_are_names_of_folders_only(tmp_path: Path) -> None:
    features = [
        {"type": "Feature", "properties": {"name": name}, "geometry": mapping(shapely.box(at, 47, at + 0.5, 47.5))}
        for at, name in enumerate(HOSTILE)
    ]
    path = tmp_path / "tiles.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    (area,) = read_areas([0, 47, 12, 47.5])
    tiles = tiles_for(TilingWords("file", path=str(path)), area, 10.0, LATTICE)
    folders = [tile.folder for tile in tiles]
    assert len({name.casefold() for name in folders}) == len(HOSTILE)
    for name in folders:
        assert len(name.encode()) < 200
        assert (tmp_path / name).resolve().parent == tmp_path.resolve()
        assert not name.startswith((".", "-"))
        assert name.casefold() not in ("jobs", "archive.json", "con")


@pytest.mark.parametrize("name", ["../outside", "/etc", "a/b", "..", ""])
def test_a_door_of_somebody_else_leads_nowhere(tmp_path: Path, name: str) -> None:
    tile = {"folder": name, "crs": "EPSG:32632", "resolution": 10, "origin": [0, 0], "shape": [1, 1]}
    own = {"format": 1, "products": ["layers"], "tiles": {"x": tile}}
    (tmp_path / "archive.json").write_text(json.dumps({"stac2cube:archive": own}))
    with pytest.raises(BadInputError, match="no name of a folder"):
        read_archive(tmp_path)


def test_too_many_tiles_are_refused() -> None:
    (area,) = read_areas([11.0, 47.0, 12.1, 47.6])
    with pytest.raises(BadInputError, match="choose a larger edge"):
        tiles_for(TilingWords("grid", crs="EPSG:32632", edge=500.0), area, 10.0, LATTICE)


def test_an_origin_that_is_no_number_is_refused() -> None:
    with pytest.raises(BadInputError, match="origin"):
        TilingWords("grid", crs="EPSG:32632", edge=100_000.0, origin=(0.0, float("nan")))


def test_an_area_that_a_projection_cannot_show_is_refused() -> None:
    (area,) = read_areas([-79.0, 0.0, -78.0, 1.0])
    with pytest.raises(BadInputError, match=r"cannot be expressed|choose a larger edge"):
        tiles_for(
            TilingWords("grid", crs="EPSG:3031", edge=100_000.0), read_areas([10, 89.9, 11, 90])[0], 10.0, LATTICE
        )
    assert tiles_for(TilingWords("equi7", zone="SA"), area, 10.0, LATTICE)


def test_a_tile_without_a_priority_is_named(tmp_path: Path) -> None:
    path = tmp_path / "tiles.geojson"
    features = [
        {
            "type": "Feature",
            "properties": {"name": f"t{at}", "rank": rank},
            "geometry": mapping(shapely.box(at, 0, at + 1, 1)),
        }
        for at, rank in enumerate([3, None, 1])
    ]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    (area,) = read_areas([0, 0, 3, 1])
    with pytest.raises(BadInputError, match="none in 1 of 3, the first is feature 2"):
        tiles_for(TilingWords("file", path=str(path), priority="rank"), area, 10.0, LATTICE)
