"""A cube as STAC: valid, complete, and taken by a real API."""

from __future__ import annotations

import json
from pathlib import Path

import pystac
import pystac.validation
import pystac_client
import pytest

from stac2cube.build import build
from stac2cube.cli import cli
from stac2cube.cube.writer import open_writer
from stac2cube.errors import BadInputError, CatalogError
from stac2cube.places.threads import Threads
from stac2cube.products.stac import collection_of, items_of, post_stac
from tests.build import toy
from tests.servers.stac_api import StacApi


@pytest.fixture(scope="module")
def cube(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("stac") / "alps.zarr"
    build(path, toy.SPEC, toy.steps(range(3)), toy.Make(), Threads())
    return path


def test_a_static_catalog_is_valid_and_says_what_the_cube_is(cube: Path, tmp_path: Path) -> None:
    words = ["publish", str(cube), str(tmp_path / "stac"), "--href", "https://data.example/alps.zarr"]
    assert cli.main(words, standalone_mode=False) is None
    collection = pystac.Collection.from_file(str(tmp_path / "stac/collection.json"))
    items = list(collection.get_items())
    assert [item.id for item in items] == ["toy_0000", "toy_0001", "toy_0002"]
    assert collection.assets["cube"].href == "https://data.example/alps.zarr"
    assert collection.extra_fields["cube:dimensions"]["x"]["extent"] == [500_005.0, 501_295.0]
    assert collection.extra_fields["cube:dimensions"]["y"]["extent"] == [4_998_505.0, 4_999_995.0]
    assert collection.extra_fields["cube:variables"]["B02"]["scale"] == 1e-4
    assert "Contains modified Copernicus Sentinel data" in collection.description
    west, south, east, north = collection.extent.spatial.bboxes[0]
    for item in items:
        assert item.bbox is not None
        assert west <= item.bbox[0] < item.bbox[2] <= east + 1e-9
        assert south <= item.bbox[1] < item.bbox[3] <= north + 1e-9
        assert item.properties["stac2cube:items"]
        assert item.properties["proj:code"] == "EPSG:32632"


def test_core_schemas_accept_it(cube: Path) -> None:
    pytest.importorskip("jsonschema")
    for document in (collection_of(cube), *items_of(cube)):
        core = json.loads(json.dumps({**document, "stac_extensions": []}))
        kind = pystac.STACObjectType.COLLECTION if core["type"] == "Collection" else pystac.STACObjectType.ITEM
        pystac.validation.validate_dict(core, stac_object_type=kind, extensions=[])


def test_a_cube_without_a_step_is_not_published(tmp_path: Path) -> None:
    with open_writer(tmp_path / "none.zarr", toy.SPEC):
        pass
    with pytest.raises(BadInputError, match="no step to publish"):
        collection_of(tmp_path / "none.zarr")


@pytest.mark.postgres
def test_a_real_api_takes_it_twice(cube: Path, stac_api: StacApi) -> None:
    assert post_stac(cube, stac_api.url) == 3
    assert cli.main(["publish", str(cube), "--api", stac_api.url], standalone_mode=False) is None
    client = pystac_client.Client.open(stac_api.url)
    assert client.get_collection("alps").extra_fields["cube:variables"].keys() == {"B02", "SCL"}
    found = list(client.search(collections=["alps"], datetime="2020-01-02/2020-01-03").items())
    assert sorted(item.id for item in found) == ["toy_0001", "toy_0002"]


def test_an_api_that_is_not_there_is_named(cube: Path) -> None:
    with pytest.raises(CatalogError, match=r"127\.0\.0\.1:9 cannot be reached"):
        post_stac(cube, "http://127.0.0.1:9")
