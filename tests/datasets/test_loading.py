"""Patches and cubes as torch sees them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

pytest.importorskip("torch")

import torch
from torch.utils.data import DataLoader

import stac2cube
from stac2cube.datasets.files import Making
from stac2cube.datasets.frames import frames_of_cube
from stac2cube.datasets.patch_rules import PatchQuality, PatchRules, Splits
from stac2cube.datasets.shards import make_patches
from stac2cube.datasets.statistics import StatisticsRules, add_moments, count_values
from stac2cube.datasets.torch import FramesDataset, PatchStream
from stac2cube.errors import BadInputError, ReadError
from stac2cube.executors.base import Threads
from tests.datasets.conftest import DAYS, GRID, classes, reflectance


@pytest.fixture(scope="module")
def patches(cube: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("loading") / "set"
    splits = Splits({"train": 1.0}, block=100_000.0)
    rules = PatchRules(size=64, per_shard=25, splits=splits, good=PatchQuality(min_valid=0.9))
    make_patches(frames_of_cube(cube, labels="SCL"), out, rules, Making(Threads(2)))
    return out


def test_every_patch_once_whoever_reads(patches: Path) -> None:
    alone = [sample["key"] for sample in PatchStream(patches, "train")]
    assert len(alone) == len(set(alone)) == PatchStream(patches, "train").count > 200
    loader = DataLoader(PatchStream(patches, "train", shuffle=30), batch_size=None, num_workers=2)
    assert sorted(sample["key"] for sample in loader) == sorted(alone)
    ranks = [{sample["key"] for sample in PatchStream(patches, "train", rank=rank, ranks=3)} for rank in range(3)]
    assert sorted(key for keys in ranks for key in keys) == sorted(alone)


def test_the_seed_and_the_round_decide_the_order(patches: Path) -> None:
    def order(seed: int, epoch: int) -> list[str]:
        stream = PatchStream(patches, "train", shuffle=50, seed=seed)
        stream.set_epoch(epoch)
        return [sample["key"] for sample in stream]

    assert order(1, 0) == order(1, 0)
    assert order(1, 0) != order(1, 1)
    assert order(1, 0) != order(2, 0)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_the_round_reaches_workers_that_persist(method: str, patches: Path) -> None:
    stream = PatchStream(patches, "train", shuffle=50)
    words = {"batch_size": None, "num_workers": 1, "persistent_workers": True, "multiprocessing_context": method}
    loader = DataLoader(stream, **words)
    orders = []
    for epoch in (0, 1, 0):
        stream.set_epoch(epoch)
        orders.append([sample["key"] for sample in loader])
    assert orders[0] == orders[2]
    assert orders[0] != orders[1]
    assert sorted(orders[0]) == sorted(orders[1])


def test_samples_are_the_truth_and_batch(patches: Path) -> None:
    for sample in PatchStream(patches, "train"):
        facts = sample["facts"]
        window = (slice(facts["row"], facts["row"] + 64), slice(facts["column"], facts["column"] + 64))
        number = int(facts["frames"][0][-1])
        truth = np.stack([reflectance(band, number)[window] for band in (0, 1)]).astype("float32")
        assert np.array_equal(sample["image"].numpy(), truth, equal_nan=True)
        scl = classes(number)[window]
        assert np.array_equal(sample["mask"].numpy(), np.where(scl == 0, 255, scl))
    keep = ("image", "mask")
    batch = next(iter(DataLoader([{k: s[k] for k in keep} for s in PatchStream(patches, "train")], batch_size=8)))
    assert batch["image"].shape == (8, 2, 64, 64)
    assert batch["mask"].dtype == torch.int64


def test_webdataset_reads_the_shards(patches: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    stream = webdataset.WebDataset([str(path) for path in sorted(patches.glob("train-*.tar"))], shardshuffle=False)
    mine = {sample["key"]: sample for sample in PatchStream(patches, "train")}
    theirs = list(stream.decode())
    assert [sample["__key__"] for sample in theirs] == list(mine)
    for sample in theirs[:20]:
        assert np.array_equal(sample["x.npy"], mine[sample["__key__"]]["image"].numpy(), equal_nan=True)
        assert sample["json"] == mine[sample["__key__"]]["facts"]


def test_what_a_stream_refuses(patches: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="no split 'val'"):
        PatchStream(patches, "val")
    with pytest.raises(BadInputError, match="no finished set"):
        PatchStream(tmp_path, "train")
    with pytest.raises(BadInputError, match="counted from 0, and this is -1"):
        PatchStream(patches, "train").set_epoch(-1)


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.soak)])
@pytest.mark.parametrize("damage", ["between members", "within a member", "gone"])
def test_a_damaged_shard_is_no_smaller_set(damage: str, workers: int, patches: Path, tmp_path: Path) -> None:
    """Python takes a tar file that is cut off between two members for one that ends there."""
    shutil.copytree(patches, tmp_path / "set")
    shard = tmp_path / "set" / PatchStream(patches, "train").shards[1]
    with tarfile.open(shard) as tar:
        member = tar.getmembers()[30]
    if damage == "gone":
        shard.unlink()
    else:
        os.truncate(shard, member.offset + (2000 if damage == "within a member" else 0))
    words = r"train-00001\.tar (cannot be read|is damaged: it holds 10 patches, not 25)"
    with pytest.raises(ReadError, match=words):
        list(DataLoader(PatchStream(tmp_path / "set", "train"), batch_size=None, num_workers=workers))


def test_a_cube_by_ground_and_time(cube: Path) -> None:
    dataset = FramesDataset(frames_of_cube(cube, labels="SCL"))
    x, y, _ = dataset.bounds
    assert (x.start, x.stop, y.start, y.stop) == (600000, 605120, 5293600, 5300000)
    assert (x.step, len(dataset)) == (10.0, len(DAYS))
    day = pd.Timestamp(DAYS[3]).tz_localize(None)
    sample = dataset[600100:600740, 5299000:5299500, day:day]
    window = (slice(50, 100), slice(10, 74))
    truth = np.stack([reflectance(band, 3)[window] for band in (0, 1)]).astype("float32")
    assert np.array_equal(sample["image"].numpy(), truth, equal_nan=True)
    assert np.array_equal(sample["mask"].numpy(), np.where(classes(3)[window] == 0, 255, classes(3)[window]))
    beyond = dataset[599950:600050, 5299950:5300050, day:day]
    assert beyond["image"].shape == (2, 10, 10)
    assert torch.isnan(beyond["image"][:, :5]).all()
    assert torch.isnan(beyond["image"][:, :, :5]).all()
    with pytest.raises(IndexError):
        dataset[0:100, 0:100]


WAYS = ["fork", "forkserver", pytest.param("spawn", marks=pytest.mark.soak)]
"""How worker processes come to be: fork was the default on Linux up to Python 3.13, forkserver is from 3.14 on."""


@pytest.mark.parametrize("way", WAYS)
def test_workers_read_a_cube_that_this_process_reads_too(way: str, cube: Path) -> None:
    """Pools of threads that a library has started here are not there in a forked worker."""
    dataset = FramesDataset(frames_of_cube(cube, labels="SCL"))
    queries = [(slice(600000 + 640 * n, 600640 + 640 * n), slice(5299000, 5299640)) for n in range(4)]
    mine = [dataset[query]["image"] for query in queries]
    loader = DataLoader(
        dataset, sampler=queries, batch_size=None, num_workers=1, multiprocessing_context=way, timeout=120
    )
    for sample, wanted in zip(loader, mine, strict=True):
        assert torch.equal(torch.nan_to_num(sample["image"], -1), torch.nan_to_num(wanted, -1))


def test_workers_that_are_not_forked_share_the_shards(patches: Path) -> None:
    stream = PatchStream(patches, "train")
    loader = DataLoader(stream, batch_size=None, num_workers=2, multiprocessing_context="forkserver", timeout=120)
    assert sorted(sample["key"] for sample in loader) == sorted(sample["key"] for sample in stream)


def test_threads_of_dask_are_made_anew_in_a_forked_worker(cube: Path) -> None:
    """Those of the parent are not there: a worker would wait for them without end."""
    opened = stac2cube.open_cube(cube)["B03"]
    plain = xr.open_zarr(cube)["B03"]
    wanted = float(opened.isel(time=1).mean())
    assert float(plain.isel(time=1).mean()) > 0
    parts = [opened.isel(time=1), plain.isel(time=0)]

    class Means(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return len(parts)

        def __getitem__(self, number: int) -> float:
            return float(parts[number].mean())

    words = {"batch_size": None, "num_workers": 2, "multiprocessing_context": "fork", "timeout": 60}
    assert next(iter(DataLoader(Means(), **words))) == pytest.approx(wanted)


def test_an_error_in_a_worker_reaches_the_loop_at_once(patches: Path, tmp_path: Path) -> None:
    shutil.copytree(patches, tmp_path / "set")
    (tmp_path / "set" / PatchStream(patches, "train").shards[1]).unlink()
    words = {"batch_size": None, "num_workers": 2, "multiprocessing_context": "fork", "timeout": 60}
    begun = time.monotonic()
    with pytest.raises(ReadError, match=r"train-00001\.tar cannot be read"):
        list(DataLoader(PatchStream(tmp_path / "set", "train"), **words))
    assert time.monotonic() - begun < 5


RANKED = """
import json, os, sys
import torch
from torch.utils.data import DataLoader
from stac2cube import PatchStream

