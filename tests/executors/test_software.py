"""Homes, temporary folders and permissions as jobs find them on nodes."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

from stac2cube.executors.queue import Body
from stac2cube.store.metadata import read_root
from stac2cube.testing.archive import ArchiveSpec, simulate
from tests.slurm.test_ways import write_recipe

BARE = {
    # Nobody can make a file there, root neither: as in a home that is full or cannot be written.
    "HOME": "/proc",
    "TMPDIR": "/of/another/node",
    "PYTHONNOUSERSITE": "1",
    "OMP_NUM_THREADS": "64",
    "PATH": "/usr/bin:/bin",
}


def test_a_job_builds_without_home_and_temporary_folder(tmp_path: Path) -> None:
    archive = simulate(tmp_path / "archive", ArchiveSpec(years=(2023,), dates_per_year=2, tile_px=96))
    recipe = write_recipe(tmp_path, "cubes", archive, time="2023")
    words = [sys.executable, "-s", "-m", "stac2cube", "run", str(recipe), "--stage", "layers"]
    words += ["--place", "local", "--workers", "1"]
    lines = Body(("umask 077",), words).lines(tmp_path)
    done = subprocess.run(["bash", "-c", "\n".join(lines)], env=BARE, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    cube = tmp_path / "cubes" / "layers.zarr"
    assert read_root(cube).steps == 2
    # Nobody else can read them; no file is open to others by a mode of its own.
    open_ones = [path for path in cube.rglob("*") if stat.S_IMODE(path.stat().st_mode) & 0o077]
    assert not open_ones
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("dask-")], "nothing is left of the workers"


def test_each_job_may_have_a_temporary_folder_of_its_own(tmp_path: Path) -> None:
    code = "import tempfile; print(tempfile.gettempdir())"
    prologue = ('export TMPDIR="$SCRATCH/$SLURM_JOB_ID"; mkdir -p "$TMPDIR"',)
    lines = Body(prologue, [sys.executable, "-c", code]).lines(tmp_path)
    environment = os.environ | BARE | {"SCRATCH": str(tmp_path), "SLURM_JOB_ID": "17"}
    said = subprocess.run(["bash", "-c", "\n".join(lines)], env=environment, capture_output=True, text=True, check=True)
    assert said.stdout.strip() == str(tmp_path / "17")
