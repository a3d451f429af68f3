"""The simulated archive: the same bytes from the same seed, files that hold the truth, items as catalogs make them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pystac
import pytest
import rasterio
import shapely
from pyproj import Transformer
from rasterio.warp import Resampling, reproject

from stac2cube.errors import BadInputError
from stac2cube.testing.archive import Archive, ArchiveSpec, simulate
from stac2cube.testing.items import GranuleProduct

CATALOGS = ("earth-search", "planetary-computer", "terrabyte", "cdse")
SMALL = ArchiveSpec(years=(2022, 2024), dates_per_year=2, tile_px=96, catalogs=CATALOGS, jp2=True, faults=True)
REFLECTANCE = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12")
RECORDED = Path(__file__).parents[2].parent / "shared" / "data" / "stac"
Json = dict[str, Any]


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    return simulate(tmp_path_factory.mktemp("archive"), SMALL)


def digest(folder: Path) -> dict[str, str]:
    files = sorted((folder / "files").rglob("*.*"))
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def read(path: Path) -> np.ndarray:
    with rasterio.open(path) as file:
        return np.asarray(file.read(1))


def views(archive: Archive, product: GranuleProduct) -> list[tuple[str, int]]:
    """Catalogs, and the collection in each, that have a product."""
    recent = product.overpass.baseline in ("05.10", "05.11") and product.overpass.orbit == 108
    second = [("earth-search", 1)] if recent and product.sequence == 0 else []
    return [(catalog, 0) for catalog in CATALOGS] + second


def broken(archive: Archive, product: GranuleProduct, band: str) -> bool:
    return (product.overpass, product.tile, band) == archive.corrupt


def test_the_same_seed_gives_the_same_bytes(archive: Archive, tmp_path: Path) -> None:
    again = simulate(tmp_path / "again", SMALL)
    assert digest(again.root) == digest(archive.root)
    assert again.items("cdse", base_url="http://x") == archive.items("cdse", base_url="http://x")


def test_another_seed_in_the_same_folder_leaves_nothing_of_the_old(tmp_path: Path) -> None:
    spec = ArchiveSpec(years=(2023,), dates_per_year=1, tile_px=24)
    first = digest(simulate(tmp_path, spec).root)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "files").rglob("*.tif")}
    simulate(tmp_path, spec)
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "files").rglob("*.tif")}
    second = digest(simulate(tmp_path, ArchiveSpec(seed=8, years=(2023,), dates_per_year=1, tile_px=24)).root)
    assert first.keys() == second.keys()
    assert first != second


@pytest.mark.parametrize("spec", [ArchiveSpec(tile_px=100), ArchiveSpec(catalogs=("usgs",))])
def test_what_it_cannot_make_is_refused(spec: ArchiveSpec, tmp_path: Path) -> None:
    with pytest.raises(BadInputError):
        simulate(tmp_path, spec)


def test_every_file_holds_the_truth_in_its_providers_form(archive: Archive) -> None:
    clipped = saturated = checked = 0
    for product in archive.products():
        picture = archive.image(product.overpass, product.tile)
        carries = float(product.overpass.baseline) >= 4
        for catalog, collection in views(archive, product):
            removed = catalog == "earth-search" and collection == 0 and carries
            for band in REFLECTANCE:
                if broken(archive, product, band):
                    continue
                counts = read(archive.file(catalog, product, band, collection=collection)).astype("int64")
                truth = picture.reflectance[band].astype("float64")
                valid = ~np.isnan(truth)
                full = counts == (64535 if removed else 65535)
                floor = (counts == 0) & valid if removed else (counts == 1) & valid & (not carries)
                exact = valid & ~full & ~floor
                seen = (counts - (1000 if carries and not removed else 0)) / 1e4
                assert np.abs(seen - truth)[exact].max() <= 0.5e-4 + 1e-7
                assert (truth[full] > 6.4).all()
                assert (truth[floor] < 1.5e-4).all()
                assert (counts[~valid] == 0).all()
                assert removed or (counts[valid] > 0).all()
                clipped, saturated, checked = clipped + floor.sum(), saturated + full.sum(), checked + exact.sum()
    assert clipped > 0
    assert saturated > 0
    assert checked > 1_000_000


def test_classes_and_haze_are_the_same_in_every_catalog(archive: Archive) -> None:
    for product in archive.products():
        picture = archive.image(product.overpass, product.tile)
        for catalog in CATALOGS:
            assert np.array_equal(read(archive.file(catalog, product, "SCL")), picture.scl)
            coarse = catalog == "earth-search"
            for band, truth in (("AOT", picture.aot), ("WVP", picture.wvp)):
                pixels = read(archive.file(catalog, product, band))
                assert np.array_equal(pixels.repeat(2, 0).repeat(2, 1) if coarse else pixels, truth)


def test_classes_match_clouds_shadows_and_water() -> None:
    archive = Archive(Path("unused"), ArchiveSpec(years=(2023,), dates_per_year=3, cloud=0.5))
    seen: set[int] = set()
    for overpass in archive.overpasses:
        picture = archive.image(overpass, archive.tiles[0])
        cloud = picture.truth.cloud.reshape(240, 2, 240, 2).mean(axis=(1, 3))
        water = picture.truth.water[::2, ::2]
        scl, inside = picture.scl, picture.scl > 0
        assert (cloud[scl == 9] > 0.5).all()
        assert (cloud[np.isin(scl, (3, 4, 5, 6))] <= 0.05 + 1e-6).all()
        assert not (scl == 6).any() or water[scl == 6].mean() > 0.95
        assert inside.all() != overpass.swath_edge
        red, nir = (picture.reflectance[band] for band in ("B04", "B08"))
        index = ((nir - red) / (nir + red)).reshape(240, 2, 240, 2).mean(axis=(1, 3))
        if (scl == 4).any():
            assert np.nanmedian(index[scl == 4]) > np.nanmedian(index[scl == 5])
        seen |= set(np.unique(scl))
        assert (overpass.sky.cover == 0) == (not np.isin(scl, (3, 7, 8, 9)).any())
    assert seen == {0, 3, 4, 5, 6, 7, 8, 9}


def test_a_shadow_lies_away_from_the_sun(archive: Archive) -> None:
    overpass = archive.overpasses[0]
    image = archive.image(overpass, archive.tiles[0])
    sky = overpass.sky
    length = sky.height / np.tan(np.radians(sky.sun_elevation))
    east, north = length * np.sin(np.radians(sky.sun_azimuth)), length * np.cos(np.radians(sky.sun_azimuth))
    tile = archive.tiles[0]
    towards = tile.transform(10) * tile.transform(10).translation(east / 10, -north / 10)
    above = archive.truth(overpass, tile.epsg, towards, (96, 96))
    expected = above.cloud * (1 - image.truth.cloud)
    assert np.abs(image.truth.shadow - expected).max() < 1e-5


def test_summer_is_green() -> None:
    archive = Archive(Path("unused"), ArchiveSpec(years=(2023,), dates_per_year=12, cloud=0))
    index = {}
    for overpass in archive.overpasses:
        clear = archive.image(overpass, archive.tiles[0]).truth.clear
        index[overpass.time.month] = float(np.mean((clear["B08"] - clear["B04"]) / (clear["B08"] + clear["B04"])))
    assert index[6] > index[1] + 0.2
    assert index[6] > index[11] + 0.2


def test_tiles_of_one_zone_agree_in_their_overlap_to_the_count(archive: Archive) -> None:
    first, second, _ = archive.tiles
    shift = second.origin[0] - first.origin[0]
    assert shift % 60 == 0
    overpass = next(passage for passage in archive.overpasses if not passage.swath_edge)
    pairs = [product for product in archive.products() if product.overpass == overpass][:2]
    for band, gsd in (("B02", 10), ("B11", 20), ("B01", 60), ("SCL", 20), ("WVP", 10)):
        west, east = (read(archive.file("planetary-computer", product, band)) for product in pairs)
        columns = shift // gsd
        assert west.shape[1] > columns
        assert np.array_equal(west[:, columns:], east[:, : west.shape[1] - columns])


def test_tiles_of_two_zones_agree_on_the_ground(archive: Archive) -> None:
    spec = ArchiveSpec(years=(2023,), dates_per_year=3, tile_px=240)
    wide = Archive(archive.root, spec)
    overpass = wide.overpasses[2]
    _, second, other = wide.tiles
    band = "B08"
    there = np.nan_to_num(wide.image(overpass, other).reflectance[band], nan=-9).astype("float32")
    here = wide.image(overpass, second).reflectance[band]
    warped = np.full(here.shape, -9, "float32")
    reproject(
        there, warped, src_transform=other.transform(10), src_crs=other.epsg, src_nodata=-9, dst_nodata=-9,
        dst_transform=second.transform(10), dst_crs=second.epsg, resampling=Resampling.bilinear,
    )  # fmt: skip
    both = warped > -9
    assert both.mean() > 0.2
    difference = np.abs(warped - here)[both]
    assert np.median(difference) < 0.005
    assert np.corrcoef(warped[both], here[both])[0, 1] > 0.95


@pytest.mark.parametrize("name", CATALOGS)
def test_items_are_stac_and_tell_where_their_pixels_lie(archive: Archive, name: str) -> None:
    features = json.loads(archive.catalog(name, late=True).read_text())["features"]
    assert features == archive.items(name, late=True)
    assert len({(item["collection"], item["id"]) for item in features}) == len(features)
    for value in features:
        item = pystac.Item.from_dict(value, preserve_dict=True)
        assert item.datetime is not None
        assert shapely.geometry.shape(item.geometry).is_valid
        for asset in item.assets.values():
            path = Path(asset.href.removeprefix("file://"))
            if path.name.startswith("B03") and "corrupt" in tags(archive, item.id, value):
                continue
            with rasterio.open(path) as file:
                assert list(file.transform)[:6] == asset.extra_fields["proj:transform"]
                assert list(file.shape) == asset.extra_fields["proj:shape"]
                told = asset.extra_fields.get("proj:code") or value["properties"].get("proj:code")
                assert file.crs.to_epsg() == int(told[5:] if told else value["properties"]["proj:epsg"])
                assert file.driver == ("JP2OpenJPEG" if path.suffix == ".jp2" else "GTiff")


def tags(archive: Archive, name: str, item: Json) -> set[str]:
    """Whether an item is of the granule whose file is cut off."""
    overpass, tile, _ = archive.corrupt
    text = json.dumps(item)
    return {"corrupt"} if f"{overpass.time:%Y%m%d}" in text and f"T{tile.code}" in text else set()


def test_the_four_catalogs_tell_of_the_same_scenes_in_their_own_words(archive: Archive) -> None:
    number = len(archive.products())
    counts = {name: len(archive.items(name, late=True)) for name in CATALOGS}
    extra = counts.pop("earth-search") - number
    assert set(counts.values()) == {number}
    assert extra > 0  # in both of its collections
    items = {name: archive.items(name, late=True)[-1] for name in CATALOGS}
    assert items["earth-search"]["properties"]["s2:product_uri"] == f"{items['cdse']['id']}.SAFE"
    assert items["terrabyte"]["assets"]["B02"]["href"].startswith("file:///")
    assert items["terrabyte"]["properties"]["proj:code"]
    assert "blue" in archive.items("terrabyte")[0]["assets"]
    assert not any("raster:bands" in asset for asset in items["planetary-computer"]["assets"].values())
    assert items["cdse"]["assets"]["AOT_10m"]["raster:offset"] == -0.1
    flags = {item["properties"].get("earthsearch:boa_offset_applied") for item in archive.items("earth-search")}
    assert flags == {True, False, None}


def test_footprints_hold_all_valid_pixels(archive: Archive) -> None:
    for product in archive.products():
        footprint = shapely.geometry.shape(product.footprint)
        valid = archive.image(product.overpass, product.tile).valid
        project = Transformer.from_crs(4326, product.tile.epsg, always_xy=True)
        ring = shapely.Polygon([project.transform(*corner) for corner in footprint.exterior.coords])
        assert ring.area == pytest.approx(100 * valid.sum(), rel=0.01)
        assert product.overpass.swath_edge == (not valid.all()) or product.tile.code != "32TPT"


def test_faults_are_there_and_only_there(archive: Archive) -> None:
    reprocessed = [product for product in archive.products() if product.sequence == 1]
    assert {product.overpass.baseline for product in reprocessed} == {"05.00"}
    assert archive.duplicate.baseline == "03.01"
    ids = {item["id"] for item in archive.items("cdse", late=True)} - {item["id"] for item in archive.items("cdse")}
    overpass, tile = archive.late_granule
    late = [product for product in archive.products() if product.overpass == archive.late]
    late += [product for product in archive.products() if (product.overpass, product.tile) == (overpass, tile)]
    assert ids == {product.uri for product in late}
    assert len(late) == 4
    for product in archive.products():
        for band in ("B03", "B04"):
            path = archive.file("earth-search", product, band)
            if broken(archive, product, band):
                with rasterio.open(path) as file, pytest.raises(rasterio.errors.RasterioIOError):
                    file.read(1)
            else:
                assert read(path).any()


def test_the_static_catalog_stands_alone(archive: Archive) -> None:
    for name in ("terrabyte", "earth-search"):
        path = archive.static_catalog(name)
        catalog = pystac.Catalog.from_file(str(path))
        items = list(catalog.get_items(recursive=True))
        assert {item.id for item in items} == {item["id"] for item in archive.items(name)}
        for item in items:
            for asset in item.assets.values():
                assert not asset.href.startswith(("/", "file:"))
                assert Path(str(asset.get_absolute_href())).exists()


def test_collections_span_their_items(archive: Archive) -> None:
    for name in CATALOGS:
        items = archive.items(name)
        for value in archive.collections(name):
            collection = pystac.Collection.from_dict(value)
            held = [item for item in items if item["collection"] == collection.id]
            (start, end), (west, south, east, north) = (
                value["extent"]["temporal"]["interval"][0],
                value["extent"]["spatial"]["bbox"][0],
            )
            assert all(start <= item["properties"]["datetime"] <= end for item in held)
            assert shapely.box(west, south, east, north).covers(
                shapely.union_all([shapely.geometry.shape(item["geometry"]) for item in held])
            )


def test_a_base_url_replaces_the_folder(archive: Archive) -> None:
    href = archive.items("cdse", base_url="http://127.0.0.1:9")[0]["assets"]["B02_10m"]["href"]
    assert (archive.root / href.removeprefix("http://127.0.0.1:9/")).exists()


@pytest.mark.real
@pytest.mark.skipif(not RECORDED.is_dir(), reason="../shared/data is absent")
@pytest.mark.parametrize(
    ("name", "file", "asset"),
    [
        ("earth-search", "earth_search/search_s2l2a_202003_page1.json", "blue"),
        ("planetary-computer", "planetary_computer/sentinel-2-l2a-pc.json", "B02"),
        ("terrabyte", "terrabyte/item_s2c1l2a_33UVA_20240131.json", "B02"),
        ("cdse", "cdse/search_s2l2a_202007.json", "B02_10m"),
    ],
)
def test_items_say_nothing_that_the_catalogs_do_not(archive: Archive, name: str, file: str, asset: str) -> None:
    recorded = json.loads((RECORDED / file).read_text())
    real = recorded[0] if isinstance(recorded, list) else recorded.get("features", [recorded])[0]
    mine = [item for item in archive.items(name, late=True) if item["collection"] == real["collection"]][-1]
    invented = mine["properties"].keys() - real["properties"].keys()
    assert invented <= {"proj:code", "stac2cube:simulated"}  # terrabyte's newer items; and that they are no real ones
    assert mine["assets"].keys() <= real["assets"].keys()
    assert mine["assets"][asset].keys() <= real["assets"][asset].keys()
    assert mine["stac_version"] == real["stac_version"]
    for key in ("s2:product_uri", "s2:datatake_id", "s2:datastrip_id", "eopf:datastrip_id", "grid:code"):
        if key in real["properties"]:
            assert len(mine["properties"][key]) == len(real["properties"][key]), key
