from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.slurm.cluster import REPOSITORY, SCRIPT, Cluster, can_account, say, why_not


@pytest.fixture(scope="session")
def running_cluster() -> Iterator[Cluster]:
    """One cluster for the whole run; its folder is short and open to all, which sockets and other users need."""
    if reason := why_not():
        pytest.skip(reason)
    folder = Path(tempfile.mkdtemp(prefix="s2c"))
    folder.chmod(0o755)
    before = dict(os.environ)
    # Workers import the tests' own stages; and nobody's own tables or dask settings count.
    os.environ |= {
        "SLURM_CONF": str(folder / "c" / "etc" / "slurm.conf"),
        "PYTHONPATH": str(REPOSITORY),
        "STAC2CUBE_CONFIG_DIR": str(folder / "config"),
        "HOME": str(folder),
    }
    accounting = can_account()
    say(SCRIPT, "up", folder / "c", *([] if accounting else ["--no-accounting"]))
    try:
        yield Cluster(folder / "c", folder / "work", accounting)
    finally:
        say(SCRIPT, "down", folder / "c", check=False)
        os.environ.clear()
        os.environ |= before
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def cluster(running_cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """The cluster, whole before and after; the test runs in its own folder that every node sees."""
    running_cluster.work.mkdir(exist_ok=True)
    work = Path(tempfile.mkdtemp(dir=running_cluster.work))
    monkeypatch.chdir(work)
    yield Cluster(running_cluster.folder, work, running_cluster.accounting)
    running_cluster.mend()
