"""Sentinel-2 as EOPF Zarr: recorded items, and stores that ESA's own tools made of a SAFE product, beside that SAFE."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.warp import transform_bounds
from shapely.geometry import box, shape

import stac2cube
from stac2cube.access.sign import opening
from stac2cube.algorithms.radiometry import interpolated, merged, parse_angles
from stac2cube.build.plan import outdated
from stac2cube.datasets.rules import AngleRules
from stac2cube.datasets.sample_files import store_angles
from stac2cube.datasets.samples import _angles_file
from stac2cube.errors import ReadError
from stac2cube.model.catalog import Catalog, find_catalog
from stac2cube.model.image import BandRequest, Image
from stac2cube.model.mission import find_mission
from stac2cube.model.scene import AssetRef, Granule, identify
from stac2cube.pixels.open import Engine, inspect
from stac2cube.pixels.read import read_block
from stac2cube.pixels.zarr_header import ZarrHeader, zarr_header
from stac2cube.search.clients import items_of_api
from stac2cube.search.items import Reading, to_granule
from stac2cube.search.parsing import footprint_of
from stac2cube.search.search import scenes_of
from tests.items import Json, catalog
from tests.real.recorded import DATA, real
from tests.search.mutations import query_of, recorded

pytestmark = real

EOPF = DATA / "eopf"
GEN = EOPF / "gen"
T01WCP = "S2A_MSIL2A_20230625T234621_N0509_R073_T01WCP_20230626T022157"
T33XWJ = "S2B_MSIL2A_20220413T150759_N0400_R025_T33XWJ_20220414T082126"
STORES = {
    T01WCP: ("cpm281_v2", "cpm300_v3", "cpm310rc1_v3", "geozarr0120_keep_sharded", "geozarr0120_float"),
    T33XWJ: ("cpm300_v2",),
}
"""Those that are not at hand are left out, but at least one of each product is there."""

L2A = find_mission("sentinel-2-l2a")
BANDS = tuple(L2A.bands)


def stores(product: str) -> list[Path]:
    found = [GEN / f"{kind}_{product}.zarr" for kind in STORES[product]]
    there = [path for path in found if path.is_dir()]
    assert there
    return there


def safe_item(product: str, day: str = "") -> Json:
    """The SAFE product as CDSE's items have it; on another day, to be a second step."""
    assets = {}
    for path in sorted((GEN / "safe" / f"{product}.SAFE").rglob("*.jp2")):
        words = path.stem.split("_")
        if words[-1][:-1] in {"10", "20", "60"} and path.parent.name == f"R{words[-1]}":
            assets[f"{words[-2]}_{words[-1]}"] = {"href": str(path)}
    store = json_of_store(stores(product)[0])
    properties = dict(store["properties"]) | {
        "processing:version": f"{product[28:30]}.{product[30:32]}",
        "grid:code": f"MGRS-{product.split('_')[5][1:]}",
    }
    properties = {key: part for key, part in properties.items() if not key.startswith("eopf:")}
    strip = store["properties"]["eopf:datastrip_id"]
    properties |= {"s2:datastrip_id": strip, "product:type": "S2MSI2A"}
    made = {**store, "id": product, "collection": "sentinel-2-l2a", "properties": properties, "assets": assets}
    return on_day(made, day)


def json_of_store(path: Path) -> Json:
    """What a store says of itself, as an item of a catalog that names the product only."""
    v2 = path / ".zattrs"
    root = {"attributes": json.loads(v2.read_text())} if v2.is_file() else json.loads((path / "zarr.json").read_text())
    said = root["attributes"]["stac_discovery"]
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "id": said["id"],
        "geometry": said["geometry"],
        "bbox": said["bbox"],
        "properties": said["properties"],
        "assets": {"product": {"href": str(path), "type": "application/vnd.zarr"}},
        "links": [],
    }


def on_day(item: Json, day: str) -> Json:
    if not day:
        return item
    time = item["properties"]["datetime"]
    return {**item, "id": f"{item['id']}-{day}", "properties": {**item["properties"], "datetime": day + time[10:]}}


def pixels(href: Path) -> tuple[np.ndarray, Any]:
    def read(image: Image, _: AssetRef) -> tuple[np.ndarray, Any]:
        rows, columns = image.geobox.shape
        return image.read(1, (slice(0, rows), slice(0, columns))), image.geobox

    asset = AssetRef(str(href))
    return inspect(Engine(), asset, opening(asset, "none"), read)


