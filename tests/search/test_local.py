"""Local catalogs as people keep them: links that lead nowhere or in circles, odd names, columns that are empty."""

from __future__ import annotations

import copy
import json
import logging
from pathlib import Path
from typing import Any

import pytest
import rustac

from stac2cube.access.hrefs import absolute, is_relative
from stac2cube.errors import CatalogError
from stac2cube.search.clients import _absolute_link as of_api
from stac2cube.search.clients import items_of_path
from tests.pixels.products import collection, product


def ids(path: Path) -> list[str]:
    return [item["id"] for item in items_of_path(path)]


def catalog(path: Path, *links: tuple[str, str], kind: str = "Catalog") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"type": kind, "id": path.parent.name, "links": [{"rel": rel, "href": href} for rel, href in links]}
    path.write_text(json.dumps(content))
    return path


def test_broken_links_are_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "a.json").write_text(json.dumps(product("a")))
    broken = [("item", f"./none-{number}.json") for number in range(50)]
    start = catalog(tmp_path / "catalog.json", ("item", "a.json"), *broken, ("child", "./gone/catalog.json"))
    with caplog.at_level(logging.WARNING):
        assert ids(start) == ["a"]
    assert len(caplog.records) == 1
    assert "51 of 52 links lead nowhere" in caplog.text
    assert "none-0.json" in caplog.text


def test_children_are_followed_once_whatever_way_they_are_named(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"deep/{name}").mkdir(parents=True)
        (tmp_path / f"deep/{name}/{name}.json").write_text(json.dumps(product(name)))
    catalog(
        tmp_path / "deep/collection.json",
        ("root", "../catalog.json"),
        ("child", "../catalog.json"),
        ("item", "a/a.json"),
        ("item", "./b/../a/a.json"),
        ("item", f"file://{tmp_path}/deep/b/b.json"),
        kind="Collection",
    )
    catalog(tmp_path / "catalog.json", ("self", "catalog.json"), ("child", "./deep/collection.json"))
    assert ids(tmp_path / "catalog.json") == ["a", "b"]
    assert ids(tmp_path) == ["a", "b"], "a folder with a catalog is that catalog"


def test_relative_addresses_hold_in_folders_with_odd_names(tmp_path: Path) -> None:
    folder = tmp_path / "tiles #1, 50 % ?"
    folder.mkdir()
    item = product("a")
    item["assets"] = {
        "B02": {"href": "B02.tif"},
        "B03": {"href": "../other/B03.tif"},
        "B04": {"href": "/data/B04.tif"},
        "B05": {"href": "https://host/B05.tif?sig=1"},
        "B06": {"href": "s3://bucket/B06.tif"},
    }
    (found,) = items_of_path(collection(folder / "items.json", item))
    assert {name: asset["href"] for name, asset in found["assets"].items()} == {
        "B02": f"{folder}/B02.tif",
        "B03": f"{tmp_path}/other/B03.tif",
        "B04": "/data/B04.tif",
        "B05": "https://host/B05.tif?sig=1",
        "B06": "s3://bucket/B06.tif",
    }


def test_parquet_gives_each_item_its_own_assets_only(tmp_path: Path) -> None:
    first, second = product("a"), product("b")
    del second["assets"]["B8A"]
    path = tmp_path / "items.parquet"
    rustac.write_sync(str(path), [first, second])
    found = {item["id"]: item for item in items_of_path(path)}
    assert set(found["a"]["assets"]) - set(found["b"]["assets"]) == {"B8A"}
    assert found["a"]["properties"]["s2:processing_baseline"] == "05.09"


def test_a_folder_may_hold_other_json(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x/a.json").write_text(json.dumps(product("a")))
    (tmp_path / "x/b.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": [product("b")]}))
    (tmp_path / "settings.json").write_text('["x"]')
    assert sorted(ids(tmp_path)) == ["a", "b"]


def test_what_holds_nothing_is_named(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match=r"none\.json does not exist"):
        ids(tmp_path / "none.json")
    with pytest.raises(CatalogError, match="holds no STAC item"):
        ids(tmp_path)
    nameless = {name: value for name, value in product("a").items() if name != "id"}
    for value in ({"type": "FeatureCollection"}, "text", [nameless], [None]):
        (tmp_path / "wrong.json").write_text(json.dumps(value))
        with pytest.raises(CatalogError, match=r"wrong\.json .*(not a STAC item|no list of STAC items)"):
            ids(tmp_path / "wrong.json")
    (tmp_path / "wrong.json").unlink()
    (tmp_path / "a.parquet").write_bytes(b"")
    with pytest.raises(CatalogError, match=r"a\.parquet is not STAC GeoParquet"):
        ids(tmp_path)


@pytest.mark.parametrize(
    ("href", "relative", "joined"),
    [
        ("./B04.tif", True, "https://a.example/items/B04.tif"),
        ("B04.tif", True, "https://a.example/items/B04.tif"),
        ("../B%2004.tif", True, "https://a.example/B%2004.tif"),
        ("//host.example/B04.tif", True, "https://host.example/B04.tif"),
        ("?x=1", True, "https://a.example/items/a.json?x=1"),
        ("/archive/B04.tif", False, ""),
        ("https://host.example/B04.tif", False, ""),
        ("s3://bucket/B04.tif", False, ""),
        ("file:///B04.tif", False, ""),
        ("<VRTDataset/>", False, ""),
        ("\\\\server\\share", False, ""),
        ("http://[", False, ""),
        ("//[", False, ""),
        ("  ", False, ""),
        (None, False, ""),
    ],
)
def test_everybody_agrees_on_what_is_relative(tmp_path: Path, href: Any, relative: bool, joined: str) -> None:
    """An item from an API, by itself, and in a file that says by its link where it comes from."""
    base = "https://a.example/items/a.json"
    assert is_relative(href) == relative
    if relative:
        assert absolute(href, base) == joined
    made: Any = {"type": "Feature", "id": "a", "properties": {}, "links": [{"rel": "self", "href": base}]}
    made["assets"] = {"B04": {"href": href}}
    (tmp_path / "items.json").write_text(json.dumps([made]))
    (item,) = items_of_path(tmp_path / "items.json")
    assert item["assets"]["B04"]["href"] == (joined if relative else href)
    assert of_api(made, "https://a.example")["assets"]["B04"]["href"] == (joined if relative else href)


@pytest.mark.parametrize("odd", ["http://[", "//[", "x" * 300, "%", "\0", "a\0%20b"])
def test_no_address_stops_the_items_beside_it(tmp_path: Path, odd: str) -> None:
    """As asset, as link of a static catalog, and as the place where an item says it comes from."""
    good: Any = {"type": "Feature", "id": "a", "properties": {}, "assets": {"B04": {"href": "B04.tif"}}, "links": []}
    items = [good, {**good, "assets": {"B04": {"href": odd}, "B05": {"href": "B05.tif"}}}]
    items += [{**copy.deepcopy(item), "links": [{"rel": "self", "href": f"https://a.example/{odd}"}]} for item in items]
    items += [{**copy.deepcopy(good), "links": [{"rel": "self", "href": "https://["}]}]
    (tmp_path / "items.json").write_text(json.dumps(items))
    assert len(list(items_of_path(tmp_path / "items.json"))) == 5
    assert all(of_api(copy.deepcopy(item), "https://a.example") for item in items)
    (tmp_path / "good.json").write_text(json.dumps(good))
    start = catalog(tmp_path / "catalog.json", ("item", odd), ("item", "good.json"))
    assert [item["id"] for item in items_of_path(start)] == ["a"]
