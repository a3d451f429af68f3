"""Shards of patches in other people's loaders, in environments of their own. WebDataset itself: tests/datasets."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

from stac2cube.datasets.files import Making
from stac2cube.datasets.frames import frames_of_cube
from stac2cube.datasets.patch_rules import PatchQuality, PatchRules, Splits
from stac2cube.datasets.shards import make_patches
from stac2cube.datasets.torch import PatchStream
from stac2cube.executors.base import Threads
from tests.datasets.conftest import cube as cube  # noqa: PLC0414 - a fixture

LOAD = """
import json, sys
from pathlib import Path
import numpy as np
from datasets import load_dataset
files = sorted(map(str, Path(sys.argv[1]).glob("train-*.tar")))
rows = load_dataset("webdataset", data_files={"train": files}, split="train", streaming=True)
total = lambda row: np.nan_to_num(np.array(row["x.npy"]), nan=-1).sum().item()
print(json.dumps([[row["__key__"], row["json"]["row"], total(row)] for row in rows]))
"""


@pytest.mark.soak
def test_datasets_of_hugging_face_loads_the_shards(cube: Path, tmp_path: Path) -> None:
    rules = PatchRules(
        size=64, per_shard=25, splits=Splits({"train": 1.0}, block=100_000.0), good=PatchQuality(min_valid=0.9)
    )
    make_patches(frames_of_cube(cube, labels="SCL"), tmp_path / "set", rules, Making(Threads(2)))
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    subprocess.run([tmp_path / "venv/bin/pip", "install", "-q", "datasets"], check=True)
    words = [tmp_path / "venv/bin/python", "-c", LOAD, tmp_path / "set"]
    offline = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "cache")}
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=offline)
    assert done.returncode == 0, done.stderr[-2000:]
    mine = list(PatchStream(tmp_path / "set", "train"))
    theirs = json.loads(done.stdout.splitlines()[-1])
    assert [row[:2] for row in theirs] == [[one["key"], one["facts"]["row"]] for one in mine]
    sums = [np.nan_to_num(one["image"].numpy(), nan=-1).sum().item() for one in mine]
    np.testing.assert_allclose([row[2] for row in theirs], sums, rtol=1e-5)
