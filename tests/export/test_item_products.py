"""Products of one STAC item, against the files it names and against another reader of catalogs and GeoTIFFs."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pystac
import pytest
import rasterio
from shapely.geometry import box, mapping

from stac2cube.cli import cli
from stac2cube.errors import BadInputError, CatalogError
from stac2cube.model.geometry import parse_crs, to_wgs84
from stac2cube.model.grid import Grid
from stac2cube.reading.item import OneItem, ProductBand, write_item_products
from stac2cube.testing.archive import Archive, ArchiveSpec, simulate
from tests.export.extensions import require_valid
from tests.servers.range_server import serving

SPEC = ArchiveSpec(years=(2024,), dates_per_year=4, tile_px=96, faults=True)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    return simulate(tmp_path_factory.mktemp("archive"), SPEC)


def run(*words: object) -> int:
    return cli.main(["item", *map(str, words), "-q"], standalone_mode=False)


def stored(archive: Archive, item: dict, name: str) -> Path:
    path = archive.root / f"{name}.json"
    path.write_text(json.dumps(item))
    return path


def counts(item: dict, asset: str) -> np.ndarray:
    with rasterio.open(item["assets"][asset]["href"]) as file:
        return file.read(1)


def test_products_are_what_the_files_say(archive: Archive, tmp_path: Path) -> None:
    item = archive.items("earth-search")[-2]
    item["links"] = [{"rel": "self", "href": "https://catalog.example/items/1"}]
    out = tmp_path / "out.v1"
    words = ("--index", "ndvi", "--index", "NBR", "--colour", "cir", "--clear")
    assert run(stored(archive, item, "one"), out, *words) == 0

    catalog = pystac.Catalog.from_file(out / "catalog.json")
    (made,) = catalog.get_items(recursive=True)
    assert (made.id, made.datetime) == (item["id"].lower(), pystac.Item.from_dict(item).datetime)
    assert set(made.assets) == {"ndvi", "nbr", "cir"}
    assert [link.href for link in made.links if link.rel == "derived_from"] == ["https://catalog.example/items/1"]
    assert all(not Path(asset.href).is_absolute() for asset in made.assets.values())
    assert made.geometry == item["geometry"]
    require_valid(made.to_dict(include_self_link=False))
    for asset in made.assets.values():
        content = Path(asset.get_absolute_href()).read_bytes()
        assert asset.extra_fields["file:checksum"] == f"1220{hashlib.sha256(content).hexdigest()}"
        assert asset.extra_fields["file:size"] == len(content)
        assert "nodata" not in asset.extra_fields, "'nan' beside numbers is no column of a table"

    # The provider has subtracted the offset: 0 has no data, and reflectance is counts / 10000.
    red, nir, scl = (counts(item, asset) for asset in ("red", "nir", "scl"))
    classes = scl.repeat(2, axis=0).repeat(2, axis=1)
    valid = (red > 0) & (nir > 0) & ~np.isin(classes, (0, 1, 2, 3, 7, 8, 9, 10))
    assert item["properties"]["earthsearch:boa_offset_applied"]
    near, far = nir.astype("float64"), red.astype("float64")
    expected = np.where(valid, (near - far) / np.where(valid, near + far, 1), np.nan)
    with rasterio.open(made.assets["ndvi"].get_absolute_href()) as file:
        assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert (file.transform.c, file.transform.f) == tuple(item["assets"]["red"]["proj:transform"][i] for i in (2, 5))
        pixels = file.read(1)
    assert np.isnan(pixels).any()
    assert np.isfinite(pixels).any()
    np.testing.assert_allclose(pixels, expected, atol=2e-4)
    with rasterio.open(made.assets["cir"].get_absolute_href()) as file:
        picture = file.read()
    green = counts(item, "green")
    seen = (red > 0) & (nir > 0) & (green > 0)
    np.testing.assert_array_equal(picture[3], np.where(seen, 255, 0))
    white = made.assets["cir"].extra_fields["stac2cube:white"]
    screen = np.rint(255 * np.clip(nir / 10_000 / white, 0, 1) ** (1 / 1.6))
    assert np.abs(picture[0].astype(int) - screen)[seen].max() <= 1


def test_an_area_a_resolution_a_staged_folder_and_an_address(archive: Archive, tmp_path: Path) -> None:
    item = archive.items("earth-search")[-2]
    west, south, east, north = item["bbox"]
    part = f"{west},{(south + north) / 2},{(west + east) / 2},{north}"
    staged = tmp_path / "staged"
    shutil.copytree(archive.root / "files", staged / "files")
    for asset in item["assets"].values():
        asset["href"] = f"./{Path(asset['href']).relative_to(archive.root)}"
    (staged / "item.json").write_text(json.dumps(item))
    links = [{"rel": "item", "href": "./item.json"}]
    catalog = {"type": "Catalog", "id": "c", "stac_version": "1.0.0", "description": "c", "links": links}
    (staged / "catalog.json").write_text(json.dumps(catalog))
    words = ("--index", "ndvi", "--aoi", part, "--resolution", "20")
    assert run(staged, tmp_path / "folder", *words) == 0
    with serving(staged) as server:
        assert run(f"{server.url}/item.json", tmp_path / "address", *words, "--place", "local", "--workers", "1") == 0
    one, two = (rasterio.open(tmp_path / name / item["id"] / "ndvi.tif") for name in ("folder", "address"))
    assert one.res == (20.0, 20.0)
    assert one.width < 40
    np.testing.assert_array_equal(one.read(), two.read())


def test_products_across_the_antimeridian_lie_where_they_are(tmp_path: Path) -> None:
    crs = "EPSG:32660"
    grid = Grid(crs, 100.0, (719_000.0, 5_300_000.0), (64, 96), chunk=(64, 96), shard=(64, 96))
    item = {
        "id": "Seam.1",
        "geometry": mapping(to_wgs84(box(*grid.geobox.boundingbox), parse_crs(crs))),
        "properties": {"datetime": "2024-05-01T00:00:00Z", "grid:code": "MGRS-60UYU", "sat:relative_orbit": 3},
    }
    block = ((0, 0), {"ndvi": np.full((1, *grid.shape), 0.5, "float32")})
    path = write_item_products(tmp_path / "out", item, grid, {"ndvi": ProductBand("NDVI")}, [block])
    (made,) = pystac.Catalog.from_file(path).get_items(recursive=True)
    require_valid(made.to_dict(include_self_link=False))
    assert made.bbox is not None
    west, south, east, north = made.bbox
    assert 179 < west < 180
    assert -180 < east < -179
    assert 47 < south < north < 48
    assert made.id == "seam-1"


def test_what_cannot_be_made_leaves_nothing(archive: Archive, tmp_path: Path) -> None:
    items = archive.items("earth-search")
    overpass, tile, band = archive.corrupt
    broken = next(item for item in items if tile.code in item["id"] and f"{overpass.time:%Y%m%d}" in item["id"])
    out = tmp_path / "out"
    assert run(stored(archive, broken, "broken"), out, "--colour", "true") == 2, band
    whole = stored(archive, items[-2], "whole")
    both = archive.root / "both.json"
    both.write_text(json.dumps({"type": "FeatureCollection", "features": items[:2]}))
    strange = stored(archive, {**items[-2], "collection": "something"}, "strange")
    for words, said in (
        ((whole, out), "say what to make"),
        ((whole, out, "--index", "nonsense"), "unknown index"),
        ((whole, out, "--colour", "nonsense"), "unknown colours"),
        ((whole, out, "--index", "ndvi", "--aoi", "0,0,1,1"), "nothing of the area"),
        ((both, out, "--index", "ndvi"), "holds several items"),
        ((strange, out, "--index", "ndvi"), "of the collection 'something': say the mission"),
        ((whole, archive.root, "--index", "ndvi"), "exists: name another folder"),
    ):
        with pytest.raises(BadInputError, match=said):
            run(*words)
    with pytest.raises(CatalogError, match="does not exist"):
        run(tmp_path / "nowhere.json", out, "--index", "ndvi")
    assert not list(tmp_path.iterdir())
    assert OneItem.of(items[0], "sentinel-2-l2a").mission == OneItem.of(items[0]).mission