NATIVE = {band: (gsd, f"{band}_{gsd}m") for band in BANDS for gsd in [L2A.bands[band].gsd]}


@pytest.mark.parametrize("product", STORES)
def test_counts_and_lattices_are_those_of_the_safe(product: str) -> None:
    """All 15 bands at native resolution; no data, 1, 500 and 65535 are planted in the SAFE (checks A1, A3, A5)."""
    for store in stores(product):
        granule = granule_of(json_of_store(store))
        assert set(granule.assets) == set(BANDS)
        assert {asset.shift for asset in granule.assets.values()} == {0}
        for band, (gsd, key) in NATIVE.items():
            (jp2,) = (GEN / "safe" / f"{product}.SAFE").rglob(f"R{gsd}m/*_{key}.jp2")
            found, geobox = pixels(Path(granule.assets[band].href))
            with rasterio.open(jp2) as file:
                np.testing.assert_array_equal(found, file.read(1), err_msg=f"{store.name} {band}")
                assert found.dtype == file.dtypes[0]
                assert geobox.transform == file.transform
                assert str(geobox.crs) == str(file.crs)
            assert (found == 0).any()
            if L2A.bands[band].quantity.name == "reflectance":
                assert {1, 500, 65_535} <= set(np.unique(found).tolist())


def granule_of(item: Json) -> Granule:
    identity = identify(item, L2A)
    assert identity is not None
    here = Catalog(name="here", title="here", url="/", like="eopf" if "product" in item["assets"] else "cdse")
    return to_granule(item, Reading(L2A, here, tuple(L2A.bands.values())), identity)


