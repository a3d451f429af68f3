"""Indices and composites stored as cubes: what views show, followed and synced."""

from __future__ import annotations

import warnings
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

import stac2cube
from stac2cube.build.derived import Parent, Parents, derive, drop
from stac2cube.build.loop import build
from stac2cube.build.plan import BuildOptions, Summary
from stac2cube.build.status import cube_status
from stac2cube.cli import cli
from stac2cube.coregister.stage import MOVED
from stac2cube.errors import BadInputError, CubeMismatchError, Stac2cubeError
from stac2cube.executors.base import Threads
from stac2cube.executors.local import Local
from stac2cube.maintain.care import verify
from stac2cube.maintain.update import DERIVED, derived_stage, outdated_children, update, update_children
from stac2cube.model.cube_spec import CubeSpec
from stac2cube.model.grid import Grid
from stac2cube.stages.stored_views import Composition, pieces
from stac2cube.store.metadata import read_root
from stac2cube.store.reader import differences
from stac2cube.views.options import Hiding
from tests.build import toy
from tests.export.test_cf import Ones, layers_of
from tests.items import catalog
from tests.stages.shifted import Take, series, write

TAKES = (
    Take("2022-05-05", cover=0.3),
    Take("2022-05-15", swath=0.5),
    Take("2022-05-25", cover=0.5),
    Take("2022-06-10"),
    Take("2022-08-01", cover=0.2),
)
BANDS = ("B04", "B08")


@pytest.fixture(scope="module")
def layers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return series(tmp_path_factory.mktemp("derived"), TAKES[:4], bands=BANDS)


def test_stored_indices_are_those_of_the_view(layers: Path, tmp_path: Path) -> None:
    made = stac2cube.store_indices(layers, tmp_path / "i.zarr", ["ndvi", "SAVI"])
    cube = stac2cube.open_cube(layers)
    shown = stac2cube.indices(cube, ["NDVI", "SAVI"])
    for name in ("NDVI", "SAVI"):
        np.testing.assert_array_equal(made[name].values, shown[name].values)
    red, nir = cube.B04.values.astype("float64"), cube.B08.values.astype("float64")
    np.testing.assert_allclose(made.NDVI.values, (nir - red) / (nir + red), atol=1e-5)
    assert np.isnan(made.NDVI.values[1, :, 400]).all(), "where the swath ends there is no index"
    stac2cube.store_indices(layers, tmp_path / "l.zarr", ["NDVI", "SAVI"], place=Local(workers=2))
    assert differences(tmp_path / "i.zarr", tmp_path / "l.zarr") == []
    with pytest.raises(CubeMismatchError, match="indices"):
        stac2cube.store_indices(layers, tmp_path / "i.zarr", ["EVI2", "SAVI"])
    with pytest.raises(BadInputError, match="NBR"):
        stac2cube.store_indices(layers, tmp_path / "n.zarr", ["NBR"])
    with pytest.raises(BadInputError, match="layer 'NDVI' is given twice"):
        stac2cube.store_indices(layers, tmp_path / "n.zarr", ["ndvi", "NDVI"])


@pytest.mark.parametrize(("method", "by"), [("median", None), ("p25", None), ("best", "NDVI"), ("medoid", None)])
def test_stored_composites_are_those_of_the_view(layers: Path, tmp_path: Path, method: str, by: str | None) -> None:
    made = stac2cube.store_composites(layers, tmp_path / "c.zarr", Composition("month", method, by))
    cube = stac2cube.open_cube(layers)
    shown = stac2cube.composite(cube, "month", method, by=by)
    assert list(made.scene.values) == ["20220501_month", "20220601_month"]
    for name in (*BANDS, "n_valid"):
        np.testing.assert_array_equal(made[name].values, shown[name].values, err_msg=name)
    if method == "median":
        may = np.nanmedian(cube.B04.values[:3].astype("float64"), axis=0)
        np.testing.assert_allclose(made.B04.values[0], may, atol=1e-6)
    if method in ("best", "medoid"):
        days = [cube.observed.values[0].astype("datetime64[D]") for cube in (made, shown)]
        np.testing.assert_array_equal(*days)


