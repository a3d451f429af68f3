"""Kill -9 at chosen and at random moments: what is there is whole, and the same command makes the rest, byte for byte.

The campaign that docs/patches.md tells of: ``pytest -m soak -s tests/datasets/test_killed.py``.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import pytest

from stac2cube.datasets.rules import AngleRules, LabelRules, SampleRules
from stac2cube.datasets.samples import make_samples
from tests.datasets.killing import contents, in_its_own_process
from tests.datasets.products import Pair
from tests.datasets.test_download import AREA, ROLES, put
from tests.items import catalog
from tests.servers.cdse import data_space

RULES = SampleRules(bands=("B02", "B11"), target="B11", angles=AngleRules(), labels=LabelRules())

DYING = """
import os, signal, sys
from tests.datasets import test_killed as words
from stac2cube.executors.base import Threads
from stac2cube.datasets import sample_files as files, samples

point, source, out = sys.argv[1:]
place, passed = {"written": files._settle, "named": files._settle, "indexed": samples.write_index}[point], []

def die(*arguments):
    if point == "indexed" or (point == "written" and passed):
        os.kill(os.getpid(), signal.SIGKILL)
    place(*arguments)
    passed.append(arguments)
    if len(passed) == 2:
        os.kill(os.getpid(), signal.SIGKILL)

files._settle = die if point != "indexed" else files._settle
samples.write_index = die if point == "indexed" else samples.write_index
samples.make_samples(source, out, words.RULES, place=Threads(1))
"""


@pytest.mark.parametrize(("point", "whole"), [("written", 1), ("named", 2), ("indexed", 3)])
def test_killed_and_run_again(point: str, whole: int, tmp_path: Path) -> None:
    pairs = [Pair(tmp_path / "products", day).write() for day in (12, 15, 17)]
    source = catalog(tmp_path / "index.json", [item for pair in pairs for item in pair.items()])
    make_samples(source, tmp_path / "undisturbed", RULES)
    done = subprocess.run(
        [sys.executable, "-c", DYING, point, source, str(tmp_path / "set")],
        check=False,
        capture_output=True,
        timeout=900,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    there = [path for path in (tmp_path / "set").glob("[!.]*") if path.is_dir()]
    assert len(there) == whole
    assert all(len(list(path.iterdir())) == 4 for path in there)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "set").glob("[!.]*/meta.json")}
    make_samples(source, tmp_path / "set", RULES)
    assert contents(tmp_path / "set") == contents(tmp_path / "undisturbed")
    assert all(path.stat().st_mtime_ns == time for path, time in before.items()), "what was whole is not made again"


WORKS = ("samples", "statistics", "patches webdataset", "patches zarr", "patches geotiff", "download")


@contextmanager
def words_for(work: str, cube: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict]:
    """What :mod:`tests.datasets.killing` needs to know for a kind of work."""
    folder.mkdir()
    pairs = [Pair(folder / "products", day).write() for day in (12, 15, 17)]
    if work == "samples":
        yield {"source": catalog(folder / "index.json", [item for pair in pairs for item in pair.items()])}
    elif work != "download":
        yield {"cube": str(cube), "form": work.partition(" ")[2]}
    else:
        monkeypatch.setenv("CDSE_USERNAME", "me")
        monkeypatch.setenv("CDSE_PASSWORD", "secret")
        with data_space() as server:
            for pair in pairs:
                put(server, pair)
            service = asdict(server.service)
            yield {"stac": server.stac, "service": service, "area": AREA.geometry.bounds, "roles": ROLES}


@pytest.mark.parametrize("work", ["samples", "patches webdataset", "download"])
def test_killed_at_random_moments(work: str, cube: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with words_for(work, cube, tmp_path / "in", monkeypatch) as words:
        done = in_its_own_process(work.partition(" ")[0], words, tmp_path / "out", seed=5, kills=1)
    assert done["killed"] >= 1


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("work", WORKS)
def test_campaign(work: str, cube: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with words_for(work, cube, tmp_path / "in", monkeypatch) as words:
        done = in_its_own_process(work.partition(" ")[0], words, tmp_path / "out", seed=11, kills=100)
    print(f"\n{work}: {done['killed']} runs killed in {done['rounds']} rounds, the same bytes in all")  # noqa: T201
    assert done["killed"] >= 100
