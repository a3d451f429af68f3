"""Sentinel-2 as EOPF Zarr in catalogs: who an item is, where its bands lie, and what its counts carry."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox
from shapely.geometry import box

import stac2cube
from stac2cube.build.plan import outdated
from stac2cube.datasets.acquisitions import read_manifest
from stac2cube.datasets.download import download_products
from stac2cube.datasets.rules import DownloadRequest, LabelRules, SampleRequest, SampleRules
from stac2cube.datasets.samples import make_samples
from stac2cube.errors import CatalogError, IncompleteError, ItemError, NothingFoundError, RadiometryError
from stac2cube.model.catalog import Catalog, catalogs, find_catalog
from stac2cube.model.geometry import read_areas
from stac2cube.model.grid import grid_from_geobox
from stac2cube.model.mission import find_mission
from stac2cube.model.query import Query
from stac2cube.model.scene import Granule, identify
from stac2cube.search.choose_catalog import catalog_choices
from stac2cube.search.items import Reading, to_granule
from stac2cube.search.parsing import parse_item
from stac2cube.store.ledger import Ledger
from stac2cube.store.metadata import read_root
from tests.items import Json, catalog
from tests.pixels.test_zarr import mutated
from tests.pixels.zarr_stores import L1C, L2A, SAFE, StoreForm, counts, path_of, sound_item, write_store

MISSION, TOA = find_mission("sentinel-2-l2a"), find_mission("sentinel-2-l1c")
FORM = StoreForm()
STORE = "https://objects.example:443/e05a:202403-s02msil2a-eu/19/products/cpm_v262/{name}.zarr"
HREF = STORE.format(name=SAFE.format(baseline="0510"))


def granule_of(item: Json, mission: Any = MISSION, where: Catalog | None = None) -> Granule:
    identity = identify(item, mission)
    assert identity is not None
    return to_granule(item, Reading(mission, where or find_catalog("eopf"), tuple(mission.bands.values())), identity)


def test_the_catalog_says_that_it_is_partial() -> None:
    known = catalogs()["eopf"]
    assert (known.partial, known.signer, known.local_root) == (True, "none", "")
    assert "partial coverage" in known.note
    assert [name for name, one in catalogs().items() if one.partial] == ["eopf"]
    assert MISSION.catalogs[-1] == TOA.catalogs[-1] == "eopf"


def test_every_band_is_found_at_its_own_resolution() -> None:
    """B01 has an asset of 20 m only, which is not the product's own 60 m."""
    item = sound_item(HREF, FORM)
    item["assets"]["B01_20m"] = {"href": f"{HREF}/measurements/reflectance/r20m/b01"}
    item["assets"]["TCI_10m"] = {"href": f"{HREF}/quality/l2a_quicklook/r10m/tci"}
    granule = granule_of(item)
    assert {name: asset.href for name, asset in granule.assets.items()} == {
        name: f"{HREF}/{path_of(name.lower(), band.gsd)}" for name, band in MISSION.bands.items()
    }
    assert {asset.shift for asset in granule.assets.values()} == {0}
    assert granule.corner == (300_000.0, 5_300_040.0)
    assert (granule.crs, granule.tile, granule.datastrip, granule.baseline) == (
        "EPSG:32632",
        "32TLT",
        "20240512T102600",
        "05.10",
    )


def test_l1c_has_all_13_bands_with_b10_by_its_path() -> None:
    form = StoreForm(bands=L1C)
    item = sound_item(HREF, form) | {"collection": "sentinel-2-l1c"}
    assert not any(key.startswith("B10") for key in item["assets"])
    granule = granule_of(item, TOA)
    assert set(granule.assets) == set(TOA.bands)
    assert granule.assets["B10"].href == f"{HREF}/measurements/reflectance/r60m/b10"
    assert granule.assets["B01"].href == f"{HREF}/measurements/reflectance/r60m/b01"


def explorer_item(bands: tuple[str, ...]) -> Json:
    """One asset for all reflectance, as GeoZarr of the Sentinel Explorer has it."""
    item = sound_item(HREF, FORM)
    kept = {key: asset for key, asset in item["assets"].items() if key[:3] in ("SCL", "AOT", "WVP")}
    group = {"href": f"{HREF}/measurements/reflectance", "type": "application/vnd.zarr; version=3; profile=multiscales"}
    return item | {"assets": {**kept, "reflectance": {**group, "bands": [{"name": name} for name in bands]}}}


