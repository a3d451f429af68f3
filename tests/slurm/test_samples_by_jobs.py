"""Samples by worker jobs: the bytes that threads make."""

from __future__ import annotations

from dataclasses import replace

from stac2cube.datasets.rules import AngleRules, LabelRules, SampleRules
from stac2cube.datasets.samples import make_samples
from stac2cube.executors.base import Threads
from stac2cube.executors.slurm import Slurm
from tests.datasets.products import Pair
from tests.items import catalog
from tests.slurm.cluster import Cluster

RULES = SampleRules(bands=("B02", "B11"), target="B11", angles=AngleRules(), labels=LabelRules())


def test_samples_by_worker_jobs(cluster: Cluster) -> None:
    pairs = [Pair(cluster.work / "products", day).write() for day in (12, 17)]
    source = catalog(cluster.work / "index.json", [item for pair in pairs for item in pair.items()])
    made = {}
    for name, place in {
        "threads": Threads(2),
        "jobs": Slurm(jobs=2, cores=1, memory="1GiB", walltime="00:10:00"),
    }.items():
        folder = cluster.work / name
        index = make_samples(source, folder, replace(RULES), place=place)
        assert len(index.done) == 2
        made[name] = {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    assert len(made["jobs"]) == 10
    assert made["threads"] == made["jobs"]
