"""A change of a cube that fails rather than dies: no step is lost or sealed without pixels, the next run goes on."""

from __future__ import annotations

import logging
import random
import re
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from stac2cube.build.loop import build
from stac2cube.build.plan import BuildOptions
from stac2cube.errors import BadInputError, CubeError, IncompleteError
from stac2cube.executors.base import Threads
from stac2cube.maintain.seal_year import seal_year
from stac2cube.progress import FileProgress, Progress
from stac2cube.store.files import POINTS
from stac2cube.store.lock import read_owner
from stac2cube.store.metadata import read_root
from stac2cube.store.reader import differences
from stac2cube.store.verify import find_damage
from stac2cube.store.writer import open_writer
from stac2cube.store.yearly_store import years_folder
from tests.build.builder import CLAIM, scaled
from tests.build.families import FAMILIES
from tests.build.faults import KINDS, PROTOCOLS, Fault, Known, attempt, listening
from tests.build.toy import SPEC, Make, steps

SAYS: dict[str, tuple[tuple[type[BaseException], ...], str]] = {
    "ENOSPC": ((BadInputError,), "No space left on device"),
    "EIO": ((BadInputError, OSError, CubeError), "Input/output error"),
    "EINTR": ((BadInputError, OSError, CubeError), "Interrupted system call"),
    "Ctrl-C": ((KeyboardInterrupt,), ""),
    "Ctrl-C twice": ((KeyboardInterrupt,), ""),
    "SIGTERM and SIGUSR1": ((KeyboardInterrupt,), ""),
    "SystemExit": ((SystemExit,), ""),
    "MemoryError": ((MemoryError, CubeError), ""),
}
"""What comes of each kind of fault."""


def fail_and_go_on(known: Known, folder: Path, point: str, kind: str, hit: int) -> None:
    """Let a change fail; look at the cube; let it go on; look again."""
    cube, fault = known.copy(folder), Fault(point, kind, hit)
    came = attempt(known, cube, fault)
    assert fault.happened
    kinds, words = SAYS[kind]
    kinds += (OSError,) if known.protocol.plain and BadInputError in kinds else ()
    in_block = point in known.protocol.in_block and isinstance(came, IncompleteError)  # then only its step failed
    assert in_block or isinstance(came, kinds), came
    assert words in str(came)
    owner = read_owner(cube)
    assert owner is None or owner.job == CLAIM.job, "the jobs of an array hold it until the sealing job took it over"
    known.check(cube)
    again = attempt(known, cube, Fault("never", kind, 1))
    assert not isinstance(again, BaseException), again
    known.check(cube)
    for made in known.protocol.made(known.after / "toy.zarr"):
        assert known.protocol.differ(folder / made.relative_to(known.after), made) == []
    left = (".partial", ".old", ".filling", ".next", ".swap")
    assert not [path for path in folder.rglob("*") if path.name.endswith(left)]
    shutil.rmtree(folder)


QUICK = [
    ("append", "create.filled", "ENOSPC", 1),
    ("append", "block.written", "EIO", 3),
    ("append", "commit.layer-moved", "EIO", 3),
    ("append", "commit.step-moved", "Ctrl-C twice", 2),
    ("append", "commit.coordinates-written", "ENOSPC", 1),
    ("extend", "commit.root-written", "SIGTERM and SIGUSR1", 1),
    ("extend", "commit.root-replaced", "SystemExit", 1),
    ("replace", "commit.layer-moved", "EINTR", 3),
    ("replace", "generation.swapped", "Ctrl-C", 1),
    ("replace in two steps", "generation.swapped", "EIO", 1),
    ("succeed", "generation.filled", "ENOSPC", 1),
    ("tidy", "commit.ledger-written", "MemoryError", 1),
    ("roll back", "generation.named", "EIO", 1),
    ("seal a year", "year.renamed", "Ctrl-C twice", 1),
    ("overviews", "commit.layer-moved", "ENOSPC", 7),
    ("seal an array", "file.written", "ENOSPC", 1),
    ("seal an array", "commit.layer-moved", "EIO", 5),
    ("seal an array", "commit.history-written", "Ctrl-C", 1),
    ("sync", "commit.layer-moved", "EIO", 2),
    ("sync", "generation.filled", "ENOSPC", 2),
    ("sync", "file.named", "Ctrl-C", 9),
    ("samples", "sample.made", "EIO", 1),
    ("samples", "file.written", "Ctrl-C twice", 3),
    ("samples anew", "sample.named", "SIGTERM and SIGUSR1", 1),
    ("samples anew in two steps", "sample.away", "ENOSPC", 1),
    ("samples anew in two steps", "sample.away", "SystemExit", 2),
    ("patches webdataset", "file.written", "ENOSPC", 9),
    ("patches zarr", "file.named", "Ctrl-C", 12),
    ("statistics", "file.written", "EIO", 2),
    ("statistics", "file.named", "EIO", 12),
    ("create an index", "file.named", "EIO", 2),
    ("update an index", "file.written", "ENOSPC", 2),
    ("update an index", "file.named", "SystemExit", 3),
    ("update an index", "file.named", "EIO", 6),
]


