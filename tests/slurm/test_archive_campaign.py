"""An archive made by array jobs among kills, lost nodes, a full disk, a stalled catalog and two impatient people.

It ends equal to the archive that nobody disturbed. ``ARCHIVE_CAMPAIGN=12x20`` asks for 12 tiles and 20 steps; it takes
some four inodes per tile and step, twice.
"""

from __future__ import annotations

import json
import math
import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import shapely
from pyproj import Transformer
from shapely.geometry import mapping

from stac2cube.archives.archive import is_archive, read_archive
from stac2cube.archives.status import archive_status
from stac2cube.store.reader import differences
from stac2cube.testing.archive import ArchiveSpec, simulate
from tests.slurm.cluster import Cluster, say, stac2cube, wait_for

TILES, STEPS = map(int, os.environ.get("ARCHIVE_CAMPAIGN", "200x300").split("x"))

DISTURBANCES = max(10, TILES // 5)

TILE = 240.0
"""Edge of a tile, metres: small, since it is the number of tiles and steps that counts."""

RECIPE = """
cubes: {folder}
tiles: {{tiling: grid, crs: "EPSG:32632", edge: {edge}, origin: [{x}, {y}]}}
layers:
  mission: sentinel-2-l2a
  aoi: area.geojson
  time: 2017/2026
  bands: [red]
  catalog: source/earth-search.json
"""


def write_campaign(folder: Path, disk: Path) -> None:
    """The scenes, an area over so many tiles, and two recipes: for the undisturbed archive and for the other."""
    years = tuple(range(2017, 2017 + math.ceil(STEPS / 60)))
    spec = ArchiveSpec(years=years, dates_per_year=math.ceil(STEPS / len(years)), tile_px=480)
    source = simulate(folder / "source", spec)
    source.catalog("earth-search")
    x, y = source.tiles[0].origin
    rows = max(row for row in range(1, 19) if TILES % row == 0)
    width, height = TILES // rows * TILE, rows * TILE
    degrees = Transformer.from_crs(32632, 4326, always_xy=True).transform
    area = shapely.transform(shapely.box(x + 20, y - height + 20, x + width - 20, y - 20), degrees, interleaved=False)
    (folder / "area.geojson").write_text(json.dumps(mapping(area)))
    for name, place in (("quiet", folder / "quiet"), ("disturbed", disk / "disturbed")):
        (folder / f"{name}.yaml").write_text(RECIPE.format(folder=place, edge=TILE, x=x, y=y))


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A disk that can be filled without harm to others."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2g", "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


@contextmanager
def stalled_catalog() -> Iterator[str]:
    """Address of a catalog that takes every question and answers none."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def submission(recipe: Path, *more: str) -> subprocess.Popen[str]:
    words = [sys.executable, "-m", "stac2cube", "submit", str(recipe), "--site", "example", "--array", "4", "-q", *more]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def fill(disk: Path, seconds: float) -> None:
    ballast = disk / "ballast"
    with suppress(OSError), ballast.open("wb") as file:
        while True:
            file.write(b"0" * 2**20)
    time.sleep(seconds)
    ballast.unlink()


def disturb(cluster: Cluster, chance: random.Random, disk: Path) -> str:
    """One of the things that happen on clusters; "" where there was no job to which it could."""
    kind = chance.choice(["kill", "kill", "cancel", "node", "disk"])
    jobs = cluster.jobs()
    if kind == "disk":
        fill(disk, chance.uniform(2, 8))
    elif jobs and kind == "kill":
        say("scancel", "--signal=KILL", "--full", chance.choice(jobs), check=False)
    elif jobs and kind == "cancel":
        say("scancel", chance.choice(jobs), check=False)
    elif jobs:
        node = f"node{chance.randrange(1, 5)}"
        say("scontrol", "update", f"nodename={node}", "state=down", "reason=campaign", check=False)
        time.sleep(chance.uniform(1, 4))
        say("scontrol", "update", f"nodename={node}", "state=resume", check=False)
    return kind if jobs or kind == "disk" else ""


EXPECTED = ("is being built already", "is being submitted just now", "No space left", "disk is full")
"""What the second of two people, or somebody on a full disk, is told."""


@pytest.mark.soak
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a disk that may be filled")
def test_an_archive_by_jobs_survives_what_happens_on_clusters(cluster: Cluster) -> None:
    with small_disk(cluster.work / "disk") as disk, stalled_catalog() as address:
        write_campaign(cluster.work, disk)
        begun = time.monotonic()
        assert submission(cluster.work / "quiet.yaml").wait() == 0
        cluster.wait_idle(7200)
        quiet = read_archive(cluster.work / "quiet")
        assert len(quiet.tiles) == TILES
        assert archive_status(quiet.folder).done == TILES
        print(f"undisturbed: {time.monotonic() - begun:.0f} s, {archive_status(quiet.folder).files} files")  # noqa: T201
        chance, happened = random.Random(29), []
        waiting = submission(cluster.work / "disturbed.yaml", "--set", f"layers.catalog={address}")
        disturbed = disk / "disturbed"
        while len(happened) < DISTURBANCES and not (is_archive(disturbed) and archive_status(disturbed).done == TILES):
            for person in [submission(cluster.work / "disturbed.yaml") for _ in range(2)]:
                said, _ = person.communicate()
                assert person.returncode == 0 or any(word in said for word in EXPECTED), said
            for _ in range(4):
                time.sleep(chance.uniform(0.5, 5))
                happened += [kind] if (kind := disturb(cluster, chance, disk)) else []
        waiting.kill()
        waiting.wait()
        cluster.mend()
        counts = {kind: happened.count(kind) for kind in sorted(set(happened))}
        print(f"disturbed by {counts}; then {archive_status(disturbed).done} tiles done")  # noqa: T201
        stac2cube("submit", cluster.work / "disturbed.yaml", "--site", "example", "--array", "4", "-q")
        cluster.wait_idle(7200)
        wait_for(lambda: not archive_status(disturbed).writing, 10, "the last lock")
        status = archive_status(disturbed)
        assert (status.done, status.failed, status.behind) == (TILES, (), ()), status.failures
        other = read_archive(disturbed)
        cubes = list(quiet.cubes())
        assert len(cubes) == TILES
        for tile, product, cube in cubes:
            assert differences(cube, other.cube(tile, product)) == [], (tile.name, product)
        stac2cube("verify", disturbed, "-q")
