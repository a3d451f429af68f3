"""``python -m tests.datasets.killing KIND WORDS FOLDER SEED KILLS``: killed at random moments and run again.

A process of its own, without threads, loads everything once and forks a child for every run, so that what is killed is
the work and not the imports. Each round begins in a new folder, kills some runs after random times, lets one run
through, and compares every byte with what was made undisturbed; there are rounds until so many runs were killed.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from stac2cube.access import sign as cdse
from stac2cube.datasets.download import Fetcher, run_download
from stac2cube.datasets.files import Making
from stac2cube.datasets.frames import frames_of_cube
from stac2cube.datasets.patch_rules import PatchRules, Splits
from stac2cube.datasets.rules import AngleRules, DownloadRequest, LabelRules, SampleRules
from stac2cube.datasets.samples import make_samples
from stac2cube.datasets.shards import make_patches
from stac2cube.datasets.statistics import StatisticsRules, add_moments, count_values
from stac2cube.executors.base import Threads
from stac2cube.model.catalog import Catalog
from stac2cube.model.geometry import read_areas

Words = Mapping[str, Any]

TWO = Threads(2)


def samples(words: Words, out: Path) -> None:
    rules = SampleRules(bands=("B02", "B11"), target="B11", angles=AngleRules(), labels=LabelRules())
    make_samples(words["source"], out, rules, place=TWO)


def statistics(words: Words, out: Path) -> None:
    source = frames_of_cube(Path(words["cube"]))
    count_values(source, StatisticsRules(high=0.5), out, Making(TWO))
    add_moments(source, out, Making(TWO))


def patches(words: Words, out: Path) -> None:
    splits = Splits(shares={"train": 0.6, "test": 0.4}, block=1400.0)
    rules = PatchRules(size=64, splits=splits, per_shard=16, form=words["form"])
    make_patches(frames_of_cube(Path(words["cube"]), labels="SCL"), out, rules, Making(TWO))


def download(words: Words, out: Path) -> None:
    known = {"cdse": Catalog("cdse", "like it", words["stac"], signer="cdse", like="cdse")}
    for room in ("stac2cube.model.catalog", "stac2cube.search.items"):
        sys.modules[room].catalogs = lambda: known  # type: ignore[attr-defined]
    cdse.CDSE = cdse.Service(**words["service"])
    (area,) = read_areas(tuple(words["area"]))
    request = DownloadRequest(area, "2023-05", tuple(words["roles"]))
    assert not run_download(request, out, fetcher=Fetcher(first_wait=0.01)).absent


WORKS: Mapping[str, Callable[[Words, Path], None]] = {
    work.__name__: work for work in (samples, statistics, patches, download)
}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def run(work: Callable[[Words, Path], None], words: Words, out: Path, most: float = 600.0) -> bool:
    """One run in a child; whether it came to its end, and was not killed after so many seconds."""
    child = os.fork()
    if child == 0:
        try:
            work(words, out)
        except BaseException:  # noqa: BLE001 - a child ends here, whatever it dies of
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    end = time.monotonic() + most
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            assert status == 0, f"a run ended with {status}"
            return True
        time.sleep(0.001)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return False


def campaign(kind: str, words: Words, folder: Path, seed: int, kills: int) -> dict[str, int]:
    """Rounds made until so many runs were killed, and runs killed in them."""
    drawn, work, killed, rounds = random.Random(seed), WORKS[kind], 0, 0
    begun = time.monotonic()
    assert run(work, words, folder / "undisturbed")
    seconds = time.monotonic() - begun
    wanted = contents(folder / "undisturbed")
    while killed < kills:
        rounds += 1
        out = folder / f"round-{rounds}"
        for _ in range(drawn.randint(1, 4)):
            killed += not run(work, words, out, drawn.uniform(0.0, 0.7 * seconds))
        assert run(work, words, out)
        found = contents(out)
        assert sorted(found) == sorted(wanted), f"round {rounds}: other files: {set(found) ^ set(wanted)}"
        differing = [name for name in wanted if wanted[name] != found[name]]
        assert not differing, f"round {rounds}: other bytes in {differing}"
    return {"rounds": rounds, "killed": killed}


def in_its_own_process(kind: str, words: Words, folder: Path, seed: int, kills: int) -> dict[str, int]:
    """See above; raises what it says if a byte was another."""
    folder.mkdir(parents=True)
    command = [sys.executable, "-m", "tests.datasets.killing", kind, json.dumps(words), folder, seed, kills]
    done = subprocess.run(list(map(str, command)), check=False, capture_output=True, text=True, timeout=7000)
    assert done.returncode == 0, done.stderr
    found: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    return found


if __name__ == "__main__":
    kind, words, folder, seed, kills = sys.argv[1:]
    print(json.dumps(campaign(kind, json.loads(words), Path(folder), int(seed), int(kills))))  # noqa: T201