def test_an_explorer_item_gives_all_bands_of_its_group_and_no_others() -> None:
    names = tuple(name for name in L2A if name.startswith("b"))
    for where in (find_catalog("eopf"), Catalog("x", "x", "https://api.example/stac")):
        granule = granule_of(explorer_item((*names[:-1], f"r60m/{names[-1]}")), where=where)
        assert set(granule.assets) == set(MISSION.bands)
    lacking = granule_of(explorer_item(tuple(name for name in names if name != "b05")))
    assert set(MISSION.bands) - set(lacking.assets) == {"B05"}


def test_items_of_other_archives_are_read_as_before() -> None:
    """Their assets may be called as those of EOPF are, and theirs say where JPEG 2000 lies."""
    item = sound_item(HREF, FORM)
    assets = {key: {"href": f"s3://eodata/{key}.jp2"} for key in [*item["assets"], "B01_60m"] if key != "product"}
    granule = granule_of(item | {"assets": assets}, where=Catalog("x", "x", "https://api.example/stac"))
    assert {asset.href for asset in granule.assets.values()} == {asset["href"] for asset in assets.values()}


CPM3 = {"processing:version": "1.0.0", "grid:code": None, "sci:doi": "10.5270/S2_-znk9xsj"}


def test_an_id_of_cpm_3_is_the_scene_of_its_product() -> None:
    """No tile and no baseline in the id, and the version of a mapping where a baseline stood."""
    item = sound_item(HREF, FORM, name="S02MSIL2A_20240512T102601_00000_A0008_TCD4", properties=CPM3)
    del item["properties"]["eopf:datastrip_id"]
    identity = identify(item, MISSION)
    assert identity is not None
    assert (identity.platform, identity.orbit, identity.tile, identity.baseline) == ("sentinel-2a", 8, "32TLT", "05.10")
    elsewhere = sound_item(
        STORE.format(name="x"),
        FORM,
        name=item["id"],
        properties=CPM3 | {"mgrs:utm_zone": 32, "mgrs:latitude_band": "T", "mgrs:grid_square": "LT"},
    )
    again = identify(elsewhere, MISSION)
    assert again is not None
    assert (again.tile, again.baseline, again.datastrip) == ("32TLT", "05.10", "20240512T102600")


@pytest.mark.parametrize(("baseline", "shift"), [("0212", 1000), ("0301", 1000), ("0400", 0), ("0510", 0)])
@pytest.mark.parametrize("version", ["02.12", "1.0.0", "05.10", "01.00", None])
def test_the_baseline_of_the_product_decides_and_no_declared_offset(
    baseline: str, shift: int, version: str | None
) -> None:
    """Converters declare -0.1 of every product; processing:version is the baseline in some of their versions only."""
    name = "S02MSIL2A_20240512T102601_00000_A0008_TCD4"
    item = sound_item(
        STORE.format(name="x"), FORM, baseline=baseline, name=name, properties={"processing:version": version}
    )
    granule = granule_of(item)
    reflectance = {name for name, band in MISSION.bands.items() if band.quantity.name == "reflectance"}
    assert {granule.assets[name].shift for name in reflectance} == {shift}
    assert {asset.shift for name, asset in granule.assets.items() if name not in reflectance} == {0}


def test_an_item_without_any_baseline_is_refused() -> None:
    gone = {"processing:version": "1.0.0", "eopf:datatake_id": None, "eopf:datastrip_id": None}
    item = sound_item(STORE.format(name="x"), FORM, name="S02MSIL2A_20240512T102601_00000_A0008_TCD4", properties=gone)
    with pytest.raises(RadiometryError, match=r"names no processing baseline.*in any case"):
        granule_of(item)


def cdse_item() -> Json:
    """The same product in the catalog of the Copernicus Data Space: another time, and its datastrip."""
    item = sound_item(HREF, FORM)
    properties = {
        "datetime": "2024-05-12T10:33:47.024000Z",
        "platform": "sentinel-2a",
        "sat:relative_orbit": 8,
        "grid:code": "MGRS-32TLT",
        "processing:version": "05.10",
        "s2:datastrip_id": item["properties"]["eopf:datastrip_id"],
    }
    assets = {f"{band.upper()}_{gsd}m": {"href": f"s3://eodata/{band}_{gsd}m.jp2"} for band, gsd in L2A.items()}
    return item | {"properties": properties, "assets": assets}


