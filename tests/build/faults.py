"""Failures made on purpose at named points of the protocols, and the protocols in which they are made.

A fault is an error of the system, a signal, or what Python raises, at the so-manieth passing of a named point. A
protocol is one way to change a cube: what there is before, what is done, and so what there may be afterwards.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from stac2cube.build.array_job import build_part, lease_cube, seal_parts
from stac2cube.build.loop import build
from stac2cube.build.plan import BuildOptions, Step, Summary
from stac2cube.cli.run import stoppable
from stac2cube.errors import CubeError, IncompleteError
from stac2cube.executors.base import Threads
from stac2cube.maintain.care import tidy
from stac2cube.maintain.seal_year import seal_year
from stac2cube.stages.overviews import run_overviews
from stac2cube.store import files as points
from stac2cube.store import generation
from stac2cube.store.metadata import Root, overviews_folder, read_root
from stac2cube.store.reader import differences, open_cube
from stac2cube.store.records import with_checksums
from stac2cube.store.repair import roll_back
from stac2cube.store.verify import find_damage
from stac2cube.store.writer import open_writer
from tests.build import toy
from tests.build.builder import CLAIM
from tests.build.toy import Make

FEW, MANY = 5, 11

SPEC = replace(toy.SPEC, grid=replace(toy.GRID, shape=(70, 64), chunk=(64, 64)))
"""The toy cube with two tiles: campaigns look at it thousands of times."""


def step(number: int, version: str = "05.00") -> Step:
    return replace(toy.step(number, version), tiles=tuple(SPEC.grid.tiles()))


def steps(numbers: range) -> list[Step]:
    return [step(number) for number in numbers]


def _system(code: int) -> Callable[[], None]:
    def fail() -> None:
        raise OSError(code, os.strerror(code), "/a/file")

    return fail


def _raising(error: type[BaseException]) -> Callable[[], None]:
    def fail() -> None:
        raise error

    return fail


def _signals(*numbers: int) -> Callable[[], None]:
    def send() -> None:
        for number in numbers:
            os.kill(os.getpid(), number)
            if threading.current_thread() is not threading.main_thread():
                time.sleep(0.3)  # else two of one kind would be one to the main thread

    return send


KINDS: dict[str, Callable[[], None]] = {
    "ENOSPC": _system(errno.ENOSPC),
    "EIO": _system(errno.EIO),
    "EINTR": _system(errno.EINTR),
    "Ctrl-C": _raising(KeyboardInterrupt),
    "Ctrl-C twice": _signals(signal.SIGINT, signal.SIGINT),
    "SIGTERM and SIGUSR1": _signals(signal.SIGTERM, signal.SIGUSR1),
    "SystemExit": _raising(SystemExit),
    "MemoryError": _raising(MemoryError),
}
"""What goes wrong, by name."""


class Fault:
    """Happens once, when a named point is passed for the so-manieth time.

    Args:
        point: Of :data:`stac2cube.store.files.POINTS`.
        kind: Of :data:`KINDS`.
        hit: Which passing.
    """

    def __init__(self, point: str, kind: str, hit: int) -> None:
        self._point, self._kind, self._left = point, kind, hit
        self._guard = threading.Lock()  # workers pass points too
        self._over = threading.Event()

    def __call__(self, point: str) -> None:
        with self._guard:
            self._left -= point == self._point
            now = point == self._point and self._left == 0
        if now:
            try:
                KINDS[self._kind]()
            finally:
                self._over.set()

    @property
    def happened(self) -> bool:
        return self._left <= 0

    def settle(self) -> None:
        """Wait for signals that a worker still sends: they must not reach the next test."""
        while self.happened and not self._over.is_set():
            with suppress(KeyboardInterrupt):
                self._over.wait(60)


@contextmanager
def listening(listener: Callable[[str], None]) -> Iterator[None]:
    points.listeners.append(listener)
    try:
        yield
    finally:
        points.listeners.remove(listener)


def differing(cube: Path, whole: Path) -> list[object]:
    """In what a cube is not as another one, and what is damaged or left over in it."""
    left = [path for path in [cube / ".stac2cube" / "staging"] if path.exists()]
    return [*differences(cube, whole), *find_damage(cube), *left]


def pictures(cube: Path) -> dict[str, bytes]:
    """Stored pixels of every step, by key; of a cube that is not there none."""
    try:
        read_root(cube)  # which finishes a swap in two steps that ended between them
    except CubeError:
        return {}
    opened = open_cube(cube, decode=False, chunks=None).load()
    names = list(opened.data_vars)
    return {
        str(key): b"".join(np.ascontiguousarray(opened[name][place].values).tobytes() for name in names)
        for place, key in enumerate(opened["scene"].values)
    }


@dataclass(frozen=True)
class Protocol:
    """One way to change a cube.

    Attributes:
        begin: Makes what there is before, in a folder.
        change: Does it; called again, it goes on.
        made: The cubes that it changes, seen from the first one.
        look: What a reader sees of one, by name.
        differ: What is wrong with one, compared with how it should be.
        in_block: Points at which a failure may fail one part of the work only.
        plain: Whether errors of the system come as they are; the command line says what to do.
    """

    begin: Callable[[Path], object]
    change: Callable[[Path], object]
    made: Callable[[Path], list[Path]] = lambda cube: [cube]
    look: Callable[[Path], Mapping[str, bytes]] = pictures
    differ: Callable[[Path, Path], list[object]] = differing
    in_block: tuple[str, ...] = ("block.encoded", "block.written")
    plain: bool = False


def _seal(cube: Path) -> Summary:
    return seal_parts(cube, SPEC, steps(range(MANY)), CLAIM)


def _seal_or_build(cube: Path) -> Summary:
    """The sealing job; after it failed another run, where the jobs have no hold any more."""
    if (cube / ".stac2cube" / "staging").exists():
        return _seal(cube)
    return build(cube, SPEC, steps(range(MANY)), Make(), Threads(2))


def _array(folder: Path) -> None:
    cube = folder / "toy.zarr"
    lease_cube(cube, SPEC, CLAIM)
    for number in range(2):
        build_part(cube, steps(range(MANY)), Make(), Threads(2), CLAIM, (number, 2))


def _nothing(folder: Path) -> None:
    """An empty folder."""


def _some(folder: Path, count: int = FEW) -> None:
    build(folder / "toy.zarr", SPEC, steps(range(count)), Make(), Threads(2))


def _disordered(folder: Path) -> None:
    """Two commits, the later one of earlier steps."""
    build(folder / "toy.zarr", SPEC, steps(range(2, FEW)), Make(), Threads(2))
    _some(folder)


def _other(folder: Path) -> None:
    """A cube, and beside it another that shall take its place."""
    _some(folder)
    build(folder / "other.zarr", OTHER, steps(range(FEW)), Make(bonus=50), Threads(2))


OTHER = replace(SPEC, recipe={"mission": "toy", "rule": "other"})


def _append(cube: Path) -> Summary:
    return build(cube, SPEC, steps(range(MANY)), Make(), Threads(2))


def _replace(cube: Path) -> Summary:
    some = [step(1, "05.10"), step(2, "05.10")]
    return build(cube, SPEC, some, Make(bonus=50), Threads(2), options=BuildOptions(superseded="replace"))


def _swap_in_two_steps(cube: Path) -> Summary:
    exchange, generation.exchange = generation.exchange, lambda one, other: False
    try:
        return _replace(cube)
    finally:
        generation.exchange = exchange


def _succeed(cube: Path) -> None:
    with open_writer(cube, read_root(cube).spec) as writer:
        if writer.spec != OTHER:
            writer.succeed(cube.with_name("other.zarr"))


def _back(cube: Path) -> None:
    with open_writer(cube, SPEC) as writer:
        if writer.root.steps == FEW:
            roll_back(writer, 1)


def _overviews(cube: Path) -> Summary:
    return run_overviews(cube, Threads(2), levels=2)


def _levels(cube: Path) -> list[Path]:
    return [path for name in ("2", "4") if (path := overviews_folder(cube) / name).exists()]


PROTOCOLS: dict[str, Protocol] = {
    "append": Protocol(_nothing, _append),
    "extend": Protocol(_some, _append),
    "replace": Protocol(_some, _replace),
    "replace in two steps": Protocol(_some, _swap_in_two_steps),
    "succeed": Protocol(_other, _succeed),
    "tidy": Protocol(_disordered, tidy),
    "roll back": Protocol(_disordered, _back),
    "seal a year": Protocol(_some, lambda cube: seal_year(cube, 2020, Threads(2))),
    "overviews": Protocol(_some, _overviews, _levels, plain=True),
    "seal an array": Protocol(_array, _seal_or_build),
}
"""By name."""


@dataclass(frozen=True)
class Known:
    """A protocol, run undisturbed once.

    Attributes:
        protocol: Which.
        before: Folder with what there was before.
        after: Folder with what it makes.
        passed: How often it passes each point.
        allowed: Per cube that it changes and key, the pixels that a step may have.
        kept: Per cube keys that must be there at any time.
    """

    protocol: Protocol
    before: Path
    after: Path
    passed: Mapping[str, int]
    allowed: Mapping[str, Mapping[str, set[bytes]]]
    kept: Mapping[str, set[str]]

    @classmethod
    def of(cls, protocol: Protocol, folder: Path) -> Known:
        passed = Counter[str]()
        before, after = folder / "before", folder / "after"
        before.mkdir(parents=True)
        protocol.begin(before)
        shutil.copytree(before, after, symlinks=True)
        _tell_of_move(before, after)
        was = {str(path.relative_to(after)): protocol.look(path) for path in protocol.made(after / "toy.zarr")}
        with listening(lambda point: passed.update([point])):
            protocol.change(after / "toy.zarr")
        becomes = {str(path.relative_to(after)): protocol.look(path) for path in protocol.made(after / "toy.zarr")}
        allowed: dict[str, dict[str, set[bytes]]] = {}
        for where, later in becomes.items():
            for states in (was.get(where, {}), later):
                for key, pixels in states.items():
                    allowed.setdefault(where, {}).setdefault(key, set()).add(pixels)
        kept = {where: was.get(where, {}).keys() & later.keys() for where, later in becomes.items()}
        return cls(protocol, before, after, passed, allowed, kept)

    def copy(self, folder: Path) -> Path:
        """What there was before, elsewhere; the cube."""
        shutil.copytree(self.before, folder, symlinks=True)
        _tell_of_move(self.before, folder)
        return folder / "toy.zarr"

    def check(self, cube: Path) -> None:
        """Every step that can be seen has its pixels, and none is lost."""
        for where, allowed in self.allowed.items():
            now = self.protocol.look(cube.parent / where)
            assert self.kept[where] <= now.keys() <= allowed.keys(), where
            wrong = [key for key, pixels in now.items() if pixels not in allowed[key]]
            assert not wrong, (where, wrong)


def _tell_of_move(before: Path, after: Path) -> None:
    """Cubes remember where those lie that they were made from."""
    for file in after.rglob("zarr.json"):
        text = file.read_text()
        if f"{before}/" in text:
            moved = Root(json.loads(text.replace(f"{before}/", f"{after}/")))
            file.write_bytes(with_checksums(file.parent, moved).to_bytes())


def attempt(known: Known, cube: Path, fault: Fault) -> BaseException | Summary | object:
    """Change a cube with a fault; what came of it."""
    with stoppable(), listening(fault):
        try:
            done = known.protocol.change(cube)
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is what is looked at
            return error
        finally:
            fault.settle()
    if isinstance(done, Summary) and done.failed:
        return IncompleteError("; ".join(done.failures()))
    return done
