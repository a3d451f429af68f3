"""A real Dask Gateway for tests: its schedulers and workers are processes of this machine."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import dask

from stac2cube.executors.gateway import gateway_server
from tests.servers.ports import LOCALHOST, free_port, wait_until

REPOSITORY = Path(__file__).parents[2]

PASSWORD = "open sesame"

CONFIGURATION = """
from dask_gateway_server.options import Float, Integer, Options, String

c.DaskGateway.backend_class = "dask_gateway_server.backends.local.UnsafeLocalBackend"
c.DaskGateway.authenticator_class = "dask_gateway_server.auth.SimpleAuthenticator"
c.SimpleAuthenticator.password = {password!r}
c.DaskGateway.address = "{host}:{api}"
c.Proxy.address = "{host}:{port}"
c.ClusterConfig.scheduler_cmd = [{python!r}, "-m", "distributed.cli.dask_scheduler"]
c.ClusterConfig.worker_cmd = [{python!r}, "-m", "distributed.cli.dask_worker", "--no-nanny"]
c.LocalBackend.clusters_directory = {folder!r}
c.LocalBackend.inherited_environment = ["PATH"]
c.LocalBackend.sigint_timeout = 2
c.DBBackendBase.cluster_heartbeat_period = 1
c.DBBackendBase.cluster_heartbeat_timeout = 120  # a busy machine may be slow
c.DBBackendBase.cluster_start_timeout = c.DBBackendBase.worker_start_timeout = 240
c.DBBackendBase.worker_status_period = 1
c.DBBackendBase.cluster_status_period = 1

def configured(options):
    environment = {{"PYTHONPATH": options.pythonpath}}
    return {{"worker_cores": options.worker_cores, "worker_memory": int(options.worker_memory * 2**30),
            "environment": environment, "idle_timeout": 60}}

c.Backend.cluster_options = Options(
    Integer("worker_cores", 1, min=1, max=4),
    Float("worker_memory", 1.0, min=0.2, max=4.0),
    String("pythonpath", {repository!r}),
    handler=configured,
)
"""


@dataclass(frozen=True)
class DaskGateway:
    """A running gateway.

    Attributes:
        address: Where it listens.
        folder: Of its clusters: one per cluster, which is the working directory of its processes.
    """

    address: str
    folder: Path

    def configuration(self) -> dict[str, object]:
        """What a person writes into dask's configuration."""
        return {
            "gateway.address": self.address,
            "gateway.auth.type": "basic",
            "gateway.auth.kwargs": {"username": "somebody", "password": PASSWORD},
        }

    def write_configuration(self, folder: Path) -> Path:
        """The same as a file, for programs of their own that find it by DASK_CONFIG."""
        file = folder / "gateway.yaml"
        file.write_text(
            f"gateway:\n  address: {self.address}\n  auth:\n    type: basic\n"
            f"    kwargs: {{username: somebody, password: {PASSWORD}}}\n"
        )
        return file

    def clusters(self) -> dict[str, str]:
        """Names of clusters that are not stopped, and their states."""
        with dask.config.set(self.configuration()), gateway_server() as gateway:
            return {report.name: report.status.name for report in gateway.list_clusters()}

    @contextmanager
    def cluster(self, workers: int) -> Iterator[str]:
        """The name of a cluster that somebody else has started."""
        with dask.config.set(self.configuration()), gateway_server() as gateway:
            name = str(gateway.submit())
            try:
                while gateway.get_cluster(name).status.name == "PENDING":
                    time.sleep(0.1)
                gateway.scale_cluster(name, workers)
                yield name
            finally:
                gateway.stop_cluster(name)


def why_not() -> str:
    """Why no gateway can run here; empty where one can."""
    missing = [name for name in ("dask_gateway", "dask_gateway_server") if find_spec(name) is None]
    return f"not installed: {', '.join(missing)} (make test installs the test extras)" if missing else ""


@contextmanager
def running_gateway() -> Iterator[DaskGateway]:
    """Start a gateway; stop it in the end with all its clusters, whatever happened."""
    folder = Path(tempfile.mkdtemp(prefix="stac2cube-gateway-"))
    log, port = folder / "log", free_port()
    address = f"http://{LOCALHOST}:{port}"
    words = {"password": PASSWORD, "host": LOCALHOST, "api": free_port(), "port": port, "python": sys.executable}
    words |= {"repository": str(REPOSITORY)}
    (folder / "config.py").write_text(CONFIGURATION.format(folder=str(folder / "c"), **words))
    programs = str(Path(sys.executable).parent)
    command = [f"{programs}/dask-gateway-server", "-f", str(folder / "config.py")]
    dies_with_us = ["setpriv", "--pdeathsig=TERM"] if shutil.which("setpriv") else []
    environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "PYTHONPATH": str(REPOSITORY)}
    try:
        with (
            log.open("wb") as said,
            subprocess.Popen(
                [*dies_with_us, *command], stdout=said, stderr=said, env=environment, cwd=folder
            ) as process,
        ):
            try:
                wait_until(lambda: _answers(address), process, log)
                yield DaskGateway(address, folder / "c")
            finally:
                process.send_signal(signal.SIGTERM)
                with suppress(subprocess.TimeoutExpired):
                    process.wait(20)
                process.kill()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/api/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
