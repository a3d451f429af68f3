"""Shared parts of all Dask clusters: TLS keys of the run, supervision of its workers, shutdown."""

from __future__ import annotations

import asyncio
import logging
import shutil
import socket
import ssl
import stat
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Executor, Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar
from weakref import WeakSet

import dask
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from distributed import Client, KilledWorker, LocalCluster, Security
from distributed import Future as DaskFuture
from distributed import wait as wait_for
from distributed.utils import get_ip, get_ip_interface

from stac2cube.errors import BadInputError, PlaceError, SlurmError
from stac2cube.executors.base import GUARD_SCRIPT
from stac2cube.executors.worker import MALLOC

T = TypeVar("T")

# The key of a run: a certificate made for it alone, which its scheduler and workers require of every connection.

EARLY = timedelta(days=1)
"""Validity of the certificate before now, for nodes whose clocks are late. Such nodes refuse the certificates of Dask's
own ``Security.temporary()``."""

LONG = timedelta(days=366)
"""Validity of the certificate from now: longer than any build."""


_CLEARING = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


class SteadySocket(ssl.SSLSocket):
    """A connection that does not fail because another connection is broken.

    Python 3.13 leaves the error of a write to a closed connection in OpenSSL's error queue, and the next read of the
    same thread raises it again, on any connection. Dask's nannies close their connections early, and the scheduler
    then lost its client and its workers. After the queue is cleared, only a connection that is really broken fails the
    second read.
    """

    def read(self, len: int | None = 1024, buffer: Any = None) -> Any:  # noqa: A002 - the name of its base
        """See ssl.SSLSocket."""
        try:
            return super().read(len or 1024, buffer)
        except (BrokenPipeError, ConnectionResetError):
            # An invalid cipher: the one public call that clears the queue.
            with suppress(ssl.SSLError):
                _CLEARING.set_ciphers("NONE-SUCH")
            return super().read(len or 1024, buffer)


class SteadySecurity(Security):
    """Dask's security with :class:`SteadySocket`."""

    __slots__ = Security.__slots__  # its constructor accepts only these names

    def get_connection_args(self, role: str) -> dict[str, Any]:
        """See distributed.Security."""
        return _steady(super().get_connection_args(role))  # type: ignore[no-untyped-call] # distributed's

    def get_listen_args(self, role: str) -> dict[str, Any]:
        """See distributed.Security."""
        return _steady(super().get_listen_args(role))  # type: ignore[no-untyped-call] # distributed's


def _steady(words: dict[str, Any]) -> dict[str, Any]:
    words["ssl_context"].sslsocket_class = SteadySocket
    return words