def area(product: str) -> str:
    """Some 1.2 km in the middle of what the synthetic pictures cover, with the planted counts."""
    (jp2,) = (GEN / "safe" / f"{product}.SAFE").rglob("R10m/*_B02_10m.jp2")
    with rasterio.open(jp2) as file:
        middle = file.xy(file.height // 2, file.width // 2)
        bounds = transform_bounds(file.crs, "EPSG:4326", *(n + d for d in (-600, 600) for n in middle))
    return ",".join(f"{number:.6f}" for number in bounds)


def digest(cube: Any) -> str:
    """Of all pixels and steps of a cube."""
    made = hashlib.sha256()
    for name in sorted(cube.data_vars):
        if name in BANDS:
            made.update(np.ascontiguousarray(cube[name].values).tobytes())
    made.update(str(sorted(map(str, cube["scene"].values))).encode() if "scene" in cube.coords else b"")
    return made.hexdigest()


def build(out: Path, items: list[Json], product: str, **words: Any) -> str:
    source = catalog(out.with_suffix(".json"), items)
    time = words.pop("time", "2022/2023")
    asked = {"mission": "sentinel-2-l2a", "aoi": area(product), "bands": list(BANDS), "resolution": 10.0}
    cube = stac2cube.get_stac_layers(out, **({} if words.get("update") else asked), time=time, catalog=source, **words)
    return digest(cube)


@pytest.mark.parametrize("product", STORES)
def test_cubes_of_one_product_are_the_same_from_safe_and_from_zarr(product: str, tmp_path: Path) -> None:
    """Digests of whole cubes (checks A1, A2, A9)."""
    digests = {"safe": build(tmp_path / "safe.zarr", [safe_item(product)], product)}
    for store in stores(product):
        digests[store.name] = build(tmp_path / f"{store.name[:20]}.zarr", [json_of_store(store)], product)
    assert len(set(digests.values())) == 1, digests


@pytest.mark.parametrize("product", STORES)
def test_means_of_coarser_pixels_are_those_of_the_safe_where_these_are_exact(product: str) -> None:
    """Arrays have no overviews: where JPEG 2000 gives its low-passed ones, counts differ a little (check A13)."""
    band = BandRequest("B04", "uint16", 0, "continuous", "average")
    safe = granule_of(safe_item(product))
    for store in stores(product):
        zarr = granule_of(json_of_store(store))
        assert zarr.corner is not None
        x, y = zarr.corner
        box = GeoBox((16, 16), Affine(60, 0, x, 0, -60, y - 3000), zarr.crs)
        exact = [read_block([one], [replace(band, exact=True)], box)["B04"] for one in (safe, zarr)]
        np.testing.assert_array_equal(*exact)
        assert (exact[0] > 0).all()
        quick = [read_block([one], [band], box)["B04"].astype(int) for one in (safe, zarr)]
        np.testing.assert_array_equal(quick[1], exact[1])
        assert 0 < np.median(np.abs(quick[0] - quick[1])) < 50


def test_a_cube_begun_from_safe_is_extended_from_zarr_and_back(tmp_path: Path) -> None:
    """Three days, whose pixels are the same by construction: no step differs, and the ledger keeps each catalog."""
    out = tmp_path / "mixed.zarr"
    store = stores(T01WCP)[0]
    build(out, [safe_item(T01WCP, "2023-06-05")], T01WCP, time="2023-06-01/2023-06-10")
    zarrs = [on_day(json_of_store(store), "2023-06-15")]
    build(out, zarrs, T01WCP, time="2023-06-11/2023-06-20", update=True)
    build(out, [safe_item(T01WCP, "2023-06-25")], T01WCP, time="2023-06-21/2023-06-30", update=True)
    cube = stac2cube.open_cube(out)
    assert cube.sizes["time"] == 3
    for band in BANDS:
        first, second, third = cube[band].values
        np.testing.assert_array_equal(first, second, err_msg=band)
        np.testing.assert_array_equal(first, third, err_msg=band)


def named(item: Json) -> str:
    """The product of an item of any catalog, without ``.SAFE``."""
    return str(item["properties"].get("s2:product_uri") or item["id"]).removesuffix(".SAFE")


def of_eopf(shape: Json, other: Json) -> Json:
    """The item that EOPF would have of the product of another catalog's item: one that was recorded, renamed."""
    made: Json = json.loads(json.dumps(shape).replace(shape["id"], named(other)))
    words = named(other).split("_")
    begun = datetime.strptime(words[2], "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
    about = (
        made["properties"]
        | {
            "datetime": begun.isoformat(),  # of the datatake, minutes before the tile's own
            "platform": f"sentinel-2{words[0][2].lower()}",
            "sat:relative_orbit": int(words[4][1:]),
            "grid:code": f"MGRS-{words[5][1:]}",
        }
    )
    if "eopf:datastrip_id" in about:
        said = other["properties"]
        about["eopf:datastrip_id"] = said.get("s2:datastrip_id") or said.get("eopf:datastrip_id")
        about |= {"eopf:datatake_id": "", "processing:version": f"{words[3][1:3]}.{words[3][3:]}"}
    return made | {"geometry": other["geometry"], "bbox": other["bbox"], "properties": about}


def test_one_product_is_one_scene_in_all_catalogs() -> None:
    """Recorded items of the four catalogs, beside EOPF's of both shapes: one key, and neither is behind the other."""
    shapes = [json.loads(next((EOPF / "stac").glob(f"{name}*.json")).read_text()) for name in ("S2C_", "S2A_")]
    assert ["eopf:datastrip_id" in shape["properties"] for shape in shapes] == [True, False]
    others = [(provider, item) for provider, mission, item in recorded() if mission == L2A.name]
    others = [(provider, item) for provider, item in others if re.match(r"S2[A-D]_MSIL2A_\d", named(item))]
    assert {"earth_search", "planetary_computer", "terrabyte", "cdse"} <= {provider for provider, _ in others}
    for provider, item in others:
        query = query_of(L2A.name, longitude=(item["bbox"][0] + item["bbox"][2]) / 2)
        (theirs,) = scenes_of([item], query, find_catalog(provider.replace("_", "-")))
        for one in shapes:
            (ours,) = scenes_of([of_eopf(one, item)], query, find_catalog("eopf"))
            assert ours.key == theirs.key
            assert not outdated(ours.parts, theirs.parts), (ours.parts, theirs.parts)
            assert not outdated(theirs.parts, ours.parts), (ours.parts, theirs.parts)


def recorded_items() -> list[Json]:
    paths = [path for folder in ("stac", "stac/explorer") for path in (EOPF / folder).glob("S2*")]
    found = [json.loads(path.read_text()) for path in paths]
    for path in sorted((EOPF / "stac").glob("search_*.json")):
        found += json.loads(path.read_text())["features"]
    assert len(found) > 40
    return found


def test_every_recorded_item_gives_all_bands() -> None:
    """Service items of both shapes and items of the Explorer (checks A6, A7)."""
    reading = Reading(L2A, find_catalog("eopf"), tuple(L2A.bands.values()))
    for item in recorded_items():
        identity = identify(item, L2A)
        assert identity is not None
        granule = to_granule(item, reading, identity)
        assert set(granule.assets) == set(BANDS), item["id"]
        assert granule.assets["B01"].href.endswith("measurements/reflectance/r60m/b01")
        assert granule.crs == item["properties"]["proj:code"]
        assert identity.tile == item["id"].split("_")[5][1:]
        assert identity.baseline == f"{item['id'].split('_')[3][1:3]}.{item['id'].split('_')[3][3:]}"
        # Items of the older shape name no datastrip; some of the newer have an outline in degrees and no corner.
        assert identity.datastrip == (
            item["properties"]["eopf:datastrip_id"].split("_S")[-1][:15]
            if "eopf:datastrip_id" in item["properties"]
            else ""
        )
        if granule.corner is not None:
            assert all(number % 20 == 0 and number > 1000 for number in granule.corner)
        assert {asset.shift for asset in granule.assets.values()} == {0}


def test_the_footprint_across_the_antimeridian_is_split() -> None:
    for store in stores(T01WCP):
        found = footprint_of(json_of_store(store))
        assert found.geom_type == "MultiPolygon"
        assert found.area < shape({"type": "Polygon", "coordinates": [[[0, 0], [4, 0], [4, 2], [0, 2], [0, 0]]]}).area


@pytest.mark.parametrize("product", STORES)
def test_angles_of_the_sun_are_the_products_and_the_view_is_the_mean_of_its_bands(product: str) -> None:
    """Rows of the view stand under other bands' names, so that only their mean is known (check A12)."""
    (xml,) = (GEN / "safe" / f"{product}.SAFE").rglob("MTD_TL.xml")
    wanted = parse_angles(xml.read_text(), str(xml))
    for store in stores(product):
        found = store_angles(str(store))
        assert (found.sun.crs, found.sun.corner, found.sun.step) == (wanted.sun.crs, wanted.sun.corner, wanted.sun.step)
        np.testing.assert_allclose(found.sun.zenith, wanted.sun.zenith, atol=1e-4)
        np.testing.assert_allclose(found.sun.azimuth, wanted.sun.azimuth, atol=1e-4)
        x, y = np.array([[found.sun.corner[0] + 5_000.0]]), np.array([[found.sun.corner[1] - 5_000.0]])
        x, y = x + np.arange(0, 60_000, 7_000)[np.newaxis], y - np.arange(0, 60_000, 7_000)[:, np.newaxis]
        means = [
            merged(interpolated(nodes, x, y, wanted.sun.crs) for nodes in angles.view.values())
            for angles in (found, wanted)
        ]
        assert len(found.view) == len(wanted.view) == 13
        for mine, theirs in zip(*(mean.degrees for mean in means), strict=True):
            np.testing.assert_allclose(mine, theirs, atol=2e-3)
    item = json_of_store(stores(product)[0])
    assert _angles_file(item, AngleRules(view="single")).endswith(".zarr")
    with pytest.raises(ReadError, match="under the names of other bands"):
        _angles_file(item, AngleRules(view="per_band"))


def test_recorded_answers_are_paged_to_their_end(tmp_path: Path) -> None:
    """Next pages by POST, with the tokens that the service gave (check A15)."""
    pages = [json.loads((EOPF / "stac" / f"search_2025-11-17_page{number}.json").read_text()) for number in (1, 2, 3)]
    tokens = [
        next((link["body"].get("token", "") for link in page["links"] if link["rel"] == "next"), "") for page in pages
    ]
    assert all(token.startswith("next:sentinel-2-l2a:") for token in tokens[:-1])
    asked: list[Json] = []

    class Service(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            landing = json.loads((EOPF / "stac" / "landing_2026-03-25.json").read_text())
            self.give(json.dumps(landing))

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append(body)
            token = body.get("token", "")
            self.give(json.dumps(pages[tokens.index(token) + 1 if token else 0]))

        def give(self, text: str) -> None:
            here = f"http://127.0.0.1:{server.server_port}"
            content = text.replace("https://stac.core.eopf.eodc.eu", here).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/geo+json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    area, times = box(5.5, 46, 6.5, 47), (datetime(2025, 5, 1, tzinfo=UTC), datetime(2025, 5, 16, tzinfo=UTC))
    with ThreadingHTTPServer(("127.0.0.1", 0), Service) as server:
        Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        found = list(islice(items_of_api(url, ["sentinel-2-l2a"], area, [times]), 30))
        server.shutdown()
    assert [body.get("token", "") for body in asked] == ["", *tokens[:2]]
    assert [item["id"] for item in found] == [item["id"] for page in pages for item in page["features"]]


RECORDED = {
    "s2_examples/S2C_MSIL2A_20250811T112131_N0511_R037_T29TPF_20250811T152216": ("EPSG:32629", 600_000, 4_600_020),
    "s2_examples/S2B_MSIL1C_20250113T103309_N0511_R108_T32TLQ_20250113T122458": ("EPSG:32632", 300_000, 5_000_040),
    "geozarr_examples/S2C_MSIL2A_20250811T112131_N0511_R037_T29TPF_20250811T152216": ("EPSG:32629", 600_000, 4_600_020),
    "optimized_geozarr_examples/S2B_MSIL1C_20250113T103309_N0511_R108_T32TLQ_20250113T122458": (
        "EPSG:32632",
        300_000,
        5_000_040,
    ),
    "optimized_geozarr_examples/S2C_MSIL2A_20250811T112131_N0511_R037_T29TPF_20250811T152216": (
        "EPSG:32629",
        600_000,
        4_600_020,
    ),
}


def nodes(value: Json, path: str = "") -> Iterator[tuple[str, Json]]:
    """Groups and arrays of a recorded store, by path."""
    yield path, {key: part for key, part in value.items() if key != "members"}
    for name, part in (value.get("members") or {}).items():
        yield from nodes(part, f"{path}/{name}".lstrip("/"))


def written_metadata(folder: Path, recorded: str) -> Path:
    """The metadata of a real store as the store had them; its chunks are not at hand."""
    value = json.loads((EOPF / "stores" / f"{recorded}.json").read_text())
    store = folder / "real.zarr"
    store.mkdir()
    if value["zarr_format"] == 3:
        found = {path: node for path, node in nodes(value) if path}
        root = {key: part for key, part in value.items() if key != "members"}
        (store / "zarr.json").write_text(json.dumps({**root, "consolidated_metadata": {"metadata": found}}))
        return store
    entries = {}
    for path, node in nodes(value):
        attributes = node.pop("attributes")
        entries[f"{path}/.zattrs".lstrip("/")] = attributes
        entries[f"{path}/{'.zarray' if 'shape' in node else '.zgroup'}".lstrip("/")] = node
    (store / ".zmetadata").write_text(json.dumps({"metadata": entries, "zarr_consolidated_format": 1}))
    return store


@pytest.mark.parametrize("recorded", RECORDED)
def test_metadata_of_real_stores_are_understood(recorded: str, tmp_path: Path) -> None:
    """Every band: lattice, CRS, layout of chunks (of 305 to 10,980 pixels); that no chunk is there is an error."""
    store = written_metadata(tmp_path, recorded)
    crs, west, north = RECORDED[recorded]
    name = recorded.rpartition("/")[2]
    mission = find_mission("sentinel-2-l1c" if "MSIL1C" in name else "sentinel-2-l2a")
    page = next(page for page in mission.pages if page.paths)
    for band in mission.bands.values():
        asset = AssetRef(f"{store}/{page.path_of(band)}")
        header = zarr_header(asset, opening(asset, "none"))
        edge = 109_800 // band.gsd
        assert header.layout.shape == (edge, edge), band.name
        assert header.transform == (band.gsd, 0, west, 0, -band.gsd, north)
        assert header.crs == crs
        assert header.layout.dtype in {"uint16", "uint8", "float32"}
        assert 100 < header.layout.unit[0] <= edge
        assert ZarrHeader.from_record(header.to_record()).geobox == header.geobox

        def read(image: Image, _: AssetRef) -> np.ndarray:
            return image.read(1, (slice(0, 10), slice(0, 10)))

        with pytest.raises(OSError, match=r"chunk .* of array .* in real\.zarr is missing"):
            inspect(Engine(), asset, opening(asset, "none"), read)
