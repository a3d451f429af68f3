"""Every mission from real pixels and recorded items; expected numbers by the agencies' own formulas, written here."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import rasterio
import xarray as xr
from odc.geo.geobox import GeoBox
from rasterio.enums import Resampling
from rasterio.warp import reproject
from shapely import union_all
from shapely.geometry import shape

import stac2cube
import stac2cube.errors
from stac2cube.errors import BadInputError
from stac2cube.model.catalog import catalogs
from stac2cube.model.mission import find_mission, mission_names
from stac2cube.model.scene import identify
from stac2cube.search.clients import items_of_path
from stac2cube.search.items import Reading, to_granule
from stac2cube.store.ledger import Ledger
from stac2cube.store.metadata import read_root
from tests.items import catalog, item
from tests.real.recorded import RASTERS, STAC, real

pytestmark = real

S2 = {"B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12"}
L8 = {"coastal", "blue", "green", "red", "nir08", "swir16", "swir22", "qa_pixel", "qa_radsat"}
TM = L8 - {"coastal"}

EXPECTED = {
    ("earth_search", "sentinel-2-l2a"): ("sentinel-2-l2a", S2 | {"SCL", "AOT", "WVP"}),
    ("earth_search", "sentinel-2-c1-l2a"): ("sentinel-2-l2a", S2 | {"SCL", "AOT", "WVP"}),
    ("earth_search", "sentinel-2-l1c"): ("sentinel-2-l1c", S2 | {"B10"}),
    ("earth_search", "landsat-c2-l2"): ("landsat-c2-l2", L8 | {"st"}),
    ("earth_search", "cop-dem-glo-30"): ("cop-dem-glo-30", {"height"}),
    ("planetary_computer", "sentinel-2-l2a"): ("sentinel-2-l2a", S2 | {"SCL", "AOT", "WVP"}),
    ("planetary_computer", "sentinel-1-rtc"): ("sentinel-1-rtc", None),
    ("planetary_computer", "landsat-c2-l2"): ("landsat-c2-l2", None),
    ("planetary_computer", "cop-dem-glo-30"): ("cop-dem-glo-30", {"height"}),
    ("terrabyte", "sentinel-2-c1-l2a"): ("sentinel-2-l2a", S2 | {"SCL", "AOT", "WVP"}),
    ("terrabyte", "sentinel-2-l1c"): ("sentinel-2-l1c", S2 | {"B10"}),
    ("cdse", "sentinel-2-l2a"): ("sentinel-2-l2a", S2 | {"SCL", "AOT", "WVP"}),
}
"""Catalog folder and collection -> mission and the bands that the product has, from the agencies' product tables."""


def recorded_items():
    for folder in ("earth_search", "planetary_computer", "terrabyte", "cdse"):
        for file in sorted((STAC / folder).rglob("*.json")) + sorted((STAC / folder).rglob("*.geojson")):
            value = json.loads(file.read_text())
            features = value if isinstance(value, list) else value.get("features", [value])
            for feature in features:
                if isinstance(feature, dict) and feature.get("assets") and feature.get("geometry"):
                    yield folder, feature


def test_every_page_meets_every_recorded_item() -> None:
    seen: dict[tuple[str, str], int] = {}
    known = catalogs()
    for folder, feature in recorded_items():
        cell = (folder, feature["collection"])
        if cell not in EXPECTED:
            assert feature["collection"] in ("sentinel-1-grd", "naip"), cell
            continue
        name, bands = EXPECTED[cell]
        if len(feature["assets"]) < 3 and name != "cop-dem-glo-30":
            continue  # answers to searches that asked for some fields only
        mission = find_mission(name)
        identity = identify(feature, mission)
        assert identity is not None, feature["id"]
        source = known[folder.replace("_", "-")]
        granule = to_granule(feature, Reading(mission, source, tuple(mission.bands.values())), identity)
        if bands is None:
            sensor = feature["properties"]["platform"].lower()
            bands = TM if sensor in ("landsat-4", "landsat-5", "landsat-7") else L8
            if name == "sentinel-1-rtc":
                bands = {p.upper() for p in feature["properties"]["sar:polarizations"]}
            elif feature["properties"]["landsat:correction"] == "L2SP":
                bands = bands | {"st"}
        assert set(granule.assets) >= bands - {"WVP", "AOT"}, (feature["id"], bands - set(granule.assets))
        assert set(granule.assets) <= bands, feature["id"]
        assert all(re.match(r"(file|https|s3)://", asset.href) for asset in granule.assets.values())
        declared = feature["properties"].get("proj:epsg") or feature["properties"].get("proj:code")
        if declared:
            assert granule.crs.endswith(str(declared).rpartition(":")[2])
        path = feature["properties"].get("landsat:wrs_path")
        assert identity.orbit == int(path or feature["properties"].get("sat:relative_orbit") or identity.orbit)
        seen[cell] = seen.get(cell, 0) + 1
    assert set(seen) == set(EXPECTED)
    assert sum(seen.values()) > 60
    recorded = {(page.catalog, page.collection) for n in mission_names() for page in find_mission(n).pages
                if page.evidence == "recorded" and page.catalog in known}  # fmt: skip
    met = {(folder.replace("_", "-"), collection) for folder, collection in seen}
    elsewhere = {("cdse", "sentinel-2-l1c"), ("eopf", "sentinel-2-l2a")}  # its collection; test_real_eopf.py
    assert recorded - met <= elsewhere, "a page that says recorded was met (or has its collection)"


