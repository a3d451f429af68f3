"""Headers kept with an index: few requests, right after a change, never the cause of wrong pixels."""

from __future__ import annotations

import json
import logging
import pickle
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from odc.geo.geobox import GeoBox

import stac2cube
from stac2cube.errors import BadInputError, IncompleteError
from stac2cube.fastcog.header import CogHeader
from stac2cube.fastcog.jp2 import Jp2Header
from stac2cube.index.index import update_index
from stac2cube.model.scene import AssetRef
from stac2cube.search import index_headers as room
from stac2cube.search.index_commits import read_index, records_of, with_headers, write_index_file
from stac2cube.search.index_headers import Target, header_in, read_headers, row_of, stored_headers
from stac2cube.store.reader import differences, open_cube
from stac2cube.testing.archive import Archive, ArchiveSpec, simulate
from tests.pixels.granules import box32, texture, write
from tests.servers.range_server import RangeServer, serving

WORDS: dict[str, Any] = {"mission": "sentinel-2-l2a", "time": "2023", "bands": ["B04", "B05", "SCL"]}


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    return simulate(tmp_path_factory.mktemp("archive"), ArchiveSpec(years=(2023,), dates_per_year=2, tile_px=96))


@pytest.fixture
def files(tmp_path: Path, archive: Archive) -> Any:
    """A server of a copy of the archive, whose files tests may change."""
    shutil.copytree(archive.root, tmp_path / "files")
    with serving(tmp_path / "files") as server:
        yield server


def indexed(tmp_path: Path, archive: Archive, files: RangeServer) -> Path:
    items = archive.items("earth-search", base_url=files.url)
    (tmp_path / "items.json").write_text(json.dumps({"type": "FeatureCollection", "features": items}))
    area = archive.area(two_zones=True)
    return stac2cube.create_index(
        tmp_path / "index", aoi=area, catalog=str(tmp_path / "items.json"), headers=True, **WORDS
    )


def cube(path: Path, archive: Archive, catalog: Path) -> Path:
    stac2cube.get_stac_layers(path, aoi=archive.area(two_zones=True), catalog=str(catalog), **WORDS)
    return path


def test_a_header_costs_two_requests_at_most_and_is_not_asked_for_again(
    tmp_path: Path, archive: Archive, files: RangeServer
) -> None:
    index = indexed(tmp_path, archive, files)
    asked = Counter(request.split()[1] for request in files.requests)
    rows = stored_headers([index])
    assert rows is not None
    assert len(rows.rows()) == len(asked) == 3 * 2 * 3
    assert max(asked.values()) <= 2
    files.requests.clear()
    update_index(index)
    assert files.requests == [], "what is known is not read again"
    stac2cube.read(index, archive.area(two_zones=True), WORDS["bands"])
    assert max(Counter(files.requests).values()) == 1, "of files this small one request brings all tiles"
    made = cube(tmp_path / "indexed.zarr", archive, index)
    assert differences(made, cube(tmp_path / "direct.zarr", archive, tmp_path / "items.json")) == []
    assert pickle.loads(pickle.dumps(rows)) == rows


def test_a_file_that_changed_is_read_as_it_is_now_and_indexed_anew(
    tmp_path: Path, archive: Archive, files: RangeServer
) -> None:
    index = indexed(tmp_path, archive, files)
    rows = stored_headers([index]).rows()  # type: ignore[union-attr]
    victim = next(href for href, row in sorted(rows.items()) if row["band"] == "B04")
    path = files.folder / victim.removeprefix(files.url + "/")
    with rasterio.open(path) as dataset:
        old, profile = dataset.read(1), dataset.profile
        geobox = GeoBox(dataset.shape, dataset.transform, str(dataset.crs))
    new = np.where(old == 0, 0, old[::-1] + 17).astype(profile["dtype"])
    write(path, new, geobox, blocksize=256, compress="zstd", predictor=None)
    fresh = cube(tmp_path / "fresh.zarr", archive, tmp_path / "items.json")
    stale = cube(tmp_path / "stale.zarr", archive, index)
    assert differences(fresh, stale) == [], "never the pixels of an old header"

    checked = update_index(index, check=True).difference
    assert checked.headers == (victim,)
    assert stored_headers([index]).rows()[victim]["compression"] == "zstd"  # type: ignore[union-attr]
    assert update_index(index, check=True).difference.headers == ()


def test_a_wrong_header_in_the_index_makes_no_wrong_pixels(
    tmp_path: Path, archive: Archive, files: RangeServer
) -> None:
    """Headers of other files, as a broken tool might leave them: another size or ETag gives them away."""
    index = indexed(tmp_path, archive, files)
    whole = read_index(index)
    keys = sorted(whole.records)
    records = {}
    for key in keys:
        rows = list(whole.records[key].headers)
        swapped = [
            {**other, "href": row["href"], "band": row["band"]} for row, other in zip(rows, rows[::-1], strict=True)
        ]
        records[key] = replace(whole.records[key], headers=tuple(swapped))
    write_index_file(tmp_path / "wrong.parquet", records)
    right = cube(tmp_path / "right.zarr", archive, tmp_path / "items.json")
    assert differences(right, cube(tmp_path / "wrong.zarr", archive, tmp_path / "wrong.parquet")) == []


