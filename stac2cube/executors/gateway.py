"""Workers of a Dask Gateway or of a running Dask cluster."""

from __future__ import annotations

import logging
import os
import pkgutil
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import CancelledError, Executor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from stac2cube.errors import BadInputError, GatewayError
from stac2cube.version import __version__

if TYPE_CHECKING:
    from dask_gateway import Gateway as Server
    from distributed import Client


# Requests to a Dask Gateway: its clusters, their status, and stopping one.


@contextmanager
def gateway_server(address: str = "", auth: str = "") -> Iterator[Server]:
    """Connect to a Dask Gateway while the context lasts.

    Args:
        address: Its address. Default: from Dask's configuration.
        auth: Kind of authentication. Default: from Dask's configuration.

    Raises:
        BadInputError: dask-gateway is not installed, the address is unknown, or the kind of authentication is.
    """
    try:
        from dask_gateway import Gateway as Server
    except ImportError as error:
        raise BadInputError("the place 'gateway' needs dask-gateway: install stac2cube[gateway]") from error

    class Closed(Server):  # type: ignore[misc] # dask-gateway has no types
        """A client that its context closes; dask-gateway's own closes again when it is collected, and complains."""

        def __del__(self) -> None:
            """Do nothing: the context has closed the client."""

    try:
        server = Closed(address=address or None, auth=auth or None)
    except (ValueError, TypeError, ImportError) as error:
        raise BadInputError(
            f"{error}: say the gateway's address and auth, or set gateway.address in dask's configuration "
            "(~/.config/dask/gateway.yaml, or the environment variable DASK_GATEWAY__ADDRESS)"
        ) from error
    with server:
        yield server


def started(server: Server, name: str, patience: float) -> Any:
    """Wait until a cluster runs; returns its report."""
    give_up = time.monotonic() + patience
    while time.monotonic() < give_up:
        if failure := ended(server, name):
            raise GatewayError(failure)
        with asking(server):
            report = server.get_cluster(name)
        if report.status.name == "RUNNING":
            return report
        time.sleep(0.2)
    raise GatewayError(f"the cluster {name} did not start within {patience:.0f} s")


def ended(server: Server, name: str) -> str:
    """Why a cluster can no longer be used, "" while it can."""
    with asking(server):
        try:
            status = server.get_cluster(name).status.name
        except ValueError as error:
            return f"the Dask Gateway {server.address}: {error}"
    return "" if status in ("PENDING", "RUNNING") else f"the cluster {name} is {status.lower()}: see the gateway's logs"


def stop(server: Server, name: str) -> None:
    """Stop a cluster; logs a warning if it may still run."""
    try:
        with asking(server):
            server.stop_cluster(name)
        log.info("stopped cluster %s", name)
    except GatewayError as error:
        log.warning("cluster %s may still run: %s", name, error)


@contextmanager
def asking(server: Server) -> Iterator[None]:
    """Turn errors of a gateway, or of the network on the way to it, into ours."""
    from aiohttp import ClientError
    from dask_gateway.client import GatewayClusterError, GatewayServerError

    try:
        yield
    except (ClientError, GatewayClusterError, GatewayServerError, OSError, TimeoutError) as error:
        raise GatewayError(f"the Dask Gateway {server.address}: {error or type(error).__name__}") from error


# The place on a platform: workers of a Dask Gateway, or of a Dask cluster that is already running.

log = logging.getLogger(__name__)

CLUSTER = "DASK_CLUSTER"
"""Environment variable that names a running cluster; platforms set it for the programs they start."""

ANSWER = 20.0
"""Seconds within which a scheduler should answer."""

UNKNOWN = 64
"""Number of blocks that a cluster of unknown size is assumed to process at a time."""