@dataclass(frozen=True)
class Keys:
    """A self-signed certificate and its key, as PEM text.

    Attributes:
        certificate: Certificate that both sides of a connection must present, and trust.
        key: The secret.
    """

    certificate: str
    key: str = field(repr=False)

    @classmethod
    def made(cls) -> Keys:
        """Generate a certificate and key."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "stac2cube")])
        subject = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        now = datetime.now(UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - EARLY)
            .not_valid_after(now + LONG)
            # OpenSSL's strict checks, on by default from Python 3.13, require these of a self-signed certificate.
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(subject, critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(subject), critical=False)
            .sign(key, hashes.SHA256())
        )
        pem = serialization.Encoding.PEM
        secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        return cls(certificate.public_bytes(pem).decode(), secret.decode())

    def security(self) -> Security:
        """Security settings for the scheduler, workers and client of one process."""
        pair = {f"tls_{role}_cert": self.certificate for role in ("client", "scheduler", "worker")}
        pair |= {f"tls_{role}_key": self.key for role in ("client", "scheduler", "worker")}
        pair |= {"tls_ca_file": self.certificate}
        return SteadySecurity(require_encryption=True, **pair)  # type: ignore[no-untyped-call] # distributed's

    @contextmanager
    def stored(self, folder: Path) -> Iterator[Path]:
        """A folder with ``certificate.pem`` and ``key.pem`` for jobs on other nodes, removed when the context ends.

        Args:
            folder: On a file system that all nodes see.

        Raises:
            PlaceError: Others could read the key there.
        """
        own = Path(tempfile.mkdtemp(prefix=".keys-", dir=folder))
        try:
            for name, text in (("certificate.pem", self.certificate), ("key.pem", self.key)):
                path = own / name
                path.touch(mode=0o600)
                if any(stat.S_IMODE(one.stat().st_mode) & 0o077 for one in (own, path)):
                    raise PlaceError(
                        f"{folder} lies on a file system that keeps no permissions: others could read the key of the "
                        "worker jobs; say a folder of another one as `logs` of the site"
                    )
                path.write_text(text, encoding="utf-8")
            yield own
        finally:
            shutil.rmtree(own, ignore_errors=True)


# Shared by all places on Dask: settings, a closed scheduler, the watch over workers, and explanations of errors.

log = logging.getLogger(__name__)

SETTINGS = {
    **{f"distributed.nanny.pre-spawn-environ.{name}": size for name, size in MALLOC.items()},
    # Each block is written and dropped: spilling to disk is never of use.
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    # A worker silent for this long is given up, also if its node has lost the network and no connection was closed.
    "distributed.scheduler.worker-ttl": "60s",
    # A lost worker may be replaced after this time.
    "distributed.deploy.lost-worker-timeout": "2s",
    "distributed.comm.timeouts.connect": "60s",
}

NO_PAGES: dict[str, list[str]] = {"distributed.scheduler.http.routes": [], "distributed.worker.http.routes": []}
"""No HTTP pages, which need no key; Dask listens for HTTP all the same, on loopback."""


@contextmanager
def quiet_dask(*, dashboard: bool = False) -> Iterator[None]:
    """Configure Dask for blocks while the context lasts.

    Args:
        dashboard: Whether Dask may serve its dashboard.
    """
    with dask.config.set(SETTINGS if dashboard else {**SETTINGS, **NO_PAGES}):
        yield


@contextmanager
def closed_scheduler(
    keys: Keys, *, host: str = "127.0.0.1", dashboard: bool = False, **workers: Any
) -> Iterator[LocalCluster]:
    """A scheduler in this process that accepts only connections with the run's key, and its workers on this machine.

    Both end with the context. Dask asks a worker process to end, kills it after four seconds, and waits a few more. If
    the machine is too busy even for that, the work is done all the same, and only a warning is logged.

    Args:
        keys: The run's certificate and key.
        host: Address on which the scheduler listens.
        dashboard: Whether it serves its dashboard, on loopback: all users of this machine can see it.
        workers: Arguments of LocalCluster for workers; ``n_workers=0`` for none here.

    Raises:
        PlaceError: The worker processes do not start.
    """
    try:
        cluster = LocalCluster(
            host=host,
            protocol="tls://",
            security=keys.security(),
            # Even without a dashboard Dask listens: on loopback, where the network does not reach it.
            dashboard_address="127.0.0.1:0",
            scheduler_kwargs={"dashboard": dashboard},
            silence_logs=logging.ERROR,
            **workers,
        )
    except RuntimeError as error:
        raise PlaceError(f"the worker processes do not start: {error} {GUARD_SCRIPT}") from error
    try:
        yield cluster
    finally:
        try:
            cluster.close()
        except TimeoutError:
            log.warning("dask's worker processes were killed, and the machine is too busy to see them end at once")


class Watch:
    """Supervises the workers of a cluster, and raises an error when none can be had.

    Args:
        look: Called every few seconds; replaces lost workers. Returns why the work cannot go on, "" if it can.
        seconds: Seconds between calls.
        error: Class of the error.
    """

    def __init__(
        self, look: Callable[[], str], seconds: float = 3.0, error: Callable[[str], PlaceError] = SlurmError
    ) -> None:
        self.failure = ""
        self._look = look
        self._seconds = seconds
        self._error = error
        self._over = threading.Event()

    @contextmanager
    def over(self, executor: Executor) -> Iterator[None]:
        """Watch while the context lasts; when the work cannot go on, cancel waiting calls and raise an error.

        Raises:
            PlaceError: The work could not go on; with the reason.
        """
        thread = threading.Thread(target=self._run, args=(executor,), name="watch", daemon=True)
        thread.start()
        try:
            yield
        except Exception:
            if not self.failure:
                raise
        finally:
            self._over.set()
            thread.join()
        if self.failure:
            raise self._error(self.failure)

    def _run(self, executor: Executor) -> None:
        pause = 0.0
        while not self._over.wait(pause):
            pause = self._seconds
            try:
                self.failure = self._look()
            except PlaceError as error:
                # SLURM's controller may be restarting: the workers live on, and it is queried again.
                log.warning("%s", error)
                continue
            if self.failure:
                executor.shutdown(wait=False)
                return


class ClusterExecutor(Executor):
    """Runs functions on the workers of a client; equal calls are not merged.

    Like ``Client.get_executor()``, whose futures fail with "TypeError: cannot unpack" when a worker is lost just after
    its result arrived (distributed 2026.8): it reads a task's status again after it fetched the result.

    Args:
        client: Client of the cluster.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._tasks: WeakSet[DaskFuture[Any]] = WeakSet()
        self._closed = False

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Submit a call to a worker.

        Args:
            fn: The function, which must be picklable.
            args: Its positional arguments.
            kwargs: Its keyword arguments.

        Returns:
            A future of its result; cancelling it cancels the task.

        Raises:
            RuntimeError: The executor was shut down.
        """
        loop = self._client.loop
        if self._closed or loop is None:
            raise RuntimeError("cannot schedule new futures after shutdown")
        task = self._client.submit(fn, *args, pure=False, **kwargs)
        self._tasks.add(task)
        future: Future[T] = Future()
        future.add_done_callback(lambda done: task.cancel() if done.cancelled() and not task.cancelled() else None)
        loop.add_callback(_hand_over, task, future)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Accept no more calls.

        Args:
            wait: Wait until all calls have ended; otherwise cancel those that have not.
            cancel_futures: Cancel in any case.
        """
        if self._closed:
            return
        self._closed = True
        tasks = list(self._tasks)
        if cancel_futures or not wait:
            self._client.cancel(tasks)
        else:
            wait_for(tasks)


