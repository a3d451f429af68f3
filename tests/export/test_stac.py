"""A cube as STAC: valid, complete, and taken by a real API."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import jsonschema
import numpy as np
import pystac
import pystac_client
import pytest
import requests
import shapely
import xarray as xr

import stac2cube
from stac2cube.build.derived import drop
from stac2cube.build.loop import build
from stac2cube.build.plan import Step
from stac2cube.cli import cli
from stac2cube.errors import BadInputError, CatalogError
from stac2cube.executors.base import Threads
from stac2cube.export.netcdf import export_netcdf
from stac2cube.export.publish import describe_cubes, post_stac, write_stac
from stac2cube.export.selection import period_ends
from stac2cube.export.stac import (
    SIMULATED,
    Origin,
    attribution_of,
    bbox_of,
    collection_of,
    items_of,
    safe_id,
    stac_bands_of,
    terms_of,
)
from stac2cube.model.cube_spec import CubeSpec, Layer
from stac2cube.model.mission import find_mission
from stac2cube.store.ledger import SEALED, Entry, Ledger
from stac2cube.store.metadata import read_root
from stac2cube.store.writer import open_writer
from tests.build import toy
from tests.export.extensions import require_valid
from tests.export.test_cf import layers_of
from tests.servers.stac_api import StacApi
from tests.views.cubes import DATES


def test_a_static_catalog_is_valid_and_says_what_the_cube_is(cube: Path, tmp_path: Path) -> None:
    words = ["publish", str(cube), str(tmp_path / "stac"), "--href", "https://data.example/alps.zarr"]
    assert cli.main(words, standalone_mode=False) is None
    collection = pystac.Collection.from_file(str(tmp_path / "stac/collection.json"))
    items = list(collection.get_items())
    assert [f"{item.datetime:%Y-%m-%d}" for item in items] == list(DATES)
    assert collection.assets["cube"].href == "https://data.example/alps.zarr"
    dimensions = collection.extra_fields["cube:dimensions"]
    assert dimensions["x"]["extent"] == [500_005.0, 500_695.0]
    assert dimensions["y"]["extent"] == [5_299_105.0, 5_299_995.0]
    assert [text[:10] for text in dimensions["time"]["values"]] == list(DATES)
    assert collection.extra_fields["cube:variables"]["B02"]["scale"] == 1e-4
    assert "Contains modified Copernicus Sentinel data 2022-2024." in collection.description
    roles = {provider.name: provider.roles for provider in collection.providers or ()}
    assert roles == {"ESA": ["producer"], "European Union, Copernicus": ["licensor"], "stac2cube": ["processor"]}
    assert [link.rel for link in collection.links if link.rel == "license"] == ["license"]
    west, south, east, north = collection.extent.spatial.bboxes[0]
    for item in items:
        assert item.bbox is not None
        assert west <= item.bbox[0] < item.bbox[2] <= east + 1e-9
        assert south <= item.bbox[1] < item.bbox[3] <= north + 1e-9
        assert item.properties["stac2cube:items"]
        assert item.properties["proj:code"] == "EPSG:32632"
        assert item.get_collection() is not None


def test_the_schemas_of_core_and_extensions_accept_it(cube: Path) -> None:
    documents = [collection_of(cube), *items_of(cube)]
    for document in documents:
        held_against = require_valid(document)
        assert set(document["stac_extensions"]) <= set(held_against)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda collection: collection["cube:dimensions"]["x"].pop("extent"),
        lambda collection: collection["providers"].pop(),
        lambda collection: collection["assets"]["cube"].update({"proj:shape": [1.5, 2]}),
        lambda collection: collection["assets"]["cube"].update({"proj:epsg": 32632}),
        lambda collection: collection["assets"]["cube"]["bands"][0].update({"eo:common_name": "rededge1"}),
        lambda collection: collection["assets"]["cube"]["bands"][-1]["classification:classes"][0].pop("value"),
        lambda collection: collection.pop("license"),
    ],
)
def test_the_schemas_do_not_accept_everything(cube: Path, spoil: Any) -> None:
    collection = json.loads(json.dumps(collection_of(cube)))
    spoil(collection)
    with pytest.raises((pystac.errors.STACValidationError, jsonschema.ValidationError)):
        require_valid(collection)


@pytest.mark.parametrize("mission", ["sentinel-2-l2a", "landsat-c2-l2", "cop-dem-glo-30", "sentinel-1-rtc"])
def test_bands_of_every_mission_are_valid(cube: Path, mission: str) -> None:
    spec = CubeSpec("layers", toy.GRID, layers_of(mission), {"mission": mission})
    collection = json.loads(json.dumps(collection_of(cube)))
    collection["assets"]["cube"]["bands"] = stac_bands_of(spec, find_mission(mission))
    require_valid(collection)


def test_bits_are_told_as_fields_counted_from_their_lowest_bit() -> None:
    bits = ((1, 1, "fill"), (4, 4, "cirrus"), (0b1100000, 0, "none"), (0b1100000, 0b0100000, "low"))
    layer = Layer("qa", "uint16", 1, bits=bits)
    fields = stac_bands_of(CubeSpec("layers", toy.GRID, (layer,)), None)[0]["classification:bitfields"]
    assert [(field["offset"], field["length"]) for field in fields] == [(0, 1), (2, 1), (5, 2)]
    assert [[one["value"] for one in field["classes"]] for field in fields] == [[0, 1], [0, 1], [0, 1]]
    assert [one["name"] for one in fields[1]["classes"]] == ["not_cirrus", "cirrus"]


def test_makers_get_the_words_they_ask_for() -> None:
    years = [datetime(year, 1, 1, tzinfo=UTC) for year in (2021, 2019)]

    def words(mission: str) -> str:
        terms = terms_of(CubeSpec("layers", toy.GRID, (), {"mission": mission}), Origin())
        return terms.words(years) if terms else ""

    assert words("sentinel-1-rtc") == "Contains modified Copernicus Sentinel data 2019-2021"
    assert words("landsat-c2-l2") == "Landsat data courtesy of the U.S. Geological Survey"
    assert words("cop-dem-glo-90").startswith("Produced using Copernicus WorldDEM-30 © DLR e.V. 2010-2014")
    assert words("toy") == ""
    sentinel = CubeSpec("layers", toy.GRID, (), {"mission": "sentinel-2-l2a"})
    assert attribution_of(sentinel, years, Origin(frozenset({"cdse"}))) == words("sentinel-2-l2a")
    by_terrabyte = attribution_of(sentinel, years, Origin(frozenset({"terrabyte", "cdse"})))
    assert by_terrabyte.startswith(
        "Contains modified Copernicus Sentinel data 2019-2021. Data were accessed by terrabyte"
    )


def test_simulated_scenes_are_said_to_be_so_and_nobody_is_named_for_them() -> None:
    def row(**facts: object) -> Entry:
        return Entry("key", datetime(2021, 1, 1, tzinfo=UTC), SEALED, (), properties=facts)

    sentinel, years = (
        CubeSpec("layers", toy.GRID, (), {"mission": "sentinel-2-l2a"}),
        [datetime(2021, 1, 1, tzinfo=UTC)],
    )
    drawn, seen = row(simulated=True, catalog="archive.json"), row(catalog="cdse,terrabyte")
    alone = Origin.of_rows([drawn])
    assert (terms_of(sentinel, alone), attribution_of(sentinel, years, alone)) == (None, SIMULATED)
    both = Origin.of_rows([drawn, seen])
    assert both == Origin(frozenset({"archive.json", "cdse", "terrabyte"}), simulated=True, measured=True)
    assert attribution_of(sentinel, years, both).startswith(
        f"Contains modified Copernicus Sentinel data 2021. {SIMULATED}. Data were accessed by terrabyte"
    )
    assert Origin.of_rows([seen]) == Origin(frozenset({"cdse", "terrabyte"}))
    steps = xr.Dataset(coords={"simulated": ("time", np.array([1.0, np.nan])), "catalog": ("time", ["a", "cdse"])})
    assert Origin.of_steps(steps) == Origin(frozenset({"a", "cdse"}), simulated=True, measured=True)
    assert Origin.of_steps(steps.isel(time=0)) == Origin(frozenset({"a"}), simulated=True, measured=False)


def make_toy(path: Path, numbers: range) -> Path:
    build(path, toy.SPEC, toy.steps(numbers), toy.Make(), Threads())
    return path


def test_publishing_again_follows_the_cube(tmp_path: Path) -> None:
    path = make_toy(tmp_path / "toy.zarr", range(3))
    write_stac(path, tmp_path / "stac")
    stac2cube.store_overviews(path, levels=1)
    drop(path, ["toy_0001"])
    write_stac(path, tmp_path / "stac", "https://data.example/toy.zarr")
    assert sorted(file.stem for file in (tmp_path / "stac/items").iterdir()) == ["toy_0000", "toy_0002"]
    collection = json.loads((tmp_path / "stac/collection.json").read_text())
    assert collection["assets"]["overviews"]["href"] == "https://data.example/toy.zarr.overviews"
    assert [link["href"] for link in collection["links"] if link["rel"] == "item"] == [
        "./items/toy_0000.json",
        "./items/toy_0002.json",
    ]


def test_documents_say_where_they_are_and_what_they_belong_to(tmp_path: Path) -> None:
    path = make_toy(tmp_path / "toy.zarr", range(2))
    here, there = tmp_path / "here", "https://data.example/stac"
    for folder, words, base in (
        (here, (), str(here)),
        (tmp_path / "there", ("https://data.example/toy.zarr", f"{there}/"), there),
        (tmp_path / "unknown", ("https://data.example/toy.zarr",), ""),
    ):
        write_stac(path, folder, *words)
        for file in (folder / "collection.json", *(folder / "items").iterdir()):
            document = json.loads(file.read_text())
            require_valid(document)
            links = {link["rel"]: link["href"] for link in document["links"]}
            assert (file.parent / links["root"]).resolve() == folder / "collection.json"
            assert links.get("self") == (f"{base}/{file.relative_to(folder)}" if base else None)
        assert len(list(pystac.Collection.from_file(str(folder / "collection.json")).get_items())) == 2
    with pytest.raises(click.UsageError, match="an API makes its own links"):
        cli.main(["publish", str(path), "--api", there, "--address", there], standalone_mode=False)


def test_a_package_of_cubes_is_a_valid_catalog(cube: Path, tmp_path: Path) -> None:
    make_toy(tmp_path / "My cubes" / "toy.zarr", range(2))
    shutil.copytree(cube, tmp_path / "My cubes" / "alps.zarr")
    catalog = pystac.Catalog.from_file(str(describe_cubes(tmp_path / "My cubes")))
    assert catalog.id == "my-cubes"
    found = {collection.id: collection for collection in catalog.get_children()}
    assert set(found) == {"toy", "alps"}
    assert found["alps"].get_links("license")
    for one in (*found.values(), *catalog.get_items(recursive=True)):
        require_valid(one.to_dict(include_self_link=False))
        assert one.get_root().id == "my-cubes"
        assert Path(one.assets["cube"].get_absolute_href()).is_dir()


def test_ids_are_safe_and_boxes_cross_the_antimeridian() -> None:
    assert safe_id("sentinel-2a_R065_20220803") == "sentinel-2a_r065_20220803"
    assert safe_id("Åre, 2023 (b).v2") == "re-2023-b-v2"
    assert safe_id("..") == "cube"
    polygons = shapely.MultiPolygon([shapely.box(170, -20, 180, -10), shapely.box(-180, -18, -175, -11)])
    assert bbox_of(polygons) == [170, -20, -175, -10]
    assert bbox_of(shapely.box(-10, 50, 10, 60)) == [-10, 50, 10, 60]
    assert bbox_of(shapely.box(-180, 60, 180, 90)) == [-180, 60, 180, 90], "around a pole"


@pytest.mark.parametrize(
    ("crs", "origin", "box"),
    [
        ("EPSG:32660", (710_000.0, 5_300_000.0), (179, 47, -180, 48)),
        ("EPSG:3413", (-15_000.0, 15_000.0), (-180, 89, 180, 90)),
        ("EPSG:3031", (-15_000.0, 15_000.0), (-180, -90, 180, -89)),
        ("EPSG:32761", (1_985_000.0, 2_015_000.0), (-180, -90, 180, -89)),
        ("EPSG:3031", (0.0, 0.0), (90, -90, 180, -89)),
        ("EPSG:3413", (-26_000.0, 30_000.0), (135, 89, -135, 90)),
    ],
)
def test_cubes_at_the_seams_of_the_globe_lie_where_they_are(
    crs: str, origin: tuple[float, float], box: tuple[float, ...], tmp_path: Path
) -> None:
    grid = replace(toy.GRID, crs=crs, origin=origin, resolution=200.0)
    entry = Entry("toy_R001_20230101", datetime(2023, 1, 1, tzinfo=UTC), SEALED, ("i",))
    steps = [Step(entry, 0, tuple(grid.tiles()))]
    build(tmp_path / "Seam 1.zarr", replace(toy.SPEC, grid=grid), steps, toy.Make(), Threads(1))
    collection = collection_of(tmp_path / "Seam 1.zarr")
    (item,) = items_of(tmp_path / "Seam 1.zarr")
    require_valid(collection)
    require_valid(item)
    assert (collection["id"], item["collection"], item["id"]) == ("seam-1", "seam-1", "toy_r001_20230101")
    found = item["bbox"]
    assert found == collection["extent"]["spatial"]["bbox"][0]
    assert box[0] - 1 <= found[0] <= box[0] + 2, found
    assert box[1] <= found[1] < found[3] <= box[3] + 1e-9, found
    assert abs(found[2] - box[2]) <= 2
    place = shapely.geometry.shape(item["geometry"])
    assert all(-180 <= x <= 180 for x, _ in shapely.get_coordinates(place))
    assert all(part.exterior.is_ccw for part in getattr(place, "geoms", [place])), "RFC 7946, 3.1.6"


@pytest.mark.parametrize(
    ("period", "begin", "end"),
    [
        ("month", "2022-12-01T00:00:00.000000Z", "2022-12-31T23:59:59.999999Z"),
        ("all", "2022-12-20T10:20:00.000000Z", "2024-01-10T10:20:00.000000Z"),
    ],
)
def test_items_of_composites_say_their_period(cube: Path, tmp_path: Path, period: str, begin: str, end: str) -> None:
    stac2cube.store_composites(cube, tmp_path / "c.zarr", stac2cube.Composition(period, layers=("B04",)))
    first, *_, last = [*items_of(tmp_path / "c.zarr")] * 2
    require_valid(first)
    span = [first["properties"][name] for name in ("start_datetime", "end_datetime")]
    assert (first["properties"]["datetime"], span) == (begin, [begin, end])
    collection = collection_of(tmp_path / "c.zarr")
    require_valid(collection)
    assert collection["extent"]["temporal"]["interval"] == [[begin, last["properties"]["end_datetime"]]]
    export_netcdf(tmp_path / "c.zarr", tmp_path / "c.nc")
    with xr.open_dataset(tmp_path / "c.nc") as file:
        bounds = file["time_bnds"].values.astype("datetime64[us]")
    exclusive = np.datetime64(end[:-1], "us") + np.timedelta64(1, "us")
    assert bounds[0].tolist() == [np.datetime64(begin[:-1], "us").item(), exclusive.item()]


def test_periods_of_composites_that_do_not_record_their_end() -> None:
    """Cubes of earlier releases."""
    times = [datetime(2023, month, 1, tzinfo=UTC) for month in (1, 4)]
    rows = {f"{time:%Y%m%d}": Entry(f"{time:%Y%m%d}", time, SEALED, ()) for time in times}

    def ends(period: str) -> dict[str, datetime]:
        return period_ends(replace(toy.SPEC, recipe={"composite": {"period": period}}), rows)

    assert ends("month") == {key: row.time.replace(month=row.time.month + 1) for key, row in rows.items()}
    assert ends("all") == {}, "nobody knows"
    rows["20230101"] = replace(rows["20230101"], properties={"period_end": "2023-01-31T00:00:00+00:00"})
    assert ends("all") == {"20230101": datetime(2023, 1, 31, tzinfo=UTC)}
    assert period_ends(toy.SPEC, rows) == {}


def test_a_cube_without_a_step_is_not_published(tmp_path: Path) -> None:
    with open_writer(tmp_path / "none.zarr", toy.SPEC):
        pass
    with pytest.raises(BadInputError, match="no step to publish"):
        collection_of(tmp_path / "none.zarr")


@pytest.mark.postgres
def test_a_real_api_takes_it_twice(cube: Path, stac_api: StacApi, capsys: pytest.CaptureFixture[str]) -> None:
    assert post_stac(cube, stac_api.url) == 7
    capsys.readouterr()
    assert cli.main(["publish", str(cube), "--api", stac_api.url, "--json"], standalone_mode=False) is None
    assert json.loads(capsys.readouterr().out) == {"collection": f"{stac_api.url}/collections/alps", "items": 7}
    client = pystac_client.Client.open(stac_api.url)
    collection = client.get_collection("alps")
    assert "B8A" in collection.extra_fields["cube:variables"]
    require_valid(collection.to_dict(include_self_link=False))
    found = list(client.search(collections=["alps"], datetime="2023-01-01/2023-01-27").items())
    assert sorted(f"{item.datetime:%Y-%m-%d}" for item in found) == ["2023-01-05", "2023-01-25"]
    for item in found:
        require_valid(item.to_dict(include_self_link=False))


@pytest.mark.postgres
def test_a_real_api_forgets_steps_that_are_gone(
    tmp_path: Path, cube: Path, stac_api: StacApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stac2cube.export.publish.PAGE", 3)
    copy = Path(shutil.copytree(cube, tmp_path / "alps.zarr"))
    post_stac(copy, stac_api.url, "https://data.example/alps.zarr")
    stranger = {**next(iter(items_of(cube, "https://other.example/a.zarr"))), "id": "stranger", "links": []}
    requests.post(f"{stac_api.url}/collections/alps/items", json=stranger, timeout=60).raise_for_status()
    keys = list(Ledger(copy, read_root(copy).ledger).sealed())
    drop(copy, keys[:2])
    assert post_stac(copy, stac_api.url, "https://data.example/alps.zarr") == 5
    client = pystac_client.Client.open(stac_api.url)
    left = {item.id for item in client.search(collections=["alps"]).items()}
    assert left == {*map(safe_id, keys[2:]), "stranger"}, "what somebody else put there stays"


def test_an_api_that_is_not_there_is_named(cube: Path) -> None:
    with pytest.raises(CatalogError, match=r"127\.0\.0\.1:9 cannot be reached"):
        post_stac(cube, "http://127.0.0.1:9")