@pytest.mark.parametrize(("name", "point", "kind", "hit"), QUICK)
def test_what_fails_at_a_named_point_goes_on(
    name: str, point: str, kind: str, hit: int, known: Callable[[str], Known], tmp_path: Path
) -> None:
    fail_and_go_on(known(name), tmp_path / "failed", point, kind, hit)


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", [*PROTOCOLS, *FAMILIES])
def test_every_kind_of_failure_at_every_point(
    name: str, kind: str, known: Callable[[str], Known], tmp_path: Path
) -> None:
    """Each point five times: at its first and last passing, and at others between."""
    it, luck, count = known(name), random.Random(f"{name} {kind}"), 0
    assert set(it.passed) <= set(POINTS)
    for point, passed in it.passed.items():
        hits = [1, passed, *(luck.randint(1, passed) for _ in range(3))][: scaled(5)]
        for hit in hits:
            fail_and_go_on(it, tmp_path / "failed", point, kind, hit)
            count += 1
    print(f"{name}, {kind}: {count} failures at {len(it.passed)} points")  # noqa: T201


def fail_once_and_try_all(cube: Path) -> None:
    with open_writer(cube, SPEC) as writer:
        writer.stager.step("toy_0009")
        with listening(Fault("commit.begin", "EIO", 1)), pytest.raises(OSError, match="Input/output") as first:
            writer.commit((), (), {"time": "2020"})
        for change in (
            lambda: writer.commit((), (), {"time": "2020"}),
            lambda: writer.name_year(2020, "x", 1),
            lambda: writer.regenerate(writer.root, (), lambda _: None, what={}),
        ):
            with pytest.raises(CubeError, match="commits nothing more"):
                change()
        raise first.value


def test_a_writer_whose_commit_failed_commits_nothing_more(tmp_path: Path) -> None:
    cube, staging = tmp_path / "toy.zarr", tmp_path / "toy.zarr" / ".stac2cube" / "staging"
    build(cube, SPEC, steps(range(2)), Make(), Threads(1))
    before = (cube / "zarr.json").read_bytes()
    with pytest.raises(BadInputError, match=r"Input/output error.*What was sealed is safe; run again"):
        fail_once_and_try_all(cube)
    assert (cube / "zarr.json").read_bytes() == before
    assert list(staging.glob("*/toy_0009")), "nothing was removed either"
    with open_writer(cube, SPEC):
        assert not list(staging.glob("*")), "whoever opens it next does"


def test_a_file_lost_before_its_commit_ends_it(tmp_path: Path) -> None:
    """What receipts name must be there: absence never stands for a layer that is all fill."""
    cube = tmp_path / "toy.zarr"

    def lose(point: str) -> None:
        if point == "commit.step-moved":
            for file in (cube / "SCL" / "c" / "0").rglob("0"):
                if file.is_file():
                    file.unlink()

    with listening(lose), pytest.raises(CubeError, match=r"has 0 bytes instead of .* is not sealed"):
        build(cube, SPEC, steps(range(2)), Make(), Threads(1))
    assert read_root(cube).steps == 0
    assert build(cube, SPEC, steps(range(2)), Make(), Threads(1)).exit_code == 0
    assert find_damage(cube) == []