def test_one_overpass_is_one_scene_in_all_catalogs(tmp_path: Path) -> None:
    older = sound_item(HREF, FORM, properties={"processing:version": None, "eopf:datastrip_id": None})
    items = {
        "cdse": cdse_item(),
        "eopf, newer": sound_item(HREF, FORM),
        "eopf, older": older,
        "cpm 3": sound_item(HREF, FORM, name="S02MSIL2A_20240512T102601_00000_A0008_TCD4", properties=CPM3),
    }
    keys = {}
    for name, item in items.items():
        found = _scenes(catalog(tmp_path / "one.json", [item]))
        keys[name] = [str(scene.key) for scene in found]
    assert set(map(tuple, keys.values())) == {("sentinel-2a_R008_20240512",)}
    together = _scenes(catalog(tmp_path / "all.json", [*items.values()]))
    (scene,) = together
    assert len(scene.granules) == 1


def _scenes(path: str, time: str = "2024-05") -> Any:
    from stac2cube.search.choose_catalog import catalog_choices, find
    from stac2cube.stages.layers import area_words, query_of_words

    area = area_words(box(6.33, 47.813, 6.34, 47.82))
    words = {"mission": "sentinel-2-l2a", "time": time, "catalog": path, **area}
    query, _ = query_of_words(words)
    return find(query, catalog_choices(query)).scenes


def test_parts_of_a_tile_without_a_datastrip_stand_for_those_with_one() -> None:
    assert not outdated({"32TLT/20240512T102600": "05.10"}, {"32TLT/": "05.10"})
    assert not outdated({"32TLT/": "05.10"}, {"32TLT/20240512T102600": "05.10"})
    assert not outdated({"32TLT/20240512T102600": "05.10"}, {"32TLT/": "05.00"})
    assert outdated({"32TLT/20240512T102600": "05.00"}, {"32TLT/": "05.10"})
    assert outdated({"32TLT/20240512T102600": "05.10"}, {"32TMT/": "05.10"})
    assert outdated({"32TLT/20240512T102600": "05.10"}, {"32TLT/20240512T103600": "05.10"})
    both = {"32TLT/20240512T102600": "05.10", "32TLT/20240512T103600": "05.10"}
    halves = {"32TLT/": "05.10", "32TLT/#S2A_half": "05.10"}
    assert not outdated(both, halves)
    assert outdated({"32TLT/": "05.10"}, halves)
    assert outdated({"32TLT/20240512T102600": "05.10"}, halves)
    assert not outdated(
        {"parent 32TLT/": "05.10"}, {"parent 32TLT/20240512T102600": "05.10"} | {"parent 32TLT/": "05.10"}
    )


def test_a_product_converted_again_under_its_id_is_noticed(tmp_path: Path) -> None:
    """The later one of two is taken, and a step made of the earlier one is behind."""
    item = sound_item(HREF, FORM)
    later = sound_item(HREF.replace("v262", "v270"), FORM, properties={"created": "2026-04-01T00:00:00Z"})
    for items in ([item, later], [later, item]):
        (scene,) = _scenes(catalog(tmp_path / "two.json", items))
        (granule,) = scene.granules
        assert "v270" in granule.assets["B02"].href
    from stac2cube.model.scene import standing, version_of

    had, now = version_of(item, ()), version_of(later, ())
    assert standing(had, now) == "newer"
    assert standing(now, now) == "same"
    assert had["generated"] == "2024-05-12T15:00:00.000000+00:00"


def test_what_an_item_asks_readers_to_run_is_not_looked_at() -> None:
    item = sound_item(HREF, FORM)
    harm = {"xarray:open_kwargs": {"engine": "pickle", "backend_kwargs": {"filename": "/etc/passwd"}}}
    for asset in item["assets"].values():
        asset.update(harm)
    granule = granule_of(item)
    assert all(asset.href.startswith(HREF) for asset in granule.assets.values())


@pytest.mark.parametrize("root", ["/data/{name}.zarr", "file:///data/{name}.zarr", "zip:///data/{name}.zarr"])
def test_a_store_on_this_machine_is_not_read_for_a_stranger(root: str) -> None:
    store = root.format(name="x")
    item = sound_item(store, FORM)
    with pytest.raises(ItemError, match="names a place on this machine"):
        granule_of(item)
    only = item | {"assets": {"product": item["assets"]["product"]}}
    with pytest.raises(ItemError, match="names a place on this machine"):
        granule_of(only)
    allowed = replace(find_catalog("eopf"), local_root="/data")
    if root.startswith("zip"):
        with pytest.raises(ItemError, match="names a place"):
            granule_of(only, where=allowed)
    else:
        assert len(granule_of(only, where=allowed).assets) == 15


