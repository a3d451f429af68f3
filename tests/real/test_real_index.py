"""Indexes of real items of every catalog, and headers of real images."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import duckdb
import geopandas
import pytest
import rasterio
import rustac

from stac2cube.fastcog.jp2 import read_jp2_header
from stac2cube.search.clients import items_of_path
from tests.fastcog.test_jp2 import Bytes, parts_in, told
from tests.real.recorded import RASTERS, STAC, real
from tests.test_geoparquet import Json, as_told, stored

pytestmark = real


def recorded(folder: Path) -> Iterator[Json]:
    """Every item in a folder of answers, once."""
    seen = set()
    for path in sorted(folder.rglob("*.json")):
        value = json.loads(path.read_text())
        features = value.get("features", [value]) if isinstance(value, dict) else []
        for item in features:
            key = (item.get("collection"), item.get("id"))
            if item.get("type") == "Feature" and "assets" in item and key not in seen:
                seen.add(key)
                yield item


@pytest.mark.parametrize("catalog", ["earth_search", "planetary_computer", "terrabyte", "cdse"])
def test_real_items_come_back_whole_and_others_read_them(catalog: str, tmp_path: Path) -> None:
    items = list(recorded(STAC / catalog))
    assert items
    path = stored(tmp_path / "items.parquet", items)
    back = list(items_of_path(path))
    assert [dict(item) for item in back] == [as_told(item) for item in items]
    assert all(item["assets"] == told["assets"] for item, told in zip(items, back, strict=True) if "?" not in str(item))

    ids = {item["id"] for item in items}
    assert {item["id"] for item in rustac.read_sync(str(path))["features"]} == ids
    frame = geopandas.read_parquet(path)
    assert set(frame["id"]) == ids
    assert frame.crs.equals("OGC:CRS84")
    assert frame.geometry.is_valid.any()
    clouds = {item["id"]: item["properties"].get("eo:cloud_cover") for item in items}
    answer = duckdb.sql(f"""SELECT id, "eo:cloud_cover", datetime FROM '{path}'""").fetchall()
    assert {row[0]: row[1] for row in answer} == pytest.approx(clouds)


def test_tiles_of_real_jpeg2000_files() -> None:
    files = [path for path in sorted(RASTERS.rglob("*.jp2")) if path.read_bytes()[4:8] == b"jP  "]
    assert len(files) > 20
    for path in files:
        content = path.read_bytes()
        file = Bytes(content)
        header = read_jp2_header(file, len(content))
        assert file.asked <= 2
        followed = read_jp2_header(Bytes(content), len(content), follow=True)
        assert told(followed) == parts_in(content)
        with rasterio.open(path) as dataset:
            assert (header.height, header.width) == dataset.shape
            assert (header.dtype, header.bands) == (dataset.dtypes[0], dataset.count)