def test_steps_without_pixels_of_version_0_1_0_are_made_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Its failed commits left steps sealed of which a layer has no file at all."""
    cube, whole = tmp_path / "toy.zarr", tmp_path / "whole.zarr"
    for path in (cube, whole):
        build(path, SPEC, steps(range(6)), Make(), Threads(2))
    shutil.rmtree(cube / "B02" / "c" / "2")
    shutil.rmtree(cube / "B02" / "c" / "4")
    shutil.rmtree(cube / "SCL" / "c" / "4")
    summary = build(cube, SPEC, steps(range(4)), Make(), Threads(2))
    assert (summary.replaced, summary.exit_code) == (["toy_0002"], 0)
    assert "lost their pixels: stac2cube verify" in caplog.text, "of the one that was not asked for people are told"
    summary = build(cube, SPEC, steps(range(6)), Make(), Threads(2), options=BuildOptions(superseded="report"))
    assert summary.replaced == ["toy_0004"]
    assert differences(cube, whole) == []
    assert find_damage(cube) == []
    assert build(cube, SPEC, steps(range(6)), Make(), Threads(2)).replaced == []


def test_a_year_that_goes_on_after_a_kill_holds_nothing_half_written(tmp_path: Path) -> None:
    cube = tmp_path / "toy.zarr"
    build(cube, SPEC, steps(range(4)), Make(), Threads(2))
    halves: list[Path] = []

    def killed(point: str) -> None:
        if point == "block.encoded" and not halves:  # what a kill leaves at this moment
            writing = next(path for path in tmp_path.rglob(".B02.*") if path.is_file())
            halves.append(writing.with_name(re.sub(r"[0-9a-f]{32}", "0" * 32, writing.name)))
            halves[0].write_text("half")
        if point == "year.finished":
            (shards,) = tmp_path.rglob("shards.json")
            halves.extend(shards.with_name(f".{name}.0123abcd.partial") for name in ("shards.json", "other"))
            halves.append(shards.parents[1] / "B02" / ".zarr.json.0123abcd.partial")
            for half in halves:
                half.write_text("half")
            raise KeyboardInterrupt

    with listening(killed), pytest.raises(KeyboardInterrupt):
        seal_year(cube, 2020, Threads(1))
    assert [half.exists() for half in halves] == [True] * 4
    seal_year(cube, 2020, Threads(2))
    assert find_damage(cube) == []
    assert not list(tmp_path.rglob("*.partial"))


def test_a_folder_that_a_killed_run_was_removing_goes_when_its_year_is_sealed_again(tmp_path: Path) -> None:
    cube = tmp_path / "toy.zarr"
    build(cube, SPEC, steps(range(4)), Make(), Threads(2))
    seal_year(cube, 2020, Threads(2))
    left = years_folder(cube) / ".2020.making" / "parts"
    left.mkdir(parents=True)
    assert not seal_year(cube, 2020, Threads(2)).made
    assert not left.parent.exists()
    assert read_root(cube).years.keys() == {2020}


def test_what_a_kill_left_beside_the_ledger_is_no_damage_and_goes_with_the_next_writer(tmp_path: Path) -> None:
    cube = tmp_path / "toy.zarr"
    build(cube, SPEC, steps(range(2)), Make(), Threads(1))
    half = cube / ".stac2cube" / ".other.json.0123abcd.partial"
    half.write_text("half")
    assert find_damage(cube) == []
    build(cube, SPEC, steps(range(3)), Make(), Threads(1))
    assert not half.exists()


def test_a_progress_file_that_cannot_be_written_stops_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "stac2cube")
    cube, nowhere = tmp_path / "toy.zarr", tmp_path / "not there" / "progress.json"
    progress = FileProgress(nowhere, Progress(), seconds=0)
    assert build(cube, SPEC, steps(range(2)), Make(), Threads(1), progress=progress).exit_code == 0
    assert len([record for record in caplog.records if "progress.json cannot be written" in record.message]) > 1
    assert len([record for record in caplog.records if record.levelname == "WARNING"]) == 1


def test_what_ends_by_an_error_waits_for_no_block_that_never_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second Ctrl-C can leave the future of a block locked, on which its thread then waits for good."""
    monkeypatch.setattr("stac2cube.executors.base.LONGEST", 0.2)
    goes_on, begun = threading.Event(), time.monotonic()

    def interrupted() -> None:
        with Threads(1).open() as pool:
            pool.submit(goes_on.wait)
            time.sleep(0.05)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert time.monotonic() - begun < 10
    goes_on.set()