def test_auto_takes_samples_only_where_nothing_else_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    choices = catalog_choices(Query(MISSION.name))
    assert [(choice.catalog.name, choice.last_resort) for choice in choices] == [
        ("earth-search", False),
        ("eopf", True),
    ]
    assert [choice.catalog.name for choice in catalog_choices(Query(MISSION.name, catalog="eopf"))] == ["eopf"]
    monkeypatch.setenv("STAC2CUBE_CONFIG_DIR", str(tmp_path))
    sample = sound_item(HREF, FORM)
    other = cdse_item() | {"assets": {"red": {"href": "https://example.org/red.tif"}}}
    long_ago = other | {"properties": {**other["properties"], "datetime": "2020-01-01T10:00:00Z"}}

    def tables(whole: str) -> None:
        text = "\n".join(
            f'[{name}]\ntitle = "t"\nurl = {json.dumps(url)}'
            for name, url in (("earth-search", whole), ("eopf", catalog(tmp_path / "eopf.json", [sample])))
        )
        (tmp_path / "catalogs.toml").write_text(text)

    def chosen() -> str:
        (scene,) = _scenes("auto")
        return str(scene.granules[0].catalog)

    tables(catalog(tmp_path / "es.json", [other]))
    assert chosen() == "earth-search"
    tables(catalog(tmp_path / "es.json", [long_ago]))
    assert chosen() == "eopf"
    tables("http://127.0.0.1:9/closed")
    with pytest.raises(CatalogError, match="closed"):
        chosen()
    tables(catalog(tmp_path / "es.json", [long_ago]))
    catalog(tmp_path / "eopf.json", [long_ago])
    with pytest.raises(NothingFoundError, match=r"not earth-search.*not eopf"):
        chosen()


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> list[Json]:
    """Stores of five versions of one product, on five days."""
    folder = tmp_path_factory.mktemp("eopf")
    forms = [
        ("0212", StoreForm(3)),
        ("0301", StoreForm(2, fill=None)),
        ("0400", StoreForm(3, offset=1000, floats=True)),
        ("0510", StoreForm(3, chunk=12, shard=60, offset=1000, place="group")),
        ("0511", StoreForm(2, offset=1000)),
    ]
    items = []
    for number, (baseline, form) in enumerate(forms):
        store = write_store(folder, form, f"day{number}")
        item = sound_item(str(store), form, baseline=baseline)
        day = f"2024-05-{5 + 5 * number:02d}"
        item["properties"]["datetime"] = f"{day}T10:26:01.024000Z"
        items.append(item | {"id": f"{item['id']}-{number}"})
    return items


def test_all_years_have_one_radiometry_in_a_cube(archive: list[Json], tmp_path: Path) -> None:
    """Products from before and after baseline 04.00, in Zarr 2 and 3, as counts, in shards and as reflectance."""
    source = catalog(tmp_path / "items.json", archive)
    out = tmp_path / "cube.zarr"
    cube = stac2cube.get_stac_layers(
        out,
        mission="sentinel-2-l2a",
        aoi="6.33,47.813,6.34,47.82",
        time="2024-05",
        bands=["B02", "B05", "B01", "SCL"],
        resolution=10,
        catalog=source,
    )
    assert cube.sizes["time"] == 5
    for band in ("B02", "B05", "B01", "SCL"):
        steps = cube[band].values
        for number in range(1, 5):
            np.testing.assert_array_equal(steps[number], steps[0], err_msg=f"{band}, step {number}")
    # xarray decodes by what the converter declared of all products: before baseline 04.00 that is 0.1 too low.
    for number, low in ((0, 0.1), (1, 0.1), (4, 0.0)):
        group = f"{archive[number]['assets']['product']['href']}/measurements/reflectance/r10m"
        decoded = xr.open_zarr(group, consolidated=False)["b02"].sel(x=cube.x, y=cube.y).values
        ours = cube["B02"].values[number]
        valid = np.isfinite(ours) & (ours < 6)
        np.testing.assert_allclose(ours[valid] - decoded[valid], low, atol=1e-9)
    rows = Ledger(out, read_root(out).ledger).entries()
    assert {row.properties["catalog"] for row in rows.values()} == {source}


