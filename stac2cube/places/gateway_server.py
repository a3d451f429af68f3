"""What a Dask Gateway is asked: for its clusters, what became of one, and that one be stopped."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from stac2cube.errors import BadInputError, GatewayError

if TYPE_CHECKING:
    from dask_gateway import Gateway as Server

log = logging.getLogger(__name__)


@contextmanager
def gateway_server(address: str = "", auth: str = "") -> Iterator[Server]:
    """A Dask Gateway, while the context lasts.

    Args:
        address: What dask's configuration says if "".
        auth: The same.

    Raises:
        BadInputError: dask-gateway is not installed, no address is known, or no such way to authenticate.
    """
    try:
        from dask_gateway import Gateway as Server
    except ImportError as error:
        raise BadInputError("the place 'gateway' needs dask-gateway: install stac2cube[gateway]") from error

    class Closed(Server):  # type: ignore[misc] # dask-gateway has no types
        """One that its context closes: when collected, dask-gateway's own closes again, and complains."""

        def __del__(self) -> None:
            """Nothing is left to do."""

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
    """The report of a cluster that runs, waited for."""
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
    """Why a cluster is of no more use, "" while it is."""
    with asking(server):
        try:
            status = server.get_cluster(name).status.name
        except ValueError as error:
            return f"the Dask Gateway {server.address}: {error}"
    return "" if status in ("PENDING", "RUNNING") else f"the cluster {name} is {status.lower()}: see the gateway's logs"


def stop(server: Server, name: str) -> None:
    """Stop a cluster; one that may still run is warned of."""
    try:
        with asking(server):
            server.stop_cluster(name)
        log.info("stopped cluster %s", name)
    except GatewayError as error:
        log.warning("cluster %s may still run: %s", name, error)


@contextmanager
def asking(server: Server) -> Iterator[None]:
    """What a gateway or the network on the way to it says, as one of our errors."""
    from aiohttp import ClientError
    from dask_gateway.client import GatewayClusterError, GatewayServerError

    try:
        yield
    except (ClientError, GatewayClusterError, GatewayServerError, OSError, TimeoutError) as error:
        raise GatewayError(f"the Dask Gateway {server.address}: {error or type(error).__name__}") from error