def test_the_los_angeles_mosaic_is_its_tiles_bit_for_bit(tmp_path: Path) -> None:
    folder = RASTERS / "cop_dem/dem_stitcher_los_angeles"
    when = {"datetime": "2021-04-22T00:00:00Z", "platform": "tandem-x"}
    tiles = [item(f"t{n}", "cop-dem-glo-30", {"data": folder / f"los_angeles_tile_{n}.tif"}, **when) for n in range(4)]
    with rasterio.open(folder / "los_angeles_dem_geoid.tif") as golden:
        truth, lattice = golden.read(1), GeoBox(golden.shape, golden.transform, golden.crs)
    source = catalog(tmp_path / "dem.json", tiles)
    cube = stac2cube.get_stac_layers(tmp_path / "dem.zarr", mission="cop-dem-glo-30", aoi=lattice, catalog=source)
    assert cube.sizes["time"] == 1
    np.testing.assert_array_equal(cube.height.values[0], truth)
    # On metres, across the corner where four tiles meet: as from the mosaic in one file.
    one = catalog(
        tmp_path / "one.json", [item("m", "cop-dem-glo-30", {"data": folder / "los_angeles_dem_geoid.tif"}, **when)]
    )
    area = (-118.01, 33.99, -117.99, 34.01)
    split, whole = (
        stac2cube.get_stac_layers(tmp_path / f"{name}.zarr", mission="cop-dem-glo-30", aoi=area, catalog=catalog_path)
        for name, catalog_path in (("split", source), ("whole", one))
    )
    assert split.attrs["proj:code"] == "EPSG:32611"
    np.testing.assert_array_equal(split.height.values, whole.height.values)
    assert not np.isnan(split.height.values).any()


def test_where_no_tile_is_there_is_sea_unless_tiles_were_withheld(tmp_path: Path) -> None:
    file = RASTERS / "cop_dem/Copernicus_DSM_COG_10_N00_00_E006_00_DEM.tif"
    when = {"datetime": "2021-04-22T00:00:00Z", "platform": "tandem-x"}
    source = catalog(tmp_path / "dem.json", [item("N00E006", "cop-dem-glo-30", {"data": file}, **when)])
    edge = (6.98, 0.4, 7.02, 0.44)
    cube = stac2cube.get_stac_layers(tmp_path / "dem.zarr", mission="cop-dem-glo-30", aoi=edge, catalog=source)
    assert not np.isnan(cube.height.values).any()
    assert (cube.height.values[0][:, -50:] == 0).all(), "east of the last tile is sea"
    from stac2cube.pixels.read import Sea

    mission = find_mission("cop-dem-glo-30")
    yerevan = GeoBox.from_bbox((44, 40, 45, 41), "EPSG:4326", resolution=0.1)
    filled = Sea(mission.sea, mission.withheld).fill(np.full(yerevan.shape, np.nan, "float32"), yerevan)
    assert np.isnan(filled).all(), "Armenia is no sea"


