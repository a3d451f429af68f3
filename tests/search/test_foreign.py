"""Tables of items as other programs write them: the same scenes as from the JSON."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import rustac
import shapely
from shapely.geometry import box

from stac2cube.errors import CatalogError
from stac2cube.model.catalog import find_catalog
from stac2cube.model.scene import Scene
from stac2cube.search.search import search
from tests.items import query_over
from tests.pixels.products import Json, product

YEAR = (datetime(2023, 1, 1, tzinfo=UTC), datetime(2024, 1, 1, tzinfo=UTC))


def scenes(path: Path) -> list[Any]:
    query = query_over(box(9.2, 47.2, 9.8, 47.8), YEAR, "B04,B8A")
    return [facts(scene) for scene in search(query, find_catalog(str(path)))]


def facts(scene: Scene) -> tuple[Any, ...]:
    granules = [(g.id, g.crs, g.corner, g.cloud_cover, g.footprint, dict(g.assets)) for g in scene.granules]
    return str(scene.key), scene.time, scene.item_ids, scene.parts, granules, scene.problem, dict(scene.versions)


def items() -> list[Json]:
    """Three of STAC 1.1, each with members that another lacks."""
    made = []
    for day in (10, 15, 20):
        one = product(f"S2A_{day}", time=f"2023-05-{day}T10:26:01.024000Z", updated=f"2023-06-{day}T00:00:00Z")
        one["stac_version"] = "1.1.0"
        one["properties"]["proj:code"] = f"EPSG:{one['properties'].pop('proj:epsg')}"
        for name in ("B04", "B8A"):
            bands = [{"name": name, "data_type": "uint16", "nodata": 0, "raster:scale": 1e-4, "raster:offset": -0.1}]
            one["assets"][name] |= {"bands": bands, "proj:transform": [10, 0, 600_000, 0, -10, 5_300_040]}
        made.append(one)
    made[1]["assets"]["extra"] = {"href": "https://host/x.tif", "bands": [{"nodata": "nan", "data_type": "float32"}]}
    made[2]["properties"]["version"], made[2]["properties"]["gsd"] = "2.1", 10
    made[2]["properties"]["eo:cloud_cover"] = None
    return made


def as_json(listed: list[Json], path: Path) -> Path:
    path.write_text(json.dumps({"type": "FeatureCollection", "features": listed}))
    return path


def table(listed: list[Json], unit: str = "us", zone: str | None = "UTC") -> pa.Table:
    """A STAC GeoParquet 1.0, as stac-geoparquet writes it: properties are columns, what an item lacks is null."""
    rows = []
    for one in listed:
        head = {name: one[name] for name in ("type", "stac_version", "id", "collection", "assets")}
        head["geometry"] = shapely.to_wkb(shapely.geometry.shape(one["geometry"]))
        head["bbox"] = dict(zip(("xmin", "ymin", "xmax", "ymax"), one["bbox"], strict=True))
        rows.append(head | one["properties"])
    made = pa.Table.from_pylist(rows, schema=pa.Table.from_pylist(_filled(rows)).schema)
    for name in ("datetime", "updated"):
        times = [datetime.fromisoformat(one["properties"][name]).replace(tzinfo=None) for one in listed]
        column = pa.array(times, pa.timestamp("us")).cast(pa.timestamp(unit))
        column = column.cast(pa.timestamp(unit, zone)) if zone else column
        made = made.set_column(made.schema.get_field_index(name), name, column)
    return made


def _filled(rows: list[Json]) -> list[Json]:
    """Rows whose first has every column, from which pyarrow takes the schema."""
    return [{name: value for row in rows for name, value in row.items()}, *rows]


def written(made: pa.Table, path: Path) -> Path:
    pq.write_table(made, path)
    return path


@pytest.mark.parametrize(("unit", "zone"), [("ms", "UTC"), ("us", "UTC"), ("ns", "UTC"), ("us", None)])
def test_times_of_any_unit(tmp_path: Path, unit: str, zone: str | None) -> None:
    wanted = scenes(as_json(items(), tmp_path / "a.json"))
    assert len(wanted) == 3
    assert scenes(written(table(items(), unit, zone), tmp_path / f"{unit}.parquet")) == wanted


def test_a_table_of_rustac(tmp_path: Path) -> None:
    listed = items()
    del listed[1]["assets"]["extra"]  # rustac refuses "nan" beside numbers
    rustac.write_sync(str(tmp_path / "a.parquet"), listed)
    assert scenes(tmp_path / "a.parquet") == scenes(as_json(listed, tmp_path / "a.json"))


def test_lines_of_json(tmp_path: Path) -> None:
    """As pgSTAC loads and dumps them."""
    wanted = scenes(as_json(items(), tmp_path / "a.json"))
    for name in ("a.ndjson", "a.jsonl"):
        (tmp_path / name).write_text("\n".join(json.dumps(one) for one in items()) + "\n\n")
        assert scenes(tmp_path / name) == wanted
    folder = tmp_path / "folder"
    folder.mkdir()
    (tmp_path / "a.ndjson").rename(folder / "a.ndjson")
    assert scenes(folder) == wanted
    (folder / "a.ndjson").write_text('{"type": "Feature"')
    with pytest.raises(CatalogError, match="line 1 of"):
        scenes(folder / "a.ndjson")


def test_what_is_damaged_in_a_folder_is_told_and_the_others_are_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A tool that fails leaves an empty file behind, and a copy that was cut off half of a line."""
    wanted = scenes(as_json(items(), tmp_path / "a.json"))
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "0.parquet").write_bytes(b"")
    written(table(items()[:1]), folder / "1.parquet")
    (folder / "2.ndjson").write_text("\n".join([json.dumps(items()[1]), '{"type": "Fea', json.dumps(items()[2])]))
    assert scenes(folder) == wanted
    assert "the search may be incomplete: " in caplog.text
    assert "0.parquet is not STAC GeoParquet" in caplog.text
    assert scenes(folder / "2.ndjson") == wanted[1:]
    assert "line 2 of" in caplog.text


