"""What sync knows beyond the catalog's list: deprecated items, an archive's inventory, items lost of a scene."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shapely
from affine import Affine
from shapely.geometry import box, shape

import stac2cube
from stac2cube.build.status import cube_status
from stac2cube.cli import cli
from stac2cube.errors import CatalogError
from stac2cube.executors.base import Threads
from stac2cube.maintain.care import rollback, verify
from stac2cube.maintain.sync import compare_with_catalog, sync
from stac2cube.search.search import read_inventory
from stac2cube.store.ledger import Ledger
from stac2cube.store.metadata import read_root
from stac2cube.store.reader import differences
from stac2cube.testing.archive import write_simulated_cog
from tests.items import Json, catalog, query_over
from tests.stages.shifted import EPSG, ORIGIN
from tests.stages.test_care import DATES, EDGE, build, product

BASE = "sentinel-2a_R065_"
NEW_YEAR, LAST_DAY = datetime(2022, 1, 1, tzinfo=UTC), datetime(2022, 12, 31, tzinfo=UTC)


def key(date: str) -> str:
    return BASE + date.replace("-", "")


def inventory(path: Path, rows: list[tuple[str, str, object, str, bool | None]]) -> Path:
    """As terrabyte's: id, time, geometry, status, deprecated."""
    names, times, shapes, status, old = zip(*rows, strict=True)
    moments = [datetime.fromisoformat(time).replace(tzinfo=UTC) for time in times]
    table = pa.table(
        {
            "id": list(names),
            "datetime": pa.array(moments, pa.timestamp("us", tz="UTC")),
            "geometry": [shapely.to_wkb(drawn) for drawn in shapes],
            "status": list(status),
            "deprecated": pa.array(old, pa.bool_()),
        }
    )
    pq.write_table(table, path)
    return path


def datastrip(made: Json, name: str) -> Json:
    """The same product as another datastrip of the overpass."""
    return {**made, "id": f"{made['id']}-{name}", "properties": {**made["properties"], "s2:datastrip_id": name}}


STRIPS = tuple(f"S2A_OPER_MSI_L2A_DS_VGS1_20220301T1{n}0000_S20220301T10{n}031_N03.01" for n in (2, 3))


def test_deprecated_items_are_taken_for_withdrawn(tmp_path: Path) -> None:
    items = [product(tmp_path, date) for date in DATES[:3]]
    layers = build(tmp_path, items)
    items[1]["properties"]["deprecated"] = True
    catalog(tmp_path / "items.json", items)
    found, _ = compare_with_catalog(layers)
    assert found.withdrawn == (key(DATES[1]),)
    sync(layers, Threads(), even_many=True)
    assert differences(layers, build(tmp_path, items, "scratch")) == []


def test_an_item_that_the_catalog_moved_to_another_day_is_in_one_step(tmp_path: Path) -> None:
    items = [product(tmp_path, date) for date in DATES[:3]]
    layers = build(tmp_path, items)
    items[1]["properties"]["datetime"] = items[1]["properties"]["datetime"].replace(DATES[1], "2022-04-09")
    catalog(tmp_path / "items.json", items)
    found, _ = compare_with_catalog(layers)
    assert (found.withdrawn, [*found.new, *found.late]) == ((key(DATES[1]),), [key("2022-04-09")])
    sync(layers, Threads(), even_many=True)
    assert compare_with_catalog(layers)[0].nothing
    assert sorted(Ledger(layers, read_root(layers).ledger).sealed()) == [
        key(DATES[0]),
        key("2022-04-09"),
        key(DATES[2]),
    ]