def test_clouds_are_found_in_l1c_with_b10_by_its_path(archive: list[Json], tmp_path: Path) -> None:
    """Level-1C of the same overpass, of whose items none has an asset for B10."""
    pytest.importorskip("s2cloudless")
    form = StoreForm(bands=L1C, offset=1000)
    store = write_store(tmp_path, form, "toa")
    toa = sound_item(str(store), form) | {"collection": "sentinel-2-l1c"}
    toa["properties"] |= {"datetime": archive[4]["properties"]["datetime"], "product:type": "S02MSIL1C"}
    assert not any(key.startswith("B10") for key in toa["assets"])
    layers = tmp_path / "layers.zarr"
    area = "6.33,47.813,6.34,47.82"
    words: dict[str, Any] = {"mission": "sentinel-2-l2a", "aoi": area, "time": "2024-05", "bands": ["B02", "SCL"]}
    stac2cube.get_stac_layers(layers, catalog=catalog(tmp_path / "boa.json", [archive[4]]), resolution=10, **words)
    clouds = stac2cube.get_cloud_layers(
        layers, tmp_path / "clouds.zarr", catalog=catalog(tmp_path / "toa.json", [toa]), shadows=False
    )
    assert clouds.sizes["time"] == 1
    found = clouds[next(name for name in clouds.data_vars if "prob" in name)].values
    assert np.isfinite(found).mean() > 0.5


def test_arrays_are_no_files_to_be_downloaded(archive: list[Json], tmp_path: Path) -> None:
    """Each is left out with the reason, and the account of the folder keeps it."""
    (area,) = read_areas((6.33, 47.813, 6.34, 47.82))
    source = catalog(tmp_path / "items.json", archive[-1:])
    asked = DownloadRequest(area, "2024-05", ("l2a.scl_20m", "l2a.band.B02"), catalog=source)
    with pytest.raises(IncompleteError, match="lies in a Zarr store, whose arrays are no files"):
        download_products(asked, tmp_path / "products")
    absent = read_manifest(tmp_path / "products").absent
    assert {(entry.role, entry.state) for entry in absent} == {("l2a.scl_20m", "missing"), ("l2a.band.B02", "missing")}


def test_samples_are_made_of_arrays_as_of_files(archive: list[Json], tmp_path: Path) -> None:
    """Reflectance by the item's rule, of the product from before baseline 04.00 and of today's; classes as labels."""
    geobox = GeoBox((40, 40), Affine(20, 0, 300_000, 0, -20, 5_300_040 - 200), "EPSG:32632")
    (area,) = read_areas(geobox.footprint("EPSG:4326").geom)
    rules = SampleRules(
        mission="sentinel-2-l2a", bands=("B02", "B05"), target="grid", scaling="item", labels=LabelRules()
    )
    made = []
    for number in (0, 4):
        source = catalog(tmp_path / f"{number}.json", [archive[number]])
        request = SampleRequest(Query(catalog=source, area=area), grid=grid_from_geobox(geobox))
        index = make_samples(request, tmp_path / f"set{number}", rules)
        (sample,) = index.done
        with rasterio.open(tmp_path / f"set{number}" / sample.x_path) as x:
            made.append(x.read())
        with rasterio.open(tmp_path / f"set{number}" / sample.y_path) as y:
            np.testing.assert_array_equal(y.read(1), counts("scl", FORM)[10:50, :40])
    # But for what the planted 65535 touches, which marks saturation and has no offset in either.
    assert (~np.isclose(made[0], made[1], atol=2e-6)).sum() == 2
    assert np.isfinite(made[0]).all()


def test_items_of_any_kind_give_a_granule_or_an_error_in_words() -> None:
    """Items in Zarr with one part that is something else, as test_odd_items.py has them of other archives."""
    rng, refused = np.random.default_rng(5), 0
    for sound in (sound_item(HREF, FORM), explorer_item(("b02", "r60m/b01"))):
        for _ in range(300):
            try:
                item = parse_item(mutated(sound, rng))
                if identify(item, MISSION) is not None:
                    granule_of(item)
            except (CatalogError, RadiometryError):
                refused += 1
    assert 30 < refused < 500
