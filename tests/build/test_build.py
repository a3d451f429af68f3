"""The one loop: what is built, what is left alone, what is refused. Stopping, failing, being late."""

from __future__ import annotations

import hashlib
import os
import subprocess
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rustac
import xarray as xr
import zarr

from stac2cube.build.loop import build
from stac2cube.build.plan import Block, BuildOptions, Step
from stac2cube.errors import BadInputError, CubeLockedError, CubeMismatchError
from stac2cube.executors.base import Threads
from stac2cube.executors.local import Local
from stac2cube.model.cube_spec import Layer
from stac2cube.progress import Progress
from stac2cube.store import generation
from stac2cube.store.ledger import Ledger
from stac2cube.store.lock import CubeLock, force_unlock
from stac2cube.store.metadata import read_root
from stac2cube.store.reader import differences, open_cube
from stac2cube.store.verify import find_damage
from tests.build.toy import GRID, SPEC, Make, pixels, step, steps


@pytest.fixture
def cube(tmp_path: Path) -> Path:
    return tmp_path / "toy.zarr"


def folder_hash(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        digest.update(str(path.relative_to(folder)).encode())
        if path.is_file():
            digest.update(path.read_bytes())
            digest.update(str(path.stat().st_mtime_ns).encode())
    return digest.hexdigest()


def numbers(cube: Path) -> list[int]:
    return [int(key.removeprefix("toy_")) for key in open_cube(cube)["scene"].values]


def assert_sound(cube: Path, expected: list[int]) -> None:
    with open_cube(cube, decode=False) as dataset:
        assert [int(k.removeprefix("toy_")) for k in dataset["scene"].values] == expected
        for place, number in enumerate(expected):
            np.testing.assert_array_equal(dataset["B02"][place].values, pixels(number))


def test_pixels_times_and_codes_come_back_exactly(cube: Path) -> None:
    summary = build(cube, SPEC, steps(range(1)), Make(), Threads(2))
    assert (summary.sealed, summary.exit_code) == (["toy_0000"], 0)
    build(cube, SPEC, steps(range(3)), Make(), Threads(2))
    assert_sound(cube, [0, 1, 2])
    plain = xr.open_zarr(cube)
    assert [int(t) for t in plain["time"].values.astype("datetime64[us]").astype(int)] == [
        int(step(n).entry.time.timestamp() * 1_000_000) for n in range(3)
    ]
    truth = pixels(2).astype(float) * 1e-4 - 0.1
    np.testing.assert_allclose(plain["B02"][2].values, np.where(pixels(2) > 0, truth, np.nan), rtol=0, atol=1e-12)
    assert plain["SCL"].dtype == "uint8"
    alone = zarr.open_array(cube / "B02", mode="r")
    np.testing.assert_array_equal(alone[1], pixels(1))


def test_running_again_changes_not_a_byte(cube: Path) -> None:
    build(cube, SPEC, steps(range(4)), Make(), Threads(2))
    before = folder_hash(cube)
    summary = build(cube, SPEC, steps(range(4)), Make(), Threads(2))
    assert summary.sealed == []
    assert len(summary.present) == 4
    assert folder_hash(cube) == before


def test_later_earlier_and_middle_steps_find_their_place(cube: Path, tmp_path: Path) -> None:
    for part in (range(10, 14), range(20, 23), range(4), range(12, 21)):
        build(cube, SPEC, steps(part), Make(), Threads(2))
    expected = sorted({*range(4), *range(10, 23)})
    assert_sound(cube, expected)
    once = tmp_path / "once.zarr"
    build(once, SPEC, [step(n) for n in expected], Make(), Threads(2))
    assert differences(cube, once) == []
    other = tmp_path / "other.zarr"
    build(other, SPEC, [step(n) for n in expected], Make(bonus=1), Threads(2))
    assert len(differences(cube, other)) == len(expected)


def test_threads_and_local_make_the_same_cube(cube: Path, tmp_path: Path) -> None:
    build(cube, SPEC, steps(range(6)), Make(), Threads(2))
    local = tmp_path / "local.zarr"
    build(local, SPEC, steps(range(6)), Make(), Local(workers=2))
    assert differences(cube, local) == []


def test_a_failed_block_leaves_its_step_out_and_the_next_run_tries_again(cube: Path) -> None:
    summary = build(cube, SPEC, steps(range(5)), Make(failing=(2,)), Threads(2))
    assert summary.exit_code == 2
    assert summary.failed == {"toy_0002": "RuntimeError: block of 2 cannot be made"}
    assert_sound(cube, [0, 1, 3, 4])
    row = Ledger(cube, read_root(cube).ledger).entries()["toy_0002"]
    assert (row.status, row.slot, row.reason) == ("failed", None, "RuntimeError: block of 2 cannot be made")
    before = folder_hash(cube)
    assert build(cube, SPEC, steps(range(5)), Make(failing=(2,)), Threads(2)).exit_code == 2
    assert folder_hash(cube) == before, "the same failure again is no news"
    assert build(cube, SPEC, steps(range(5)), Make(), Threads(2)).exit_code == 0
    assert_sound(cube, [0, 1, 2, 3, 4])


def test_a_step_without_any_valid_pixel_takes_no_slot(cube: Path) -> None:
    nothing = Step(replace(step(7).entry), 7, ())
    summary = build(cube, SPEC, [step(6), nothing], Make(), Threads(2))
    assert (summary.sealed, summary.empty) == (["toy_0006"], {"toy_0007": "no valid pixel over the area"})
    before = folder_hash(cube)
    assert build(cube, SPEC, [step(6), nothing], Make(), Threads(2)).present == ["toy_0006", "toy_0007"]
    assert folder_hash(cube) == before


class StopAfter(Progress):
    def __init__(self, blocks: int, stop: threading.Event) -> None:
        self.left, self.stop = blocks, stop

    def advance(self) -> None:
        self.left -= 1
        if self.left == 0:
            self.stop.set()


def test_a_stopped_build_seals_what_is_finished_and_goes_on_later(cube: Path) -> None:
    stop = threading.Event()
    summary = build(
        cube,
        SPEC,
        steps(range(8)),
        Make(0.002),
        Threads(2),
        options=BuildOptions(stop=stop),
        progress=StopAfter(30, stop),
    )
    assert summary.stopped
    assert summary.exit_code == 10
    assert 1 <= len(summary.sealed) < 8
    assert_sound(cube, list(range(len(summary.sealed))))
    assert build(cube, SPEC, steps(range(8)), Make(), Threads(2)).exit_code == 0
    assert_sound(cube, list(range(8)))


@pytest.mark.parametrize("places", [True, False], ids=["exchange", "journal"])
def test_superseded_steps_are_reported_then_replaced_by_a_generation(
    cube: Path, places: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not places:
        monkeypatch.setattr(generation, "exchange", lambda one, other: False)
    build(cube, SPEC, steps(range(5)), Make(), Threads(2))
    reader = open_cube(cube, decode=False)
    newer = [step(n) for n in (0, 1, 3, 4)] + [step(2, "05.10")]
    before = folder_hash(cube)
    assert build(cube, SPEC, newer, Make(bonus=50), Threads(2)).superseded == ["toy_0002"]
    assert folder_hash(cube) == before
    older = [step(2, "04.00")]
    assert build(cube, SPEC, older, Make(bonus=50), Threads(2)).superseded == []
    inode = (cube / "B02/c/1/0/0").stat().st_ino
    summary = build(cube, SPEC, newer, Make(bonus=50), Threads(2), options=BuildOptions(superseded="replace"))
    assert summary.replaced == ["toy_0002"]
    dataset = open_cube(cube, decode=False)
    np.testing.assert_array_equal(dataset["B02"][2].values, pixels(52))
    np.testing.assert_array_equal(dataset["B02"][3].values, pixels(3))
    assert (cube / "B02/c/1/0/0").stat().st_ino == inode, "no pixel of another step was copied"
    old = generation.generations_folder(cube) / "000000"
    np.testing.assert_array_equal(zarr.open_array(old / "B02", mode="r")[2], pixels(2))
    np.testing.assert_array_equal(reader["B02"][4].values, pixels(4))
    assert read_root(cube).generation == 1
    build(cube, SPEC, [*newer, step(5)], Make(), Threads(2))
    assert numbers(cube) == [0, 1, 2, 3, 4, 5]


def test_many_superseded_steps_are_replaced_in_one_generation(cube: Path) -> None:
    build(cube, SPEC, steps(range(12)), Make(), Threads(2))
    newer = [step(number, "05.10") for number in range(12)]
    summary = build(cube, SPEC, newer, Make(bonus=50), Threads(2), options=BuildOptions(superseded="replace"))
    assert (len(summary.replaced), summary.failed) == (12, {})
    assert read_root(cube).generation == 1
    np.testing.assert_array_equal(open_cube(cube, decode=False)["B02"][11].values, pixels(61))


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"grid": replace(GRID, crs="EPSG:32633")}, "crs"),
        ({"grid": replace(GRID, origin=(500005.0, 5000000.0))}, "origin"),
        ({"grid": replace(GRID, chunk=(64, 64))}, "chunk"),
        ({"layers": SPEC.layers[:1]}, "layers"),
        ({"layers": (replace(SPEC.layers[0], dtype="int16"), SPEC.layers[1])}, "dtype of B02"),
        ({"layers": (replace(SPEC.layers[0], fill=65535), SPEC.layers[1])}, "fill of B02"),
        ({"layers": (replace(SPEC.layers[0], offset=0.0), SPEC.layers[1])}, "offset of B02"),
        ({"recipe": {"mission": "toy", "resampling": "nearest"}}, "resampling"),
        ({"stage": "clouds"}, "stage"),
    ],
)
def test_the_guard_refuses_before_any_byte(cube: Path, change: dict, word: str) -> None:
    build(cube, SPEC, steps(range(2)), Make(), Threads(2))
    before = folder_hash(cube.parent)
    with pytest.raises(CubeMismatchError, match=word):
        build(cube, replace(SPEC, **change), steps(range(3)), Make(), Threads(2))
    assert folder_hash(cube.parent) == before


