"""Kill -9 while samples are made: what is there is whole, and the same command makes the rest, byte for byte."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from stac2cube.training.rules import AngleRules, LabelRules, SampleRules
from stac2cube.training.samples import make_samples
from tests.items import catalog
from tests.training.products import Pair

RULES = SampleRules(bands=("B02", "B11"), target="B11", angles=AngleRules(), labels=LabelRules())

DYING = """
import os, signal, sys
from tests.training import test_killed as words
from stac2cube.places.threads import Threads
from stac2cube.training import files, samples

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


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(("point", "whole"), [("written", 1), ("named", 2), ("indexed", 3)])
def test_killed_and_run_again(point: str, whole: int, tmp_path: Path) -> None:
    pairs = [Pair(tmp_path / "products", day).write() for day in (12, 15, 17)]
    source = catalog(tmp_path / "index.json", [item for pair in pairs for item in pair.items()])
    make_samples(source, tmp_path / "undisturbed", RULES)
    done = subprocess.run(
        [sys.executable, "-c", DYING, point, source, str(tmp_path / "set")],
        check=False,
        capture_output=True,
        timeout=120,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    there = [path for path in (tmp_path / "set").iterdir() if not path.name.startswith(".")]
    assert len(there) == whole
    assert all(len(list(path.iterdir())) == 4 for path in there)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "set").glob("[!.]*/meta.json")}
    make_samples(source, tmp_path / "set", RULES)
    assert contents(tmp_path / "set") == contents(tmp_path / "undisturbed")
    assert all(path.stat().st_mtime_ns == time for path, time in before.items()), "what was whole is not made again"