def test_a_header_that_points_elsewhere_in_the_right_file_fails_or_is_right(
    tmp_path: Path, archive: Archive, files: RangeServer
) -> None:
    """Size and ETag are right, the places of tiles are not: what lies there does not unpack to a tile."""
    index = indexed(tmp_path, archive, files)
    whole = read_index(index)

    def moved(row: Any) -> Any:
        header = header_in(row)
        assert isinstance(header, CogHeader)
        levels = tuple(replace(level, offsets=level.offsets + np.uint64(2)) for level in header.levels)
        return row_of(row["band"], row["href"], replace(header, levels=levels))

    records = {
        key: replace(record, headers=tuple(moved(row) for row in record.headers))
        for key, record in whole.records.items()
    }
    write_index_file(tmp_path / "wrong.parquet", records)
    right = cube(tmp_path / "right.zarr", archive, tmp_path / "items.json")
    try:
        assert differences(right, cube(tmp_path / "wrong.zarr", archive, tmp_path / "wrong.parquet")) == []
    except IncompleteError:
        assert not (tmp_path / "wrong.zarr").exists() or open_cube(tmp_path / "wrong.zarr").sizes["time"] == 0


def test_a_file_that_cannot_be_read_is_left_out_and_tried_again(
    tmp_path: Path, archive: Archive, files: RangeServer, caplog: pytest.LogCaptureFixture
) -> None:
    items = archive.items("earth-search", base_url=files.url)
    victim = items[-1]["assets"]["red"]["href"].removeprefix(files.url)
    files.faults[victim] = [404] * 20
    with caplog.at_level(logging.WARNING):
        index = indexed(tmp_path, archive, files)
    assert "1 of 18 files could not be looked at" in caplog.text
    assert len(stored_headers([index]).rows()) == 17  # type: ignore[union-attr]
    files.faults.clear()
    assert update_index(index).difference.headers == (files.url + victim,)


def test_busy_servers_are_asked_again(tmp_path: Path, archive: Archive, files: RangeServer) -> None:
    for item in archive.items("earth-search", base_url=files.url)[:3]:
        files.faults[item["assets"]["red"]["href"].removeprefix(files.url)] = [503, 429]
    index = indexed(tmp_path, archive, files)
    assert len(stored_headers([index]).rows()) == 18  # type: ignore[union-attr]


def test_an_expired_signature_is_asked_anew(
    tmp_path: Path, files: RangeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The signature is made when a header is read; one that a server refuses is made anew, once."""

    path = write(files.folder / "a.tif", texture(box32()), box32())
    asked: list[str] = []
    monkeypatch.setattr(room, "forget", asked.append)
    files.faults["a.tif"] = [403]
    target = Target("B04", AssetRef(f"{files.url}/a.tif"), "planetary-computer")
    (row,) = read_headers([target]).values()
    assert asked == ["planetary-computer"]
    assert row["size"] == path.stat().st_size
    assert row["href"] == f"{files.url}/a.tif"


def test_an_address_that_only_gdal_follows_is_left_to_it(files: RangeServer) -> None:
    write(files.folder / "a.tif", texture(box32()), box32())
    (row,) = read_headers([Target("B04", AssetRef(f"{files.url}/./a.tif"), "none")]).values()
    assert (row["format"], row["remark"]) == ("other", "its address is unusual")


def test_without_obstore_headers_behind_a_network_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "find_spec", lambda _: None)
    with pytest.raises(BadInputError, match=r"stac2cube\[index\]"):
        read_headers([Target("B04", AssetRef("https://host/a.tif"), "none")])


def test_formats(tmp_path: Path) -> None:
    tiff = write(tmp_path / "a.tif", texture(box32()), box32())
    gone = dict.fromkeys(("compress", "predictor", "blocksize"))
    jp2 = write(tmp_path / "b.jp2", texture(box32()), box32(), **gone, driver="JP2OpenJPEG", TLM="YES")
    (tmp_path / "c.tif").write_bytes(b"<html>Please sign in</html>")
    targets = [Target(path.stem, AssetRef(str(path)), "none") for path in (tiff, jp2, tmp_path / "c.tif")]
    rows = read_headers(targets)
    assert {row["band"]: row["format"] for row in rows.values()} == {"a": "tiff", "b": "jpeg2000", "c": "other"}
    assert "no TIFF" in rows[str(tmp_path / "c.tif")]["remark"]
    items = [
        {
            "type": "Feature",
            "stac_version": "1.0.0",
            "id": path.stem,
            "geometry": None,
            "properties": {"datetime": "2023-07-01T00:00:00Z"},
            "links": [],
            "assets": {"x": {"href": str(path)}},
        }
        for path in (tiff, jp2, tmp_path / "c.tif")
    ]
    write_index_file(tmp_path / "items.parquet", with_headers(records_of(items), rows))
    headers = stored_headers([tmp_path / "items.parquet"])
    assert headers is not None
    assert headers(str(tiff)).size == tiff.stat().st_size  # type: ignore[union-attr]
    assert headers(str(jp2)) is None
    stored = headers.of(str(jp2))
    assert isinstance(stored, Jp2Header)
    assert len(stored.tiles) > 0
    assert headers(str(tmp_path / "c.tif")) is headers("unheard of") is None
