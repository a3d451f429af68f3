"""A hostile server, private files beside the test's own folder, and the command line in this process."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest
import rasterio

from stac2cube.cli import run_words
from stac2cube.datasets.download import Fetcher
from stac2cube.pixels.open import DEFAULT_RETRIES
from tests.trust.hostile import SECRET, WORDS, Server, hostile_items, private_files, serve_files, serving


class Done(NamedTuple):
    """How a command ended, and all that it printed."""

    code: int
    said: str


Run = Callable[..., Done]


@pytest.fixture(autouse=True)
def own_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("AWS_", "CDSE_", "GDAL_", "STAC2CUBE_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("STAC2CUBE_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.setenv("STAC2CUBE_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "config").mkdir()
    (tmp_path / "home").mkdir()


@pytest.fixture(autouse=True)
def few_tries(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """How often is tried again is tested elsewhere; a download would wait 95 s for a host that is not there."""
    monkeypatch.setattr("stac2cube.datasets.download.Fetcher", partial(Fetcher, attempts=2, first_wait=0.01))
    before = asdict(DEFAULT_RETRIES)
    for name, value in {"attempts": 2, "first_wait": 0.01}.items():
        object.__setattr__(DEFAULT_RETRIES, name, value)
    yield
    for name, value in before.items():
        object.__setattr__(DEFAULT_RETRIES, name, value)


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


@pytest.fixture
def other() -> Iterator[Server]:
    with serving() as running:
        yield running


@pytest.fixture
def private(tmp_path: Path, server: Server) -> Path:
    folder = tmp_path / "private"
    private_files(folder)
    serve_files(folder, server, tmp_path / "served")
    return folder


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    def command(*words: object) -> Done:
        monkeypatch.setattr(sys, "argv", ["stac2cube", *map(str, words)])
        capfd.readouterr()
        code = run_words()
        printed = capfd.readouterr()
        return Done(code, printed.out + printed.err)

    return command


@pytest.fixture
def bad(private: Path, server: Server) -> Server:
    server.items = hostile_items(private, server)
    return server


@pytest.fixture
def place(tmp_path: Path, private: Path) -> Iterator[Path]:
    """Where a command may write; afterwards nothing else is different, and nothing of what is private is in it."""

    def everything() -> dict[str, int]:
        own = ("place", "config", "data", "served", "home")
        paths = (path for path in tmp_path.rglob("*") if path.relative_to(tmp_path).parts[0] not in own)
        return {str(path): path.lstat().st_mtime_ns for path in paths if not path.is_dir()}

    folder = tmp_path / "place"
    folder.mkdir()
    before = everything()
    yield folder
    assert everything() == before
    for path in folder.rglob("*"):
        assert not path.is_symlink()
        if path.is_file():
            assert WORDS.encode() not in path.read_bytes(), path
        if path.suffix == ".tif" and path.is_file() and path.read_bytes()[:2] == b"II":
            with rasterio.open(path) as file:
                assert not (file.read() == SECRET).any(), path