def test_numbers_that_became_floats(tmp_path: Path) -> None:
    """Where a table went through pandas, numbers that some items lack are floats."""
    listed = items()
    made = table(listed)
    for name, value in (("proj:epsg", 32632.0), ("sat:relative_orbit", 108.0), ("eo:cloud_cover", 10.0)):
        place = made.schema.get_field_index(name)
        column = pa.array([value, value, None if name == "eo:cloud_cover" else value], pa.float64())
        made = made.append_column(name, column) if place < 0 else made.set_column(place, name, column)
    made = made.drop_columns(["proj:code"])
    assert scenes(written(made, tmp_path / "a.parquet")) == scenes(as_json(listed, tmp_path / "a.json"))


def test_assets_as_a_map_or_as_a_text(tmp_path: Path) -> None:
    listed = items()
    del listed[1]["assets"]["extra"]
    wanted = scenes(as_json(listed, tmp_path / "a.json"))
    made = table(listed)
    place = made.schema.get_field_index("assets")
    texts = made.set_column(place, "assets", pa.array([json.dumps(one["assets"]) for one in listed]))
    assert scenes(written(texts, tmp_path / "texts.parquet")) == wanted
    asset = made.schema.field("assets").type.field("B04").type
    pairs = [[(name, one["assets"][name]) for name in ("B04", "B8A")] for one in listed]
    maps = made.set_column(place, "assets", pa.array(pairs, pa.map_(pa.string(), asset)))
    assert scenes(written(maps, tmp_path / "maps.parquet")) == wanted


def test_one_odd_row_does_not_stop_the_others(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    made = table(items())
    shapes = made["geometry"].to_pylist()
    odd = made.set_column(made.schema.get_field_index("geometry"), "geometry", pa.array([shapes[0], b"?", None]))
    assert len(scenes(written(odd, tmp_path / "a.parquet"))) == 1
    assert "2 x item S2A_15 has no geometry (also S2A_20)" in caplog.text


def test_a_time_beyond_the_calendar_does_not_stop_the_others(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """An infinite time of PostgreSQL, as pgSTAC has them, becomes the largest number."""
    made = table(items())
    kind, infinite = pa.timestamp("us", "UTC"), 2**63 - 1
    ends = pa.array([infinite, None, 0], pa.int64()).view(kind)
    times = pa.array([*made["datetime"].cast(pa.int64()).to_pylist()[:2], infinite]).view(kind)
    made = made.set_column(made.schema.get_field_index("datetime"), "datetime", times)
    assert len(scenes(written(made.append_column("end_datetime", ends), tmp_path / "a.parquet"))) == 2
    assert "item S2A_20 has no time" in caplog.text


def test_what_is_no_table_of_items_is_named(tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": ["a"], "x": [1]}), tmp_path / "a.parquet")
    with pytest.raises(CatalogError, match="is not STAC GeoParquet: it has no column assets, geometry"):
        scenes(tmp_path / "a.parquet")


def test_pgstacs_own_table_of_items_is_named(tmp_path: Path) -> None:
    """Its ``content`` lacks what the collection says of all assets, so that scale and offset would be unknown."""
    one = items()[0]
    row = {
        "id": one["id"],
        "collection": one["collection"],
        "geometry": shapely.to_wkb(shapely.geometry.shape(one["geometry"])),
        "datetime": one["properties"]["datetime"],
        "end_datetime": one["properties"]["datetime"],
        "content": json.dumps({name: one[name] for name in ("assets", "bbox", "properties")}),
        "private": None,
    }
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "a.parquet")
    with pytest.raises(CatalogError, match=r"holds rows of pgSTAC's table of items.*pgstac_to_parquet"):
        scenes(tmp_path / "a.parquet")
