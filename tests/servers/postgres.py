"""A PostgreSQL server with PostGIS of our own, on a free port, gone afterwards."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.servers.ports import LOCALHOST, free_port, wait_until

USER = "postgres"

# The data live as long as the tests: nothing needs to reach the disk.
SPEED = ("fsync=off", "full_page_writes=off", "synchronous_commit=off", "shared_buffers=64MB", "max_connections=40")


@dataclass(frozen=True)
class Postgres:
    """Where a server listens."""

    port: int

    @property
    def environment(self) -> dict[str, str]:
        """What libpq and the STAC API read."""
        return {
            "PGHOST": LOCALHOST,
            "PGPORT": str(self.port),
            "PGUSER": USER,
            "PGPASSWORD": "unused",
            "PGDATABASE": "postgres",
        }

    @property
    def dsn(self) -> str:
        return f"postgresql://{USER}:unused@{LOCALHOST}:{self.port}/postgres"


def find_programs() -> Path | None:
    """Folder of the newest PostgreSQL that has PostGIS, as Debian lays them out."""
    found = [
        folder
        for folder in Path("/usr/lib/postgresql").glob("*/bin")
        if (folder / "initdb").exists()
        and Path(f"/usr/share/postgresql/{folder.parent.name}/extension/postgis.control").exists()
    ]
    return max(found, key=lambda folder: float(folder.parent.name), default=None)


def why_not() -> str:
    """Why no server can run here; empty where one can."""
    if find_programs() is None:
        return "PostgreSQL with PostGIS is not installed (tests/setup-services installs it)"
    if os.geteuid() == 0 and not (shutil.which("setpriv") and _account()):
        return "PostgreSQL refuses to run as root, and there is no setpriv or no postgres account to lend"
    return ""


@contextmanager
def running_postgres() -> Iterator[Postgres]:
    """Start a server in a temporary folder; stop it and remove the folder in the end."""
    programs = find_programs()
    if programs is None:
        raise RuntimeError(why_not())
    # Not pytest's folder: the postgres account could not enter it.
    folder = Path(tempfile.mkdtemp(prefix="stac2cube-postgres-", dir="/tmp"))
    data, log, port = folder / "data", folder / "log", free_port()
    try:
        if os.geteuid() == 0:
            shutil.chown(folder, USER)
        initdb = [
            str(programs / "initdb"),
            "-D",
            str(data),
            "-A",
            "trust",
            "-U",
            USER,
            "-E",
            "UTF8",
            "--locale=C",
            "--no-sync",
        ]
        subprocess.run([*_as_postgres(), *initdb], check=True, capture_output=True, cwd=folder)
        options = [f"port={port}", f"listen_addresses={LOCALHOST}", "unix_socket_directories=", *SPEED]
        command = [
            str(programs / "postgres"),
            "-D",
            str(data),
            *(word for option in options for word in ("-c", option)),
        ]
        with (
            log.open("wb") as words,
            subprocess.Popen(
                [*_as_postgres(), *_dies_with_us(), *command], stdout=words, stderr=words, cwd=folder
            ) as process,
        ):
            try:
                ready = [str(programs / "pg_isready"), "-q", "-h", LOCALHOST, "-p", str(port)]
                wait_until(lambda: subprocess.run(ready, check=False).returncode == 0, process, log)
                yield Postgres(port)
            finally:
                # SIGQUIT is PostgreSQL's immediate shutdown: no data to save.
                process.send_signal(signal.SIGQUIT)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _account() -> bool:
    return any(entry.pw_name == USER for entry in pwd.getpwall())


def _as_postgres() -> list[str]:
    return ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--init-groups"] if os.geteuid() == 0 else []


def _dies_with_us() -> list[str]:
    """The kernel stops the server when the tests are killed outright."""
    return ["setpriv", "--pdeathsig=QUIT"] if shutil.which("setpriv") else []
