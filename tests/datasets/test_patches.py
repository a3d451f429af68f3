"""Sets of patches: what is in them, who may see what, and that the same seed gives the same bytes whatever happens."""

from __future__ import annotations

import io
import json
import re
import shutil
import tarfile
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import rasterio
import zarr
from click.testing import CliRunner
from pyproj import Transformer

from stac2cube.cli import cli
from stac2cube.datasets.files import Making
from stac2cube.datasets.frames import frames_of_cube
from stac2cube.datasets.patch_rules import PatchQuality, PatchRules, Splits, ground_bounds
from stac2cube.datasets.patches import outlines_of
from stac2cube.datasets.shards import make_patches
from stac2cube.datasets.statistics import StatisticsRules, add_moments, count_values
from stac2cube.errors import BadInputError, IncompleteError
from stac2cube.executors.base import Threads
from stac2cube.executors.local import Local
from tests.datasets.conftest import DAYS, GRID, classes, reflectance

SPLITS = Splits(shares={"train": 0.6, "val": 0.2, "test": 0.2}, block=1400.0)
RULES = PatchRules(size=64, splits=SPLITS, per_shard=16, good=PatchQuality(min_valid=0.9, max_cloud=0.5))


def everything(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def made(cube: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("sets") / "tar"
    manifest = make_patches(frames_of_cube(cube, labels="SCL"), out, RULES, Making(Threads(2))).manifest
    assert sum(manifest["counts"]["kept"].values()) > 60
    assert {"between splits", "too little valid", "too much cloud"} <= manifest["counts"]["left out"].keys()
    return out


def members(shard: Path) -> dict[str, np.ndarray | dict]:
    found = {}
    with tarfile.open(shard) as tar:
        for member in tar:
            content = tar.extractfile(member).read()
            is_json = member.name.endswith("json")
            found[member.name] = json.loads(content) if is_json else np.load(io.BytesIO(content))
    return found


def test_every_kept_patch_is_the_truth_of_its_window(made: Path) -> None:
    manifest = json.loads((made / "manifest.json").read_text())
    seen = 0
    for name in manifest["files"]:
        found = members(made / name)
        for key in [name.removesuffix(".json") for name in found if name.endswith(".json")]:
            facts = found[f"{key}.json"]
            number = int(facts["frames"][0][-1])
            window = (slice(facts["row"], facts["row"] + 64), slice(facts["column"], facts["column"] + 64))
            truth = np.stack([reflectance(band, number)[window] for band in (0, 1)]).astype("float32")
            assert np.array_equal(found[f"{key}.x.npy"], truth, equal_nan=True)
            scl = classes(number)[window]
            assert np.array_equal(found[f"{key}.y.npy"], np.where(scl == 0, 255, scl))
            assert facts["valid"] == np.isfinite(truth).all(axis=0).mean() >= 0.9
            # What is no ground or not where it stands: cloud, shadow and, in its words, pixels without data.
            assert facts["cloud"] == pytest.approx(np.isin(scl, (0, 9)).mean())
            west, south, east, north = facts["bounds"]
            assert (west, north) == (600000 + 10 * facts["column"], 5300000 - 10 * facts["row"])
            assert (east - west, north - south) == (640, 640)
            seen += 1
    assert seen == sum(manifest["counts"]["kept"].values())


def test_the_table_knows_every_patch_and_why_it_is_not_there(made: Path) -> None:
    table = gpd.read_parquet(made / "patches.parquet")
    assert len(table) == len(DAYS) * (640 // 64) * (512 // 64)
    assert table.crs == "EPSG:4326"
    manifest = json.loads((made / "manifest.json").read_text())
    kept = table[table["status"] == "kept"]
    assert kept.groupby("split").size().to_dict() == manifest["counts"]["kept"]
    for (split, shard), group in kept.groupby(["split", "shard"]):
        stored = [name for name in members(made / f"{split}-{shard:05d}.tar") if name.endswith(".json")]
        assert [f"{name}.json" for name in group.sort_values("at")["id"]] == stored
    thin = table[table["status"] == "too little valid"]
    assert len(thin)
    assert (thin["valid"] < 0.9).all()
    counted = json.loads(table["classes"].iloc[0])
    assert sum(counted.values()) + table["ignore"].iloc[0] * 64 * 64 == pytest.approx(64 * 64)


def test_no_ground_is_shared_between_splits(made: Path) -> None:
    """Judged by an independent reckoning of blocks from the corners of the patches."""
    kept = gpd.read_parquet(made / "patches.parquet").query("status == 'kept'")
    to_degrees = Transformer.from_crs(GRID.crs, "EPSG:4326", always_xy=True)
    edge = 1400 / (6_371_000 * np.pi / 180)
    owners: dict[tuple[int, int], set[str]] = {}
    for patch in kept.itertuples():
        for x in np.linspace(patch.west, patch.east, 9):
            for y in np.linspace(patch.south, patch.north, 9):
                longitude, latitude = to_degrees.transform(x, y)
                row = latitude // edge
                column = longitude * np.cos(np.radians((row + 0.5) * edge)) // edge
                owners.setdefault((int(column), int(row)), set()).add(patch.split)
    assert {name for names in owners.values() for name in names} == {"train", "val", "test"}
    assert all(len(names) == 1 for names in owners.values())
    places = kept.groupby(["row", "column"])["split"].nunique()
    assert (places == 1).all(), "one place is taught in one year and judged in another"


def test_the_same_ground_has_one_split_in_every_zone() -> None:
    """A place on the border of two UTM zones, reached by both."""
    splits = Splits(block=1000.0, seed=3)
    x, y = Transformer.from_crs("EPSG:4326", "EPSG:32632", always_xy=True).transform(12.0, 47.8)
    x33, y33 = Transformer.from_crs("EPSG:4326", "EPSG:32633", always_xy=True).transform(12.0, 47.8)
    here = splits.of_ground(ground_bounds("EPSG:32632", [(x - 50, y - 50, x + 50, y + 50)])[0])
    there = splits.of_ground(ground_bounds("EPSG:32633", [(x33 - 50, y33 - 50, x33 + 50, y33 + 50)])[0])
    assert here == there != ""
    across = splits.blocks((179.99, 0.001, -179.99, 0.002))
    assert {column for column, _ in across} == {20013, 20014, 20015, -20016, -20015, -20014}
    drawn = [splits.of_block(column, row) for column in range(60) for row in range(60)]
    for name, share in splits.shares.items():
        assert drawn.count(name) / len(drawn) == pytest.approx(share, abs=0.03)


def test_the_same_ground_has_one_place_on_either_side_of_the_antimeridian() -> None:
    boxes = [(180.1, -17.0, 180.2, -16.9), (-179.9, -17.0, -179.8, -16.9), (180.0, -17.0, 180.2, -16.9)]
    beyond, within, beside = ground_bounds("EPSG:4326", boxes)
    assert beyond == pytest.approx(within)
    assert beside == pytest.approx((-180.0, -17.0, -179.8, -16.9))
    (across,) = ground_bounds("EPSG:4326", [(179.9, -17.0, 180.1, -16.9)])
    assert across == pytest.approx((179.9, -17.0, -179.9, -16.9))
    splits = Splits(block=1400.0)
    assert splits.blocks(beyond) == splits.blocks(within)
    (outline,) = outlines_of(pd.DataFrame({"crs": ["EPSG:4326"], "bounds": [(179.9, -17.0, 180.1, -16.9)]}))
    assert outline.area == pytest.approx(0.2 * 0.1)


def test_splits_by_time_share_no_day(cube: Path, tmp_path: Path) -> None:
    times = {"train": "2022-01/2022-12", "test": "2023"}
    rules = replace(
        RULES, stack=2, splits=Splits({"train": 0.5, "test": 0.5}, 1400.0, times), good=PatchQuality(min_valid=0.5)
    )
    manifest = make_patches(frames_of_cube(cube), tmp_path / "out", rules, Making(Threads(2))).manifest
    kept = gpd.read_parquet(tmp_path / "out" / "patches.parquet").query("status == 'kept'")
    years = {split: {day[:4] for days in group["times"] for day in days} for split, group in kept.groupby("split")}
    assert years == {"train": {"2022"}, "test": {"2023"}}
    first = members(tmp_path / "out" / next(iter(manifest["files"])))
    x = next(value for name, value in first.items() if name.endswith("x.npy"))
    facts = next(value for name, value in first.items() if name.endswith("json"))
    assert x.shape == (2, 2, 64, 64)
    window = (slice(facts["row"], facts["row"] + 64), slice(facts["column"], facts["column"] + 64))
    numbers = [int(key[-1]) for key in facts["frames"]]
    assert numbers == sorted(numbers)
    assert np.array_equal(x[1, 0], reflectance(0, numbers[1])[window].astype("float32"), equal_nan=True)
    with pytest.raises(BadInputError, match="overlap from 2023-01-01"):
        Splits({"train": 0.5, "test": 0.5}, times={"train": "2022/2023", "test": "2023/2024"})


def test_class_balance_thins_what_teaches_and_not_what_judges(cube: Path, tmp_path: Path) -> None:
    rules = replace(RULES, stride=48, good=PatchQuality(min_valid=0.9, max_share=0.99, balance=1.5))
    make_patches(frames_of_cube(cube, labels="SCL"), tmp_path / "out", rules, Making(Threads(2)))
    table = gpd.read_parquet(tmp_path / "out" / "patches.parquet")
    kept = table[table["status"] == "kept"]
    sizes = kept[kept["split"] == "train"]["majority"].value_counts()
    assert len(sizes) >= 3
    assert sizes.max() <= 1.5 * sizes.min()
    thinned = table[table["status"] == "too many of its class"]
    assert set(thinned["split"]) == {"train"}
    for classes_of in kept["classes"]:
        counted = json.loads(classes_of)
        assert max(counted.values()) / sum(counted.values()) <= 0.99


@pytest.mark.parametrize("form", ["zarr", "geotiff"])
def test_other_forms_hold_the_same_pixels(cube: Path, made: Path, tmp_path: Path, form: str) -> None:
    out = tmp_path / form
    make_patches(frames_of_cube(cube, labels="SCL"), out, replace(RULES, form=form), Making(Threads(2)))
    table = gpd.read_parquet(out / "patches.parquet").query("status == 'kept'")
    tars = {name: value for shard in made.glob("*.tar") for name, value in members(shard).items()}
    for split, group in table.sort_values(["shard", "at"]).groupby("split"):
        if form == "zarr":
            stored = zarr.open_group(out / f"{split}.zarr", mode="r")
            assert stored["x"].shape == (len(group), 2, 64, 64)
            assert stored["x"].shards == (16, 2, 64, 64)
            expected = np.stack([tars[f"{name}.x.npy"] for name in group["id"]])
            assert np.array_equal(stored["x"][:], expected, equal_nan=True)
            assert np.array_equal(stored["y"][:], np.stack([tars[f"{name}.y.npy"] for name in group["id"]]))
            continue
        for patch in group.itertuples():
            folder = out / split / f"{patch.shard:05d}" / patch.id
            with rasterio.open(folder / "x.tif") as x, rasterio.open(folder / "y.tif") as y:
                assert np.array_equal(x.read(), tars[f"{patch.id}.x.npy"], equal_nan=True)
                assert np.array_equal(y.read(1), tars[f"{patch.id}.y.npy"])
                assert tuple(x.bounds) == (patch.west, patch.south, patch.east, patch.north)
                assert x.descriptions == ("B03", "B08")
                assert y.nodata == 255


def test_places_change_no_byte_and_statistics_are_applied(cube: Path, tmp_path: Path) -> None:
    source = frames_of_cube(cube)
    count_values(source, StatisticsRules(high=0.5), tmp_path / "stats", Making(Threads(2)))
    statistics = add_moments(source, tmp_path / "stats", Making(Threads(2)))
    for folder, place in (("one", Threads(1)), ("two", Local(workers=2))):
        make_patches(source, tmp_path / folder, RULES, Making(place), statistics=statistics)
    assert everything(tmp_path / "one") == everything(tmp_path / "two")
    found = members(next((tmp_path / "one").glob("train-*.tar")))
    facts = next(value for name, value in found.items() if name.endswith("json"))
    window = (slice(facts["row"], facts["row"] + 64), slice(facts["column"], facts["column"] + 64))
    band, number = statistics.bands[1], int(facts["frames"][0][-1])
    clipped = np.clip(reflectance(1, number)[window].astype("float32").astype("float64"), *band.limits)
    expected = np.nan_to_num((clipped - band.mean) / band.std)
    assert found[f"{facts['id']}.x.npy"][1] == pytest.approx(expected, abs=1e-6)
    with pytest.raises(BadInputError, match="bands B03, B08, not B08"):
        make_patches(frames_of_cube(cube, ["B08"]), tmp_path / "no", RULES, Making(Threads(1)), statistics=statistics)
    assert not (tmp_path / "no").exists()


def test_a_picture_that_cannot_be_read_is_no_smaller_set(cube: Path, tmp_path: Path) -> None:
    source = frames_of_cube(cube)
    gone = replace(source.frames[2].pixels, step=replace(source.frames[2].pixels.step, cube="nowhere"))
    broken = replace(source, frames=(*source.frames[:2], replace(source.frames[2], pixels=gone), *source.frames[3:]))
    with pytest.raises(IncompleteError, match=r"1 of 6 failed.*s_2: nowhere"):
        make_patches(broken, tmp_path / "out", RULES, Making(Threads(2)))
    assert not list((tmp_path / "out").glob("*.tar"))
    assert not (tmp_path / "out" / "manifest.json").exists()
    assert make_patches(source, tmp_path / "out", RULES, Making(Threads(2))).manifest


def test_what_is_refused(cube: Path, made: Path, tmp_path: Path) -> None:
    source, making = frames_of_cube(cube), Making(Threads(1))
    with pytest.raises(BadInputError, match="another set of patches"):
        make_patches(source, made, RULES, making)
    labelled = frames_of_cube(cube, labels="SCL")
    anew = (*labelled.frames[:-1], replace(labelled.frames[-1], version="made of a newer baseline"))
    with pytest.raises(BadInputError, match=r"another set of patches \(frames differ\)"):
        make_patches(replace(labelled, frames=anew), made, RULES, making)
    (tmp_path / "x").write_text("mine")
    with pytest.raises(BadInputError, match="not empty"):
        make_patches(source, tmp_path, RULES, making)
    with pytest.raises(BadInputError, match="no place with 1 frame"):
        make_patches(source, tmp_path / "a", replace(RULES, size=5000), making)
    with pytest.raises(BadInputError, match="want labels"):
        make_patches(source, tmp_path / "b", replace(RULES, good=PatchQuality(max_share=0.5)), making)
    with pytest.raises(BadInputError, match="no patch is good enough"):
        make_patches(
            source, tmp_path / "c", replace(RULES, good=PatchQuality(max_cloud=0.0, min_valid=1.0), size=512), making
        )
    for words in ({"size": 0}, {"sizes": 3}, {"good": {"min_valid": 2}}, {"form": "tfrecord"}, {"good": {"x": 1}}):
        with pytest.raises(BadInputError):
            PatchRules.from_json(words)
    assert PatchRules.from_json(RULES.to_json()) == RULES


def test_a_shard_that_went_is_made_again_and_the_path_of_the_source_counts_for_nothing(
    cube: Path, made: Path, tmp_path: Path
) -> None:
    shutil.copytree(made, tmp_path / "set")
    shard = next((tmp_path / "set").glob("train-*.tar"))
    (tmp_path / cube.name).symlink_to(cube)
    there = frames_of_cube(tmp_path / cube.name, labels="SCL")
    assert make_patches(there, tmp_path / "set", RULES, Making(Threads(2))).manifest["source"] == str(cube)
    shard.unlink()
    assert make_patches(there, tmp_path / "set", RULES, Making(Threads(2))).manifest["source"] == there.name
    for name, digest in everything(made).items():
        assert name == "manifest.json" or everything(tmp_path / "set")[name] == digest
    (tmp_path / "set" / "manifest.json").write_text("{")
    with pytest.raises(BadInputError, match=r"manifest\.json cannot be read"):
        make_patches(there, tmp_path / "set", RULES, Making(Threads(1)))


def test_a_split_without_ground_is_told(cube: Path, tmp_path: Path) -> None:
    run = CliRunner().invoke(cli, ["patches", str(cube), str(tmp_path / "out"), "--size", "64", "-q"])
    assert run.exit_code == 0, run.output
    split = next(iter(json.loads((tmp_path / "out" / "manifest.json").read_text())["counts"]["kept"]))
    empty = [line for line in run.output.splitlines() if re.search(r"  0 patches: no good patch lies in", line)]
    assert len(empty) == 2
    assert split not in " ".join(empty)


def test_splits_that_share_a_day_are_refused() -> None:
    times = {"train": "2022-01/2022-06-01T10:00:00Z", "test": "2022-06-01T10:00:01Z/2022-12"}
    with pytest.raises(BadInputError, match="overlap from 2022-06-01"):
        Splits({"train": 0.5, "test": 0.5}, times=times)


def test_the_command(cube: Path, made: Path, tmp_path: Path) -> None:
    words = "size: 64\nper_shard: 16\ngood: {min_valid: 0.9, max_cloud: 0.5}\n"
    (tmp_path / "rules.yaml").write_text(
        f"{words}splits: {{shares: {{train: 0.6, val: 0.2, test: 0.2}}, block: 1400.0}}\n"
    )
    command = ["patches", str(cube), str(tmp_path / "out"), "--labels", "SCL", "--quiet"]
    for content, told in (("size: [", "not YAML"), ("sizes: 3", "does not know sizes"), ("- 3", "table of words")):
        (tmp_path / "wrong.yaml").write_text(content)
        run = CliRunner().invoke(cli, [*command, "--rules", str(tmp_path / "wrong.yaml")])
        assert isinstance(run.exception, BadInputError)
        assert told in str(run.exception)
    (tmp_path / "file").write_text("")
    run = CliRunner().invoke(cli, ["patches", str(cube), str(tmp_path / "file" / "out"), "-q"])
    assert "cannot be made: Not a directory" in str(run.exception)
    run = CliRunner().invoke(cli, [*command, "--rules", str(tmp_path / "rules.yaml")])
    assert run.exit_code == 0, run.output
    assert "train" in run.output
    assert "too little valid" in run.output
    assert everything(tmp_path / "out") == everything(made)


def test_a_moment_without_a_zone_is_none_of_ours() -> None:
    splits = Splits({"train": 1.0}, times={"train": "2022"})
    assert splits.of_times([datetime(2022, 12, 31, 23, tzinfo=UTC)]) == {"train"}
    assert splits.of_times([datetime(2022, 12, 31, tzinfo=UTC), datetime(2023, 1, 1, tzinfo=UTC)]) == frozenset()
