"""Recorded Level-1C products with their metadata as samples, against the same files evaluated with plain NumPy."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine

from stac2cube.datasets.rules import AngleRules, LabelRules, SampleRules
from stac2cube.datasets.samples import make_samples
from tests.items import Json, catalog, item
from tests.real.recorded import DATA, RASTERS, real
from tests.real.test_real_angles import block, grids

pytestmark = real

BANDS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12")


def entry(name: str, assets: dict[str, Path], time: str, platform: str, orbit: int, tile: str) -> Json:
    about = {"datetime": time, "platform": platform, "sat:relative_orbit": orbit, "grid:code": f"MGRS-{tile}"}
    return item(name, "sentinel-2-l1c", assets, **about)


def opened(path: Path) -> tuple[np.ndarray, dict]:
    with rasterio.open(path) as file:
        return file.read(), {**file.profile, "names": file.descriptions}


def test_a_whole_band_its_angles_and_its_scaling(tmp_path: Path) -> None:
    folder = RASTERS / "s2_l1c/eodag_31TDH_20180101"
    assets = {
        "B01": folder / "T31TDH_20180101T105441_B01.jp2",
        "product_metadata": folder / "MTD_MSIL1C.xml",
        "granule_metadata": folder / "MTD_TL.xml",
    }
    name = "S2A_MSIL1C_20180101T105441_N0206_R051_T31TDH_20180101T124911"
    source = catalog(tmp_path / "index.json", [entry(name, assets, "2018-01-01T10:54:41Z", "sentinel-2a", 51, "31TDH")])
    rules = SampleRules(bands=("B01",), target="B01", angles=AngleRules())
    index = make_samples(source, tmp_path / "set", rules)
    (sample,) = index.done
    assert sample.grid.shape == (1830, 1830)
    x, about = opened(tmp_path / "set" / sample.x_path)
    with rasterio.open(assets["B01"]) as file:
        counts = file.read(1)
        assert about["transform"] == file.transform
    seen = counts > 0
    np.testing.assert_allclose(x[0][seen], counts[seen] / 10_000, rtol=6e-8)  # float32
    assert np.isnan(x[0][~seen]).all()
    np.testing.assert_array_equal(x[1], seen)
    assert sample.valid_fraction == seen.mean()
    angles, _ = opened(tmp_path / "set" / sample.angles_path)
    text = (folder / "MTD_TL.xml").read_text()
    # Pixel centres lie 30 m beside the nodes: bilinear in between, of the file's own numbers.
    zenith = block(text[text.index("<Sun_Angles_Grid>") : text.index("</Sun_Angles_Grid>")], "Zenith")
    detectors = np.stack([z for z, _ in grids(text, 0)])
    view = np.nanmean(np.where(np.isfinite(detectors).any(axis=0), detectors, 0), axis=0)
    known = np.isfinite(detectors).any(axis=0)
    for channel, nodes in ((0, zenith), (2, view)):
        for row, column in ((0, 0), (1000, 1700), (1500, 1600), (333, 1811)):
            down, right = (row + 0.5) * 60 / 5000, (column + 0.5) * 60 / 5000
            i, j = int(down), int(right)
            if channel == 2 and not known[i : i + 2, j : j + 2].all():
                continue
            u, v = down - i, right - j
            four = nodes[i : i + 2, j : j + 2]
            expected = (
                four[0, 0] * (1 - u) * (1 - v)
                + four[0, 1] * (1 - u) * v
                + four[1, 0] * u * (1 - v)
                + four[1, 1] * u * v
            )
            assert angles[channel, row, column] == pytest.approx(expected, abs=1e-5)
    # Angles are known wherever the sensor saw something, up to the edge of the swath.
    assert np.isfinite(angles[2][seen]).mean() > 0.999


def test_a_zipped_product_with_all_thirteen_bands(tmp_path: Path) -> None:
    archive = next((RASTERS / "s2_l1c/wagl_safe").glob("*.zip"))
    with zipfile.ZipFile(archive) as file:
        file.extractall(tmp_path / "safe")
    folder = next((tmp_path / "safe").iterdir())
    images = {path.stem[-3:]: path for path in folder.rglob("IMG_DATA/*.jp2")}
    # Thinned to 1 of 64 pixels, they do not have square pixels any more: they get the true corner and 640 m.
    assets, counts = {}, {}
    for band in BANDS:
        with rasterio.open(images[band]) as file:
            counts[band] = file.read(1)
            scale = round(109_800 / counts[band].shape[0])
            assets[band] = tmp_path / f"{band}.tif"
            transform = Affine(scale, 0, file.transform.c, 0, -scale, file.transform.f)
            profile = {"driver": "GTiff", "height": file.height, "width": file.width, "count": 1, "dtype": "uint16"}
            with rasterio.open(assets[band], "w", crs=file.crs, transform=transform, **profile) as out:
                out.write(counts[band], 1)
    assets["product_metadata"] = folder / "MTD_MSIL1C.xml"
    assets["granule_metadata"] = next(folder.rglob("MTD_TL.xml"))
    made = entry(folder.stem, assets, "2017-07-19T00:02:19Z", "sentinel-2b", 30, "56JKT")
    source = catalog(tmp_path / "index.json", [made])
    rules = SampleRules(bands=BANDS, target="B02", angles=AngleRules("sin_cos", "per_band"), threshold=1.0)
    index = make_samples(source, tmp_path / "set", rules)
    (sample,) = index.done
    x, about = opened(tmp_path / "set" / sample.x_path)
    assert about["names"] == (*BANDS, "valid")
    for place, band in enumerate(BANDS):
        if counts[band].shape == counts["B02"].shape:
            seen = counts[band] > 0
            np.testing.assert_allclose(x[place][seen], counts[band][seen] / 10_000, rtol=6e-8)
    angles, about = opened(tmp_path / "set" / sample.angles_path)
    assert about["count"] == 2 * (2 + 2 * 13)
    squares = angles[0::2] ** 2 + angles[1::2] ** 2
    np.testing.assert_allclose(squares[np.isfinite(squares)], 1, atol=1e-6)


def test_reflectance_as_another_tool_scales_it_by_the_product_file(tmp_path: Path) -> None:
    stem = "S2B_MSIL1C_20200406T101559_N0209_R065_T32UPC_20200406T130159"
    folder = RASTERS / "ukis_pysat"
    assets: dict[str, Path] = {}
    with rasterio.open(folder / f"{stem}.tif") as file, rasterio.open(folder / f"{stem}_toa.tif") as theirs:
        toa = theirs.read()
        for index, name in zip(file.indexes, BANDS, strict=False):
            assets[name] = tmp_path / f"{name}.tif"
            with rasterio.open(
                assets[name], "w", **{**file.profile, "count": 1, "dtype": "uint16", "nodata": 0}
            ) as one:
                one.write(file.read(index).astype("uint16"), 1)
    used = tuple(assets)
    assets["product_metadata"] = folder / f"{stem}_MTD.xml"
    source = catalog(tmp_path / "index.json", [entry(stem, assets, "2020-04-06T10:15:59Z", "sentinel-2b", 65, "32UPC")])
    index = make_samples(source, tmp_path / "set", SampleRules(bands=used, target=used[0]))
    x, _ = opened(tmp_path / "set" / index.done[0].x_path)
    for place in range(len(used)):
        seen = x[-1] == 1
        assert seen.any()
        np.testing.assert_allclose(x[place][seen], toa[place][seen], rtol=0, atol=2e-8)


def test_offsets_of_a_recorded_product_file_are_applied(tmp_path: Path) -> None:
    """Level-2A of baseline 05.09, whose file says -1000 and 10000, with its classes as labels."""
    folder = RASTERS / "s2_l2a/mapchete_raw_offset_antimeridian"
    folder = next(path for path in folder.iterdir() if path.is_dir())
    xml = DATA / "safe_xml/S2A_MSIL2A_20230625T234621_N0509_R073_T01WCP_20230626T022157.SAFE/MTD_MSIL2A.xml"
    assets = {"B04_10m": folder / "B04.jp2", "SCL_20m": folder / "SCL.jp2", "product_metadata": xml}
    made = entry("S2A_T01WCR", assets, "2023-06-02T00:06:14Z", "sentinel-2a", 44, "01WCR")
    made |= {"collection": "sentinel-2-l2a"}
    made["properties"]["processing:version"] = "05.09"
    source = catalog(tmp_path / "index.json", [made])
    labels = LabelRules(mapping={"8": 1, "9": 1, "4": 0, "6": 0}, mask_invalid=False)
    rules = SampleRules("sentinel-2-l2a", ("B04",), "B04", labels=labels)
    index = make_samples(source, tmp_path / "set", rules)
    assert index.radiometry == "boa"
    (sample,) = index.done
    x, _ = opened(tmp_path / "set" / sample.x_path)
    y, _ = opened(tmp_path / "set" / sample.y_path)
    with rasterio.open(folder / "B04.jp2") as file:
        counts = file.read(1)
    seen = counts > 0
    np.testing.assert_allclose(x[0][seen], (counts[seen].astype("float64") - 1000) / 10_000, rtol=0, atol=6e-8)
    with rasterio.open(folder / "SCL.jp2") as file:
        classes = file.read(1)
    assert classes.shape == counts.shape
    np.testing.assert_array_equal(y[0], np.select([np.isin(classes, (8, 9)), np.isin(classes, (4, 6))], [1, 0], 255))