def test_the_guard_says_of_a_layer_that_is_lacking_no_more_than_that(cube: Path) -> None:
    build(cube, SPEC, steps(range(1)), Make(), Threads(2))
    with pytest.raises(CubeMismatchError) as told:
        build(cube, replace(SPEC, layers=SPEC.layers[:1]), steps(range(2)), Make(), Threads(2))
    names = [layer.name for layer in SPEC.layers]
    assert str(told.value) == (
        f"{cube} was made otherwise; nothing was changed. layers: the cube has {names}, asked for {names[:1]}. "
        "Ask for the same, or give another output path for a new cube."
    )


def test_something_else_at_the_path_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("mine")
    folder = tmp_path / "folder"
    folder.mkdir()
    other = tmp_path / "other.zarr"
    zarr.create_group(other)
    before = folder_hash(tmp_path)
    for path in (file, folder, other):
        with pytest.raises(Exception, match="not a cube"):
            build(path, SPEC, steps(range(1)), Make(), Threads(2))
    assert folder_hash(tmp_path) == before


def test_two_builders_never_meet(cube: Path) -> None:
    build(cube, SPEC, steps(range(1)), Make(), Threads(2))
    with CubeLock(cube), pytest.raises(CubeLockedError, match=r"process \d+"):
        build(cube, SPEC, steps(range(2)), Make(), Threads(2))
    lock = CubeLock(cube)
    lock.acquire()
    assert force_unlock(cube) is not None
    with pytest.raises(CubeLockedError, match="taken away"):
        lock.require_held()
    build(cube, SPEC, steps(range(2)), Make(), Threads(2))
    assert numbers(cube) == [0, 1]


