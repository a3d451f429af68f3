"""A real STAC API server for tests: stac-fastapi with pgSTAC over PostgreSQL."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tests.servers import postgres
from tests.servers.ports import LOCALHOST, free_port, wait_until

Json = Mapping[str, Any]


@dataclass(frozen=True)
class StacApi:
    """A running server.

    Attributes:
        url: Its landing page, to hand to pystac-client.
        database: The PostgreSQL behind it.
    """

    url: str
    database: postgres.Postgres

    def load(self, collections: Iterable[Json], items: Iterable[Json]) -> None:
        """Put collections and items in, in place of those of the same id. An item's collection must be there."""
        from pypgstac.db import PgstacDB
        from pypgstac.load import Loader, Methods

        with PgstacDB(dsn=self.database.dsn) as database:
            loader = Loader(database)
            loader.load_collections(iter([dict(entry) for entry in collections]), Methods.upsert)
            listed = [dict(entry) for entry in items]
            if listed:
                loader.load_items(iter(listed), Methods.upsert)

    def clear(self) -> None:
        """Take everything out again."""
        import psycopg

        with psycopg.connect(self.database.dsn) as database:
            database.execute("SET search_path TO pgstac, public")
            database.execute("DELETE FROM items")
            database.execute("DELETE FROM collections")


def why_not() -> str:
    """Why the server cannot run here; empty where it can."""
    missing = [name for name in ("pypgstac", "psycopg", "stac_fastapi.pgstac", "uvicorn") if not _installed(name)]
    if missing:
        return f"not installed: {', '.join(missing)} (make test installs the test extras)"
    return postgres.why_not()


@contextmanager
def running_stac_api() -> Iterator[StacApi]:
    """Start the server with an empty catalog; stop it in the end, whatever happened."""
    with postgres.running_postgres() as database:
        _migrate(database)
        folder = Path(tempfile.mkdtemp(prefix="stac2cube-api-"))
        log, port = folder / "log", free_port()
        url = f"http://{LOCALHOST}:{port}"
        command = [sys.executable, "-m", "uvicorn", "stac_fastapi.pgstac.app:create_app", "--factory"]
        command += ["--host", LOCALHOST, "--port", str(port), "--log-level", "warning"]
        dies_with_us = ["setpriv", "--pdeathsig=KILL"] if shutil.which("setpriv") else []
        environment = {**os.environ, **database.environment, "ENABLE_TRANSACTIONS_EXTENSIONS": "TRUE"}
        try:
            with (
                log.open("wb") as words,
                subprocess.Popen([*dies_with_us, *command], stdout=words, stderr=words, env=environment) as process,
            ):
                try:
                    wait_until(lambda: _answers(url), process, log)
                    yield StacApi(url, database)
                finally:
                    process.terminate()
                    try:
                        process.wait(10)
                    except subprocess.TimeoutExpired:
                        process.kill()
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _migrate(database: postgres.Postgres) -> None:
    from pypgstac.db import PgstacDB
    from pypgstac.migrate import Migrate

    with PgstacDB(dsn=database.dsn) as connection:
        Migrate(connection).run_migration()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _installed(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:
        return False
