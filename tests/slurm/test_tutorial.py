"""The tutorial about clusters, run on a real one: each submission ends before the next line is typed."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

import stac2cube
from stac2cube.store.ledger import Ledger
from stac2cube.store.metadata import read_root
from tests.slurm import cluster as programs
from tests.slurm.cluster import Cluster
from tests.tutorials import TUTORIALS, follow


def test_the_tutorial_builds_and_extends_by_jobs(cluster: Cluster) -> None:
    def run(words: Sequence[str], code: int) -> None:
        done = programs.stac2cube(*words, check=False)
        assert done.returncode == code, f"stac2cube {shlex.join(words)}: {done.stderr}"
        if words[0] == "submit" and "--dry-run" not in words:
            cluster.wait_idle()

    follow(TUTORIALS / "on-a-cluster.md", run)
    cube = Path("lech/layers.zarr")
    assert stac2cube.open_cube(cube).sizes["time"] == 8
    receipts = [one for row in Ledger(cube, read_root(cube).ledger).entries().values() for one in row.receipts]
    assert len({one.job for one in receipts}) >= 2, "two submissions made the blocks"
    assert Path("lech/quicklook.png").stat().st_size > 10_000