def test_they_follow_what_comes_and_what_goes(tmp_path: Path) -> None:
    layers = series(tmp_path, TAKES[:3], bands=BANDS)
    out, index = tmp_path / "c.zarr", tmp_path / "i.zarr"
    assert cli.main(["composite", str(layers), str(out), "-q"], standalone_mode=False) == 0
    assert cli.main(["indices", str(layers), str(index), "ndvi", "-q"], standalone_mode=False) == 0
    for takes in ((0, 1, 2, 3, 4), (1, 2, 3, 4), (0, 3, 4)):
        catalog(tmp_path / "items.json", [write(tmp_path, TAKES[place], BANDS) for place in takes])
        assert cli.main(["sync", str(layers), "--apply", "--even-many", "-q"], standalone_mode=False) == 0
        stac2cube.store_composites(layers, tmp_path / f"whole{takes}.zarr")
        assert differences(out, tmp_path / f"whole{takes}.zarr") == [], takes
        assert stac2cube.open_cube(index).sizes["time"] == len(takes)
        assert verify(out) == []
    commit = read_root(out).commit
    assert cli.main(["update", str(out), "-q"], standalone_mode=False) == 0
    assert read_root(out).commit == commit


def test_a_composite_without_scenes_goes(tmp_path: Path) -> None:
    """Where all scenes of a month are gone, and where an earlier scene begins the one composite of all."""
    bands = tuple(layer for layer in layers_of("sentinel-2-l2a") if layer.name == "B04")
    grid = Grid("EPSG:32632", 10.0, (500_000.0, 5_300_000.0), (8, 8), chunk=(8, 8), shard=(8, 8))
    cube, spec = tmp_path / "a.zarr", CubeSpec("layers", grid, bands, {"mission": "sentinel-2-l2a"})
    steps = [
        replace(step, entry=replace(step.entry, time=datetime(2022, month, 10, tzinfo=UTC)), tiles=((0, 0),))
        for month, step in ((5, toy.step(0)), (6, toy.step(1)))
    ]

    def composed() -> dict[str, list[str]]:
        stored = {
            period: stac2cube.store_composites(cube, tmp_path / f"{period}.zarr", Composition(period))
            for period in ("month", "all")
        }
        return {period: list(made.scene.values) for period, made in stored.items()}

    build(cube, spec, steps[1:], Ones(bands), Threads(1))
    assert composed() == {"month": ["20220601_month"], "all": ["20220610_all"]}
    build(cube, spec, steps, Ones(bands), Threads(1))
    assert composed() == {"month": ["20220501_month", "20220601_month"], "all": ["20220510_all"]}
    drop(cube, [steps[1].entry.key])
    assert composed() == {"month": ["20220501_month"], "all": ["20220510_all"]}


SCL_HIDDEN = {
    "clear": (0, 1, 2, 3, 7, 8, 9, 10),
    "clouds_snow": (0, 3, 8, 9, 10, 11),
    "3,8,9,10,11": (0, 3, 8, 9, 10, 11),
}


@pytest.mark.parametrize("mask", SCL_HIDDEN)
def test_a_mask_recipe_needs_no_masked_cube(layers: Path, tmp_path: Path, mask: str) -> None:
    words = ["composite", str(layers), str(tmp_path / "c.zarr"), "--mask", mask, "--memory", "1MiB", "-q"]
    assert cli.main(words, standalone_mode=False) == 0
    made, cube = stac2cube.open_cube(tmp_path / "c.zarr"), stac2cube.open_cube(layers)
    hidden = np.isin(cube.SCL.values, SCL_HIDDEN[mask])
    assert hidden[:3].any()
    red = np.where(hidden, np.nan, cube.B04.values)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        np.testing.assert_allclose(made.B04.values[0], np.nanmedian(red[:3], axis=0), atol=1e-6)
    np.testing.assert_array_equal(made.n_valid.values[0], np.isfinite(red[:3]).sum(axis=0))
    stac2cube.store_indices(layers, tmp_path / "i.zarr", ["NDVI"], hiding=Hiding(mask))
    ndvi = stac2cube.open_cube(tmp_path / "i.zarr").NDVI.values
    assert np.isnan(ndvi[hidden]).all()
    assert np.isfinite(ndvi[~hidden]).all()


