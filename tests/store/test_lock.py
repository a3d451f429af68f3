"""The lock of a cube: many that want it at once, and a dead holder that all of them see."""

from __future__ import annotations

import json
import threading
from dataclasses import asdict, replace
from pathlib import Path

from stac2cube.errors import CubeLockedError
from stac2cube.store.lock import CubeLock, Owner, force_unlock, lock_folder, read_owner

MANY = 12


def hold_dead(cube: Path) -> None:
    """The lock of a process that is gone."""
    dead = replace(Owner.here(), pid=2**22 + 1, started="1")
    with CubeLock(cube) as lock:
        lock.hand_over(dead)
    assert read_owner(cube) == dead


class Wanting(threading.Thread):
    """Somebody who wants the lock at the same moment as others."""

    def __init__(self, cube: Path, start: threading.Barrier, inside: list[str]) -> None:
        super().__init__()
        self._cube, self._start, self._inside = cube, start, inside
        self.refused, self.most = False, 0
        self.error: Exception | None = None

    def run(self) -> None:
        self._start.wait()
        try:
            with CubeLock(self._cube) as lock:
                self._inside.append(self.name)
                for _ in range(20):
                    lock.require_held()
                    self.most = max(self.most, len(self._inside))
                self._inside.remove(self.name)
        except CubeLockedError as error:
            self.refused = "is being written by" in str(error)
            self.error = None if self.refused else error
        except OSError as error:
            self.error = error


def test_of_many_who_see_a_dead_holder_one_at_a_time_holds_the_lock(tmp_path: Path) -> None:
    cube = tmp_path / "cube.zarr"
    cube.mkdir()
    for _ in range(25):
        hold_dead(cube)
        start = threading.Barrier(MANY)
        inside: list[str] = []
        crowd = [Wanting(cube, start, inside) for _ in range(MANY)]
        for one in crowd:
            one.start()
        for one in crowd:
            one.join()
        assert [one.error for one in crowd if one.error] == []
        assert max(one.most for one in crowd) == 1
        assert sum(not one.refused for one in crowd) >= 1
        assert [path.name for path in tmp_path.iterdir()] == [cube.name]


def test_a_lock_that_is_handed_over_killed_in_the_middle_belongs_to_who_lives(tmp_path: Path) -> None:
    cube = tmp_path / "cube.zarr"
    hold_dead(cube)
    jobs = Owner.of_jobs("aaaa", "7")
    (lock_folder(cube) / "owner-aaaa.json").write_text(json.dumps(asdict(jobs)))
    lock = CubeLock(cube, jobs)
    lock.acquire()
    lock.require_held()
    assert force_unlock(cube) is not None
    assert read_owner(cube) is None