async def _hand_over(task: DaskFuture[Any], future: Future[Any]) -> None:
    """Pass the outcome of a task to its future; called in the client's loop."""
    try:
        result = await task
    except (CancelledError, asyncio.CancelledError):
        future.cancel()
        future.set_running_or_notify_cancel()  # wakes waiting threads
    except Exception as error:  # noqa: BLE001 - it is raised where the result is asked for
        if future.set_running_or_notify_cancel():
            future.set_exception(error)
    else:
        if future.set_running_or_notify_cancel():
            future.set_result(result)


@contextmanager
def executor_of(client: Client) -> Iterator[Executor]:
    """The executor of a client. At the end of the context futures are cancelled and workers asked to end by themselves.

    Args:
        client: Client of a cluster whose workers serve this run alone.
    """
    executor = ClusterExecutor(client)
    try:
        yield executor
    finally:
        executor.shutdown(wait=False)  # first: a worker that holds results is not retired
        with suppress(OSError, TimeoutError):
            client.retire_workers(close_workers=True, remove=True)


def own_address(interface: str) -> str:
    """Address on which workers on other nodes reach this process.

    Args:
        interface: Network interface; "" for that of the host name.

    Raises:
        BadInputError: This machine has no such interface, or the interface no address.
    """
    try:
        return str(get_ip_interface(interface) if interface else get_ip())
    except ValueError as error:
        raise BadInputError(
            f"interface {interface!r} of the site, on {socket.gethostname()}: {' '.join(str(error).split())}"
        ) from error


def dead_worker(error: BaseException, limit: str, remedy: str) -> str:
    """Explain the error of a block that killed its workers; "" for any other error."""
    if not isinstance(error, KilledWorker):
        return ""
    return (
        f"the block's worker died {error.allowed_failures + 1} times, most likely because it needs more memory: "
        f"{limit}. Ask for {remedy}."
    )