def test_a_clouds_cube_hides_and_is_followed(tmp_path: Path) -> None:
    layers = series(tmp_path, TAKES[:3], bands=BANDS)
    clouds, out = tmp_path / "clouds.zarr", tmp_path / "c.zarr"
    stac2cube.get_cloud_layers(layers, clouds, method="scl")
    stac2cube.apply_masks(layers, clouds, tmp_path / "clear.zarr")
    stac2cube.store_composites(layers, out, Composition(hiding=Hiding(clouds=str(clouds))))
    stored = stac2cube.store_composites(tmp_path / "clear.zarr", tmp_path / "from-masked.zarr")
    made = stac2cube.open_cube(out)
    for name in (*BANDS, "n_valid"):
        np.testing.assert_array_equal(made[name].values, stored[name].values, err_msg=name)
    catalog(tmp_path / "items.json", [write(tmp_path, take, BANDS) for take in TAKES])
    stac2cube.get_stac_layers(layers, update=True)
    assert cli.main(["update", str(out), "-q"], standalone_mode=False) == 0
    assert stac2cube.open_cube(out).sizes["time"] == 1, "scenes without clouds are not composed"
    assert cli.main(["sync", str(layers), "--apply", "-q"], standalone_mode=False) == 0
    stac2cube.store_composites(layers, tmp_path / "whole.zarr", Composition(hiding=Hiding(clouds=str(clouds))))
    assert differences(out, tmp_path / "whole.zarr") == []
    assert stac2cube.open_cube(out).sizes["time"] == 3
    with pytest.raises(CubeMismatchError, match="mask"):
        stac2cube.store_composites(layers, out, Composition(hiding=Hiding("clear", str(clouds))))


def test_a_late_scene_changes_every_window_that_it_lies_in(tmp_path: Path) -> None:
    layers = series(tmp_path, [TAKES[0], TAKES[2], TAKES[3]], bands=BANDS)
    rolling = Composition("10D", window="30D", layers=("B04",))
    before = stac2cube.store_composites(layers, tmp_path / "c.zarr", rolling).load()
    catalog(tmp_path / "items.json", [write(tmp_path, take, BANDS) for take in TAKES[:4]])
    stac2cube.get_stac_layers(layers, update=True)
    made = stac2cube.store_composites(layers, tmp_path / "c.zarr", rolling)
    stac2cube.store_composites(layers, tmp_path / "whole.zarr", rolling)
    assert differences(tmp_path / "c.zarr", tmp_path / "whole.zarr") == []
    cube = stac2cube.open_cube(layers)
    shown = stac2cube.composite(cube, "10D", layers=["B04"], window="30D")
    np.testing.assert_array_equal(made.B04.values, shown.B04.values)
    late = np.datetime64("2022-05-15T10:20")
    changed = 0
    for place, begin in enumerate(made.time.values):
        middle = begin + np.timedelta64(5, "D")
        near = np.abs(cube.time.values - middle) <= np.timedelta64(15, "D")
        expected = np.nanmedian(cube.B04.values[near], axis=0)
        np.testing.assert_allclose(made.B04.values[place], expected, atol=1e-6)
        same = np.array_equal(before.B04.values[place], made.B04.values[place], equal_nan=True)
        assert same != (abs(late - middle) <= np.timedelta64(15, "D"))
        changed += not same
    assert changed == 3


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--mask", "cloudy"], "unknown mask 'cloudy': known are clear, clouds, clouds_snow, strict"),
        (["--mask", "cloud,rain"], "unknown class rain"),
        (["--mask", "99"], "SCL has no class 99"),
        (["--window", "1MS"], "a number of days such as 30D"),
        (["--period", "all", "--window", "30D"], "only one of all steps"),
        (["--memory", "much"], "write a number and a unit"),
        (["--clouds", "nowhere.zarr"], "nowhere.zarr"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_written(
    layers: Path, tmp_path: Path, words: list[str], problem: str
) -> None:
    with pytest.raises(Stac2cubeError, match=problem):
        cli.main(["composite", str(layers), str(tmp_path / "c.zarr"), *words, "-q"], standalone_mode=False)
    assert not (tmp_path / "c.zarr").exists()


def test_pieces_cover_a_block_once() -> None:
    block = (slice(256, 900), slice(512, 1612))
    for most in (1, 5000, 65536, 70000, 300_000, 10**9):
        seen = np.zeros((900, 1612), int)
        for rows, columns in pieces(block, (256, 256), most):
            assert (rows.stop - rows.start) * (columns.stop - columns.start) <= max(most, 32 * 32)
            seen[rows, columns] += 1
        assert (seen[block] == 1).all()
        assert seen.sum() == 644 * 1100


def test_an_index_says_what_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["indices", "ndwi2"], standalone_mode=False) == 0
    told = capsys.readouterr().out
    assert "NDMI" in told
    assert "(N - S1) / (N + S1)" in told or "(N-S1)/(N+S1)" in told
    assert "N = nir" in told


def test_every_name_of_a_stage_has_its_stage() -> None:
    assert {derived_stage(name).name for name in DERIVED} == DERIVED


