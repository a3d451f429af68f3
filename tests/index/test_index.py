"""Scene indexes: the same scenes and pixels as from the API; updates by difference, whole at any moment."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import duckdb
import geopandas
import pytest
import rustac

import stac2cube
from stac2cube.cli import cli
from stac2cube.errors import BadInputError, CatalogError, CubeLockedError, NothingFoundError
from stac2cube.index.index import filter_index, store_search, update_index
from stac2cube.model.catalog import find_catalog
from stac2cube.search.clients import items_of_path
from stac2cube.search.index_commits import lock, read_index
from stac2cube.search.index_files import read_index_manifest
from stac2cube.search.index_headers import stored_headers
from stac2cube.stages.layers import area_words, query_of_words
from stac2cube.store.lock import IN_FOLDER
from stac2cube.store.reader import differences
from stac2cube.testing.archive import Archive, ArchiveSpec, simulate
from tests.servers.stac_api import StacApi

WORDS: dict[str, Any] = {"mission": "sentinel-2-l2a", "time": "2023"}
CUBE_WORDS = {**WORDS, "bands": ["B04", "B05", "SCL"]}


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    return simulate(tmp_path_factory.mktemp("archive"), ArchiveSpec(years=(2023,), dates_per_year=4, tile_px=96))


class Provider:
    """A catalog that lives: items come, change and go."""

    def __init__(self, file: Path, archive: Archive) -> None:
        self.file = file
        self.items = archive.items("earth-search")
        self.tell()

    def tell(self) -> None:
        self.file.write_text(json.dumps({"type": "FeatureCollection", "features": self.items}))


@pytest.fixture
def provider(archive: Archive, tmp_path: Path) -> Provider:
    return Provider(tmp_path / "provider.json", archive)


@pytest.fixture
def index(provider: Provider, archive: Archive, tmp_path: Path) -> Path:
    area = archive.area(two_zones=True)
    return stac2cube.create_index(tmp_path / "index", aoi=area, catalog=str(provider.file), headers=True, **WORDS)


def ids(index: Path) -> list[str]:
    return sorted(item["id"] for item in items_of_path(index))


def files(index: Path) -> set[str]:
    """Of the index itself, without the lock inside it, which a killed writer leaves."""
    paths = (path.relative_to(index) for path in index.rglob("*") if path.is_file())
    return {str(path) for path in paths if path.parts[0] != IN_FOLDER}


def said(*words: object) -> Any:
    from click.testing import CliRunner

    done = CliRunner().invoke(cli, [*map(str, words), "--json"], catch_exceptions=False)
    return json.loads(done.output)


@pytest.mark.postgres
def test_an_index_gives_the_cube_that_the_api_gives(
    archive: Archive, stac_api: StacApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Items of an API may name files only below the folders that its entry names.
    monkeypatch.setenv("STAC2CUBE_CONFIG_DIR", str(tmp_path))
    (tmp_path / "catalogs.toml").write_text(
        f'[site]\ntitle = "Ours"\nurl = "{stac_api.url}"\nlocal_root = "{archive.root}"\n'
    )
    stac_api.load(archive.collections("earth-search"), archive.items("earth-search"))
    area = archive.area(two_zones=True)
    index = stac2cube.create_index(tmp_path / "index", aoi=area, catalog=stac_api.url, headers=True, **WORDS)
    direct, indexed = tmp_path / "direct.zarr", tmp_path / "indexed.zarr"
    stac2cube.get_stac_layers(direct, aoi=area, catalog=stac_api.url, **CUBE_WORDS)
    stac_api.clear()
    stac2cube.get_stac_layers(indexed, aoi=area, catalog=str(index), **CUBE_WORDS)
    assert differences(direct, indexed) == []
    with pytest.raises(NothingFoundError):
        update_index(index)
    assert len(ids(index)) == 15, "a catalog that has nothing any more empties no index"


def test_others_read_all_files_together(index: Path) -> None:
    found = ids(index)
    parts = [index / part.file for part in read_index_manifest(index).parts]
    assert [path.parent.name for path in parts] == ["month=01", "month=04", "month=07", "month=10"]
    assert sorted(item["id"] for path in parts for item in rustac.read_sync(str(path))["features"]) == found
    frame = geopandas.read_parquet(index / "year=2023")
    assert sorted(frame["id"]) == found
    assert frame.geometry.notna().all()
    query = f"""SELECT id, year, month, len("stac2cube:headers") FROM
                read_parquet('{index}/*/*/*.parquet', hive_partitioning = true) ORDER BY id"""
    rows = duckdb.sql(query).fetchall()
    assert [row[0] for row in rows] == found
    assert {(row[1], int(row[2])) for row in rows} == {(2023, 1), (2023, 4), (2023, 7), (2023, 10)}
    assert {row[3] for row in rows} == {11, 0}, "of the products that a newer baseline replaces nobody needs headers"


def test_an_update_is_a_difference(index: Path, provider: Provider) -> None:
    before = files(index)
    january, april = (
        sorted(i["id"] for i in provider.items if f"2023-{m}" in i["properties"]["datetime"]) for m in ("01", "04")
    )
    same = update_index(index).difference
    assert (same.new, same.changed, same.gone, same.headers) == ((), (), (), ())
    assert files(index) == before, "nothing to do, nothing written"

    late = next(item for item in provider.items if item["id"] == january[0])
    provider.items.remove(late)
    changed = next(item for item in provider.items if item["id"] == april[0])
    changed["properties"]["eo:cloud_cover"] = 99.0
    provider.tell()
    difference = update_index(index).difference
    assert difference.gone == (late["id"],)
    assert difference.changed == (changed["id"],)
    assert difference.new == ()
    assert late["id"] not in ids(index)
    assert len(difference.headers) in (0, 11), "only the changed item's headers are read again"
    kept = before & files(index)
    assert {name.rpartition("/")[0] for name in kept} == {"", "year=2023/month=07", "year=2023/month=10"}

    provider.items.append(late)
    provider.tell()
    assert said("index", "update", index)["new"] == [late["id"]]
    assert sorted(i["id"] for i in provider.items) == ids(index)
    (cloudy,) = (item for item in items_of_path(index) if item["id"] == changed["id"])
    assert cloudy["properties"]["eo:cloud_cover"] == 99.0


def test_a_property_that_nobody_had_before_rewrites_all_files_alike(index: Path, provider: Provider) -> None:
    provider.items[-1]["properties"]["quality:new"] = {"grade": 1}
    provider.tell()
    update_index(index)
    assert all(part.file.endswith("000002.parquet") for part in read_index_manifest(index).parts)
    assert sorted(geopandas.read_parquet(index / "year=2023")["id"]) == ids(index)
    assert sum(len(record.headers) for record in read_index(index).records.values()) == 11 * 12


def test_a_longer_time_is_remembered(provider: Provider, archive: Archive, tmp_path: Path) -> None:
    words = {**WORDS, "time": "2023-01/2023-04"}
    index = stac2cube.create_index(tmp_path / "index", aoi=archive.area(), catalog=str(provider.file), **words)
    first = ids(index)
    assert update_index(index, time="2023-07").difference.new
    assert len(ids(index)) > len(first)
    assert update_index(index).difference.gone == ()


def test_words_and_conditions_hold_at_creation_filter_and_update(
    index: Path, provider: Provider, archive: Archive, tmp_path: Path
) -> None:
    everything = {item["id"]: item for item in items_of_path(index)}
    where = ["eo:cloud_cover < 30", "platform = 'sentinel-2a'"]
    clear = sorted(
        name
        for name, item in everything.items()
        if item["properties"]["eo:cloud_cover"] < 30 and item["properties"]["platform"] == "sentinel-2a"
    )
    assert 0 < len(clear) < len(everything)
    area = archive.area(two_zones=True)
    made = stac2cube.create_index(tmp_path / "made", aoi=area, catalog=str(provider.file), where=where, **WORDS)
    assert ids(made) == clear
    words = ["--max-cloud-cover", "29.99", "--platform", "Sentinel-2A", "--time", "2023", "--aoi", json.dumps(area)]
    assert said("index", "filter", index, tmp_path / "filtered", *words)["items"] == len(clear)
    assert ids(tmp_path / "filtered") == clear
    kept = read_index(tmp_path / "filtered").records.values()
    assert sum(len(record.headers) for record in kept) > 0, "headers come along"

    victim = next(item for item in provider.items if item["id"] == clear[0])
    victim["properties"]["eo:cloud_cover"] = 80.0
    provider.tell()
    for path in (made, tmp_path / "filtered"):
        assert update_index(path).difference.gone == (clear[0],)

    with pytest.raises(BadInputError, match="no item has a property 'cloud'"):
        filter_index(index, tmp_path / "x", stac2cube.Conditions(where=("cloud < 3",)))
    with pytest.raises(BadInputError, match="is no condition in CQL2"):
        filter_index(index, tmp_path / "x", stac2cube.Conditions(where=("cloud <",)))
    with pytest.raises(BadInputError, match="none of the 15 items"):
        filter_index(index, tmp_path / "x", stac2cube.Conditions(platforms=("sentinel-2c",)))
    assert not (tmp_path / "x").exists()


def test_a_limit_on_scenes_leaves_out_whole_scenes(provider: Provider, archive: Archive, tmp_path: Path) -> None:
    words = {**WORDS, "max_cloud_cover": 20}
    area = archive.area(two_zones=True)
    index = stac2cube.create_index(tmp_path / "index", aoi=area, catalog=str(provider.file), **words)
    cube, other = tmp_path / "a.zarr", tmp_path / "b.zarr"
    stac2cube.get_stac_layers(cube, aoi=area, catalog=str(provider.file), **{**words, "bands": ["SCL"]})
    stac2cube.get_stac_layers(other, aoi=area, catalog=str(index), **{**WORDS, "bands": ["SCL"]})
    assert differences(cube, other) == []


def test_names_and_lists(provider: Provider, archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STAC2CUBE_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    assert said("index", "list") == []
    area = json.dumps(archive.area())
    words = ["--mission", "sentinel-2-l2a", "--aoi", area, "--time", "2023", "--catalog", provider.file]
    assert said("index", "create", "lech", *words)["path"] == str(tmp_path / "data" / "indexes" / "lech")
    (entry,) = said("index", "list")
    assert (entry["name"], entry["mission"], entry["headers"]) == ("lech", "sentinel-2-l2a", False)
    assert find_catalog("lech").url == entry["path"]
    (tmp_path / "lech" / "layers.zarr").mkdir(parents=True)  # the cubes of a recipe called like the index
    assert find_catalog("lech").url == entry["path"]
    info = said("index", "info", "lech")
    assert info["items"] == entry["items"] == len(ids(Path(info["path"])))
    assert info["platforms"].keys() == {"sentinel-2a", "sentinel-2b"}
    shutil.rmtree(tmp_path / "lech")
    assert said("index", "create", "./lech", *words)["path"] == str(tmp_path / "lech"), "with a slash it is a path"
    assert find_catalog("./lech").url == str(tmp_path / "lech")
    shutil.rmtree(tmp_path / "lech")
    with pytest.raises(BadInputError, match="is there already"):
        stac2cube.create_index("lech", aoi=archive.area(), catalog=str(provider.file), **WORDS)
    with pytest.raises(CatalogError, match=r"nothing is no scene index"):
        update_index("nothing")


def test_an_index_of_a_known_catalog_is_read_as_that_one(
    provider: Provider, archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "catalogs.toml").write_text(
        f'[earth-search]\ntitle = "here"\nurl = "{provider.file}"\nsigner = "none"\n'
    )
    monkeypatch.setenv("STAC2CUBE_CONFIG_DIR", str(tmp_path / "config"))
    index = stac2cube.create_index(tmp_path / "index", aoi=archive.area(), catalog="earth-search", **WORDS)
    catalog = find_catalog(str(index))
    assert (catalog.name, catalog.like, catalog.url) == ("earth-search", "earth-search", str(index))
    assert update_index(index).difference.gone == ()


def test_one_file_and_the_ledger_of_a_cube_are_catalogs_too(index: Path, archive: Archive, tmp_path: Path) -> None:
    area = archive.area(two_zones=True)
    one, other, third = (tmp_path / f"{name}.zarr" for name in ("one", "other", "third"))
    stac2cube.get_stac_layers(one, aoi=area, catalog=str(index), **CUBE_WORDS)
    exported = stac2cube.export_index(index, tmp_path / "all.parquet")
    stac2cube.get_stac_layers(other, aoi=area, catalog=str(exported), **CUBE_WORDS)
    assert differences(one, other) == []
    stac2cube.get_stac_layers(third, aoi=area, catalog=str(one / ".stac2cube" / "ledger"), **CUBE_WORDS)
    assert differences(one, third) == []
    collection = json.loads(stac2cube.export_index(index, tmp_path / "all.json").read_text())
    assert sorted(item["id"] for item in collection["features"]) == ids(index)
    with pytest.raises(BadInputError, match="written as"):
        stac2cube.export_index(index, tmp_path / "all.csv")


def test_a_search_staged_from_an_index_takes_the_headers_along(index: Path, archive: Archive, tmp_path: Path) -> None:
    words = {**CUBE_WORDS, "bands": ("B04",), **area_words(archive.area(two_zones=True)), "catalog": str(index)}
    stored = store_search(query_of_words(words)[0], tmp_path / "items.parquet")
    assert stored.scenes == 4
    headers = stored_headers([stored.items])
    assert headers is not None
    assert headers.rows() == stored_headers([index]).rows()  # type: ignore[union-attr]


def test_signatures_are_not_kept(provider: Provider, archive: Archive, tmp_path: Path) -> None:
    for item in provider.items:
        for asset in item["assets"].values():
            asset["href"] += "?sig=SECRET"
    provider.tell()
    index = stac2cube.create_index(tmp_path / "index", aoi=archive.area(), catalog=str(provider.file), **WORDS)
    assert b"SECRET" not in b"".join(path.read_bytes() for path in index.rglob("*.*"))
    assert "SECRET" not in json.dumps([dict(item) for item in items_of_path(index)])


def test_one_writer_at_a_time(index: Path) -> None:
    with lock(index), pytest.raises(CubeLockedError, match="is being written by process"):
        update_index(index)
    update_index(index)


KILLED = """
import os, signal, sys
from pathlib import Path
import stac2cube.search.index_commits as room
real = room.write_whole
count = 0
def write_whole(path, content):
    global count
    count += 1
    if count > int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
    real(path, content)