def test_landsat_by_the_formulas_of_the_usgs(tmp_path: Path) -> None:
    folder = RASTERS / "landsat/riotilerpds_LC08_001062_600m"
    stem = "LC08_L2SP_001062_20201031_20201106_02_T2"
    names = {
        "blue": "SR_B2",
        "red": "SR_B4",
        "nir08": "SR_B5",
        "lwir11": "ST_B10",
        "qa_pixel": "QA_PIXEL",
        "qa_radsat": "QA_RADSAT",
    }
    files = {key: folder / f"{stem}_{name}.TIF" for key, name in names.items()}
    raw = {}
    for key, path in files.items():
        with rasterio.open(path) as file:
            # Decimating it left pixels that are not quite square; every other one is the nearest of a square lattice.
            corner = file.transform * (20, 20)
            lattice = GeoBox((300, 300), rasterio.Affine(600, 0, corner[0], 0, -600, corner[1]), file.crs)
            raw[key] = np.zeros(lattice.shape, file.dtypes[0])
            reproject(file.read(1), raw[key], src_transform=file.transform, src_crs=file.crs,
                      dst_transform=lattice.transform, dst_crs=file.crs, resampling=Resampling.nearest)  # fmt: skip
    about = {
        "datetime": "2020-10-31T14:30:00Z",
        "platform": "landsat-8",
        "landsat:wrs_path": "001",
        "landsat:wrs_row": "062",
    }
    source = catalog(tmp_path / "landsat.json", [item(stem, "landsat-c2-l2", files, **about)])
    out = tmp_path / "landsat.zarr"
    bands = ["blue", "red", "nir08", "st", "qa_pixel", "qa_radsat"]
    words = {"mission": "landsat-c2-l2", "aoi": lattice, "time": "2020", "bands": bands, "resampling": "nearest"}
    with pytest.raises(BadInputError, match="no item of the 1 scenes found has band coastal"):
        stac2cube.get_stac_layers(out, catalog=source, **words | {"bands": [*bands, "coastal"]})
    cube = stac2cube.get_stac_layers(out, catalog=source, **words)
    for band in ("blue", "red", "nir08"):
        expected = np.where(raw[band] == 0, np.nan, raw[band] * 2.75e-5 - 0.2)
        np.testing.assert_allclose(cube[band].values[0], expected, rtol=0, atol=1e-9)
    kelvin = np.where(raw["lwir11"] == 0, np.nan, raw["lwir11"] * 0.00341802 + 149.0)
    np.testing.assert_allclose(cube.st.values[0], kelvin, rtol=0, atol=1e-9)
    assert cube.st.attrs["units"] == "K"
    for band in ("qa_pixel", "qa_radsat"):
        assert cube[band].dtype == "uint16"
        # Where no measurement is valid, no layer holds anything.
        nothing = (raw["blue"] == 0) & (raw["red"] == 0) & (raw["nir08"] == 0) & (raw["lwir11"] == 0)
        expected = np.where(nothing, {"qa_pixel": 1, "qa_radsat": 65535}[band], raw[band])
        np.testing.assert_array_equal(cube[band].values[0], expected)
    assert 64 in cube.qa_pixel.attrs["flag_masks"]
    assert cube.qa_pixel.attrs["flag_meanings"].split()[6] == "clear"
    entry = next(iter(Ledger(out, read_root(out).ledger).entries().values()))
    assert entry.key == "landsat-8_R001_20201031"
    clear = stac2cube.mask_classes(cube, keep="clear")
    assert np.isnan(clear.red.values[0][(raw["qa_pixel"] & 8) > 0]).all(), "cloud bit"


