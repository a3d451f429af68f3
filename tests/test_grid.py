"""The lattice: snapped, cut into blocks, across zones and across the antimeridian."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox
from shapely.geometry import box, mapping

import stac2cube
from stac2cube.build.status import to_read
from stac2cube.errors import BadInputError
from stac2cube.model.cube_spec import CubeSpec, Layer
from stac2cube.model.geometry import read_areas
from stac2cube.model.grid import Grid, crs_text, grid_from_geobox, grid_over, native_crs, resolution_for
from stac2cube.model.mission import find_mission
from stac2cube.store.metadata import read_root
from tests.pixels.granules import write


def test_corners_lie_on_the_lattice_and_cover_the_area() -> None:
    area = box(500_003, 5_000_007, 501_234, 5_002_345)
    grid = grid_over(area, "EPSG:32632", "EPSG:32632", 10.0, step=20.0)
    west, south, east, north = grid.geobox.boundingbox
    assert (west, south, east, north) == (500_000, 5_000_000, 501_240, 5_002_360)
    assert grid.shape == (236, 124)
    exact = grid_over(box(500_000, 5_000_000, 500_100, 5_000_100), "EPSG:32632", "EPSG:32632", 10.0)
    assert exact.shape == (10, 10), "an area on the lattice gets no extra row"
    shifted = grid_over(area, "EPSG:32632", "EPSG:32632", 30.0, lattice=(15.0, 15.0))
    assert (shifted.origin[0] - 15) % 30 == 0


def test_blocks_cover_every_pixel_once() -> None:
    grid = Grid("EPSG:32632", 10.0, (0.0, 0.0), (150, 130), chunk=(32, 32), shard=(64, 64))
    seen = np.zeros(grid.shape, int)
    for tile in grid.tiles():
        seen[grid.window(tile)] += 1
        assert grid.tile_geobox(tile).shape == seen[grid.window(tile)].shape
    assert (seen == 1).all()
    assert Grid.from_json(json.loads(json.dumps(grid.to_json()))) == grid


def test_the_native_crs_is_that_of_most_of_the_area() -> None:
    area = box(11.5, 47.0, 12.2, 47.5)
    west, east = ("EPSG:32632", box(10.0, 46.0, 12.0, 48.0)), ("EPSG:32633", box(12.0, 46.0, 14.0, 48.0))
    assert native_crs(area, [west, east], 11.85) == "EPSG:32632"
    assert native_crs(box(11.9, 47.0, 12.9, 47.5), [west, east], 12.4) == "EPSG:32633"
    both = [("EPSG:32632", area), ("EPSG:32633", area)]
    assert native_crs(area, both, 11.85) == "EPSG:32632"
    assert native_crs(area, both, 12.05) == "EPSG:32633"
    with pytest.raises(BadInputError, match="pass crs="):
        native_crs(area, [("", area)], 12)


def test_the_size_of_a_band_is_no_pixel_size_in_other_units() -> None:
    """10 m of a band would be pixels of 10 feet, or of 10 degrees."""
    assert resolution_for(None, 10, "EPSG:32632") == 10
    assert resolution_for(32.8, 10, "EPSG:2263") == 32.8
    with pytest.raises(BadInputError, match=r"counts in US survey foot: say resolution= too, for example 32.8"):
        resolution_for(None, 10, "EPSG:2263")
    with pytest.raises(BadInputError, match=r"EPSG:4326 counts in degrees: say resolution="):
        resolution_for(None, 10, "EPSG:4326")


@pytest.mark.parametrize(
    ("crs", "edge"), [("EPSG:32632", 10.0), ("EPSG:2263", 10 / 0.3048006096), ("EPSG:4326", 10 / 111_319.49)]
)
def test_what_a_build_reads_is_estimated_in_metres(crs: str, edge: float) -> None:
    grid = Grid(crs, edge, (0.0, 0.0), (150, 130))
    (band,) = find_mission("sentinel-2-l2a").choose_bands(["B04"])
    spec = CubeSpec("layers", grid, (Layer("B04", "uint16", 0),))
    assert to_read([band], spec, 1000) == pytest.approx(2000, rel=1e-6)


def test_a_users_own_geobox_is_taken_as_it_is() -> None:
    own = GeoBox((70, 50), Affine(10, 0, 500_003, 0, -10, 5_000_007), "EPSG:32632")
    assert grid_from_geobox(own).geobox == own
    with pytest.raises(BadInputError, match="north-up"):
        grid_from_geobox(GeoBox((7, 5), Affine(10, 1, 0, 0, -10, 0), "EPSG:32632"))
    with pytest.raises(BadInputError, match="positive"):
        grid_over(box(0, 0, 1, 1), "EPSG:4326", "EPSG:32632", 0.0)


def item(name: str, path: Path, lattice: GeoBox, tile: str) -> dict:
    footprint = mapping(lattice.footprint("EPSG:4326", buffer=0).geom)
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": name,
        "collection": "sentinel-2-l2a",
        "geometry": footprint,
        "properties": {
            "datetime": "2023-05-12T23:19:32Z",
            "platform": "sentinel-2b",
            "sat:relative_orbit": 16,
            "proj:code": str(lattice.crs),
            "grid:code": f"MGRS-{tile}",
            "s2:processing_baseline": "05.09",
        },
        "assets": {"B04": {"href": str(path)}},
        "links": [],
    }


def test_one_cube_on_both_sides_of_the_antimeridian(tmp_path: Path) -> None:
    """A scene of two tiles, one in UTM zone 60, one in zone 1, that touch at 180 degrees."""
    east = GeoBox((200, 200), Affine(100, 0, 330_000, 0, -100, 6_810_000), "EPSG:32601")
    west = GeoBox((200, 200), Affine(100, 0, 650_000, 0, -100, 6_810_000), "EPSG:32660")
    items = []
    for name, lattice, tile, value in (("e", east, "01VCG", 3000), ("w", west, "60VXM", 5000)):
        pixels = np.full(lattice.shape, value, "uint16")
        path = write(tmp_path / f"{name}.tif", pixels, lattice)
        inner = lattice[2:-2, 2:-2]  # footprints in catalogs are simplified
        items.append(item(name, path, inner, tile))
        # The real catalogs split footprints at the antimeridian; these tiles end short of it or lie on one side.
    catalog = tmp_path / "items.json"
    catalog.write_text(json.dumps({"type": "FeatureCollection", "features": items}))
    (area,) = read_areas((179.85, 61.2, -179.9, 61.35))
    assert area.geometry.geom_type == "MultiPolygon"
    cube = tmp_path / "a.zarr"
    dataset = stac2cube.get_stac_layers(
        cube,
        mission="sentinel-2-l2a",
        aoi=(179.85, 61.2, -179.9, 61.35),
        time="2023-05",
        bands=["B04"],
        resolution=100,
        catalog=str(catalog),
    )
    grid = read_root(cube).spec.grid
    assert grid.shape[1] * 100 < 20_000, "13 km, not the way around the globe"
    assert dataset.sizes["time"] == 1, "one overpass is one step, whatever the calendar says on each side"
    values = dataset["B04"][0].values
    assert np.isfinite(values).mean() > 0.9
    assert {round(float(v), 4) for v in np.unique(values[np.isfinite(values)])} == {0.2, 0.4}


@pytest.mark.parametrize(
    ("crs", "why"),
    [
        ("EPSG:2154+5720", "unknown CRS"),
        ("EPSG:32632.0", "unknown CRS"),
        ("EPSG:3855", "EGM2008 height (EPSG:3855) has no map"),
        ("EPSG:4978", "WGS 84 (EPSG:4978) has no map"),
    ],
)
def test_a_crs_of_heights_or_of_several_parts_is_refused(crs: str, why: str) -> None:
    with pytest.raises(BadInputError) as caught:
        crs_text(crs)
    assert why in str(caught.value)
