"""Clouds in real L1C, by the whole way: catalog, cube, stage."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox
from pyproj import Transformer
from rasterio.warp import transform_bounds

import stac2cube
from stac2cube.algorithms.radiometry import parse_sun
from stac2cube.cli import cli
from stac2cube.clouds.model import BANDS, cloud_probability
from stac2cube.errors import BadInputError, IncompleteError
from stac2cube.store.ledger import Ledger
from stac2cube.store.metadata import read_root
from tests.items import catalog, item
from tests.real.recorded import RASTERS, real

pytest.importorskip("lightgbm", reason="LightGBM is not installed, or the OpenMP that it needs: apt install libgomp1")
pytestmark = real

TILE = RASTERS / "s2_l1c/s2cloudless_optimized_31TDH_20150726"


def l1c(tmp_path: Path, **about: object) -> tuple[dict, dict[str, Path]]:
    files = {}
    for path in sorted(TILE.rglob("*.jp2")):
        if match := re.search(r"_?(B\d[0-9A])", path.stem):
            files[match[1]] = path
    given = {"datetime": "2015-07-26T10:36:55Z", "platform": "sentinel-2a", "sat:relative_orbit": 8}
    given |= {"s2:processing_baseline": "02.04", "view:sun_azimuth": 146.0, "view:sun_elevation": 62.0, **about}
    return item("l1c", "sentinel-2-l1c", files, **given), files


@pytest.fixture
def layers(tmp_path: Path) -> tuple[Path, str]:
    """A cube of the tile at 20 m, and the catalog that has its L1C."""
    feature, files = l1c(tmp_path)
    source = catalog(tmp_path / "l1c.json", [feature])
    with rasterio.open(files["B05"]) as file:
        lattice = GeoBox(file.shape, file.transform, file.crs)
    path = tmp_path / "layers.zarr"
    words = {
        "mission": "sentinel-2-l1c",
        "aoi": lattice,
        "time": "2015",
        "bands": ["B02", "B08"],
        "resampling": "average",
    }
    stac2cube.get_stac_layers(path, catalog=source, **words)
    return path, source


def test_the_probability_is_that_of_the_reference(layers: tuple[Path, str], tmp_path: Path) -> None:
    path, source = layers
    out = tmp_path / "clouds.zarr"
    clouds = stac2cube.get_cloud_layers(path, out, catalog=source, thresholds=(0.4, 0.8))
    stored = stac2cube.open_cube(out, decode=False)
    assert list(stored.data_vars) == ["cloud_probability", "cloud_mask", "cloud_mask_80", "shadow_mask", "flags"]
    assert all(layer.dtype == "uint8" for layer in stored.data_vars.values())
    assert float(clouds.cloud_probability.mean()) == pytest.approx(0.683, abs=0.01)
    # Pixel by pixel at 60 m: the bands averaged by hand, the library on them.
    detector = pytest.importorskip("s2cloudless").S2PixelCloudDetector(all_bands=False)
    _, files = l1c(tmp_path)
    stack = []
    for band in BANDS:
        with rasterio.open(files[band]) as file:
            pixels = file.read(1).astype(float)
        factor = pixels.shape[0] // 50
        stack.append(pixels.reshape(50, factor, 50, factor).mean(axis=(1, 3)))
    truth = detector.get_cloud_probability_maps(np.stack(stack, axis=-1)[np.newaxis] / 1e4)[0]
    centres = stored.cloud_probability.values[0][1::3, 1::3]  # of 60 m cells, where bilinear is the cell itself
    # Whole counts, whose means are rounded, fall on the other side of a cut of the forest here and there.
    assert np.abs(centres - 100 * truth).max() <= 3
    assert np.abs(centres - 100 * truth).mean() <= 0.5
    reference = np.load(TILE / "reference_s2cloudless_1.7.3_60m.npz")["prob"]
    assert np.abs(centres - 100 * reference).mean() <= 0.5
    assert (stored.cloud_mask_80.values <= stored.cloud_mask.values).all()
    row = next(iter(Ledger(out, read_root(out).ledger).entries().values()))
    assert row.items == ("l1c",)
    assert "CC BY-SA" in read_root(out).spec.recipe["licence"]


def test_masks_hide_and_running_again_changes_nothing(layers: tuple[Path, str], tmp_path: Path) -> None:
    path, source = layers
    out = tmp_path / "clouds.zarr"
    clouds = stac2cube.get_cloud_layers(path, out, catalog=source)
    hidden = stac2cube.mask_clouds(stac2cube.open_cube(path), clouds)
    cloudy = stac2cube.open_cube(out, decode=False).cloud_mask.values == 1
    assert np.isnan(hidden.B02.values[cloudy]).all()
    before = read_root(out).commit
    stac2cube.get_cloud_layers(path, out, catalog=source)
    assert read_root(out).commit == before
    assert cli.main(["update", str(out), "-q"], standalone_mode=False) == 0
    assert read_root(out).commit == before


def test_a_recipe_makes_layers_then_clouds(layers: tuple[Path, str], tmp_path: Path) -> None:
    _, source = layers
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "cubes: cubes\n"
        f"layers: {{mission: sentinel-2-l1c, aoi: '3.0,42.0,3.5,42.8', time: 2015, bands: [B02], catalog: {source}}}\n"
        f"clouds: {{thresholds: [0.3, 0.6], dilate_m: 60, catalog: {source}}}\n"
    )
    with rasterio.open(next(TILE.glob("*_B05.jp2"))) as file:
        bounds = transform_bounds(file.crs, "EPSG:4326", *file.bounds)
    recipe.write_text(recipe.read_text().replace("3.0,42.0,3.5,42.8", ",".join(map(str, bounds))))
    assert cli.main(["run", str(recipe), "-q"], standalone_mode=False) == 0
    clouds = stac2cube.open_cube(tmp_path / "cubes" / "clouds.zarr", decode=False)
    assert {"cloud_mask", "cloud_mask_60"} <= set(clouds.data_vars)
    assert (clouds.cloud_mask_60.values == 1).sum() < (clouds.cloud_mask.values == 1).sum()


def test_a_wrong_offset_is_named(layers: tuple[Path, str], tmp_path: Path) -> None:
    path, _ = layers
    feature, _ = l1c(tmp_path, **{"s2:processing_baseline": "05.00"})
    wrong = catalog(tmp_path / "wrong.json", [feature])
    with pytest.raises(IncompleteError, match="its offset was probably taken off twice"):
        stac2cube.get_cloud_layers(path, tmp_path / "clouds.zarr", catalog=wrong)


def test_steps_without_l1c_are_named_and_bad_words_refused(layers: tuple[Path, str], tmp_path: Path) -> None:
    path, source = layers
    feature, _ = l1c(tmp_path, **{"sat:relative_orbit": 9})
    other = catalog(tmp_path / "other.json", [feature])
    with pytest.raises(IncompleteError, match=r"has no Sentinel-2 L1C of sentinel-2a_R008_20150726"):
        stac2cube.get_cloud_layers(path, tmp_path / "clouds.zarr", catalog=other)
    with pytest.raises(BadInputError, match="thresholds should be numbers, each more than 0 and less than 1, not 40"):
        stac2cube.get_cloud_layers(path, tmp_path / "c.zarr", catalog=source, thresholds=(40,))
    assert not (tmp_path / "c.zarr").exists()


def test_another_real_scene_has_the_clouds_that_the_library_finds(tmp_path: Path) -> None:
    """GeoTIFF at 900 m inside files called .jp2: the driver goes by content; too coarse for the stage."""
    folder = RASTERS / "s2_l1c/riotilerpds_19UDP_20170729"
    files = {band: folder / f"{band}.jp2" for band in BANDS}
    pixels = []
    for path in files.values():
        with rasterio.open(path) as file:
            assert file.driver == "GTiff"
            pixels.append(file.read(1))
    toa = np.stack([np.where(band == 0, np.nan, band / 1e4) for band in pixels], axis=-1)
    found = cloud_probability(toa)
    reference = np.load(folder / "reference_s2cloudless_1.7.3_900m.npz")["prob"].squeeze()
    known = ~np.isnan(found)
    np.testing.assert_allclose(found[known], reference[known], atol=1e-6)
    assert 0.188 <= np.where(known, found, reference).mean() <= 0.1951


def test_the_sun_is_that_of_the_granule(layers: tuple[Path, str], tmp_path: Path) -> None:
    path, _ = layers
    metadata = RASTERS / "s2_l1c/eodag_31TDH_20180101/MTD_TL.xml"
    angles = parse_sun(metadata.read_text(), "MTD_TL.xml")
    assert angles.azimuth.shape == angles.elevation.shape == (23, 23)
    # The corner's own value, and near the granule's mean in its middle.
    assert angles.at(399960, 4800000, "EPSG:32631") == pytest.approx((165.2, 90 - 67.6356), abs=1.0)
    assert angles.at(454860, 4745100, "EPSG:32631") == pytest.approx((166.3285, 90 - 67.0354), abs=0.05)
    # In another zone's grid the same direction has another azimuth: by the convergence of the two.
    x, y = Transformer.from_crs(32631, 32630, always_xy=True).transform(454860, 4745100)
    turned = angles.at(x, y, "EPSG:32630")[0] - angles.at(454860, 4745100, "EPSG:32631")[0]
    convergence = 6 * np.sin(np.radians(42.85))
    assert abs(turned) == pytest.approx(convergence, abs=0.1)
    feature, _ = l1c(tmp_path)
    feature["assets"]["granule_metadata"] = {"href": str(metadata)}
    source = catalog(tmp_path / "with.json", [feature])
    out = tmp_path / "clouds.zarr"
    stac2cube.get_cloud_layers(path, out, catalog=source)
    row = next(iter(Ledger(out, read_root(out).ledger).entries().values()))
    assert row.properties["sun_elevation"] == pytest.approx(23.0, abs=0.6)
    metadata_of_nothing = tmp_path / "MTD_TL.xml"
    metadata_of_nothing.write_text("<nothing/>")
    feature["assets"]["granule_metadata"] = {"href": str(metadata_of_nothing)}
    other = tmp_path / "other.zarr"
    stac2cube.get_cloud_layers(path, other, catalog=catalog(tmp_path / "without.json", [feature]))
    row = next(iter(Ledger(other, read_root(other).ledger).entries().values()))
    assert row.properties["sun_elevation"] == pytest.approx(62.0)


def test_landsat_clouds_come_from_its_quality_bits(tmp_path: Path) -> None:
    """A real Landsat scene decimated to 600 m: no L1C, no catalog, the cube's own bits."""
    folder = RASTERS / "landsat/riotilerpds_LC08_001062_600m"
    files = {name: next(folder.rglob(f"*_{name}.TIF")) for name in ("SR_B4", "QA_PIXEL")}
    assets = {"red": tmp_path / "red.tif", "qa_pixel": tmp_path / "qa.tif"}
    for name, path in zip(("SR_B4", "QA_PIXEL"), assets.values(), strict=True):
        with rasterio.open(files[name]) as file:
            # Decimated, its pixels are not quite square; a cube's are.
            square = file.profile | {"driver": "GTiff", "transform": Affine(600, 0, 143685, 0, -600, -204285)}
            with rasterio.open(path, "w", **square) as copy:
                copy.write(file.read())
    given = {"datetime": "2020-10-31T14:34:00Z", "platform": "landsat-8", "landsat:wrs_path": "001"}
    feature = item("LC08_L2SP_001062_20201031_02_T1", "landsat-c2-l2", assets, **given, **{"landsat:wrs_row": "062"})
    source = catalog(tmp_path / "landsat.json", [feature])
    with rasterio.open(assets["qa_pixel"]) as file:
        lattice, bits = GeoBox(file.shape, file.transform, file.crs), file.read(1)
    words = {"mission": "landsat-c2-l2", "aoi": lattice, "time": "2020", "bands": ["red", "qa_pixel"]}
    stac2cube.get_stac_layers(tmp_path / "layers.zarr", catalog=source, **words)
    stac2cube.get_cloud_layers(tmp_path / "layers.zarr", tmp_path / "clouds.zarr", method="qa_pixel", dilate_m=0)
    made = stac2cube.open_cube(tmp_path / "clouds.zarr", decode=False).isel(time=0)
    known = bits != 1
    cloudy = known & ((bits >> 1 | bits >> 2 | bits >> 3) & 1 == 1)
    assert 0 < (known & ~cloudy).sum() < 100, "hardly a gap in these clouds"
    np.testing.assert_array_equal(made.cloud_mask == 1, cloudy)
    np.testing.assert_array_equal(made.cloud_mask == 255, ~known)
    np.testing.assert_array_equal(made.shadow_mask == 1, known & ~cloudy & (bits >> 4 & 1 == 1))
    assert float(made.cloud_fraction) == pytest.approx(cloudy[known].mean(), abs=1e-6)
    with pytest.raises(BadInputError, match="say method 'qa_pixel'"):
        stac2cube.get_cloud_layers(tmp_path / "layers.zarr", tmp_path / "no.zarr")