def test_opera_backscatter_stays_linear_and_nan_stays_nan(tmp_path: Path) -> None:
    files = sorted((RASTERS / "s1_rtc/opera_rtc_T009").glob("*_VH_cropped.tif"))
    items = []
    for file in files:
        time = re.search(r"_(\d{8}T\d{6})Z_", file.name)[1]
        when = f"{time[:4]}-{time[4:6]}-{time[6:8]}T{time[9:11]}:{time[11:13]}:{time[13:]}Z"
        about = {"datetime": when, "start_datetime": when, "platform": "SENTINEL-1A", "sat:relative_orbit": 9}
        items.append(item(file.stem, "sentinel-1-rtc", {"vh": file}, **about, **{"sat:orbit_state": "descending"}))
    with rasterio.open(files[0]) as file:
        lattice = GeoBox(file.shape, file.transform, file.crs)
    words = {"mission": "sentinel-1-rtc", "aoi": lattice, "time": "2024", "bands": ["VH"]}
    source = catalog(tmp_path / "s1.json", items)
    cube = stac2cube.get_stac_layers(tmp_path / "s1.zarr", catalog=source, **words)
    truth = np.stack([rasterio.open(file).read(1) for file in files])
    truth[~(truth > 0)] = np.nan
    assert cube.sizes["time"] == 6
    np.testing.assert_array_equal(cube.VH.values, truth)
    assert cube.VH.dtype == "float32"
    db = stac2cube.to_db(cube).VH
    np.testing.assert_allclose(db.values, 10 * np.log10(truth), rtol=1e-5)
    mean_then_db = stac2cube.to_db(cube.mean("time", keep_attrs=True)).VH.values
    seen = ~np.isnan(truth).all(axis=0)
    np.testing.assert_allclose(mean_then_db[seen], 10 * np.log10(np.nanmean(truth[:, seen], axis=0)), rtol=1e-4)
    assert (cube.orbit == 9).all()
    with pytest.raises(stac2cube.errors.NothingFoundError):
        stac2cube.get_stac_layers(None, catalog=source, orbit="ascending", **words)
    assert stac2cube.get_stac_layers(None, catalog=source, orbit="descending", **words).sizes["time"] == 6


def test_top_of_atmosphere_as_another_tool_scales_it(tmp_path: Path) -> None:
    stem = "S2B_MSIL1C_20200406T101559_N0209_R065_T32UPC_20200406T130159"
    folder = RASTERS / "ukis_pysat"
    names = ["B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12"]
    assets = {}
    with rasterio.open(folder / f"{stem}.tif") as file, rasterio.open(folder / f"{stem}_toa.tif") as theirs:
        lattice = GeoBox(file.shape, file.transform, file.crs)
        toa = theirs.read()
        for index, name in zip(file.indexes, names, strict=False):
            assets[name] = tmp_path / f"{name}.tif"
            profile = {**file.profile, "count": 1, "dtype": "uint16", "nodata": 0}
            with rasterio.open(assets[name], "w", **profile) as single:
                single.write(file.read(index).astype("uint16"), 1)
    used = list(assets)
    about = {"datetime": "2020-04-06T10:15:59Z", "platform": "sentinel-2b", "s2:processing_baseline": "02.09"}
    source = catalog(tmp_path / "l1c.json", [item(stem, "sentinel-2-l1c", assets, **about)])
    cube = stac2cube.get_stac_layers(
        None, mission="sentinel-2-l1c", aoi=lattice, time="2020", bands=used, catalog=source
    )
    for place, name in enumerate(used):
        valid = ~np.isnan(cube[name].values[0])
        np.testing.assert_allclose(cube[name].values[0][valid], toa[place][valid], rtol=0, atol=2e-8)


