"""An archive by a job array on the one-machine cluster: each task takes the next tile that nobody holds."""

from __future__ import annotations

import json

from stac2cube.archives.archive import read_archive
from stac2cube.archives.status import archive_status
from stac2cube.store.ledger import Ledger
from stac2cube.store.metadata import read_root
from tests.archives.inputs import RECIPE, write_inputs
from tests.slurm.cluster import Cluster, stac2cube


def test_an_array_makes_the_tiles_of_one_search(cluster: Cluster) -> None:
    write_inputs(cluster.work)
    recipe = cluster.work / "recipe.yaml"
    recipe.write_text(RECIPE.replace("clouds: {method: scl}\n", ""))
    words = ("submit", recipe, "--site", "example", "--array", "2", "-q")
    said = json.loads(stac2cube(*words, "--json").stdout)
    assert said["tiles"] == ["d", "c", "b", "a"]
    second = stac2cube(*words, check=False)
    assert second.returncode == 1
    assert "is being built already" in second.stderr
    cluster.wait_idle()
    logs = {log: log.read_text() for log in (cluster.work / "made").glob("jobs/*/*.out")}
    assert len(logs) == 2, "one log per task"
    status = archive_status(cluster.work / "made")
    assert (status.done, status.tiles, status.failures) == (4, 4, ()), logs
    archive = read_archive(cluster.work / "made")
    jobs = set()
    for _, _, cube in archive.cubes():
        root = read_root(cube)
        assert root.steps == 2
        rows = Ledger(cube, root.ledger).entries()
        jobs |= {receipt.job for row in rows.values() for receipt in row.receipts}
    assert len(jobs) == 2, "both tasks made tiles"
    searches = [log for log, text in logs.items() if "12 items" in text]
    assert searches == [], "tasks do not search"
    assert json.loads(stac2cube(*words, "--update", "--json").stdout)["jobs"] == {}
    said = stac2cube("status", recipe).stdout
    assert "4 of 4 done" in said
    # A task that passes over what the other is making has not failed: its job would be mailed as a failure each week.
    assert "FAILED" not in said
