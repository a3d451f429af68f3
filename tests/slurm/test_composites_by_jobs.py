"""Composites by worker jobs: the cube that threads make, in the memory that they are given."""

from __future__ import annotations

import os
from dataclasses import replace

import psutil
import pytest

import stac2cube
from stac2cube.executors.slurm import Slurm
from stac2cube.stages.stored_views import Composition
from stac2cube.store.ledger import Ledger
from stac2cube.store.metadata import read_root
from stac2cube.store.reader import differences
from stac2cube.views.options import Hiding
from tests.slurm.cluster import Cluster
from tests.stages.hungry import FEAST, SNACK, Meal
from tests.stages.shifted import Take, series

PLACE = Slurm(jobs=2, cores=1, memory="1GiB", walltime="00:10:00")


def test_worker_jobs_compose_what_threads_compose(cluster: Cluster) -> None:
    folder = cluster.work / "takes"
    takes = [Take("2022-05-05", cover=0.3), Take("2022-05-25", cover=0.5), Take("2022-06-10"), Take("2022-06-20")]
    layers = series(folder, takes, bands=("B04", "B08"))
    stac2cube.get_cloud_layers(layers, folder / "clouds.zarr", method="scl")
    how = Composition("month", hiding=Hiding(clouds=str(folder / "clouds.zarr")))
    stac2cube.store_composites(layers, folder / "threads.zarr", how)
    made = stac2cube.store_composites(layers, folder / "jobs.zarr", how, place=PLACE, memory=2**22)
    assert made.sizes["time"] == 2
    assert differences(folder / "jobs.zarr", folder / "threads.zarr") == []
    by_recipe = replace(how, method="best", by="NDVI", hiding=Hiding("clouds"))
    stac2cube.store_composites(layers, folder / "best.zarr", by_recipe, place=PLACE)
    stac2cube.store_composites(layers, folder / "best-threads.zarr", by_recipe)
    assert differences(folder / "best.zarr", folder / "best-threads.zarr") == []
    for name in ("jobs", "best"):
        rows = Ledger(folder / f"{name}.zarr", read_root(folder / f"{name}.zarr").ledger).entries().values()
        assert "" not in {receipt.job for row in rows for receipt in row.receipts}, "by worker jobs"


def workers() -> list[int]:
    """Processes of this cluster's worker jobs: those that mind the workers, and the workers."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if "distributed.cli.dask_worker" in (process.info["cmdline"] or []):
            try:
                if process.environ().get("SLURM_CONF") == os.environ["SLURM_CONF"]:
                    found += [one.pid for one in (process, *process.children(recursive=True))]
            except psutil.Error:
                continue
    return found


@pytest.mark.soak
@pytest.mark.parametrize("meal", [SNACK, FEAST], ids=["snack", "feast"])
def test_jobs_compose_a_cube_ten_times_as_large_as_their_memory(cluster: Cluster, meal: Meal) -> None:
    peak = meal.take(cluster.work, PLACE, workers)
    assert peak.largest > 100, "a worker has libraries"
