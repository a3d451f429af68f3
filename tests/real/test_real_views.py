"""Views of real pixels, against the agencies' formulas and against products that others made of the same pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
import xarray as xr

from stac2cube.views.composite import composite
from stac2cube.views.indices import indices
from stac2cube.views.masks import class_mask
from stac2cube.views.units import despeckle, slope, to_celsius, to_db, to_kelvin, to_reflectance
from tests.real.recorded import RASTERS, real
from tests.views.cubes import image, nothing_computed

pytestmark = real

LANDSAT = RASTERS / "landsat/riotilerpds_LC08_001062_600m"
LANDSAT_NAME = "LC08_L2SP_001062_20201031_20201106_02_T2"
SEN2R = RASTERS / "s2_l1c_l2a_pair/sen2r_barbellino"
OPERA = RASTERS / "s1_rtc/opera_rtc_T009"
WORLDCEREAL = RASTERS / "multisensor_series/worldcereal/00002806639B424A"


def read(path: Path, band: int = 1) -> np.ndarray:
    with rasterio.open(path) as file:
        return file.read(band)


def landsat(band: str) -> np.ndarray:
    return read(LANDSAT / f"{LANDSAT_NAME}_{band}.TIF")


def landsat_dataset() -> xr.Dataset:
    reflectance = {
        "scale_factor": 2.75e-5,
        "add_offset": -0.2,
        "_FillValue": 0,
        "units": "1",
        "standard_name": "surface_bidirectional_reflectance",
    }
    kelvin = {"scale_factor": 0.00341802, "add_offset": 149.0, "_FillValue": 0, "units": "K"}
    layers = {
        name: image(landsat(band)[None], name, **reflectance)
        for name, band in {"red": "SR_B4", "nir08": "SR_B5"}.items()
    }
    bits = image(landsat("QA_PIXEL")[None], "qa_pixel", _FillValue=1, flag_masks=[1, 2])
    return xr.Dataset({**layers, "lwir11": image(landsat("ST_B10")[None], "lwir11", **kelvin), "qa_pixel": bits})


@pytest.mark.parametrize("decoded", [False, True])
def test_landsat_by_the_formulas_of_usgs(decoded: bool) -> None:
    dataset = landsat_dataset()
    if decoded:
        dataset = xr.decode_cf(dataset)
    lazy = dataset.chunk({"y": 100, "x": 150})
    with nothing_computed():
        view = to_celsius(to_reflectance(lazy))
        kelvin = to_kelvin(lazy)["lwir11"]
    for name, band in {"red": "SR_B4", "nir08": "SR_B5"}.items():
        stored = landsat(band).astype("float64")
        expected = np.where(stored == 0, np.nan, stored * 2.75e-5 - 0.2)
        np.testing.assert_allclose(view[name].values[0], expected, rtol=1e-6, atol=1e-8)
    stored = landsat("ST_B10").astype("float64")
    expected = np.where(stored == 0, np.nan, stored * 0.00341802 + 149.0)
    np.testing.assert_allclose(kelvin.values[0], expected, rtol=1e-7)
    np.testing.assert_allclose(view["lwir11"].values[0], expected - 273.15, rtol=1e-6, atol=2e-5)


@pytest.mark.parametrize("decoded", [False, True])
def test_landsat_classes_agree_with_the_bit_that_says_clear(decoded: bool) -> None:
    dataset = xr.decode_cf(landsat_dataset()) if decoded else landsat_dataset()
    bits = landsat("QA_PIXEL")
    fill, clear, water = bits == 1, (bits >> 6) & 1 == 1, (bits >> 7) & 1 == 1
    assert np.array_equal(class_mask(dataset, ["nodata"]).values[0], fill)
    seen = class_mask(dataset, ["cloud", "near_cloud"]).values[0]
    assert np.array_equal(~seen & ~fill, clear)
    assert np.array_equal(class_mask(dataset, ["water"]).values[0], clear & water & (bits & 0b11_0100 == 0))
    assert seen.any()
    assert clear.any()


def test_the_ndvi_that_others_made_of_the_same_pixels() -> None:
    for day in ("20170703", "20190723"):
        boa = SEN2R / f"S2A2A_{day}_022_Barbellino_BOA_10.tif"
        stored = {"red": read(boa, 4), "nir": read(boa, 8)}
        dataset = xr.Dataset(
            {name: image(pixels, name, _FillValue=65535, scale_factor=1e-4) for name, pixels in stored.items()}
        )
        theirs = read(SEN2R / f"S2A2A_{day}_022_Barbellino_NDVI_10.tif").astype(float)
        ours = indices(dataset, "NDVI")["NDVI"].values
        outside = theirs == -32768
        assert np.array_equal(np.isnan(ours), outside | (stored["red"] == 65535))
        # Theirs are integers of 1e-4, cut off or rounded.
        assert np.nanmax(np.abs(ours - np.where(outside, np.nan, theirs / 10000))) <= 1.01e-4


def opera() -> xr.Dataset:
    return image(np.stack([read(path) for path in sorted(OPERA.glob("*VH_cropped.tif"))]), "VH", step=30).to_dataset()


def test_radar_series_in_linear_power() -> None:
    dataset = opera()
    power = dataset["VH"].values
    assert power.shape == (6, 250, 350)
    lazy = dataset.chunk({"time": 1, "y": 100, "x": 100})
    with nothing_computed():
        decibel = to_db(lazy)["VH"]
        mean = to_db(composite(lazy, "all", "mean"), layers=["VH"])["VH"]
        smooth = despeckle(lazy)["VH"]
    valid = power > 0
    assert np.array_equal(np.isfinite(decibel.values), valid)
    np.testing.assert_allclose(decibel.values[valid], 10 * np.log10(power[valid].astype(float)), rtol=1e-5, atol=1e-5)
    some = valid.any(axis=0)
    average = np.where(valid, power, 0).sum(axis=0, dtype="float64")[some] / valid.sum(axis=0)[some]
    np.testing.assert_allclose(mean.values[0][some], 10 * np.log10(average), rtol=1e-5, atol=1e-5)
    assert np.array_equal(np.isfinite(smooth.values), valid)
    np.testing.assert_array_equal(smooth.values, despeckle(dataset)["VH"].values)
    assert np.nanvar(smooth.values) < 0.8 * np.nanvar(power)
    assert np.nanmean(smooth.values) == pytest.approx(np.nanmean(power), rel=0.02)


def test_monthly_medians_equal_xarrays_own() -> None:
    pytest.importorskip("h5netcdf")
    path = WORLDCEREAL / f"S2_L2A_10m_{WORLDCEREAL.name}_32631_2017-08-01_2018-11-30.nc"
    with xr.open_dataset(path, engine="h5netcdf", chunks={"timestamp": 10}) as opened:
        dataset = opened[["B04", "B08"]].rename(timestamp="time")
        with nothing_computed():
            ours = composite(dataset, "month")
        theirs = dataset.compute().resample(time="1MS").median(skipna=True)
        assert ours.sizes["time"] == 16
        assert np.array_equal(ours["time"].values, theirs["time"].values)
        for band in ("B04", "B08"):
            np.testing.assert_allclose(ours[band].values, theirs[band].values, rtol=1e-6)


def test_slopes_of_a_real_height_model_in_degrees_and_in_metres() -> None:
    """The same ground, warped to UTM by GDAL: slopes agree but for what the warp smooths."""
    from rasterio.enums import Resampling
    from rasterio.warp import reproject

    with rasterio.open(RASTERS / "cop_dem/dem_stitcher_los_angeles/los_angeles_tile_0.tif") as file:
        heights, transform, crs = file.read(1), file.transform, file.crs
    rows, columns = heights.shape
    degrees = image(heights, "dem", "EPSG:4326").assign_coords(
        y=transform.f + transform.e * (np.arange(rows) + 0.5), x=transform.c + transform.a * (np.arange(columns) + 0.5)
    )
    middle = (transform.c + transform.a * columns / 2, transform.f + transform.e * rows / 2)
    from odc.geo.geobox import GeoBox
    from pyproj import Transformer

    x, y = Transformer.from_crs(4326, 32611, always_xy=True).transform(*middle)
    size = min(rows, columns) // 2
    box = GeoBox.from_bbox((x - 15 * size, y - 15 * size, x + 15 * size, y + 15 * size), "EPSG:32611", resolution=30)
    warped = np.full(box.shape, np.nan, "float32")
    reproject(
        heights.astype("float32"),
        warped,
        src_transform=transform,
        src_crs=crs,
        dst_transform=box.transform,
        dst_crs="EPSG:32611",
        dst_nodata=np.nan,
        resampling=Resampling.cubic,
    )
    in_metres = slope(image(warped, "dem", "EPSG:32611", 30.0)).values
    in_degrees = slope(degrees).values
    inner = in_degrees[rows // 4 : -rows // 4, columns // 4 : -columns // 4]
    for part in (25, 50, 75, 95):
        assert np.nanpercentile(in_metres, part) == pytest.approx(np.nanpercentile(inner, part), rel=0.1, abs=0.3)
