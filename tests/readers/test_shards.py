"""Training data in other people's loaders, in environments of their own. WebDataset itself: tests/datasets."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np
import pytest

import stac2cube

pytest.importorskip("torch")

from stac2cube.datasets.files import Making
from stac2cube.datasets.frames import frames_of_cube
from stac2cube.datasets.patch_rules import PatchQuality, PatchRules, Splits
from stac2cube.datasets.shards import make_patches
from stac2cube.datasets.torch import PatchStream
from stac2cube.executors.base import Threads
from stac2cube.export.export import Export, export
from tests.datasets.conftest import cube as cube  # noqa: PLC0414 - a fixture
from tests.views.cubes import make_cube

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
    subprocess.run([tmp_path / "venv/bin/pip", "install", "-q", "datasets==5.2.0"], check=True)
    words = [tmp_path / "venv/bin/python", "-c", LOAD, tmp_path / "set"]
    offline = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "cache")}
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=offline)
    assert done.returncode == 0, done.stderr[-2000:]
    mine = list(PatchStream(tmp_path / "set", "train"))
    theirs = json.loads(done.stdout.splitlines()[-1])
    assert [row[:2] for row in theirs] == [[one["key"], one["facts"]["row"]] for one in mine]
    sums = [np.nan_to_num(one["image"].numpy(), nan=-1).sum().item() for one in mine]
    np.testing.assert_allclose([row[2] for row in theirs], sums, rtol=1e-5)


TORCHGEO = """
import json, sys
import torch
# PyPI's torchvision is built for CUDA: beside torch for CPUs it lacks operators, which TorchGeo does not use.
operators = torch.library.Library("torchvision", "DEF")
for name in ("nms", "qnms"):
    operators.define(name + "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
from torch.utils.data import DataLoader
from torchgeo.datasets import RasterDataset, stack_samples
from torchgeo.samplers import GridGeoSampler, RandomGeoSampler

cogs, cube, *environment = sys.argv[1:]


class Exported(RasterDataset):
    filename_glob = "*.tif"
    filename_regex = r".*_(?P<date>\\d{8})"
    date_format = "%Y%m%d"


def drawn(dataset, sampler):
    torch.manual_seed(0)
    loader = DataLoader(dataset, batch_size=2, sampler=sampler, num_workers=2, collate_fn=stack_samples)
    return [
        [box[0].start, box[1].stop, str(box[2].start), image.double().tolist()]
        for batch in loader
        for image, box in zip(batch["image"], batch["bounds"], strict=True)
    ]


exported = Exported(cogs)
found = [drawn(exported, RandomGeoSampler(exported, size=16, length=6))]
sys.path += environment
from stac2cube.datasets.frames import frames_of_cube
from stac2cube.datasets.torch import FramesDataset

frames = FramesDataset(frames_of_cube(cube, bands=["B03", "B08"]))
found.append(drawn(frames, RandomGeoSampler(frames, size=16, length=6)))
found.append(drawn(frames, GridGeoSampler(frames, size=16, stride=16)))
print(json.dumps([exported.crs.to_epsg(), frames.crs.to_epsg(), found]))
"""


@pytest.mark.soak
def test_torchgeo_draws_from_exports_and_cubes(tmp_path: Path) -> None:
    cube = make_cube(tmp_path / "alps.zarr")
    export(cube, tmp_path / "cogs", Export(layers=("B03", "B08")))
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    packages = ["torchgeo==0.8.1", "torch==2.13.0", "requests"]  # which it imports and does not ask for
    subprocess.run([tmp_path / "venv/bin/pip", "install", "-q", *packages], check=True)
    (tmp_path / "draw.py").write_text(TORCHGEO)
    # What the tests run with comes behind TorchGeo's own environment.
    environment = [str(Path(__file__).parents[2]), sysconfig.get_path("purelib")]
    words = [tmp_path / "venv/bin/python", tmp_path / "draw.py", tmp_path / "cogs", cube, *environment]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    *crs, (of_files, *of_frames) = json.loads(done.stdout.splitlines()[-1])
    assert crs == [32632, 32632]
    assert [len(of_files), len(of_frames[0])] == [6, 6]
    # RasterDataset gives stored counts and knows no scale; frames give reflectance.
    stored, decoded = (stac2cube.open_cube(cube, chunks=None, decode=decode) for decode in (False, True))
    for truth, samples in ((stored, of_files), (decoded, [one for found in of_frames for one in found])):
        for west, north, time, image in samples:
            day = truth.sel(time=time[:10])
            assert day.sizes["time"] == 1
            centres = 5 + 10 * np.arange(16)
            step = day.isel(time=0).reindex(x=west + centres, y=north - centres)  # a chip may reach beyond the cube
            wanted = np.stack([step[band].values for band in ("B03", "B08")]).astype("float64")
            np.testing.assert_allclose(np.array(image), wanted, atol=1e-6)