def test_a_step_that_holds_nothing_any_more_loses_its_slot(cube: Path) -> None:
    build(cube, SPEC, steps(range(4)), Make(), Threads(2))
    replacing, nothing = BuildOptions(superseded="replace"), replace(step(1, "05.10"), tiles=())
    done = build(cube, SPEC, [nothing, step(2, "05.10")], Make(bonus=50), Threads(2), options=replacing)
    assert (done.replaced, list(done.empty)) == (["toy_0002"], ["toy_0001"])
    assert numbers(cube) == [0, 2, 3]
    shown = open_cube(cube, decode=False)["B02"].values
    for place, number in enumerate((0, 52, 3)):
        np.testing.assert_array_equal(shown[place], pixels(number))
    assert find_damage(cube) == []
    row = Ledger(cube, read_root(cube).ledger).entries()["toy_0001"]
    assert (row.status, row.slot, row.properties["replaced_items"]) == ("empty", None, ["item-1-05.00"])
    done = build(cube, SPEC, [nothing], Make(), Threads(2), options=replacing)
    assert (done.present, done.empty) == (["toy_0001"], {}), "and that is remembered"
    build(cube, SPEC, [step(1, "05.11")], Make(), Threads(2), options=replacing)
    assert sorted(numbers(cube)) == [0, 1, 2, 3]
    assert find_damage(cube) == []