@dataclass(frozen=True)
class Gateway:
    """Workers of a Dask Gateway, or of a running Dask cluster. They need the cube's folder at the same path.

    A cluster that is made here is shut down when the work ends, also after an error. One that was running before is
    left running. Other settings come from Dask's own configuration (``gateway.address``, ``gateway.auth``,
    ``gateway.cluster.options``). Credentials belong there: none is kept here.

    Attributes:
        address: Address of the gateway, ``"https://hub.example.org/services/dask-gateway"``.
        cluster: A running cluster to use: its name on the gateway, or the address of its scheduler
            (``"tcp://10.0.0.7:8786"``). Default: the environment variable ``DASK_CLUSTER``, else a new cluster.
        workers: Workers of a new cluster, at most.
        adaptive: Whether the gateway may keep fewer workers, down to one, while there is less to do.
        options: Options of a new cluster, by the gateway's names: often ``worker_cores``, ``worker_memory``, ``image``.
        auth: Kind of authentication, as dask-gateway names it: ``"basic"``, ``"jupyterhub"``, ``"kerberos"``.
        patience: Seconds to wait for a cluster and its first worker, and to be without any.
        site: Name of the site from which this was read. Its limits hold for the cubes that are built. "" for no site.
    """

    address: str = ""
    cluster: str = ""
    workers: int = 4
    adaptive: bool = False
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)
    auth: str = ""
    patience: float = 600.0
    site: str = ""

    def __post_init__(self) -> None:
        """Validate the fields.

        Raises:
            BadInputError: Less than one worker.
        """
        if self.workers < 1:
            raise BadInputError(f"a cluster has at least one worker, not {self.workers}")

    @property
    def running(self) -> str:
        """Name or address of the running cluster to use, "" for a new one."""
        return self.cluster or os.environ.get(CLUSTER, "")

    @property
    def parallel(self) -> int:
        """Number of blocks processed at the same time, estimated where the cluster does not run yet."""
        if self.running:
            return UNKNOWN
        cores = self.options.get("worker_cores", 1)
        return self.workers * (max(1, int(cores)) if isinstance(cores, (int, float)) else 1)

    @property
    def on_cluster(self) -> bool:
        """Always True: blocks are made by workers elsewhere."""
        return True

    @contextmanager
    def open(self) -> Iterator[Executor]:
        """Start a cluster or join the running one, and wait for its first worker.

        Raises:
            BadInputError: dask-gateway is not installed, the gateway's address is unknown, or it has no such option.
            GatewayError: No cluster or worker is available, workers lack this version of stac2cube, or all are lost.
        """
        from stac2cube.executors.dask import ClusterExecutor, Watch, quiet_dask

        with quiet_dask(), self._joined() as cluster:
            cluster.wait(self.patience)
            executor = ClusterExecutor(cluster.client)
            try:
                with Watch(cluster.look, error=GatewayError).over(executor):
                    yield executor
            except CancelledError as error:
                # Not cancelled by us: the scheduler is gone, and with it all submitted blocks.
                raise GatewayError(f"{cluster.name} ended, or cannot be reached any more") from error
            finally:
                executor.shutdown(wait=False)

    def explain(self, error: BaseException) -> str:
        """Explain the error of a worker that keeps dying, lacks stac2cube or does not see the cube."""
        from stac2cube.executors.dask import dead_worker

        if isinstance(error, ModuleNotFoundError) and (error.name or "").startswith("stac2cube"):
            return f"a worker has no stac2cube {__version__}: choose an image or environment that has it"
        if isinstance(error, FileNotFoundError) and "/.stac2cube/" in str(error.filename):
            return f"a worker does not see {error.filename}: workers need the cube's folder at the same path"
        said = ", ".join(f"{name} = {value}" for name, value in self.options.items()) or "the gateway's default options"
        return dead_worker(error, f"a worker has {said}", "a larger worker_memory, or fewer worker_cores")

    @contextmanager
    def _joined(self) -> Iterator[_Cluster]:
        """The cluster, which is stopped at the end if it was made here."""
        running = self.running
        if "://" in running:
            log.info("using the running cluster %s", running)
            if not running.startswith("tls://"):
                log.warning("%s is not closed: whoever reaches it can run code as its owner; use tls://", running)
            with _connected(running) as client:
                yield _Cluster(client, f"the cluster {running}", self.patience, lambda: "")
            return
        with gateway_server(self.address, self.auth) as server:
            name = running or self._submit(server)
            try:
                log.info("%s cluster %s of %s", "using the running" if running else "made", name, server.address)
                report = started(server, name, self.patience)
                if not running:
                    self._scale(server, name)
                with _connected(report.scheduler_address, report.security) as client:
                    yield _Cluster(client, f"the cluster {name}", self.patience, lambda: ended(server, name))
            finally:
                if not running:
                    stop(server, name)

    def _submit(self, server: Server) -> str:
        """Request a new cluster; returns its name."""
        with asking(server):
            options = server.cluster_options()
            for name, value in self.options.items():
                if name not in options:
                    known = ", ".join(options) or "none"
                    raise BadInputError(f"the Dask Gateway has no cluster option {name!r}: its options are {known}")
                try:
                    options[name] = value
                except (TypeError, ValueError) as error:
                    raise BadInputError(f"the Dask Gateway refuses {name} = {value!r}: {error}") from error
            return str(server.submit(options))

    def _scale(self, server: Server, name: str) -> None:
        with asking(server):
            if self.adaptive:
                server.adapt_cluster(name, minimum=1, maximum=self.workers)
            else:
                server.scale_cluster(name, self.workers)


