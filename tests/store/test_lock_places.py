"""One lock for a cube, by whatever path, mount or version of the program a writer comes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from stac2cube.build.loop import build
from stac2cube.errors import BadInputError, CubeLockedError
from stac2cube.executors.base import Threads
from stac2cube.maintain.care import tidy
from stac2cube.store import generation
from stac2cube.store import lock as owner
from stac2cube.store.ledger import Ledger
from stac2cube.store.lock import (
    SILENCE,
    CubeLock,
    Owner,
    force_unlock,
    is_locked,
    judge,
    lock_folder,
    lock_folders,
    read_owner,
)
from stac2cube.store.metadata import OWN, read_root
from stac2cube.store.verify import find_damage
from stac2cube.store.writer import open_writer
from tests.build.builder import Death, code_of, run_swap, start
from tests.build.toy import SPEC, Make, steps

PROGRAM = """
from pathlib import Path
from stac2cube.build.loop import build
from stac2cube.store import files as folders
from stac2cube.store.lock import CubeLock
from stac2cube.store.metadata import read_root
from stac2cube.executors.base import Threads
from stac2cube.maintain.care import rollback, tidy
from stac2cube.maintain.seal_year import seal_year
from stac2cube.build.plan import BuildOptions
from tests.build.toy import SPEC, Make, step, steps
REPLACING = BuildOptions(superseded="replace")
"""
"""What the programs begin with that are run in other mount namespaces."""


@pytest.fixture
def cube(tmp_path: Path) -> Path:
    build(tmp_path / "toy.zarr", SPEC, steps(range(3)), Make(), Threads(1))
    return tmp_path / "toy.zarr"


def mounted(cube: Path, bound: Path, code: str) -> subprocess.CompletedProcess[str]:
    """Run code in a mount namespace in which the cube is a mount point of its own; `cube` is its path there."""
    bound.mkdir(parents=True, exist_ok=True)
    program = f"{PROGRAM}cube = Path({str(bound)!r})\n{code}"
    enter = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--map-root-user", "--mount"]
    shell = 'mount --bind "$0" "$1" && shift && exec "$@"'
    done = subprocess.run(
        [*enter, "sh", "-c", shell, str(cube), str(bound), sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    if "unshare" in done.stderr or "mount:" in done.stderr:
        pytest.skip(f"no mount namespace here: {done.stderr.strip()[:100]}")
    return done


def test_a_mount_of_the_cube_itself_meets_the_same_lock(cube: Path, tmp_path: Path) -> None:
    bound = tmp_path / "bound" / "toy.zarr"
    adding = "build(cube, SPEC, steps(range(4)), Make(), Threads(1))"
    with CubeLock(cube):
        assert "is being written by process" in mounted(cube, bound, adding).stderr
    done = mounted(cube, bound, f"{adding}\nprint(read_root(cube).steps, folders.is_mount_point(cube))")
    assert done.stdout.split() == ["4", "True"], done.stderr
    assert read_root(cube).steps == 4
    assert not is_locked(cube)
    assert list(bound.parent.iterdir()) == [bound], "the lock beside the mount is gone too"


def test_a_writer_by_a_mount_keeps_others_out(cube: Path, tmp_path: Path) -> None:
    """Its process is on this very boot, but its lock lies in the cube alone."""
    code = """if True:
        with CubeLock(cube):
            print("held", flush=True)
            import time; time.sleep(60)
    """
    bound = tmp_path / "bound" / "toy.zarr"
    bound.mkdir(parents=True)
    enter = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--map-root-user", "--mount"]
    program = f"{PROGRAM}cube = Path({str(bound)!r})\n{code}"
    shell = 'mount --bind "$0" "$1" && shift && exec "$@"'
    words = [*enter, "sh", "-c", shell, str(cube), str(bound), sys.executable, "-c", program]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]) as other:
        try:
            assert other.stdout is not None
            if other.stdout.readline() != "held\n":
                pytest.skip("no mount namespace here")
            assert not lock_folder(cube).exists()
            for act in (lambda: build(cube, SPEC, steps(range(4)), Make(), Threads(1)), lambda: tidy(cube)):
                with pytest.raises(CubeLockedError, match=f"process {other.pid} "):
                    act()
            assert not lock_folder(cube).exists(), "who is refused leaves nothing"
        finally:
            os.kill(other.pid, signal.SIGKILL)
    build(cube, SPEC, steps(range(4)), Make(), Threads(1))  # the dead one does not keep it
    assert (read_root(cube).steps, is_locked(cube)) == (4, False)


@pytest.mark.parametrize(
    "act",
    [
        "build(cube, SPEC, [step(1, '05.10')], Make(bonus=50), Threads(1), options=REPLACING)",
        "tidy(cube)",
        "rollback(cube, 1)",
        "seal_year(cube, 2020)",
    ],
    ids=["replace", "tidy", "rollback", "seal-year"],
)
def test_what_needs_a_place_beside_the_cube_is_refused_at_a_mount_point(act: str, cube: Path, tmp_path: Path) -> None:
    before = sorted((str(path), path.lstat().st_mtime_ns) for path in cube.rglob("*"))
    done = mounted(cube, tmp_path / "bound/toy.zarr", act)
    assert "BadInputError" in done.stderr
    assert "is a mount point" in done.stderr
    assert sorted((str(path), path.lstat().st_mtime_ns) for path in cube.rglob("*")) == before


def test_a_mount_inside_a_cube_is_not_written(cube: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    (mine / "888").mkdir(parents=True)
    done = mounted(mine, cube / "B02/c", f"build(Path({str(cube)!r}), SPEC, steps(range(4)), Make(), Threads(1))")
    assert "is a mount point inside the cube" in done.stderr
    assert [path.name for path in mine.iterdir()] == ["888"]


def test_a_mount_of_a_generation_that_was_replaced_is_not_written(cube: Path, tmp_path: Path) -> None:
    """A container keeps showing the folder that was mounted; what it seals there would be lost."""
    code = f"""if True:
        real = Path({str(cube)!r})
        build(cube, SPEC, steps(range(4)), Make(), Threads(1))
        build(real, SPEC, [step(1, "05.10")], Make(bonus=50), Threads(1), options=REPLACING)
        print(read_root(cube).generation, read_root(real).generation)
        build(cube, SPEC, steps(range(5)), Make(), Threads(1))
    """
    done = mounted(cube, tmp_path / "bound/toy.zarr", code)
    assert done.stdout.split() == ["0", "1"], done.stderr
    assert "shows an old generation of a cube that was rebuilt since" in done.stderr
    build(cube, SPEC, steps(range(5)), Make(), Threads(1))
    assert read_root(cube).steps == 5
    assert find_damage(cube) == []
    old = generation.generations_folder(cube) / "000000"
    with pytest.raises(BadInputError, match="shows an old generation"):
        build(old, SPEC, steps(range(5)), Make(), Threads(1))


@pytest.mark.parametrize("atomic", [True, False], ids=["exchange", "journal"])
@pytest.mark.parametrize("point", ["generation.marked", "generation.named", "generation.swapped", "generation.done"])
def test_the_lock_goes_along_with_the_generations_of_a_writer_that_is_killed(
    point: str, atomic: bool, cube: Path, tmp_path: Path
) -> None:
    process = start(run_swap, cube, Death(point, 1, tmp_path / "counts"), atomic)
    assert code_of(process) == -signal.SIGKILL
    away = not cube.exists()
    inside, _, beside = lock_folders(cube)
    cards = [sorted(path.name for path in folder.glob("*")) for folder in (inside, beside)]
    assert cards[1], "it died with the lock"
    assert away or cards[0] == cards[1], "the cube has it inside, whichever generation it is"
    holder = read_owner(cube)
    assert holder is not None
    assert judge(holder) is False
    stranger = replace(Owner.here(), host="elsewhere")
    for folder in (inside, beside):  # a holder whose life nobody here can judge keeps all out, at every point
        if folder.exists():
            (folder / cards[1][0]).write_bytes(replace(holder, host="node7").to_card())
    with pytest.raises(CubeLockedError, match="on node7"):
        build(cube, SPEC, steps(range(4)), Make(), Threads(1))
    with pytest.raises(CubeLockedError, match="on node7"), open_writer(cube, SPEC, owner=stranger):
        pass
    force_unlock(cube)
    build(cube, SPEC, steps(range(4)), Make(), Threads(1))
    assert (read_root(cube).steps, is_locked(cube), find_damage(cube)) == (4, False, [])
    assert not (cube / OWN / "put-away").exists()


def test_a_writer_of_the_first_version_is_seen_and_sees_us(cube: Path) -> None:
    """Its card has these keys and no other, lies beside the cube alone, and goes by the host's name."""
    mine = Owner.here()
    old = {name: value for name, value in asdict(mine).items() if name != "machine"}
    lock_folder(cube).mkdir()
    card = lock_folder(cube) / f"owner-{mine.token}.json"
    card.write_text(json.dumps(old))
    with pytest.raises(CubeLockedError, match=f"process {os.getpid()} "):
        build(cube, SPEC, steps(range(4)), Make(), Threads(1))
    card.write_text(json.dumps(old | {"pid": 2**22 + 1, "started": "1"}))
    build(cube, SPEC, steps(range(4)), Make(), Threads(1))
    with CubeLock(cube) as lock:
        (card,) = lock_folder(cube).iterdir()
        content = json.loads(card.read_text())
        assert content.keys() == old.keys(), "other keys it cannot read"
        assert content["host"] not in ("", mine.host), "by its name it would take us for dead after a reboot"
        assert read_owner(cube) == lock.owner


