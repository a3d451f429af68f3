"""A cube built in shares by processes that meet in files only."""

from __future__ import annotations

from pathlib import Path

import pytest

from stac2cube.build.array_job import ArrayLease, build_part, lease_cube, seal_parts
from stac2cube.build.loop import build
from stac2cube.build.plan import BuildOptions
from stac2cube.errors import CubeLockedError
from stac2cube.executors.base import Threads
from stac2cube.store.lock import CubeLock, read_owner
from stac2cube.store.reader import differences
from tests.build.toy import SPEC, Make, steps

CLAIM = ArrayLease("4711", "toys")
ALIVE = BuildOptions(verdict=lambda holder: True)


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    cube = tmp_path_factory.mktemp("reference") / "toy.zarr"
    build(cube, SPEC, steps(range(5)), Make(), Threads(2))
    return cube


def test_shares_make_the_same_cube(tmp_path: Path, reference: Path) -> None:
    cube = tmp_path / "toy.zarr"
    lease_cube(cube, SPEC, CLAIM)
    for number in (2, 0, 1):
        assert build_part(cube, steps(range(5)), Make(), Threads(2), CLAIM, (number, 3)).exit_code == 0
    assert differences(cube, reference), "nothing is visible before it is sealed"
    summary = seal_parts(cube, SPEC, steps(range(5)), CLAIM)
    assert (len(summary.sealed), summary.exit_code) == (5, 0)
    assert differences(cube, reference) == []
    assert read_owner(cube) is None
    assert not (cube / ".stac2cube" / "staging").exists()


def test_a_lost_share_costs_its_steps_until_the_next_run(tmp_path: Path, reference: Path) -> None:
    cube = tmp_path / "toy.zarr"
    lease_cube(cube, SPEC, CLAIM)
    build_part(cube, steps(range(5)), Make(), Threads(2), CLAIM, (0, 7))
    summary = seal_parts(cube, SPEC, steps(range(5)), CLAIM)
    assert summary.exit_code == 10
    build(cube, SPEC, steps(range(5)), Make(), Threads(2))
    assert differences(cube, reference) == []


def test_a_second_life_of_a_job_makes_only_what_the_first_did_not(tmp_path: Path, reference: Path) -> None:
    cube = tmp_path / "toy.zarr"
    lease_cube(cube, SPEC, CLAIM)
    failing = build_part(cube, steps(range(5)), Make(failing=(2,)), Threads(1), CLAIM, (0, 1))
    assert failing.exit_code == 2
    file = next((cube / ".stac2cube" / "staging").rglob("share-0000.jsonl"))
    lines = file.read_text().splitlines()
    file.write_text("\n".join(lines[:-3]) + '\n{"key": "toy_0004", "rece')  # it died while writing
    build_part(cube, steps(range(5)), Make(), Threads(1), CLAIM, (0, 1))
    again = file.read_text().splitlines()[len(lines) - 2 :]
    assert 0 < len(again) < len(lines) / 2
    assert seal_parts(cube, SPEC, steps(range(5)), CLAIM).exit_code == 0
    assert differences(cube, reference) == []


def test_a_failure_is_recorded_when_sealing(tmp_path: Path) -> None:
    cube = tmp_path / "toy.zarr"
    lease_cube(cube, SPEC, CLAIM)
    for number in range(2):
        build_part(cube, steps(range(3)), Make(failing=(1,)), Threads(1), CLAIM, (number, 2))
    summary = seal_parts(cube, SPEC, steps(range(3)), CLAIM)
    assert (len(summary.sealed), summary.exit_code) == (2, 2)
    assert "cannot be made" in summary.failed["toy_0001"]


def test_the_claim_keeps_others_out_and_ends_with_its_jobs(tmp_path: Path, reference: Path) -> None:
    cube = tmp_path / "toy.zarr"
    lease_cube(cube, SPEC, CLAIM)
    with pytest.raises(CubeLockedError, match="job 4711"):
        build(cube, SPEC, steps(range(5)), Make(), Threads(1), options=ALIVE)
    with pytest.raises(CubeLockedError, match="job 4711"):
        lease_cube(cube, SPEC, ArrayLease("4712", "toys"), ALIVE)
    dead = BuildOptions(verdict=lambda holder: holder.job != "4711")
    build(cube, SPEC, steps(range(5)), Make(), Threads(1), options=dead)
    assert differences(cube, reference) == []
    with pytest.raises(CubeLockedError, match="came too late"):
        build_part(cube, steps(range(5)), Make(), Threads(1), CLAIM, (0, 2))
    with CubeLock(cube), pytest.raises(CubeLockedError, match="came too late"):
        seal_parts(cube, SPEC, steps(range(5)), CLAIM)