def test_a_refused_builder_leaves_the_others_next_generation_alone(cube: Path) -> None:
    build(cube, SPEC, steps(range(2)), Make(), Threads(2))
    with CubeLock(cube):
        generation.link_tree(cube, generation.next_folder(cube))
        with pytest.raises(CubeLockedError):
            build(cube, SPEC, steps(range(3)), Make(), Threads(2))
        assert (generation.next_folder(cube) / "zarr.json").exists()
    build(cube, SPEC, steps(range(3)), Make(), Threads(2))
    assert not generation.next_folder(cube).exists(), "a dead writer's is cleaned up under the lock"


def test_the_ledger_is_stac_geoparquet_in_few_parts(cube: Path) -> None:
    for count in range(1, 14):
        build(cube, SPEC, steps(range(count)), Make(), Threads(2))
    parts = read_root(cube).ledger
    assert len(parts) <= 4
    items = [i for part in parts for i in rustac.read_sync(str(cube / ".stac2cube/ledger" / part))["features"]]
    assert sorted(i["id"] for i in items) == [f"toy_{n:04d}" for n in range(13)]
    assert items[0]["properties"]["stac2cube:status"] == "sealed"
    receipts = Ledger(cube, parts).entries()["toy_0003"].receipts
    assert len(receipts) == 9
    assert sum(s.valid for r in receipts for s in r.shards if s.layer == "B02") == 150 * 130 - 1


def test_a_read_only_target_is_one_clear_line(as_user: None) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        Path(folder).chmod(0o555)
        with pytest.raises(BadInputError, match="cannot be written: Permission denied"):
            build(Path(folder) / "toy.zarr", SPEC, steps(range(1)), Make(), Threads(2))
        Path(folder).chmod(0o755)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small tmpfs needs root")
def test_a_full_disk_is_one_clear_line_and_loses_nothing(tmp_path: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", tmp_path], check=True)
    try:
        cube = tmp_path / "toy.zarr"
        with pytest.raises(BadInputError, match=r"No space left.*What was sealed is safe"):
            build(cube, SPEC, steps(range(60)), Noise(), Threads(2))
        sealed = len(open_cube(cube)["time"])
        assert 1 <= sealed < 60
        subprocess.run(["mount", "-o", "remount,size=50m", tmp_path], check=True)
        assert build(cube, SPEC, steps(range(60)), Noise(), Threads(2)).exit_code == 0
        assert len(open_cube(cube)["time"]) == 60
    finally:
        subprocess.run(["umount", tmp_path], check=True)


class Noise(Make):
    """Pixels that do not compress."""

    def __call__(self, number: int, block: Block) -> Mapping[str, np.ndarray]:
        shape = block.geobox.shape
        noise = np.random.default_rng(number).integers(1, 60000, shape).astype("uint16")
        return {"B02": noise, "SCL": noise.astype("uint8")}


def test_a_layer_of_floats_keeps_nan(tmp_path: Path) -> None:
    spec = replace(SPEC, layers=(Layer("B02", "float32", float("nan")),))

    def task(number: int, block) -> dict:
        truth = pixels(number)[block.grid.window(block.tile)].astype("float32")
        return {"B02": np.where(truth == 0, np.float32(np.nan), truth)}

    build(tmp_path / "f.zarr", spec, steps(range(2)), task, Threads(2))
    value = open_cube(tmp_path / "f.zarr")["B02"][1].values
    np.testing.assert_array_equal(value, np.where(pixels(1) == 0, np.nan, pixels(1)))
