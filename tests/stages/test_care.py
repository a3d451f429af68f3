"""A cube in a catalog that lives: synced, verified, repaired, rolled back, put in order."""

from __future__ import annotations

import json
import os
import pwd
import shutil
from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox

import stac2cube
from stac2cube.build.derived import drop
from stac2cube.build.status import cube_history
from stac2cube.cli import cli
from stac2cube.errors import BadInputError
from stac2cube.executors.base import Threads
from stac2cube.maintain.care import repair, rollback, tidy, verify
from stac2cube.maintain.sync import compare_with_catalog, sync
from stac2cube.store.ledger import Ledger
from stac2cube.store.metadata import OWN, read_root
from stac2cube.store.reader import differences
from stac2cube.testing.archive import write_simulated_cog
from tests.items import Json, catalog, item
from tests.stages.shifted import EPSG, ORIGIN

EDGE = 300
LATTICE = GeoBox((EDGE, EDGE), Affine(10, 0, ORIGIN[0], 0, -10, ORIGIN[1]), f"EPSG:{EPSG}")
DATES = ("2022-03-01", "2022-04-02", "2022-05-03", "2022-06-04", "2022-07-05", "2022-08-06")


def product(folder: Path, date: str, baseline: str = "03.01", value: int = 0) -> Json:
    """One L2A scene with two bands of noise and its classes."""
    number = int(date.replace("-", ""))
    rng = np.random.default_rng(number + value)
    assets = {}
    for band, gsd in (("B04", 10), ("SCL", 20)):
        shape = (EDGE * 10 // gsd, EDGE * 10 // gsd)
        pixels = rng.integers(4, 7, shape).astype("uint8") if band == "SCL" else rng.integers(1, 9000, shape)
        assets[band] = folder / f"{number}-{baseline}-{band}.tif"
        kind = "uint8" if band == "SCL" else "uint16"
        write_simulated_cog(assets[band], pixels.astype(kind), EPSG, Affine(gsd, 0, ORIGIN[0], 0, -gsd, ORIGIN[1]))
    about = {"platform": "sentinel-2a", "sat:relative_orbit": 65, "s2:processing_baseline": baseline}
    return item(f"s{number}-{baseline}", "sentinel-2-l2a", assets, datetime=f"{date}T10:20:00Z", **about)


def build(folder: Path, items: list[Json], name: str = "layers") -> Path:
    words = {"mission": "sentinel-2-l2a", "aoi": LATTICE, "time": "2022", "bands": ["B04", "SCL"]}
    path = catalog(folder / "items.json", items)
    stac2cube.get_stac_layers(folder / f"{name}.zarr", catalog=path, **words)
    return folder / f"{name}.zarr"


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sound")
    return build(folder, [product(folder, date) for date in DATES[:4]])


@pytest.fixture
def cube(sound: Path, tmp_path: Path) -> Path:
    """A copy that may be harmed; its items lie where the first's do."""
    return Path(shutil.copytree(sound, tmp_path / "layers.zarr"))


def test_a_sound_cube_has_no_damage(sound: Path) -> None:
    assert verify(sound) == []
    assert cli.main(["verify", str(sound), "-q"], standalone_mode=False) == 0


def pixel_files(cube: Path) -> list[Path]:
    return sorted(path for path in (cube / "B04/c").rglob("*") if path.is_file())


def harm(cube: Path, what: str) -> None:  # noqa: PLR0912 - a list of damages
    files = pixel_files(cube)
    if what == "missing":
        files[0].unlink()
    elif what == "oldest gone":
        shutil.rmtree(cube / "B04/c/0")
        shutil.rmtree(cube / "SCL/c/0")
    elif what == "a bit flipped":
        content = bytearray(files[1].read_bytes())
        content[len(content) // 2] ^= 1
        files[1].write_bytes(content)
    elif what == "cut short":
        files[1].write_bytes(files[1].read_bytes()[:-5])
    elif what == "empty":
        files[2].write_bytes(b"")
    elif what == "longer":
        files[2].write_bytes(files[2].read_bytes() + b"x")
    elif what == "swapped":
        one, other = files[0].read_bytes(), files[1].read_bytes()
        files[0].write_bytes(other)
        files[1].write_bytes(one)
    elif what == "a folder in its place":
        files[0].unlink()
        files[0].mkdir()
    elif what == "orphan beyond the end":
        (cube / "B04/c/77/0").mkdir(parents=True)
        (cube / "B04/c/77/0/0").write_bytes(b"x")
    elif what == "orphan within":
        (files[0].parent / "9").write_bytes(b"x")
    elif what == "array metadata old":
        path = cube / "B04/zarr.json"
        metadata = json.loads(path.read_text())
        path.write_text(json.dumps(metadata | {"shape": [2, *metadata["shape"][1:]]}))
    elif what == "array metadata gone":
        (cube / "SCL/zarr.json").unlink()
    elif what == "time metadata broken":
        (cube / "time/zarr.json").write_text("{")
    elif what == "time garbled":
        path = cube / "time/c/0"
        path.write_bytes((cube / "time/c/0").read_bytes()[::-1])
    elif what == "time gone":
        (cube / "time/c/0").unlink()
    elif what == "scene gone":
        (cube / "scene/c/0").unlink()
    elif what == "history gone":
        shutil.rmtree(cube / OWN / "history")
    elif what == "ledger part gone":
        next((cube / OWN / "ledger").glob("*.parquet")).unlink()
    elif what == "ledger part broken":
        for part in (cube / OWN / "ledger").glob("*.parquet"):
            part.write_bytes(b"PAR1")
    elif what == "classes missing":
        next(path for path in (cube / "SCL/c").rglob("*") if path.is_file()).unlink()
    else:
        raise AssertionError(what)


REPAIRABLE = (
    "missing", "oldest gone", "a bit flipped", "cut short", "empty", "longer", "swapped", "a folder in its place",
    "orphan beyond the end", "orphan within", "array metadata old", "array metadata gone", "time metadata broken",
    "time garbled", "time gone", "scene gone", "history gone", "classes missing",
)  # fmt: skip


@pytest.mark.parametrize("what", REPAIRABLE)
def test_every_damage_is_found_and_repaired_to_the_pixel(cube: Path, sound: Path, what: str) -> None:
    harm(cube, what)
    found = verify(cube)
    assert found, what
    assert cli.main(["verify", str(cube), "-q"], standalone_mode=False) == 2
    done = repair(cube, Threads())
    assert done.left == ()
    assert verify(cube) == []
    assert differences(cube, sound) == []
    damaged = {one.key for one in found if one.kind in ("missing", "corrupt")}
    assert set(done.summary.replaced) == damaged, "only what was damaged"


@pytest.mark.parametrize("what", ["ledger part gone", "ledger part broken"])
def test_a_lost_ledger_is_said_and_not_guessed(cube: Path, what: str) -> None:
    harm(cube, what)
    assert {one.kind for one in verify(cube)} == {"ledger"}
    with pytest.raises(BadInputError, match="roll back or build it anew"):
        repair(cube, Threads())


def test_a_repair_tells_programs_what_it_found(cube: Path, capsys: pytest.CaptureFixture[str]) -> None:
    harm(cube, "missing")
    capsys.readouterr()
    assert cli.main(["verify", str(cube), "--repair", "--json", "-q"], standalone_mode=False) == 0
    told = json.loads(capsys.readouterr().out)
    assert ([one["kind"] for one in told["found"]], told["left"]) == (["missing"], [])


def test_a_child_is_repaired_from_its_parent(cube: Path) -> None:
    child = cube.parent / "clouds.zarr"
    stac2cube.get_cloud_layers(cube, child, method="scl")
    twin = Path(shutil.copytree(child, cube.parent / "twin.zarr"))
    next(path for path in (child / "cloud_mask/c").rglob("*") if path.is_file()).unlink()
    assert [one.kind for one in verify(child)] == ["missing"]
    assert cli.main(["verify", str(child), "--repair", "-q"], standalone_mode=False) == 0
    assert differences(child, twin) == []


def test_commits_are_compared_and_taken_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    items = [product(tmp_path, date) for date in DATES[:3]]
    states = {}
    for count in (1, 2, 3):
        layers = build(tmp_path, items[:count])
        states[read_root(layers).commit] = Path(shutil.copytree(layers, tmp_path / f"state-{count}.zarr"))
    first, second, third = states
    again = [product(tmp_path, DATES[0], "03.02", 5), *items[1:]]
    catalog(tmp_path / "items.json", again)
    assert cli.main(["update", str(layers), "--replace-superseded", "-q"], standalone_mode=False) == 0
    newest = Path(shutil.copytree(layers, tmp_path / "newest.zarr"))
    fourth = read_root(layers).commit
    capsys.readouterr()
    assert cli.main(["diff", str(layers), str(first), str(fourth), "--json"], standalone_mode=False) is None
    told = json.loads(capsys.readouterr().out)
    assert (len(told["added"]), len(told["removed"]), len(told["replaced"])) == (2, 0, 1)
    for commit in (second, first, third):
        rollback(layers, commit)
        assert differences(layers, states[commit]) == [], commit
        assert verify(layers) == []
    rollback(layers, fourth)
    assert differences(layers, newest) == [], "one can go forward again"
    told = cube_history(layers)[-5:]
    assert [commit.changed for commit in told] == [
        {"made anew": 1},
        *({f"steps as after commit {commit}": steps} for commit, steps in ((second, 2), (first, 1), (third, 3))),
        {f"steps as after commit {fourth}": 3},
    ]
    assert all(f"process {os.getpid()} of {pwd.getpwuid(os.getuid()).pw_name} on " in commit.by for commit in told)
    assert read_root(layers).commit == fourth + 4
    with pytest.raises(BadInputError, match="has no commit 99; there are"):
        rollback(layers, 99)
    generations = tmp_path / ".layers.zarr.generations"
    shutil.rmtree(generations)
    with pytest.raises(BadInputError, match="whose pixels are gone"):
        rollback(layers, first)


def test_late_steps_are_put_in_order_without_a_pixel_rewritten(tmp_path: Path) -> None:
    items = [product(tmp_path, date) for date in DATES]
    for some in ([2, 4], [0, 2, 4], [0, 1, 2, 3, 4, 5]):
        layers = build(tmp_path, [items[place] for place in some])
    before = {path.stat().st_ino for path in pixel_files(layers)}
    twin = Path(shutil.copytree(layers, tmp_path / "twin.zarr"))
    assert tidy(layers) is not None
    assert tidy(layers) is None
    assert {path.stat().st_ino for path in pixel_files(layers)} == before
    assert differences(layers, twin) == []
    assert verify(layers) == []
    rows = Ledger(layers, read_root(layers).ledger).entries()
    assert [row.slot for row in rows.values()] == list(range(6)), "slots follow time"
    drop(layers, list(rows)[1:3])
    assert [commit.changed for commit in cube_history(layers)[-2:]] == [{"put in order of time": 6}, {"taken out": 2}]
    assert stac2cube.open_cube(layers).sizes["time"] == 4
    assert verify(layers) == []


def test_a_catalog_that_lives(tmp_path: Path) -> None:
    """Items come late, are replaced, withdrawn, and come back: the cube is what one from scratch would be."""
    fresh = {date: product(tmp_path, date) for date in DATES}
    newer = {date: product(tmp_path, date, "03.02", 1) for date in DATES[:3]}
    rounds = [
        [fresh[d] for d in DATES[1:4]],
        [fresh[d] for d in DATES[0:5]],
        [newer[DATES[0]], *(fresh[d] for d in DATES[0:6])],
        [newer[DATES[0]], *(fresh[d] for d in DATES[2:6])],
        [newer[DATES[0]], newer[DATES[1]], *(fresh[d] for d in DATES[2:6])],
        [newer[DATES[0]], newer[DATES[1]], newer[DATES[2]], *(fresh[d] for d in DATES[3:5])],
        [newer[DATES[0]], newer[DATES[1]], newer[DATES[2]], *(fresh[d] for d in DATES[3:6])],
        [newer[DATES[1]], newer[DATES[2]], *(fresh[d] for d in DATES[3:6])],
        [newer[DATES[0]], newer[DATES[1]], *(fresh[d] for d in DATES[3:6])],
        [newer[d] for d in DATES[:3]] + [fresh[d] for d in DATES[3:6]],
    ]
    folder = tmp_path / "cube"
    folder.mkdir()
    layers = build(folder, rounds[0])
    child, masked = folder / "clouds.zarr", folder / "masked.zarr"
    stac2cube.get_cloud_layers(layers, child, method="scl", dilate_m=0)
    stac2cube.apply_masks(layers, child, masked)
    for number, items in enumerate(rounds[1:], start=1):
        catalog(folder / "items.json", items)
        found, _ = compare_with_catalog(layers)
        assert not found.nothing, number
        assert cli.main(["sync", str(layers), "--apply", "--even-many", "-q"], standalone_mode=False) == 0
        found, _ = compare_with_catalog(layers)
        assert found.nothing, (number, found)
        scratch = tmp_path / f"scratch-{number}"
        scratch.mkdir()
        whole = build(scratch, items)
        assert differences(layers, whole) == [], number
        stac2cube.get_cloud_layers(whole, scratch / "clouds.zarr", method="scl", dilate_m=0)
        assert differences(child, scratch / "clouds.zarr") == [], number
        stac2cube.apply_masks(whole, scratch / "clouds.zarr", scratch / "masked.zarr")
        assert differences(masked, scratch / "masked.zarr") == [], number
        for path in (layers, child, masked):
            assert verify(path) == []


def test_sync_says_what_it_would_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fresh = [product(tmp_path, date) for date in DATES[:4]]
    layers = build(tmp_path, fresh[1:3])
    newer = product(tmp_path, DATES[1], "03.02", 1)
    catalog(tmp_path / "items.json", [fresh[0], fresh[1], newer, fresh[3]])
    capsys.readouterr()
    assert cli.main(["sync", str(layers), "--json", "-q"], standalone_mode=False) == 0
    told = json.loads(capsys.readouterr().out)
    counts = {kind: len(told[kind]) for kind in ("new", "late", "superseded", "withdrawn", "failed")}
    assert counts == {"new": 1, "late": 1, "superseded": 1, "withdrawn": 1, "failed": 0}
    with pytest.raises(BadInputError, match="not in the catalog any more"):
        sync(layers, Threads())
    assert sync(layers, Threads(), kinds=("new",)).sealed == ["sentinel-2a_R065_20220604"]
    with pytest.raises(BadInputError, match="sync does"):
        sync(layers, Threads(), kinds=("everything",))