class _Cluster:
    """An open cluster.

    Args:
        client: Client of its scheduler.
        name: Name for messages.
        patience: Seconds that it may be without a worker.
        ended: Returns why the cluster ended, "" while it runs.
    """

    def __init__(self, client: Client, name: str, patience: float, ended: Callable[[], str]) -> None:
        self.client = client
        self.name = name
        self._patience = patience
        self._ended = ended
        self._served = time.monotonic()

    def wait(self, seconds: float) -> None:
        """Wait for the first worker and check the version of stac2cube on the workers.

        Raises:
            GatewayError: No worker came, or they lack this version of stac2cube.
        """
        give_up = time.monotonic() + seconds
        while not self._workers():
            if failure := self._ended():
                raise GatewayError(failure)
            if time.monotonic() > give_up:
                raise GatewayError(f"{self.name} has had no worker for {seconds:.0f} s: ask those who run it")
            time.sleep(0.2)
        # A function that can be unpickled by a worker without stac2cube.
        answers = self.client.run(pkgutil.resolve_name, "stac2cube:__version__", on_error="return")
        for worker, found in answers.items():
            if found != __version__:
                has = f"none ({found})" if isinstance(found, BaseException) else str(found)
                raise GatewayError(
                    f"workers of {self.name} need stac2cube {__version__}, as this process has; {worker} has {has}: "
                    "choose an image or environment that has it"
                )

    def look(self) -> str:
        """Return why the work cannot go on, "" if it can. The gateway itself replaces lost workers."""
        if failure := self._ended():
            return failure
        now = time.monotonic()
        if self._workers():
            self._served = now
        elif now - self._served > self._patience:
            return f"{self.name} has had no worker for {now - self._served:.0f} s"
        return ""

    def _workers(self) -> int:
        asked = self.client.scheduler
        assert asked is not None  # the client is connected
        try:
            return len(self.client.sync(asked.ncores, workers=None, callback_timeout=ANSWER))
        except (OSError, TimeoutError) as error:
            raise GatewayError(f"{self.name} does not answer: {error or type(error).__name__}") from error


@contextmanager
def _connected(address: str, security: Any = None) -> Iterator[Client]:
    """A client of a scheduler."""
    from distributed import Client

    try:
        client = Client(address, security=security, set_as_default=False)
    except (OSError, TimeoutError, ValueError) as error:
        raise GatewayError(f"the scheduler {address} cannot be reached: {error}") from error
    with client:
        yield client
