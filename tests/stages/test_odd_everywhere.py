"""One search for all: whatever reads a catalog gives the same for the good items as if the odd ones were not there."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from shapely.geometry import shape

import stac2cube
from stac2cube.cli import cli
from stac2cube.datasets.download import Fetcher, run_download
from stac2cube.datasets.index import read_sample_index
from stac2cube.datasets.rules import DownloadRequest, SampleRules
from stac2cube.datasets.samples import make_samples
from stac2cube.errors import IncompleteError
from stac2cube.maintain.sync import compare_with_catalog
from stac2cube.model.geometry import read_areas
from stac2cube.search.cubes import compare_catalogs, gaps_of, query_of
from stac2cube.store.ledger import Ledger
from stac2cube.store.metadata import read_root
from tests.items import Json, catalog
from tests.search.mutations import KINDS, MORE, SENTINEL_2, Kind
from tests.stages.test_care import DATES, LATTICE, build, product

GOOD = [f"sentinel-2a_R065_{date.replace('-', '')}" for date in DATES[:3]]


def odd_ones(item: Json, kinds: Sequence[Kind] = (*KINDS, *SENTINEL_2)) -> list[object]:
    """An item of each kind of oddity, each of a scene of its own."""
    made: list[object] = []
    for number, kind in enumerate(kinds):
        one = copy.deepcopy(item)
        one["id"] = f"odd{number:03d}"
        one["properties"]["datetime"] = f"2022-{10 + number // 28 % 3}-{1 + number % 28:02d}T{number // 84:02d}:20:00Z"
        one["properties"]["sat:relative_orbit"] = 1 + number % 60
        made.append(kind.change(one))
    return made


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Json]]:
    folder = tmp_path_factory.mktemp("good")
    items = [product(folder, date) for date in DATES[:3]]
    return build(folder, items), items


@pytest.fixture
def mixed(good: tuple[Path, list[Json]], tmp_path: Path) -> str:
    """A catalog of good items among odd ones."""
    return among(good[1], odd_ones(good[1][0])[::3], tmp_path)


def among(items: list[Json], odd: list[object], folder: Path) -> str:
    path = folder / "mixed.json"
    return catalog(path, [items[0], *odd[::2], items[1], *odd[1::2], items[2]])  # type: ignore[list-item]


def pixels(data: xr.Dataset) -> dict[str, np.ndarray]:
    days = [str(when)[:10] for when in data.time.values]
    return {day: data["B04"].values[place] for place, day in enumerate(days) if day in DATES[:3]}


def same(one: xr.Dataset, other: xr.Dataset) -> None:
    found, wanted = pixels(one), pixels(other)
    assert list(found) == list(wanted) == list(DATES[:3])
    for day, values in wanted.items():
        np.testing.assert_array_equal(found[day], values)


def test_a_build_an_update_and_sync(good: tuple[Path, list[Json]], mixed: str, tmp_path: Path) -> None:
    cube, items = good
    words = {"mission": "sentinel-2-l2a", "aoi": LATTICE, "time": "2022", "bands": ["B04", "SCL"], "catalog": mixed}
    with pytest.raises(IncompleteError) as caught:
        stac2cube.get_stac_layers(tmp_path / "all.zarr", **words)
    same(stac2cube.open_cube(tmp_path / "all.zarr"), stac2cube.open_cube(cube))
    rows = Ledger(tmp_path / "all.zarr", read_root(tmp_path / "all.zarr").ledger).entries()
    assert {row.status for row in rows.values()} == {"sealed", "failed"}
    assert all(f"item {row.items[0] if row.items else 'odd'}" in row.reason or "odd" in row.reason
               for row in rows.values() if row.status == "failed")  # fmt: skip
    assert str(caught.value).count("item odd") >= 3
    catalog(Path(mixed).with_name("grown.json"), [items[0]])
    grown = tmp_path / "grown.zarr"
    stac2cube.get_stac_layers(grown, **{**words, "catalog": str(Path(mixed).with_name("grown.json"))})
    Path(mixed).rename(Path(mixed).with_name("grown.json"))
    found, _ = compare_with_catalog(grown)
    assert set(GOOD[1:]) <= {*found.new, *found.late}
    assert (found.withdrawn, found.superseded, found.reduced) == ((), (), ())
    with pytest.raises(IncompleteError):
        stac2cube.get_stac_layers(grown, update=True)
    same(stac2cube.open_cube(grown), stac2cube.open_cube(cube))


def test_compare_and_gaps(good: tuple[Path, list[Json]], mixed: str) -> None:
    cube, _ = good
    _, query = query_of(cube)
    (answer,) = compare_catalogs(query, [mixed])
    assert set(GOOD) <= set(answer.scenes)
    gaps, answers = gaps_of(cube, [mixed])
    assert not set(GOOD) & {gap.key for gap in gaps}
    assert len(gaps) == len(answers[0].scenes) - len(GOOD)


def test_an_index_and_what_is_built_from_it(good: tuple[Path, list[Json]], mixed: str, tmp_path: Path) -> None:
    cube, items = good
    area = shape(items[0]["geometry"])
    index = stac2cube.create_index(tmp_path / "i", mission="sentinel-2-l2a", aoi=area, time="2022", catalog=mixed)
    assert {item["id"] for item in items} <= {json.loads(text)["id"] for text in texts(index)}
    with pytest.raises(IncompleteError):
        stac2cube.get_stac_layers(
            tmp_path / "indexed.zarr",
            mission="sentinel-2-l2a",
            aoi=LATTICE,
            time="2022",
            bands=["B04"],
            catalog=str(index),
        )
    same(stac2cube.open_cube(tmp_path / "indexed.zarr"), stac2cube.open_cube(cube))
    assert cli.main(["index", "update", str(index)], standalone_mode=False) in (0, None)


def texts(index: Path) -> list[str]:
    import pyarrow.parquet as pq

    return [text for path in index.rglob("*.parquet") for text in pq.read_table(path)["stac2cube:item"].to_pylist()]


def test_downloads(good: tuple[Path, list[Json]], mixed: str, tmp_path: Path) -> None:
    """Files of the good items come as without the odd ones; of these each is there, or absent with its reason."""
    items = good[1]
    (area,) = read_areas(items[0]["geometry"])
    request = DownloadRequest(area, "2022", ("l2a.band.B04",), mixed)
    done = run_download(request, tmp_path / "mixed", fetcher=Fetcher())
    alone = replace(request, catalog=catalog(tmp_path / "clean.json", items))
    wanted = run_download(alone, tmp_path / "clean", fetcher=Fetcher())
    ids = {item["id"] for item in items}
    facts = [(one.path, one.checksum, one.size) for one in done.manifest.files if any(name in one.path for name in ids)]
    assert facts == [(one.path, one.checksum, one.size) for one in wanted.manifest.files]
    assert len(facts) == len(items)
    assert not wanted.absent
    assert all(entry.reason for entry in done.absent)
    assert not any(name in entry.path for entry in done.absent for name in ids)


def test_samples(good: tuple[Path, list[Json]], mixed: str, tmp_path: Path) -> None:
    rules = SampleRules(mission="sentinel-2-l2a", bands=("B04",), target="B04", scaling="item")
    clean = make_samples(catalog(tmp_path / "clean.json", good[1]), tmp_path / "clean", rules)
    with pytest.raises(IncompleteError) as caught:
        make_samples(mixed, tmp_path / "mixed", rules, incomplete="list")
    made = {sample.id: sample for sample in read_sample_index(tmp_path / "mixed").samples}
    assert len(clean.samples) == len(good[1])
    for sample in clean.samples:
        assert made[sample.id].status == "done"
        pixels = [(tmp_path / name / sample.id / "x.tif").read_bytes() for name in ("clean", "mixed")]
        assert pixels[0] == pixels[1]
    failed = [sample for sample in made.values() if sample.status != "done"]
    assert failed
    told = [sample.reason for sample in failed]
    assert all("item odd" in why or why.startswith("B04: ") for why in told), str(caught.value)


def test_a_read_without_a_cube(good: tuple[Path, list[Json]], mixed: str) -> None:
    """Its time leaves out the odd ones that fail, which would be an error of a read as of a file."""
    items = good[1]
    words = {"bands": ["B04"], "mission": "sentinel-2-l2a", "time": "2022-03/2022-06"}
    middle = shape(items[0]["geometry"]).centroid.buffer(0.002)
    mixed_pixels = stac2cube.read(mixed, middle, **words)
    clean = Path(mixed).with_name("clean.json")
    same(mixed_pixels, stac2cube.read(catalog(clean, items), middle, **words))


@pytest.mark.soak
def test_every_kind_everywhere(good: tuple[Path, list[Json]], tmp_path: Path) -> None:
    """All of them at once."""
    odd = odd_ones(good[1][0], (*KINDS, *SENTINEL_2, *MORE))
    assert len(odd) > 200
    folders = [tmp_path / str(number) for number in range(6)]
    for folder in folders:
        folder.mkdir()
    catalogs = [(among(good[1], odd, folder), folder) for folder in folders]
    test_a_build_an_update_and_sync(good, *catalogs[0])
    test_compare_and_gaps(good, catalogs[1][0])
    test_an_index_and_what_is_built_from_it(good, *catalogs[2])
    test_downloads(good, *catalogs[3])
    test_samples(good, *catalogs[4])
    test_a_read_without_a_cube(good, catalogs[5][0])