@pytest.mark.parametrize(
    ("change", "silent", "alive"),
    [
        ({}, 0.0, True),
        ({"pid": 2**22 + 1}, 0.0, False),
        ({"started": "1"}, 0.0, False),
        ({"boot": "another"}, 0.0, None),
        ({"boot": "another"}, SILENCE + 1, False),
        ({"boot": "another", "machine": "of a twin"}, 1e9, None),
        ({"boot": "another", "machine": ""}, 1e9, None),
        ({"host": "another", "pid": 2**22 + 1}, 1e9, None),
        ({"namespace": "pid:[1]", "pid": 2**22 + 1}, 1e9, None),
        ({"boot": "", "namespace": "", "started": "", "pid": 2**22 + 1}, 1e9, None),
    ],
)
def test_only_who_is_known_to_be_dead_is_dead(change: dict, silent: float, alive: bool | None) -> None:
    holder = replace(Owner.here(), **change)
    assert holder.machine or "machine" in change, "this machine has a machine-id"
    assert judge(holder, silent) is alive


def test_a_process_that_proc_does_not_show_is_not_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    """With hidepid, the processes of other users are not to be seen there; and in some containers nothing is."""
    child = subprocess.Popen(["sleep", "60"])
    holder = replace(Owner.here(), pid=child.pid, started=owner._started(child.pid) or "")
    real = owner._read
    hide = lambda path: "" if path == f"/proc/{child.pid}/stat" else real(path)  # noqa: E731 - the shortest
    assert judge(holder) is True
    monkeypatch.setattr(owner, "_read", hide)
    assert judge(holder) is None
    child.kill()
    child.wait()
    assert judge(holder) is False