def test_a_moved_cube_follows_a_step_that_was_rebuilt(tmp_path: Path) -> None:
    layers, shifts, along = (tmp_path / f"{name}.zarr" for name in ("layers", "shifts", "along"))
    build(layers, toy.SPEC, toy.steps(range(2)), toy.Make(), Threads(2))
    facts = {"shift_x": 10.0, "shift_y": 0.0, "shift_accepted": True, "shift_field": None}
    shifted = [
        replace(step, entry=replace(step.entry, properties={**step.entry.properties, **facts}))
        for step in toy.steps(range(2))
    ]
    build(shifts, replace(toy.SPEC, recipe={"shifts": {"resampling": "cubic"}}), shifted, toy.Make(), Threads(2))
    derive(MOVED, Parents(layers, shifts=shifts), along, None, Threads(2))
    newer = [toy.step(1, "05.09")]
    build(layers, toy.SPEC, newer, toy.Make(bonus=5), Threads(2), options=BuildOptions(superseded="replace"))
    assert cube_status(along).stale == ("toy_0001",)
    assert update(along, Threads(2)).replaced == ["toy_0001"]
    assert cube_status(along).stale == ()
    kept = Parent.read(along)
    rows, columns = slice(0, toy.GRID.shape[0]), slice(1, toy.GRID.shape[1])
    for number, bonus in ((0, 0), (1, 5)):
        stored = kept.stored(kept.rows[f"toy_{number:04d}"]).read(kept.spec.layers, (rows, columns))["B02"]
        assert np.array_equal(stored, toy.pixels(number + bonus)[:, :-1])


def test_children_follow_after_all_their_inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``b`` is made from ``a`` and ``z``, which both follow the layers: its parent ``a`` alone is not enough."""
    # Scenes are not moved twice, but no other stage has two inputs that it takes from any cube.
    monkeypatch.setattr("stac2cube.coregister.stage._is_moved", lambda _: False)
    facts = {"shift_x": 0.0, "shift_y": 0.0, "shift_accepted": True, "shift_field": None}
    made = [
        replace(step, entry=replace(step.entry, properties={**step.entry.properties, **facts}))
        for step in toy.steps(range(2))
    ]
    spec = replace(toy.SPEC, recipe={"shifts": {"resampling": "cubic"}})
    layers, a, b, z = (tmp_path / f"{name}.zarr" for name in ("layers", "a", "b", "z"))
    build(layers, spec, made[:1], toy.Make(), Threads(2))
    for out, parent, shifts in ((a, layers, layers), (z, layers, layers), (b, a, z)):
        derive(MOVED, Parents(parent, shifts=shifts), out, None, Threads(2))
    build(layers, spec, made, toy.Make(), Threads(2))
    assert set(outdated_children(layers)) == {str(a), str(z)}
    update_children(layers, Threads(2), BuildOptions(), None, Summary())
    assert [cube_status(cube).steps for cube in (a, b, z)] == [2, 2, 2]
    assert outdated_children(layers) == {}


@pytest.mark.parametrize(
    ("crs", "step", "corner", "unit"),
    [
        ("EPSG:4326", 1e-4, (11.0, 48.0), "degrees"),
        ("EPSG:2263", 10.0, (984_000.0, 200_000.0), "US survey foot"),  # New York Long Island
    ],
)
def test_what_counts_in_metres_refuses_other_units(
    tmp_path: Path, crs: str, step: float, corner: tuple[float, float], unit: str
) -> None:
    bands = tuple(layer for layer in layers_of("sentinel-2-l2a") if layer.name in ("B04", "SCL"))
    grid = Grid(crs, step, corner, (8, 8), chunk=(8, 8), shard=(8, 8))
    cube, out = tmp_path / "a.zarr", tmp_path / "b.zarr"
    one = replace(toy.step(0), tiles=((0, 0),))
    build(cube, CubeSpec("layers", grid, bands, {"mission": "sentinel-2-l2a"}), [one], Ones(bands), Threads(1))
    for refused in (
        lambda: stac2cube.get_cloud_layers(cube, out, method="scl"),
        lambda: stac2cube.get_cloud_layers(cube, out),
        lambda: stac2cube.coregister_scenes(cube, out, rules=stac2cube.ShiftRules(engine="phase")),
        lambda: stac2cube.super_resolution(cube, out, rules=stac2cube.SuperresRules(backend="bicubic")),
    ):
        with pytest.raises(BadInputError, match=f"counts in metres, and the pixels of the cube are in {unit}"):
            refused()
        assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zarr"]
    assert stac2cube.get_cloud_layers(cube, out, method="scl", dilate_m=0).sizes["time"] == 1
