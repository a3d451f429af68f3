"""Cubes from real pixels, against rasterio reading the same files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
from odc.geo.geobox import GeoBox
from rasterio.enums import Resampling
from rasterio.warp import reproject
from rasterio.windows import Window
from shapely import union_all
from shapely.geometry import box, shape

import stac2cube
from stac2cube.model.grid import Grid
from stac2cube.model.image import BandRequest
from stac2cube.pixels.read import read_block
from stac2cube.search.clients import items_of_path
from stac2cube.store.metadata import read_root
from tests.pixels.granules import granule
from tests.real.recorded import RASTERS, real

pytestmark = real

TWO_TILES = RASTERS / "s2_l2a/mapchete_120m"
ANTIMERIDIAN = RASTERS / "s2_l2a/mapchete_raw_offset_antimeridian"
BANDS = ["B02", "B03", "B04", "B08", "SCL"]


@pytest.fixture(scope="module")
def cube(tmp_path_factory: pytest.TempPathFactory) -> Path:
    area = union_all([shape(item["geometry"]) for item in items_of_path(TWO_TILES)])
    path = tmp_path_factory.mktemp("real") / "layers.zarr"
    stac2cube.get_stac_layers(
        path,
        mission="sentinel-2-l2a",
        aoi=area,
        time="2023-08",
        bands=BANDS,
        resolution=120,
        catalog=str(TWO_TILES),
    )
    return path


def on_grid(path: Path, grid: Grid, *, classes: bool) -> np.ndarray:
    """A whole file on the cube's grid, by rasterio alone: copied where it lies on the lattice, else warped."""
    out = np.zeros(grid.shape, "uint16")
    with rasterio.open(path) as file:
        column, row = ~grid.geobox.transform * (file.transform.c, file.transform.f)
        if column == round(column) and row == round(row):
            read = file.read(1, window=Window(-column, -row, *grid.shape[::-1]), boundless=True, fill_value=0)
            return read.astype("uint16")
        reproject(
            file.read(1).astype("uint16"),
            out,
            src_transform=file.transform,
            src_crs=file.crs,
            src_nodata=0,
            dst_transform=grid.geobox.transform,
            dst_crs=grid.crs,
            dst_nodata=0,
            resampling=Resampling.nearest if classes else Resampling.bilinear,
            XSCALE=1,
            YSCALE=1,
        )
    return out


def mosaic(folders: list[str], grid: Grid, band: str) -> np.ndarray:
    """What the rule says, written down plainly: tiles in order of their code, a pixel's bands from one tile."""
    out, best = np.zeros(grid.shape, "uint16"), np.zeros(grid.shape, int)
    for folder in folders:
        placed = {name: on_grid(TWO_TILES / folder / f"{name}.tif", grid, classes=name == "SCL") for name in BANDS}
        valid = np.stack([placed[name] > 0 for name in BANDS[:4]])
        score = valid.all(axis=0).astype(int) + valid.any(axis=0)
        out = np.where(score > best, placed[band], out)
        best = np.maximum(best, score)
    # Baseline 05.09 with the flag set: Earth Search has subtracted 1000, the stored form has it again.
    return out if band == "SCL" else np.where(out > 0, out + 1000, 0).astype("uint16")


@pytest.mark.parametrize(
    ("step", "folders"),
    [
        (0, ["S2A_33TWL_20230815_0_L2A", "S2A_33TWM_20230815_0_L2A"]),
        (1, ["S2B_33TWL_20230820_0_L2A"]),
    ],
    ids=["two tiles", "one tile"],
)
def test_the_cube_holds_what_rasterio_reads(cube: Path, step: int, folders: list[str]) -> None:
    dataset = stac2cube.open_cube(cube, decode=False)
    grid = read_root(cube).spec.grid
    assert (grid.origin[0] - 499_980) % 120 == 0
    assert (grid.origin[1] - 5_100_000) % 120 == 0
    for band in BANDS:
        np.testing.assert_array_equal(dataset[band][step].values, mosaic(folders, grid, band), err_msg=band)
    assert set(np.unique(dataset["SCL"][step])) <= set(range(12))


def test_vegetation_is_dark_in_red_once_decoded(cube: Path) -> None:
    dataset = stac2cube.open_cube(cube)
    red = dataset["B04"][0].where(dataset["SCL"][0] == 4)
    assert 0.015 < float(red.quantile(0.01)) < 0.03


def test_raw_pixels_beyond_the_antimeridian_are_not_shifted_again(tmp_path: Path) -> None:
    path = next(ANTIMERIDIAN.glob("*/S2A_*.json"))
    item = json.loads(path.read_text())
    with rasterio.open(path.parent / "B04.jp2") as file:
        pixels, transform, crs = file.read(1), file.transform, file.crs
    assert crs.to_epsg() == 32601
    item["assets"]["red"]["href"] = str(path.parent / "B04.jp2")
    item["assets"]["scl"]["href"] = str(path.parent / "SCL.jp2")
    item["properties"]["s2:processing_baseline"] = "05.09"
    item["properties"]["sat:relative_orbit"] = 1
    catalog = tmp_path / "item.json"
    catalog.write_text(json.dumps(item))
    left, top = transform * (20, 30)
    right, bottom = transform * (300, 280)
    dataset = stac2cube.get_stac_layers(
        tmp_path / "layers.zarr",
        mission="sentinel-2-l2a",
        aoi=_frame(left, bottom, right, top),
        time="2023",
        bands=["B04", "SCL"],
        resolution=120,
        crs="EPSG:32601",
        catalog=str(catalog),
    )
    stored = stac2cube.open_cube(tmp_path / "layers.zarr", decode=False)["B04"][0].values
    np.testing.assert_array_equal(stored, pixels[30:280, 20:300])
    assert dataset["B04"].dtype == "float64"


def _frame(left: float, bottom: float, right: float, top: float):
    import geopandas

    return geopandas.GeoSeries([box(left, bottom, right, top)], crs="EPSG:32601")


@pytest.mark.parametrize("folder", ["s2_l1c/s2cloudless_optimized_31TDH_20150726", "s2_l1c/riotilerpds_19UDP_20170729"])
def test_files_are_read_by_content_not_by_name(folder: str) -> None:
    paths = sorted(p for p in (RASTERS / folder).rglob("*.jp2") if "TCI" not in p.name and "preview" not in p.parts)
    assert paths
    for path in paths:
        with rasterio.open(path) as file:
            pixels = file.read(1)
            if file.crs is None:
                continue
            lattice = GeoBox(file.shape, file.transform, str(file.crs))
        band = BandRequest("B04", "uint16", 0, "continuous")
        np.testing.assert_array_equal(read_block([granule(lattice, B04=path)], [band], lattice)["B04"], pixels)
