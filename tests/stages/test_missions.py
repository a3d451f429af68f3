"""Missions beyond Sentinel-2, from small files made here: what is one step, what is apart, and what is absent."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from odc.geo.geobox import GeoBox

import stac2cube
from stac2cube.errors import BadInputError
from stac2cube.store.ledger import Ledger
from stac2cube.store.metadata import read_root
from tests.items import Json, catalog, item

UTM = GeoBox((40, 50), rasterio.Affine(30, 0, 600015, 0, -30, 5200015), "EPSG:32632")


def write(path: Path, pixels: np.ndarray, geobox: GeoBox) -> Path:
    profile = {"driver": "GTiff", "count": 1, "height": pixels.shape[0], "width": pixels.shape[1]}
    with rasterio.open(
        path, "w", dtype=pixels.dtype, crs=str(geobox.crs), transform=geobox.transform, **profile
    ) as file:
        file.write(pixels, 1)
    return path


def landsat(folder: Path, name: str, when: str, platform: str, row: str, bands: dict[str, int], **more: str) -> Json:
    files = {
        band: write(folder / f"{name}_{band}.tif", np.full(UTM.shape, value, "uint16"), UTM)
        for band, value in bands.items()
    }
    about = {"datetime": when, "platform": platform, "landsat:wrs_path": "193", "landsat:wrs_row": row, **more}
    return item(name, "landsat-c2-l2", files, **about)


def test_thematic_mapper_and_its_successors_share_a_cube(tmp_path: Path) -> None:
    old = {"red": 10000, "nir08": 12000, "lwir": 40000, "qa_pixel": 64}
    new = {"red": 9000, "nir08": 13000, "lwir11": 41000, "coastal": 8000, "qa_pixel": 64}
    bare = {"red": 9500, "nir08": 13500, "coastal": 8000, "qa_pixel": 64}  # without temperature
    items = [
        landsat(tmp_path, "LT05_L2SP_193027_20100704_02_T1", "2010-07-04T09:50:00Z", "landsat-5", "027", old),
        landsat(tmp_path, "LC08_L2SP_193027_20200704_02_T1", "2020-07-04T09:55:00Z", "LANDSAT_8", "027", new),
        landsat(tmp_path, "LC09_L2SR_193027_20220704_02_T1", "2022-07-04T09:55:00Z", "landsat-9", "027", bare),
    ]
    words = {"mission": "landsat-c2-l2", "aoi": UTM, "time": "2010/2022", "bands": ["red", "st", "coastal", "qa_pixel"]}
    cube = stac2cube.get_stac_layers(tmp_path / "l.zarr", catalog=catalog(tmp_path / "items.json", items), **words)
    assert list(cube.platform.values) == ["landsat-5", "landsat-8", "landsat-9"]
    red = cube.red.values[:, 5, 5]
    np.testing.assert_allclose(red, np.array([10000, 9000, 9500]) * 2.75e-5 - 0.2)
    kelvin = cube.st.values[:, 5, 5]
    np.testing.assert_allclose(kelvin[:2], np.array([40000, 41000]) * 0.00341802 + 149)
    assert np.isnan(kelvin[2])
    assert list(np.isnan(cube.coastal.values[:, 5, 5])) == [True, False, False]
    celsius = stac2cube.to_celsius(cube).st.values[0, 5, 5]
    assert celsius == pytest.approx(40000 * 0.00341802 + 149 - 273.15, abs=1e-3)


def test_two_rows_of_one_pass_are_one_step_and_real_time_gives_way(tmp_path: Path) -> None:
    bands = {"red": 9000, "qa_pixel": 64}
    rt = {"landsat:collection_category": "RT"}
    items = [
        landsat(tmp_path, "LC08_L2SP_193026_20200704_02_T1", "2020-07-04T09:54:30Z", "landsat-8", "026", bands),
        landsat(tmp_path, "LC08_L2SP_193027_20200704_02_RT", "2020-07-04T09:55:00Z", "landsat-8", "027", bands, **rt),
        landsat(tmp_path, "LC08_L2SP_193027_20200704_02_T1", "2020-07-04T09:55:00Z", "landsat-8", "027", bands),
    ]
    source = catalog(tmp_path / "items.json", items)
    out = tmp_path / "l.zarr"
    stac2cube.get_stac_layers(
        out, mission="landsat-c2-l2", aoi=UTM, time="2020", bands=["red", "qa_pixel"], catalog=source
    )
    (row,) = Ledger(out, read_root(out).ledger).entries().values()
    assert row.items == ("LC08_L2SP_193026_20200704_02_T1", "LC08_L2SP_193027_20200704_02_T1")
    assert row.properties["superseded_items"] == ["LC08_L2SP_193027_20200704_02_RT"]


def test_slices_of_one_pass_are_one_step_and_orbits_are_kept_apart(tmp_path: Path) -> None:
    grid = GeoBox((60, 40), rasterio.Affine(10, 0, 600000, 0, -10, 5200000), "EPSG:32632")
    power = np.random.default_rng(2).gamma(2, 0.05, grid.shape).astype("float32")

    def radar(name: str, pixels: np.ndarray, row: int, when: str, orbit: int, state: str) -> Json:
        lattice = GeoBox(pixels.shape, grid.transform * rasterio.Affine.translation(0, row), "EPSG:32632")
        about = {"datetime": when, "start_datetime": when, "platform": "SENTINEL-1A", "sat:relative_orbit": orbit}
        files = {"vv": write(tmp_path / f"{name}.tif", pixels, lattice)}
        if name == "evening":
            files["vh"] = files["vv"]
        return item(name, "sentinel-1-rtc", files, **about, **{"sat:orbit_state": state})

    items = [
        radar("north", power[:31], 0, "2023-05-01T05:10:00Z", 168, "descending"),
        radar("south", power[31:], 31, "2023-05-01T05:10:25Z", 168, "descending"),
        radar("evening", power, 0, "2023-05-01T17:00:00Z", 117, "ascending"),
    ]
    source = catalog(tmp_path / "items.json", items)
    words = {"mission": "sentinel-1-rtc", "aoi": grid, "time": "2023", "bands": ["VV", "VH"], "catalog": source}
    out = tmp_path / "s1.zarr"
    cube = stac2cube.get_stac_layers(out, **words)
    assert list(cube.orbit.values) == [168, 117]
    np.testing.assert_array_equal(cube.VV.values[0], power)
    assert np.isnan(cube.VH.values[0]).all(), "no such polarisation, no data"
    np.testing.assert_array_equal(cube.VH.values[1], power)
    rows = Ledger(out, read_root(out).ledger).entries().values()
    assert [row.properties["orbit_state"] for row in rows] == ["descending", "ascending"]
    for orbit, expected in (("ascending", [117]), (168, [168])):
        chosen = stac2cube.get_stac_layers(tmp_path / f"{orbit}.zarr", orbit=orbit, **words | {"bands": ["VV"]})
        assert list(chosen.orbit.values) == expected
    with pytest.raises(BadInputError, match="orbit 'sideways'"):
        stac2cube.get_stac_layers(tmp_path / "x.zarr", orbit="sideways", **words)


def test_a_dem_of_the_far_north_has_rectangular_pixels_and_becomes_square(tmp_path: Path) -> None:
    """North of 60 degrees tiles have fewer columns; across the border of two spacings each side keeps its own."""
    north = GeoBox((400, 200), rasterio.Affine(1 / 1800, 0, 20, 0, -1 / 3600, 60 + 400 / 3600), "EPSG:4326")
    south = GeoBox((400, 400), rasterio.Affine(1 / 3600, 0, 20, 0, -1 / 3600, 60), "EPSG:4326")

    def heights(geobox: GeoBox) -> np.ndarray:
        rows, columns = np.indices(geobox.shape)
        a, _, x, _, e, y = tuple(geobox.transform)[:6]
        longitude, latitude = x + a * (columns + 0.5), y + e * (rows + 0.5)
        return (100 + 4000 * (longitude - 20) + 2000 * (latitude - 60)).astype("float32")

    when = {"datetime": "2021-04-22T00:00:00Z", "platform": "TanDEM-X"}
    items = [
        item(name, "cop-dem-glo-30", {"data": write(tmp_path / f"{name}.tif", heights(box), box)}, **when)
        for name, box in (("north", north), ("south", south))
    ]
    source = catalog(tmp_path / "items.json", items)
    cube = stac2cube.get_stac_layers(
        tmp_path / "d.zarr", mission="cop-dem-glo-30", aoi=(20.03, 59.97, 20.07, 60.03), catalog=source
    )
    assert cube.attrs["proj:code"] == "EPSG:32634"
    assert cube.height.shape[0] == 1
    values = cube.height.values[0]
    assert not np.isnan(values).any()
    from pyproj import Transformer

    x, y = np.meshgrid(cube.x.values, cube.y.values)
    longitude, latitude = Transformer.from_crs("EPSG:32634", "EPSG:4326", always_xy=True).transform(x, y)
    truth = 100 + 4000 * (longitude - 20) + 2000 * (latitude - 60)
    inside = (np.abs(latitude - 60) > 2 / 3600) & (values != 0)
    assert np.abs(values - truth)[inside].max() < 0.05, "a plane stays a plane"
    with pytest.raises(BadInputError, match="counts in degrees: say resolution="):
        stac2cube.get_stac_layers(
            None, mission="cop-dem-glo-30", aoi=(20.03, 59.97, 20.07, 60.03), crs="EPSG:4326", catalog=source
        )


def test_gaps_of_the_fine_model_are_filled_from_the_coarse_one_where_asked(tmp_path: Path) -> None:
    """Over Armenia GLO-30 has no tile; there are none over the sea either, which is told apart."""
    fine = GeoBox((100, 50), rasterio.Affine(0.0003, 0, 44.485, 0, -0.0003, 40.515), "EPSG:4326")
    coarse = GeoBox((40, 40), rasterio.Affine(0.0009, 0, 44.485, 0, -0.0009, 40.515), "EPSG:4326")
    files = {
        "cop-dem-glo-30": write(tmp_path / "fine.tif", np.full(fine.shape, 1000, "float32"), fine),
        "cop-dem-glo-90": write(tmp_path / "coarse.tif", np.full(coarse.shape, 1100, "float32"), coarse),
    }
    about = {"datetime": "2021-04-22T00:00:00Z", "platform": "TanDEM-X"}
    items = [item(f"tile-{name[-2:]}", name, {"data": path}, **about) for name, path in files.items()]
    words = {"mission": "cop-dem-glo-30", "aoi": (44.487, 40.487, 44.511, 40.513), "resolution": 30}
    words["catalog"] = catalog(tmp_path / "items.json", items)
    plain = stac2cube.get_stac_layers(tmp_path / "plain.zarr", **words).height.values[0]
    filled = stac2cube.get_stac_layers(tmp_path / "filled.zarr", fill=True, **words).height.values[0]
    assert np.isnan(plain[:, -20:]).all()
    np.testing.assert_allclose(filled[5:-5, -20:-5], 1100)
    np.testing.assert_array_equal(filled[~np.isnan(plain)], plain[~np.isnan(plain)])
    (row,) = Ledger(tmp_path / "filled.zarr", read_root(tmp_path / "filled.zarr").ledger).entries().values()
    assert row.items == ("tile-30", "tile-90")
    with pytest.raises(stac2cube.errors.CubeMismatchError, match="filled from"):
        stac2cube.get_stac_layers(tmp_path / "plain.zarr", fill=True, **words)
    with pytest.raises(BadInputError, match="no coarser product"):
        stac2cube.get_stac_layers(
            tmp_path / "no.zarr", fill=True, time="2021", **{**words, "mission": "sentinel-2-l2a"}
        )
