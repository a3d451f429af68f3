"""A finer grid by our networks in worker jobs: the pixels that threads make."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

import stac2cube
from stac2cube.executors.slurm import Slurm
from stac2cube.store.reader import differences
from stac2cube.superres.rules import SuperresRules
from tests.slurm.cluster import Cluster
from tests.stages.test_superres import cube

PLACE = Slurm(jobs=1, cores=1, memory="2GiB", walltime="00:10:00")


def test_worker_jobs_make_the_pixels_that_threads_make(cluster: Cluster) -> None:
    layers = cube(cluster.work / "sharp", (150,))
    rules, folder = SuperresRules(), layers.parent
    stac2cube.super_resolution(layers, folder / "threads.zarr", rules=rules, place=stac2cube.Threads(4))
    stac2cube.super_resolution(layers, folder / "jobs.zarr", rules=rules, place=PLACE)
    assert differences(folder / "jobs.zarr", folder / "threads.zarr") == []