room.write_whole = write_whole
from stac2cube.index.index import update_index
update_index(sys.argv[1])
"""


@pytest.mark.parametrize("written", [0, 2])
def test_killed_in_an_update_it_is_as_before(index: Path, provider: Provider, written: int) -> None:
    """Two months change, so the third write is the manifest's."""
    before, found = files(index), ids(index)
    provider.items = [item for item in provider.items if item["id"] not in (found[0], found[-1])]
    provider.tell()
    done = subprocess.run([sys.executable, "-c", KILLED, str(index), str(written)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert ids(index) == found
    assert before <= files(index)
    assert len(files(index)) == len(before) + written
    difference = update_index(index).difference
    assert set(difference.gone) == {found[0], found[-1]}
    assert ids(index) == found[1:-1]
    assert len(files(index)) == len(before), "what the killed one left is removed"


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_killed_at_any_moment_it_is_whole(index: Path, provider: Provider) -> None:
    """SIGKILL after a growing time: the index is the old one or the new one."""
    code = "import sys; from stac2cube.index.index import update_index as update; print(1, flush=True); "
    code += "update(sys.argv[1])"
    found = ids(index)
    provider.items = [item for item in provider.items if item["id"] != found[0]]
    provider.tell()
    for wait in (0.02 * number for number in range(60)):
        with subprocess.Popen([sys.executable, "-c", code, str(index)], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(wait)
            process.send_signal(signal.SIGKILL)
        assert ids(index) in (found, found[1:])
    update_index(index)
    assert ids(index) == found[1:]


def test_a_killed_creation_can_be_repeated(provider: Provider, archive: Archive, tmp_path: Path) -> None:
    index = tmp_path / "index"
    (index / "year=2023" / "month=01").mkdir(parents=True)
    (index / "year=2023" / "month=01" / "items-000001.parquet").write_bytes(b"half")
    stac2cube.create_index(index, aoi=archive.area(), catalog=str(provider.file), **WORDS)
    assert ids(index)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("do not touch")
    with pytest.raises(BadInputError, match="is there already"):
        stac2cube.create_index(tmp_path / "mine", aoi=archive.area(), catalog=str(provider.file), **WORDS)


def test_what_is_no_index_or_a_damaged_one_is_named(index: Path) -> None:
    manifest = index / "index.json"
    told = manifest.read_text()
    manifest.write_text(told.replace('"stac2cube:index": 1', '"stac2cube:index": 2'))
    with pytest.raises(CatalogError, match="newer version"):
        ids(index)
    manifest.write_text("{}")
    with pytest.raises(CatalogError, match="no manifest of a scene index"):
        ids(index)
    manifest.write_text(told)
    part = index / read_index_manifest(index).parts[0].file
    os.truncate(part, part.stat().st_size // 2)
    with pytest.raises(CatalogError, match="cannot be read"):
        ids(index)