def main():
    words = {"batch_size": None, "num_workers": 1, "multiprocessing_context": sys.argv[3], "timeout": 100}
    stream = PatchStream(sys.argv[1], "train")  # before there is a process group
    if sys.argv[2] == "group":
        rank, ranks = int(os.environ.pop("RANK")), int(os.environ.pop("WORLD_SIZE"))
        torch.distributed.init_process_group("gloo", init_method=f"file://{sys.argv[4]}", rank=rank, world_size=ranks)
    print(json.dumps([[one["key"] for one in stream], [one["key"] for one in DataLoader(stream, **words)]]))

if __name__ == "__main__":
    main()
"""


@pytest.mark.parametrize(
    ("told", "method"),
    [
        ("group", "fork"),
        pytest.param("group", "spawn", marks=pytest.mark.soak),
        pytest.param("torchrun", "fork", marks=pytest.mark.soak),
    ],
)
def test_ranks_are_what_torch_says(told: str, method: str, patches: Path, tmp_path: Path) -> None:
    (tmp_path / "ranked.py").write_text(RANKED)
    started = [
        subprocess.Popen(
            [sys.executable, tmp_path / "ranked.py", patches, told, method, tmp_path / "group"],
            env=os.environ | {"RANK": str(rank), "WORLD_SIZE": "2"},
            stdout=subprocess.PIPE,
        )
        for rank in range(2)
    ]
    answers = [json.loads(one.communicate(timeout=300)[0].splitlines()[-1]) for one in started]
    alone = sorted(sample["key"] for sample in PatchStream(patches, "train"))
    for way in range(2):
        shares = [answer[way] for answer in answers]
        assert all(shares)
        assert sorted(key for share in shares for key in share) == alone


def test_ranks_that_are_none_are_refused(patches: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for rank, ranks in ((2, 2), (-1, 2), (0, None)):
        with pytest.raises(BadInputError, match=r"no rank|say rank and ranks"):
            PatchStream(patches, "train", rank=rank, ranks=ranks)
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(BadInputError, match="RANK is '' and WORLD_SIZE '4'"):
        next(iter(PatchStream(patches, "train")))


def test_a_series_and_standardised(cube: Path, tmp_path: Path) -> None:
    source = frames_of_cube(cube)
    count_values(source, StatisticsRules(high=0.5), tmp_path, Making(Threads(2)))
    statistics = add_moments(source, tmp_path, Making(Threads(2)))
    series = FramesDataset(source, time_series=True, statistics=statistics)[602000:602640, 5296000:5296640]
    assert series["image"].shape == (len(DAYS), 2, 64, 64)
    assert "mask" not in series
    window = (slice(336, 400), slice(200, 264))
    band = statistics.bands[1]
    clipped = np.clip(reflectance(1, 4)[window].astype("float32").astype("float64"), *band.limits)
    assert series["image"][4, 1].numpy() == pytest.approx((clipped - band.mean) / band.std, abs=1e-6)
    with pytest.raises(BadInputError, match="the pixels are 'raw'"):
        FramesDataset(replace(source, radiometry="raw"), statistics=statistics)


def test_it_has_what_samplers_of_torchgeo_look_for(cube: Path) -> None:
    """TorchGeo itself is large and not installed here; these are the members its samplers use (version 0.8)."""
    dataset = FramesDataset(frames_of_cube(cube))
    first, last = dataset.bounds[2].start, dataset.bounds[2].stop
    assert dataset.index.index.overlaps(pd.Interval(first, last, closed="both")).all()
    for interval in dataset.index.index:
        assert dataset[602000:602100, 5296000:5296100, interval.left : interval.right]["image"].shape == (2, 10, 10)
    assert dataset.index.clip(dataset.index.geometry.iloc[0].buffer(-100)).total_bounds[0] == 600100
    assert dataset.res == (10.0, 10.0)
    assert dataset.crs.to_epsg() == int(GRID.crs.split(":")[1])