def test_a_holder_gives_signs_of_life(cube: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stac2cube.store.lock.BEAT", 0.02)
    with CubeLock(cube) as lock:
        cards = [folder / f"owner-{lock.owner.token}.json" for folder in lock_folders(cube) if folder.exists()]
        assert len(cards) == 2
        for card in cards:
            os.utime(card, (1e9, 1e9))
        until = time.monotonic() + 20
        while any(card.stat().st_mtime < 2e9 for card in cards) and time.monotonic() < until:
            if all(card.stat().st_mtime > 1e9 for card in cards):
                break
            time.sleep(0.01)
        assert all(card.stat().st_mtime > 1e9 for card in cards)


def test_the_card_of_a_twin_that_lives_is_fresh(cube: Path) -> None:
    """The same image twice: name and machine-id are the same, the boot is not."""
    twin = replace(Owner.here(), boot="of the twin")
    lock = CubeLock(cube, twin)
    lock.acquire()
    with pytest.raises(CubeLockedError, match="last sign of life is"):
        build(cube, SPEC, steps(range(4)), Make(), Threads(1))
    lock._beat.stop()
    for folder in lock_folders(cube):
        for card in folder.glob("*"):
            os.utime(card, (time.time() - 2 * SILENCE,) * 2)
    build(cube, SPEC, steps(range(4)), Make(), Threads(1))
    assert read_root(cube).steps == 4


def test_jobs_get_both_locks_also_from_one_that_died_while_it_gave_them(cube: Path) -> None:
    jobs = Owner.of_jobs("jobs-c-7", "7", "c")
    stranger = replace(Owner.here(), host="node7")
    for given in ([], ["inside"], ["inside", "beside"]):
        giver = CubeLock(cube, stranger)
        giver.acquire()
        inside, _, beside = lock_folders(cube)
        for folder in (folder for name, folder in (("inside", inside), ("beside", beside)) if name in given):
            (folder / f"owner-{jobs.token}.json").write_bytes(jobs.to_card())
        taker = CubeLock(cube, jobs)
        if not given:
            with pytest.raises(CubeLockedError, match="on node7"):
                taker.acquire()
            giver.hand_over(jobs)
        taker.acquire()
        taker.require_held()
        assert all((folder / f"owner-{jobs.token}.json").exists() for folder in (inside, beside))
        force_unlock(cube)
    assert len(Ledger(cube, read_root(cube).ledger).sealed()) == 3
