"""Cubes made from a cube, found and brought along: of samples too, and after all were moved to another folder."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import stac2cube
from stac2cube.build.status import cube_status
from stac2cube.cli import cli
from stac2cube.datasets.index import read_sample_index
from stac2cube.datasets.rules import SampleRequest, SampleRules
from stac2cube.datasets.sample_cube import SampleKind, make_sample_cube
from stac2cube.datasets.samples import make_samples
from stac2cube.errors import BadInputError
from stac2cube.executors.base import Threads
from stac2cube.maintain.care import remarks
from stac2cube.maintain.sync import compare_with_catalog, sync
from stac2cube.maintain.update import STAGES
from stac2cube.model.query import Query
from stac2cube.store.metadata import OWN, read_root
from stac2cube.store.reader import differences
from tests.items import Json, catalog
from tests.stages.test_care import DATES, LATTICE, product

RULES = SampleRules(mission="sentinel-2-l2a", bands=("B04",), target="grid", threshold=1.0)


def layers_of(folder: Path, items: list[Json]) -> Path:
    """An archive whose catalog lies elsewhere."""
    words = {"mission": "sentinel-2-l2a", "aoi": LATTICE, "time": "2022", "bands": ["B04", "SCL"]}
    folder.mkdir(exist_ok=True)
    path = catalog(folder.parent / "items.json", items)
    stac2cube.get_stac_layers(folder / "layers.zarr", catalog=path, **words)
    return folder / "layers.zarr"


def synced(cube: Path, *words: str) -> int:
    return int(cli.main(["sync", str(cube), "-q", *words], standalone_mode=False))


def plan_of(cube: Path, capsys: pytest.CaptureFixture[str], *words: str) -> Json:
    capsys.readouterr()
    assert synced(cube, "--json", *words) == 0
    return dict(json.loads(capsys.readouterr().out))


def test_samples_made_from_a_cube_follow_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    items = [product(tmp_path, date) for date in DATES[:4]]
    layers, samples = layers_of(tmp_path / "alps", items[:3]), tmp_path / "alps" / "samples.zarr"
    make_sample_cube(SampleRequest(Query(catalog=str(layers), time="2022-04/2022-12")), samples, RULES)
    assert plan_of(layers, capsys)["children"] == {}, "a step that was not asked for does not lack"
    newer = product(tmp_path, DATES[2], "03.02", 1)
    catalog(tmp_path / "items.json", [items[0], newer, items[3]])
    assert synced(layers, "--apply", "--even-many", "--only", "new,superseded,withdrawn") == 0
    assert plan_of(layers, capsys)["children"] == {str(samples.resolve()): {"lacking": 1, "stale": 1, "too many": 1}}
    assert cli.main(["verify", str(layers), "-q", "--json"], standalone_mode=False) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["found"], len(told["remarks"])) == ([], 1)
    assert "samples.zarr: 1 lacking, 1 stale, 1 too many" in told["remarks"][0]
    assert synced(layers, "--apply") == 0
    assert plan_of(layers, capsys)["children"] == {}
    assert remarks(layers, (*STAGES, SampleKind())) == []
    make_sample_cube(SampleRequest(Query(catalog=str(layers), time="2022-04/2022-12")), tmp_path / "anew.zarr", RULES)
    assert differences(samples, tmp_path / "anew.zarr") == []
    assert stac2cube.open_cube(samples).sizes["time"] == 2
    assert compare_with_catalog(layers)[0].nothing, "the stages alone know nothing of samples"


def test_samples_in_files_follow_their_cube(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    items = [product(tmp_path, date) for date in DATES[:4]]
    layers, samples = layers_of(tmp_path / "alps", items[:3]), tmp_path / "alps" / "samples"
    make_samples(SampleRequest(Query(catalog=str(layers), time="2022-04/2022-12")), samples, RULES)
    before = {path.parent.name: path.read_bytes() for path in samples.glob("*/x.tif")}
    assert plan_of(layers, capsys)["children"] == {}
    newer = product(tmp_path, DATES[2], "03.02", 1)
    catalog(tmp_path / "items.json", [items[0], newer, items[3]])
    assert synced(layers, "--apply", "--even-many", "--only", "new,superseded,withdrawn") == 0
    assert plan_of(layers, capsys)["children"] == {str(samples.resolve()): {"lacking": 1, "stale": 1, "too many": 1}}
    assert synced(layers, "--apply") == 0
    assert plan_of(layers, capsys)["children"] == {}
    truth = tmp_path / "anew"
    index = make_samples(SampleRequest(Query(catalog=str(layers), time="2022-04/2022-12")), truth, RULES)
    assert read_sample_index(samples) == index
    now = {path.parent.name: path.read_bytes() for path in samples.glob("*/x.tif")}
    assert now == {path.parent.name: path.read_bytes() for path in truth.glob("*/x.tif")}
    (gone,) = before.keys() - now.keys()
    assert not (samples / gone).exists()
    assert [name for name in before.keys() & now.keys() if before[name] == now[name]] == []


def test_samples_whose_first_run_died_before_it_wrote_an_index_are_made_by_sync(tmp_path: Path) -> None:
    layers = layers_of(tmp_path / "alps", [product(tmp_path, date) for date in DATES[:2]])
    samples = tmp_path / "alps" / "samples"
    index = make_samples(SampleRequest(Query(catalog=str(layers))), samples, RULES)
    for path in samples.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != "request.json":
            path.unlink()
    assert synced(layers, "--apply") == 0
    assert read_sample_index(samples) == index


def test_samples_in_files_are_extended_by_update_also_where_all_was_moved(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    items = [product(tmp_path, date) for date in DATES[:3]]
    layers = layers_of(tmp_path / "alps", items[:2])
    make_samples(SampleRequest(Query(catalog=str(layers))), tmp_path / "alps" / "samples", RULES)
    (tmp_path / "alps").rename(tmp_path / "moved")
    catalog(tmp_path / "items.json", items)
    for words in (["update", "layers.zarr", "-q"], ["update", "samples", "-q"]):
        assert cli.main([words[0], str(tmp_path / "moved" / words[1]), words[2]], standalone_mode=False) == 0
    assert "1 samples made, 2 were there, 0 failed" in capsys.readouterr().out
    assert len(read_sample_index(tmp_path / "moved" / "samples").done) == 3
    with pytest.raises(BadInputError, match="leave out --catalog"):
        cli.main(["update", str(tmp_path / "moved" / "samples"), "--catalog", "x"], standalone_mode=False)
    request = tmp_path / "moved" / "samples" / "request.json"
    request.write_text(request.read_text().replace('"source"', '"sauce"'))
    with pytest.raises(BadInputError, match=r"request\.json is damaged"):
        cli.main(["update", str(tmp_path / "moved" / "samples")], standalone_mode=False)


def test_samples_of_products_in_files_are_extended_by_update(tmp_path: Path) -> None:
    items, rules = [product(tmp_path, date) for date in DATES[:3]], replace(RULES, target="B04", scaling="item")
    source = catalog(tmp_path / "items.json", items[:2])
    make_samples(SampleRequest(Query(catalog=str(source), time="2022")), tmp_path / "samples", rules)
    catalog(tmp_path / "items.json", items)
    assert cli.main(["update", str(tmp_path / "samples"), "-q"], standalone_mode=False) == 0
    assert read_sample_index(tmp_path / "samples") == make_samples(
        SampleRequest(Query(catalog=str(source), time="2022")), tmp_path / "anew", rules
    )


def test_a_plan_names_the_kinds_that_were_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    items = [product(tmp_path, date) for date in DATES[:3]]
    layers = layers_of(tmp_path / "alps", items[1:2])
    catalog(tmp_path / "items.json", items)
    found = plan_of(layers, capsys, "--only", "late,children")
    assert (len(found["late"]), found["new"]) == (1, [])
    assert synced(layers, "--only", "late") == 0
    told = capsys.readouterr().out
    assert "late             1" in told
    assert "new" not in told
    assert synced(layers, "--only", "withdrawn") == 0
    assert "everything is up to date" in capsys.readouterr().out
    for words in ((), ("--apply",)):
        with pytest.raises(BadInputError, match="not soon"):
            synced(layers, "--only", "soon", *words)


def test_an_archive_that_was_moved_goes_on(tmp_path: Path) -> None:
    items = [product(tmp_path, date) for date in DATES[:4]]
    old, new = tmp_path / "alps", tmp_path / "moved here ü"
    layers = layers_of(old, items[:2])
    stac2cube.get_cloud_layers(layers, old / "clouds.zarr", method="scl", dilate_m=0)
    stac2cube.apply_masks(layers, old / "clouds.zarr", old / "masked.zarr")
    stac2cube.store_overviews(layers, levels=2)
    make_sample_cube(SampleRequest(Query(catalog=str(layers))), old / "samples.zarr", RULES)
    old.rename(new)
    catalog(tmp_path / "items.json", [items[1], product(tmp_path, DATES[2], "03.02"), items[3]])
    moved = new / "layers.zarr"
    assert Path(cube_status(new / "clouds.zarr").made_from) == moved.resolve()
    assert synced(moved, "--apply", "--even-many") == 0
    children = ["clouds.zarr", "masked.zarr", "samples.zarr", "layers.zarr.overviews/2", "layers.zarr.overviews/4"]
    truth = list(stac2cube.open_cube(moved)["scene"].values)
    assert len(truth) == 3
    for child in children:
        assert list(stac2cube.open_cube(new / child)["scene"].values) == truth, child
    fresh = layers_of(tmp_path / "fresh", [items[1], product(tmp_path, DATES[2], "03.02"), items[3]])
    assert differences(moved, fresh) == []
    stac2cube.get_cloud_layers(fresh, fresh.parent / "clouds.zarr", method="scl", dilate_m=0)
    assert differences(new / "clouds.zarr", fresh.parent / "clouds.zarr") == []
    stored = json.loads((new / "clouds.zarr" / "zarr.json").read_text())
    assert stored["attributes"]["stac2cube"]["spec"]["request"]["layers"] == str(moved.resolve()), "it is remembered"


def test_a_parent_that_is_gone_is_no_other_cube(tmp_path: Path) -> None:
    layers = layers_of(tmp_path / "alps", [product(tmp_path, DATES[0])])
    (tmp_path / "elsewhere").mkdir()
    child = tmp_path / "elsewhere" / "clouds.zarr"
    stac2cube.get_cloud_layers(layers, child, method="scl", dilate_m=0)
    before = read_root(child).spec.request
    layers.rename(tmp_path / "alps" / "other.zarr")
    assert read_root(child).spec.request == before
    assert "not there any more" in cube_status(child).made_from
    assert np.isfinite(stac2cube.open_cube(child)["cloud_mask"].values).any()
    sync(tmp_path / "alps" / "other.zarr", Threads())


def test_a_damaged_child_hides_neither_the_plan_nor_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    items = [product(tmp_path, date) for date in DATES[:2]]
    layers = layers_of(tmp_path / "alps", items[:1])
    for name in ("a.zarr", "b.zarr"):
        stac2cube.get_cloud_layers(layers, layers.parent / name, method="scl", dilate_m=0)
    for part in (layers.parent / "a.zarr" / OWN / "ledger").iterdir():
        part.write_bytes(b"x")
    catalog(tmp_path / "items.json", items)
    assert synced(layers, "--apply", "--only", "new") == 0
    assert list(plan_of(layers, capsys)["children"]) == [str((layers.parent / "b.zarr").resolve())]
    assert "a.zarr cannot be compared with" in caplog.text
    assert cli.main(["verify", str(layers), "-q"], standalone_mode=False) == 0