@pytest.mark.parametrize(("sensor", "dates"), [("S2_L2A_10m", 118), ("S1_GRD-ASCENDING_20m", 159)])
def test_a_dense_series_builds_into_a_cube(
    sensor: str, dates: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """118 dates of Sentinel-2; 159 of a Sentinel-1 product in decibels, through a mission page of the test's own."""
    monkeypatch.setenv("STAC2CUBE_CONFIG_DIR", str(tmp_path / "config"))
    (tmp_path / "config" / "missions").mkdir(parents=True)
    page = (Path(stac2cube.__file__).parent / "tables/missions/sentinel-1-rtc.toml").read_text()
    own = page.replace('"sentinel-1-rtc"', '"sentinel-1-db"').replace(
        'dtype = "float32"\nfill = nan\nabove = 0.0', 'dtype = "int32"\nfill = 0\nscale = 1e-4'
    )
    (tmp_path / "config" / "missions" / "sentinel-1-db.toml").write_text(own)
    file = next((RASTERS / "multisensor_series/worldcereal/00002806639B424A").glob(f"{sensor}_*.nc"))
    source = xr.open_dataset(file, engine="h5netcdf", mask_and_scale=False)
    is_s2 = sensor.startswith("S2")
    names = ["B02", "B04"] if is_s2 else ["VV", "VH"]
    step = abs(float(source.x[1] - source.x[0]))
    transform = rasterio.Affine(step, 0, float(source.x.min()) - step / 2, 0, -step, float(source.y.max()) + step / 2)
    north_up = source.sortby("y", ascending=False)
    items, truth = [], {}
    for place, time in enumerate(north_up.timestamp.values):
        assets = {}
        for name in names:
            assets[name if is_s2 else name.lower()] = path = tmp_path / f"{place}_{name}.tif"
            pixels = north_up[name].values[place]
            profile = {
                "driver": "GTiff",
                "height": pixels.shape[0],
                "width": pixels.shape[1],
                "count": 1,
                "crs": "EPSG:32631",
            }
            with rasterio.open(path, "w", dtype=pixels.dtype, transform=transform, **profile) as out:
                out.write(pixels, 1)
            truth[place, name] = pixels
        when = np.datetime_as_string(time, unit="s") + "Z"
        about = {"datetime": when, "start_datetime": when, "sat:relative_orbit": 51}
        about |= {"platform": "sentinel-2a" if is_s2 else "sentinel-1a", "s2:processing_baseline": "02.05"}
        items.append(item(f"scene{place}", "sentinel-2-l2a" if is_s2 else "sentinel-1-db", assets, **about))
    words = {"mission": "sentinel-2-l2a" if is_s2 else "sentinel-1-db", "bands": names, "time": "2017/2018"}
    lattice = GeoBox(pixels.shape, transform, "EPSG:32631")
    cube = stac2cube.get_stac_layers(
        tmp_path / "cube.zarr", aoi=lattice, catalog=catalog(tmp_path / "items.json", items), **words
    )
    assert cube.sizes["time"] == dates
    stored = stac2cube.open_cube(tmp_path / "cube.zarr", decode=False)
    order = np.argsort(north_up.timestamp.values)
    shift = 1000 if is_s2 else 0
    for position, place in list(enumerate(order))[:: dates // 7]:
        expected = truth[place, names[1]].astype("int64")
        nothing = (expected == 0) | (expected == 65535 if is_s2 else False)
        got = stored[names[1]].values[position].astype("int64")
        np.testing.assert_array_equal(got[~nothing], expected[~nothing] + shift)


def relabelled(folder: Path, tmp_path: Path, change) -> str:
    """A local catalog of recorded items whose metadata were changed."""
    items = list(items_of_path(folder))
    for feature in items:
        change(feature["properties"], feature)
    return catalog(tmp_path / f"{folder.name}-{change.__name__}.json", items)


def test_pixels_that_contradict_their_flag_are_refused(tmp_path: Path) -> None:
    """Recorded pixels of both kinds, with right and with wrong metadata."""

    def right(properties: dict, feature: dict) -> None: ...

    def unshifted(properties: dict, feature: dict) -> None:
        properties["earthsearch:boa_offset_applied"] = False

    def shifted(properties: dict, feature: dict) -> None:
        properties["earthsearch:boa_offset_applied"] = True

    lost = RASTERS / "s2_l2a/mapchete_120m"
    kept = RASTERS / "s2_l2a/mapchete_raw_offset_antimeridian"
    for folder, wrong, bands, words in (
        (lost, unshifted, ["B02", "SCL"], "seem to have lost their offset"),
        (kept, shifted, ["B04", "SCL"], "seem to have an offset"),
    ):
        area = union_all([shape(feature["geometry"]) for feature in items_of_path(folder)])
        asked = {"mission": "sentinel-2-l2a", "aoi": area, "time": "2000/2030", "bands": bands, "resolution": 120}
        asked |= {"strict": True}
        good = stac2cube.get_stac_layers(
            tmp_path / f"{folder.name}.zarr", catalog=relabelled(folder, tmp_path, right), **asked
        )
        assert good.sizes["time"] >= 1
        mild = tmp_path / f"{folder.name}-mild.zarr"
        stac2cube.get_stac_layers(mild, catalog=relabelled(folder, tmp_path, wrong), **asked | {"strict": False})
        told = [row.properties.get("doubt", "") for row in Ledger(mild, read_root(mild).ledger).entries().values()]
        assert told
        assert all(words in doubt for doubt in told)
        with pytest.raises(stac2cube.errors.IncompleteError, match=words):
            stac2cube.get_stac_layers(
                tmp_path / f"{folder.name}-wrong.zarr", catalog=relabelled(folder, tmp_path, wrong), **asked
            )