def test_an_inventory_tells_what_went_and_what_is_not_here_yet(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    items = [product(tmp_path, date) for date in DATES[:4]]
    layers = build(tmp_path, items[:3])
    newer = product(tmp_path, DATES[0], "03.02", 1)
    catalog(tmp_path / "items.json", [*items, newer])  # whose list still has what the inventory says is gone
    here, elsewhere = shape(items[0]["geometry"]), box(100, 0, 101, 1)
    path = inventory(
        tmp_path / "inventory.parquet",
        [
            (items[0]["id"], "2022-03-01T10:20:00", here, "removed", None),
            (items[1]["id"], "2022-04-02T10:20:00", here, "succeeded", True),
            (items[2]["id"], "2022-05-03T10:20:00", here, "succeeded", False),
            ("not-yet", "2022-07-01T10:20:00", here, "orderable", False),
            ("soon", "2022-07-02T10:20:00", here, "ordered", None),
            ("never", "2022-07-03T10:20:00", here, "orderable", True),
            ("far", "2022-07-04T10:20:00", elsewhere, "ordered", False),
            ("early", "2021-07-04T10:20:00", here, "ordered", False),
        ],
    )
    capsys.readouterr()
    words = ["sync", str(layers), "--inventory", str(path), "--json", "-q"]
    assert cli.main(words, standalone_mode=False) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["awaited"] == {"not-yet": "orderable", "soon": "ordered"}
    assert told["withdrawn"] == [key(DATES[1])]
    assert told["superseded"] == [key(DATES[0])], "whose newer item is there"
    assert told["new"] == [key(DATES[3])]
    assert cli.main([*words, "--apply", "--even-many"], standalone_mode=False) == 0
    done = json.loads(capsys.readouterr().out)
    assert (done["sealed"], done["replaced"]) == ([key(DATES[3])], [key(DATES[0])])
    assert differences(layers, build(tmp_path, [newer, items[2], items[3]], "scratch")) == []
    assert compare_with_catalog(layers, inventory=path)[0].nothing
    assert cli.main(["sync", str(layers), "--inventory", str(path), "-q"], standalone_mode=False) == 0
    said = capsys.readouterr().out
    assert "not here yet     2  not-yet soon" in said
    assert "everything is up to date" in said


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda table: table.drop(["status"]), "lacks the column status"),
        (lambda table: table.set_column(3, "status", pa.array(["lost"])), "status lost is none of orderable, ordered"),
        (lambda table: table.set_column(1, "datetime", pa.array(["2022"])), "datetime holds string"),
        (lambda table: table.set_column(2, "geometry", pa.array([b"?"])), "geometry is not WKB"),
    ],
)
def test_a_strange_inventory_is_one_clear_error(tmp_path: Path, spoil, message: str) -> None:
    path = inventory(tmp_path / "i.parquet", [("a", "2022-07-01T10:00:00", box(0, 0, 1, 1), "ordered", False)])
    query = query_over(box(0, 0, 1, 1), (NEW_YEAR, LAST_DAY))
    assert read_inventory(path, query).awaited == {"a": "ordered"}
    pq.write_table(spoil(pq.read_table(path)), path)
    with pytest.raises(CatalogError, match=message):
        read_inventory(path, query)
    with pytest.raises(CatalogError, match="cannot be read"):
        read_inventory(tmp_path / "none.parquet", query)


