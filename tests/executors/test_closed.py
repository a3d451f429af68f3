"""Schedulers and workers talk to nobody who lacks the run's key, whoever is logged in beside."""

from __future__ import annotations

import os
import socket
import ssl
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from select import select as wait_until_readable

import psutil
import pytest
from cryptography import x509

from stac2cube.errors import PlaceError
from stac2cube.executors.dask import Keys
from stac2cube.executors.local import Local

STRANGER = """
import os, signal, sys
from distributed import Client, Security
signal.alarm(12)  # a port that speaks HTTP never answers
for security in (None, Security.temporary()):
    try:
        address = ("tls" if security else "tcp") + "://127.0.0.1:" + sys.argv[1]
        with Client(address, timeout=4, security=security) as client:
            print("ran as", client.run_on_scheduler(os.getuid))
    except OSError as error:
        print("refused")
"""


def as_somebody_else(*words: str) -> subprocess.CompletedProcess[str]:
    """A program of another user where that can be had, else one without anything of ours."""
    other = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] if os.geteuid() == 0 else []
    nothing = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "DASK_CONFIG": "/nonexistent"}
    return subprocess.run([*other, *words], capture_output=True, text=True, check=False, env=nothing, cwd="/")


def listening() -> dict[int, str]:
    """Ports on which this process and its children listen, and the addresses."""
    here = psutil.Process()
    return {
        link.laddr.port: link.laddr.ip
        for process in (here, *here.children(recursive=True))
        for link in process.net_connections("tcp")
        if link.status == psutil.CONN_LISTEN
    }


def test_nobody_else_can_run_a_task_with_a_local_scheduler_and_its_workers() -> None:
    before = set(listening())
    with Local(workers=1).open() as executor:
        assert executor.submit(os.getpid).result(60) != os.getpid()
        ports = {port: address for port, address in listening().items() if port not in before}
        assert set(ports.values()) == {"127.0.0.1"}
        assert len(ports) >= 3, "scheduler, nanny, worker"
        with ThreadPoolExecutor(len(ports)) as pool:
            said = list(pool.map(lambda port: as_somebody_else(sys.executable, "-c", STRANGER, str(port)), ports))
    assert not [one.stdout for one in said if "ran as" in one.stdout]
    assert sum(one.stdout.count("refused") == 2 for one in said) >= 3, "without a key, and with one of their own"


def test_a_stored_key_is_read_by_its_owner_alone_and_goes(tmp_path: Path) -> None:
    keys = Keys.made()
    tmp_path.chmod(0o755)
    before = os.umask(0)
    try:
        with keys.stored(tmp_path) as folder:
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700
            for path in folder.iterdir():
                assert stat.S_IMODE(path.stat().st_mode) == 0o600
                assert as_somebody_else("cat", str(path)).returncode != 0 or os.geteuid() != 0
            assert (folder / "key.pem").read_text() == keys.key
    finally:
        os.umask(before)
    assert list(tmp_path.iterdir()) == []
    assert keys.key not in repr(keys)


def test_a_file_system_without_permissions_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Path.stat

    def open_to_all(path: Path, **words: bool) -> os.stat_result:
        found = list(real(path, **words))
        found[0] |= 0o077
        return os.stat_result(found)

    monkeypatch.setattr(Path, "stat", open_to_all)
    with pytest.raises(PlaceError, match="keeps no permissions"), Keys.made().stored(tmp_path):
        pytest.fail("it was stored")
    monkeypatch.undo()
    assert list(tmp_path.iterdir()) == []


def test_a_certificate_is_valid_where_the_clock_is_late() -> None:
    found = x509.load_pem_x509_certificate(Keys.made().certificate.encode())
    assert (found.not_valid_after_utc - found.not_valid_before_utc).days > 365
    assert found.not_valid_before_utc < datetime.now(UTC) - timedelta(hours=12)


def test_a_connection_that_breaks_breaks_no_other() -> None:
    """Python 3.13 takes what a write to a closed connection raised for an error of the next one that it reads."""
    security = Keys.made().security()

    def connected() -> tuple[socket.socket, socket.socket]:
        ours, theirs = socket.socketpair()
        client = security.get_connection_args("client")["ssl_context"]
        server = security.get_listen_args("scheduler")["ssl_context"]
        with ThreadPoolExecutor(1) as pool:
            other = pool.submit(client.wrap_socket, theirs)
            return server.wrap_socket(ours, server_side=True), other.result(20)

    (broken, gone), (healthy, partner) = connected(), connected()
    broken.setblocking(False)
    healthy.setblocking(False)
    gone.close()
    for _ in range(3):
        with suppress(OSError):
            broken.send(b"x")
    with pytest.raises(ssl.SSLWantReadError):
        healthy.recv(10)
    partner.send(b"hello")
    wait_until_readable([healthy], [], [], 10)
    assert healthy.recv(10) == b"hello"
    for one in (broken, healthy, partner):
        one.close()
