"""Statistics and patches by worker jobs: the bytes that threads make."""

from __future__ import annotations

import shutil
from pathlib import Path

from stac2cube.datasets.files import Making
from stac2cube.datasets.frames import frames_of_cube
from stac2cube.datasets.patch_rules import PatchRules, Splits
from stac2cube.datasets.shards import make_patches
from stac2cube.datasets.statistics import StatisticsRules, add_moments, count_values
from stac2cube.executors.base import Threads
from stac2cube.executors.slurm import Slurm
from tests.slurm.cluster import Cluster
from tests.views.cubes import make_cube

RULES = PatchRules(size=32, per_shard=6, splits=Splits({"train": 0.5, "test": 0.5}, block=400.0))


def test_both_passes_and_shards_by_worker_jobs(cluster: Cluster) -> None:
    cube = make_cube(cluster.work / "cube.zarr")
    places = {"threads": Threads(2), "jobs": Slurm(jobs=2, cores=1, memory="1GiB", walltime="00:10:00")}
    made = {}
    for name, place in places.items():
        folder = cluster.work / name
        source, making = frames_of_cube(cube, ["B04", "B08"], labels="SCL"), Making(place)
        assert count_values(source, StatisticsRules(), folder / "stats", making) is not None
        statistics = add_moments(source, folder / "stats", making)
        rules = RULES.from_json(RULES.to_json() | {"good": {"min_valid": 0.1}})
        assert make_patches(source, folder / "set", rules, making, statistics=statistics).manifest
        made[name] = contents(folder)
    assert made["threads"] == made["jobs"]
    assert sum(name.endswith(".tar") for name in made["jobs"]) >= 2
    shutil.rmtree(cube)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