def test_a_scene_that_lost_an_item_is_made_anew_and_its_children_with_it(tmp_path: Path) -> None:
    (tmp_path / "second").mkdir()
    first = datastrip(product(tmp_path, DATES[0]), STRIPS[0])
    second = datastrip(product(tmp_path / "second", DATES[0], value=7), STRIPS[1])
    others = [product(tmp_path, date) for date in DATES[1:3]]
    layers = build(tmp_path, [first, second, *others])
    child, monthly = tmp_path / "clouds.zarr", tmp_path / "monthly.zarr"
    stac2cube.get_cloud_layers(layers, child, method="scl", dilate_m=0)
    stac2cube.store_composites(layers, monthly)
    before = read_root(layers).commit
    catalog(tmp_path / "items.json", [second, *others])
    found, _ = compare_with_catalog(layers)
    assert (found.reduced, found.superseded, found.withdrawn) == ((key(DATES[0]),), (), ())
    sync(layers, Threads(), even_many=True)
    row = Ledger(layers, read_root(layers).ledger).entries()[key(DATES[0])]
    assert row.items == (second["id"],)
    assert row.properties["replaced_items"] == [first["id"]]
    assert compare_with_catalog(layers)[0].nothing
    scratch = build(tmp_path, [second, *others], "scratch")
    assert differences(layers, scratch) == []
    for made, make in ((child, stac2cube.get_cloud_layers), (monthly, stac2cube.store_composites)):
        words = {"method": "scl", "dilate_m": 0} if made is child else {}
        make(scratch, tmp_path / f"scratch-{made.name}", **words)
        assert differences(made, tmp_path / f"scratch-{made.name}") == []
    rollback(layers, before)
    assert cube_status(child).stale == (key(DATES[0]),), "an older step of the parent is another one, too"
    assert compare_with_catalog(layers)[0].children[str(child)]["stale"] == 1


def test_a_step_that_became_cloudy_leaves_a_cube_of_clear_ones(tmp_path: Path) -> None:
    items = [product(tmp_path, date) for date in DATES[:3]]
    layers, clouds, clear = build(tmp_path, items), tmp_path / "clouds.zarr", tmp_path / "clear.zarr"
    stac2cube.get_cloud_layers(layers, clouds, method="scl", dilate_m=0)
    assert stac2cube.apply_masks(layers, clouds, clear, max_cloud=0.5).sizes["time"] == 3
    cloudy, bright = product(tmp_path, DATES[1], "03.02", 1), np.full((EDGE // 2, EDGE // 2), 9, "uint8")
    write_simulated_cog(tmp_path / "20220402-03.02-SCL.tif", bright, EPSG, Affine(20, 0, ORIGIN[0], 0, -20, ORIGIN[1]))
    catalog(tmp_path / "items.json", [items[0], cloudy, items[2]])
    sync(layers, Threads())
    row = Ledger(clear, read_root(clear).ledger).entries()[key(DATES[1])]
    assert (row.status, row.reason) == ("empty", "more than 50 % cloud")
    assert stac2cube.open_cube(clear).sizes["time"] == 2
    assert verify(clear) == []
    assert compare_with_catalog(layers)[0].nothing
    catalog(tmp_path / "items.json", [items[0], product(tmp_path, DATES[1], "03.03"), items[2]])
    sync(layers, Threads())
    assert stac2cube.open_cube(clear).sizes["time"] == 3
    assert verify(clear) == []
    assert compare_with_catalog(layers)[0].nothing


def test_replaced_steps_remember_all_items_that_they_were_made_from(tmp_path: Path) -> None:
    versions = [product(tmp_path, DATES[0], f"03.0{number}", number) for number in (1, 2, 3)]
    other = product(tmp_path, DATES[1])
    for number, version in enumerate(versions):
        catalog(tmp_path / "items.json", [version, other])
        layers = tmp_path / "layers.zarr"
        if number == 0:
            build(tmp_path, [version, other])
        else:
            assert cli.main(["sync", str(layers), "--apply", "-q"], standalone_mode=False) == 0
    row = Ledger(layers, read_root(layers).ledger).entries()[key(DATES[0])]
    assert row.items == (versions[2]["id"],)
    assert row.properties["replaced_items"] == [versions[0]["id"], versions[1]["id"]]


def test_what_another_catalog_lacks_was_not_withdrawn(tmp_path: Path) -> None:
    layers = build(tmp_path, [product(tmp_path, date) for date in DATES[:3]])
    other = tmp_path / "other"
    other.mkdir()
    words = ["update", str(layers), "--catalog", catalog(other / "items.json", [product(tmp_path, DATES[3])]), "-q"]
    assert cli.main(words, standalone_mode=False) == 0
    found, _ = compare_with_catalog(layers)
    assert found.nothing, found
