"""What every Dask cluster needs: TLS keys of the run, a watch over its workers, an end."""

from __future__ import annotations

import asyncio
import logging
import shutil
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

from stac2cube.errors import PlaceError, SlurmError
from stac2cube.executors.worker import MALLOC

T = TypeVar("T")

# The key of a run: a certificate made for it alone, without which nobody talks to its scheduler and workers.

EARLY = timedelta(days=1)
"""So much before now the certificate is valid, for nodes whose clocks are late. Dask's own ``Security.temporary()``
makes certificates that such a node refuses."""

LONG = timedelta(days=366)
"""So long it is valid: longer than any build."""


_CLEARING = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


class SteadySocket(ssl.SSLSocket):
    """A connection that is not taken for broken because another one is.

    Python 3.13 leaves what a write to a closed connection raised in OpenSSL's queue of errors, and the next read of the
    same thread raises it again, whatever connection it is of. Dask's nannies close theirs early, and the scheduler then
    lost its client and its workers. With the queue cleared what is really broken says so a second time.
    """

    def read(self, len: int | None = 1024, buffer: Any = None) -> Any:  # noqa: A002 - the name of its base
        """See ssl.SSLSocket."""
        try:
            return super().read(len or 1024, buffer)
        except (BrokenPipeError, ConnectionResetError):
            # A cipher that is none: the one public call that clears the queue.
            with suppress(ssl.SSLError):
                _CLEARING.set_ciphers("NONE-SUCH")
            return super().read(len or 1024, buffer)


class SteadySecurity(Security):
    """Dask's security with :class:`SteadySocket`."""

    __slots__ = Security.__slots__  # by which its constructor knows the words it takes

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
    """A self-signed certificate and its key, PEM text.

    Attributes:
        certificate: What both sides of a connection must show, and trust.
        key: The secret.
    """

    certificate: str
    key: str = field(repr=False)

    @classmethod
    def made(cls) -> Keys:
        """New ones."""
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
            # What OpenSSL's strict checks, on from Python 3.13 on, want of a certificate that is its own root.
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(subject, critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(subject), critical=False)
            .sign(key, hashes.SHA256())
        )
        pem = serialization.Encoding.PEM
        secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        return cls(certificate.public_bytes(pem).decode(), secret.decode())

    def security(self) -> Security:
        """What scheduler, workers and client of one process are given."""
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
                path.write_text(text)
            yield own
        finally:
            shutil.rmtree(own, ignore_errors=True)


# What all places on dask share: settings, a closed scheduler, the watch over workers, and what their errors mean.

log = logging.getLogger(__name__)

SETTINGS = {
    **{f"distributed.nanny.pre-spawn-environ.{name}": size for name, size in MALLOC.items()},
    # A block is written and gone: nothing is ever worth spilling to disk.
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    # A worker that is silent for so long is given up, also when its node has lost the network and nothing was closed.
    "distributed.scheduler.worker-ttl": "60s",
    # So soon a worker that was lost may be replaced.
    "distributed.deploy.lost-worker-timeout": "2s",
    "distributed.comm.timeouts.connect": "60s",
}

NO_PAGES: dict[str, list[str]] = {"distributed.scheduler.http.routes": [], "distributed.worker.http.routes": []}
"""No pages over HTTP, which ask nobody for a key; dask listens for them all the same, on loopback."""


@contextmanager
def quiet_dask(*, dashboard: bool = False) -> Iterator[None]:
    """Dask as blocks need it, while the context lasts.

    Args:
        dashboard: Whether dask may show pages.
    """
    with dask.config.set(SETTINGS if dashboard else {**SETTINGS, **NO_PAGES}):
        yield


@contextmanager
def closed_scheduler(
    keys: Keys, *, host: str = "127.0.0.1", dashboard: bool = False, **workers: Any
) -> Iterator[LocalCluster]:
    """A scheduler in this process that talks to those alone who have the run's key, and its workers on this machine.

    Both end with the context. Dask asks a worker process to end, kills it after four seconds, and waits a few more. On
    a machine too busy even for that, the work is done all the same, and only a warning is logged.

    Args:
        keys: The run's.
        host: Address on which it listens.
        dashboard: Whether it shows pages, on loopback: whoever is logged in on this machine can look at them.
        workers: What LocalCluster takes for workers; ``n_workers=0`` for none here.
    """
    cluster = LocalCluster(
        host=host,
        protocol="tls://",
        security=keys.security(),
        # Even without pages dask listens; not where others on the network come by.
        dashboard_address="127.0.0.1:0",
        scheduler_kwargs={"dashboard": dashboard},
        silence_logs=logging.ERROR,
        **workers,
    )
    try:
        yield cluster
    finally:
        try:
            cluster.close()
        except TimeoutError:
            log.warning("dask's worker processes were killed, and the machine is too busy to see them end at once")


class Watch:
    """Looks after the workers of a cluster, and says so when they cannot be had.

    Args:
        look: Called every few seconds; replaces what is lost. What it returns is why the work cannot go on, if so.
        seconds: How often.
        error: What is raised then.
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
        """Watch while the context lasts: when the work cannot go on, what waits is cancelled and the reason raised.

        Raises:
            PlaceError: Why the work could not go on.
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
                # The controller may be restarting: the workers live on, and it is asked again.
                log.warning("%s", error)
                continue
            if self.failure:
                executor.shutdown(wait=False)
                return


class ClusterExecutor(Executor):
    """Runs functions on the workers of a client, each call anew.

    Like ``Client.get_executor()``, whose futures fail with "TypeError: cannot unpack" when a worker is lost just after
    its result came (distributed 2026.8): it looks at a task's status again after it fetched the result.

    Args:
        client: Of the cluster.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._tasks: WeakSet[DaskFuture[Any]] = WeakSet()
        self._closed = False

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Have a function called by a worker.

        Args:
            fn: The function, which can be pickled.
            args: What it takes by position.
            kwargs: What it takes by name.

        Returns:
            Its result, later; cancelling it cancels the task.

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
        """Take no more calls.

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
    """Give a future what became of its task; called in the client's loop."""
    try:
        result = await task
    except (CancelledError, asyncio.CancelledError):
        future.cancel()
        future.set_running_or_notify_cancel()  # wakes who waits
    except Exception as error:  # noqa: BLE001 - it is raised where the result is asked for
        if future.set_running_or_notify_cancel():
            future.set_exception(error)
    else:
        if future.set_running_or_notify_cancel():
            future.set_result(result)


@contextmanager
def executor_of(client: Client) -> Iterator[Executor]:
    """The executor of a client. When the context ends, its futures are cancelled and workers told to end by themselves.

    Args:
        client: Of a cluster whose workers are of this run alone.
    """
    executor = ClusterExecutor(client)
    try:
        yield executor
    finally:
        executor.shutdown(wait=False)  # first: a worker that holds results is not let go
        with suppress(OSError, TimeoutError):
            client.retire_workers(close_workers=True, remove=True)


def dead_worker(error: BaseException, limit: str, remedy: str) -> str:
    """What it means that a block killed its workers; "" for any other error."""
    if not isinstance(error, KilledWorker):
        return ""
    return (
        f"the block's worker died {error.allowed_failures + 1} times, most likely because it needs more memory: "
        f"{limit}. Ask for {remedy}."
    )
