"""Co-registration of a series whose shifts are known."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.crs import CRS
from rasterio.warp import Resampling, calculate_default_transform, reproject

import stac2cube
from stac2cube.build.derived import Parent
from stac2cube.build.plan import Block
from stac2cube.build.status import cube_status
from stac2cube.cli import cli
from stac2cube.coregister.apply import Moved, MoveScene, as_stored
from stac2cube.coregister.rules import ShiftRules
from stac2cube.coregister.stage import Paths
from stac2cube.errors import BadInputError, CubeMismatchError
from stac2cube.executors.base import Threads
from stac2cube.executors.local import Local
from stac2cube.export.report import figures_of, write_report
from stac2cube.export.report_figures import draw_before_after
from stac2cube.model.cube_spec import Layer
from stac2cube.model.grid import grid_from_geobox
from stac2cube.store.ledger import Entry, Ledger
from stac2cube.store.metadata import read_root
from stac2cube.store.reader import differences
from stac2cube.store.staging import StoredStep
from tests.items import catalog
from tests.registration import NEEDS_AROSICS, engines
from tests.stages.shifted import EDGE, EPSG, LATTICE, ORIGIN, Take, series, truth, write

TAKES = (
    Take("2022-06-05"),
    Take("2022-06-15", 12, -7),
    Take("2022-06-25", -23, 15, cover=0.3),
    Take("2022-06-30", 4, -14, cover=1.0),
    Take("2022-07-02", -9, 6, swath=0.6),
    Take("2022-07-04", flat=True),
    Take("2022-07-08", 0.4, 0.3),
)
PHASE = ShiftRules(engine="phase")


def rows_of(cube: Path) -> list[Entry]:
    return list(Ledger(cube, read_root(cube).ledger).entries().values())


def _stored(cube: Path, key: str) -> StoredStep:
    parent = Parent.read(cube)
    return parent.stored(parent.rows[key])


@pytest.fixture(scope="module")
def layers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return series(tmp_path_factory.mktemp("takes"), TAKES)


@pytest.fixture(scope="module")
def moved(layers: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("moved") / "out.zarr"
    stac2cube.coregister_scenes(layers, out, rules=PHASE)
    return out


@pytest.mark.parametrize("engine", engines())
def test_known_shifts_are_found_and_undone(layers: Path, tmp_path: Path, engine: str) -> None:
    check_known_shifts(layers, tmp_path / "out.zarr", ShiftRules(engine=engine))


@pytest.mark.soak
@pytest.mark.parametrize("engine", engines())
def test_a_graph_finds_them_too(layers: Path, tmp_path: Path, engine: str) -> None:
    check_known_shifts(layers, tmp_path / "out.zarr", ShiftRules(engine=engine, strategy="graph"))


def check_known_shifts(layers: Path, out: Path, rules: ShiftRules) -> None:
    made = stac2cube.coregister_scenes(layers, out, rules=rules)
    before, after = (stac2cube.open_cube(path) for path in (layers, out))
    assert list(made.scene.values) == list(before.scene.values), "no scene disappears"
    accepted = dict(zip(made.scene.values, made.shift_accepted.values, strict=True))
    for take, row in zip(TAKES, rows_of(out), strict=True):
        hopeless = take.cover == 1.0 or take.flat
        facts = row.properties
        assert accepted[row.key] == facts["shift_accepted"] == (not hopeless), (take, facts["shift_reason"])
        if hopeless:
            assert (facts["shift_x"], facts["shift_y"]) == (0, 0)
            assert facts["shift_reason"]
            continue
        assert facts["found_x"] == pytest.approx(-take.x, abs=1.0)
        assert facts["found_y"] == pytest.approx(-take.y, abs=1.0)
        place = list(before.scene.values).index(row.key)
        real = truth(take)
        inner = (slice(40, -40), slice(40, int(0.5 * EDGE)))
        clear = (after.SCL.values[place] == 4)[inner]
        left = {
            name: np.sqrt(np.nanmean(np.square(cube.B04.values[place][inner] - real[inner])[clear]))
            for name, cube in (("before", before), ("after", after))
        }
        if abs(take.x) > 1:
            assert left["after"] < 0.4 * left["before"], (take, left)
        else:
            np.testing.assert_array_equal(before.B04.values[place], after.B04.values[place])


def test_classes_move_by_the_same_metres(layers: Path, moved: Path) -> None:
    before, after = (stac2cube.open_cube(path, decode=False) for path in (layers, moved))
    # The cloudy scene goes 23 m to the east and 15 m to the south: two pixels and a bit of ten metres.
    cloud = [cube.SCL.values[2] == 9 for cube in (before, after)]
    assert (cloud[0] != cloud[1]).mean() > 0.01
    best = min(
        ((np.roll(cloud[0], (down, right), (0, 1))[20:-20, 20:-20] != cloud[1][20:-20, 20:-20]).mean(), down, right)
        for down in range(-1, 5)
        for right in range(-1, 5)
    )
    assert best[1:] in {(1, 2), (2, 2)}
    assert set(np.unique(after.SCL.values)) <= set(np.unique(before.SCL.values))
    assert after.B04.values[3].min() >= 1, "beyond the cube there is no data, but within it there was"


def test_a_second_run_does_nothing_and_the_result_needs_no_correction(moved: Path, tmp_path: Path) -> None:
    commit = read_root(moved).commit
    assert cli.main(["update", str(moved), "-q"], standalone_mode=False) == 0
    assert read_root(moved).commit == commit
    again = stac2cube.coregister_scenes(moved, tmp_path / "again.zarr", rules=PHASE)
    assert (again.shift_x.values == 0).all()
    assert (again.shift_y.values == 0).all()
    assert differences(moved, tmp_path / "again.zarr") == []


def test_places_blocks_and_order_change_no_byte(layers: Path, moved: Path, tmp_path: Path) -> None:
    for name, place in (("one", Threads(1)), ("local", Local(workers=2))):
        out = tmp_path / f"{name}.zarr"
        stac2cube.coregister_scenes(layers, out, rules=PHASE, place=place)
        assert differences(moved, out) == []
        assert differences(Paths(moved).shifts, Paths(out).shifts) == []
    whole = stac2cube.open_cube(moved, decode=False)
    small = replace(grid_from_geobox(LATTICE), chunk=(100, 100), shard=(200, 300))
    task = MoveScene(read_root(layers).spec.layers, "cubic")
    for place_in_time, row in enumerate(rows_of(moved)):
        facts = row.properties
        step = Moved(_stored(layers, row.key), (facts["shift_x"], facts["shift_y"]))
        for tile in small.tiles():
            for name, pixels in task(step, Block(small, tile)).items():
                part = whole[name].values[(place_in_time, *small.window(tile))]
                np.testing.assert_array_equal(pixels, part, err_msg=f"{row.key} {name} {tile}")


def test_added_scenes_are_measured_against_the_same_reference(tmp_path: Path) -> None:
    parts = [TAKES[1], TAKES[2], TAKES[4]], [TAKES[0], TAKES[1], TAKES[2], TAKES[4]]
    out, whole = tmp_path / "grown.zarr", tmp_path / "whole.zarr"
    rules = replace(PHASE, reference="sentinel-2a_R065_20220615")
    for takes in parts:
        layers = series(tmp_path / "layers", takes)
        stac2cube.coregister_scenes(layers, out, rules=rules)
        if len(takes) == 3:
            first = {row.key: row.commit for row in rows_of(out)}
    stac2cube.coregister_scenes(layers, whole, rules=rules)
    grown, once = (stac2cube.open_cube(path) for path in (out, whole))
    assert list(grown.scene.values) == list(once.scene.values)
    np.testing.assert_array_equal(grown.shift_x, once.shift_x)
    np.testing.assert_array_equal(grown.B04.values, once.B04.values)
    assert {row.key: row.commit for row in rows_of(out) if row.key in first} == first, "sealed scenes stay"
    assert cube_status(out).made_from == str(layers)
    with pytest.raises(CubeMismatchError, match="reference"):
        stac2cube.coregister_scenes(layers, out, rules=PHASE)


def test_bands_of_several_resolutions_are_read_from_the_scenes_once(tmp_path: Path) -> None:
    takes = (Take("2022-06-05"), Take("2022-06-15", 20, -40), Take("2022-06-25", 7, 4))
    layers = series(tmp_path, takes, bands=("B04", "B8A"))
    from_scenes = stac2cube.coregister_scenes(layers, tmp_path / "scenes.zarr", rules=replace(PHASE, max_shift=5))
    assert read_root(tmp_path / "scenes.zarr").spec.recipe["shifts"]["source"] == "scenes"
    rules = replace(PHASE, max_shift=5, source="cube")
    from_cube = stac2cube.coregister_scenes(layers, tmp_path / "cube.zarr", rules=rules)
    inner = (slice(60, -60), slice(60, -60))
    for place, take in enumerate(takes):
        real = truth(take, "B8A")[inner]
        wrong = [
            np.sqrt(np.nanmean(np.square(cube.B8A.values[place][inner] - real))) for cube in (from_scenes, from_cube)
        ]
        assert wrong[0] <= 1.001 * wrong[1], "twice interpolated is not better"
    sized = ShiftRules(engine="phase", source="scenes")
    scenes = stac2cube.coregister_scenes(series(tmp_path / "one", takes[::2]), tmp_path / "one.zarr", rules=sized)
    cube = stac2cube.coregister_scenes(tmp_path / "one/layers.zarr", tmp_path / "two.zarr", rules=PHASE)
    assert read_root(tmp_path / "two.zarr").spec.recipe["shifts"]["source"] == "cube"
    np.testing.assert_array_equal(scenes.B04.values[1][inner], cube.B04.values[1][inner])


def test_whole_pixels_are_moved_without_interpolation(layers: Path) -> None:
    grid, spec = grid_from_geobox(LATTICE), read_root(layers).spec
    task = MoveScene(spec.layers, "cubic")
    before = stac2cube.open_cube(layers, decode=False).B04.values[0]
    after = task(Moved(_stored(layers, rows_of(layers)[0].key), (30.0, -20.0)), Block(grid, (0, 0)))["B04"]
    np.testing.assert_array_equal(after[2:, 3:], before[:-2, :-3])
    assert (after[:2] == 0).all()


@pytest.mark.parametrize(
    "reference", ["median", pytest.param("seasonal", marks=pytest.mark.soak), "image", "sentinel-2a_R065_20220708"]
)
def test_references_of_every_kind(tmp_path: Path, reference: str) -> None:
    takes = [Take("2022-06-05"), Take("2022-06-15", 12, -7), Take("2022-06-25", -8, 5), Take("2022-07-08", 0, 0)]
    if reference == "seasonal":
        takes += [Take("2023-05-20", 6, 6), Take("2023-05-25", -6, 9)]
    layers = series(tmp_path, takes)
    wanted = str(_foreign_image(tmp_path)) if reference == "image" else reference
    out = tmp_path / "out.zarr"
    made = stac2cube.coregister_scenes(layers, out, rules=replace(PHASE, reference=wanted))
    found = np.array([[row.properties["found_x"], row.properties["found_y"]] for row in rows_of(out)], dtype=float)
    true = np.array([(-take.x, -take.y) for take in takes])
    # A median of scenes that lie beside each other lies between them; an image of 20 m pixels is known to fractions.
    limit = {"median": 8.0, "image": 2.5}.get(reference, 1.0)
    assert made.shift_accepted.values.all(), [row.properties["shift_reason"] for row in rows_of(out)]
    assert np.abs(found - true).max() < limit
    assert np.ptp(found - true, axis=0).max() < max(1.0, limit / 2)


def _foreign_image(folder: Path) -> Path:
    """The ground at 20 m in the next UTM zone, as somebody else's sensor has it: darker, and as float."""
    path = folder / "image.tif"
    west = Affine(10, 0, ORIGIN[0], 0, -10, ORIGIN[1])
    ground = truth(Take("2022-06-10")).astype("float32") * 0.5 + 3
    source, target = CRS.from_epsg(EPSG), CRS.from_epsg(EPSG + 1)
    bounds = (ORIGIN[0], ORIGIN[1] - 10 * EDGE, ORIGIN[0] + 10 * EDGE, ORIGIN[1])
    place, width, height = calculate_default_transform(source, target, EDGE, EDGE, *bounds, resolution=20)
    pixels = np.full((height, width), np.nan, dtype="float32")
    reproject(
        ground, pixels, src_transform=west, src_crs=source, dst_transform=place, dst_crs=target,
        resampling=Resampling.average, dst_nodata=np.nan,
    )  # fmt: skip
    about = {"driver": "GTiff", "width": width, "height": height, "count": 1, "dtype": "float32", "nodata": np.nan}
    with rasterio.open(path, "w", crs=target, transform=place, **about) as file:
        file.write(pixels, 1)
    return path


def test_the_older_way_adds_up(tmp_path: Path) -> None:
    takes = [Take("2022-06-05"), Take("2022-06-15", 12, -7), Take("2022-06-25", 2, 5), Take("2022-06-30", 2, 5, 1.0)]
    layers = series(tmp_path, takes)
    out = tmp_path / "out.zarr"
    made = stac2cube.coregister_scenes(layers, out, rules=replace(PHASE, strategy="consecutive"))
    assert made.shift_x.values == pytest.approx([0, -12, -2, 0], abs=1)
    assert made.shift_y.values == pytest.approx([0, 7, -5, 0], abs=1)
    assert list(made.shift_accepted.values) == [False, True, True, False]


def test_what_is_dark_after_interpolation_is_no_hole() -> None:
    values = np.array([np.nan, -3.2, 0.4, 7.5, 70000.0])
    assert as_stored(values, Layer("B02", "uint16", 0)).tolist() == [0, 1, 1, 8, 65535]
    assert as_stored(values, Layer("n", "uint16", 65535)).tolist() == [65535, 0, 0, 8, 65534]
    np.testing.assert_array_equal(as_stored(values, Layer("vv", "float32", np.nan)), values.astype("float32"))


def test_only_measuring_and_moving_clouds_along(layers: Path, moved: Path, tmp_path: Path) -> None:
    table = stac2cube.coregister_scenes(layers, tmp_path / "only.zarr", rules=PHASE, apply=False)
    assert not (tmp_path / "only.zarr").exists()
    assert table.shift_x.dims == ("time", "y", "x")
    assert np.nanmedian(table.shift_x.values[1]) == pytest.approx(-12, abs=1)
    clouds = stac2cube.get_cloud_layers(layers, tmp_path / "clouds.zarr", method="scl", dilate_m=0)
    other = stac2cube.move_scenes(tmp_path / "clouds.zarr", moved, tmp_path / "along.zarr")
    assert clouds.cloud_mask.shape == other.cloud_mask.shape
    after = stac2cube.open_cube(moved, decode=False)
    np.testing.assert_array_equal(
        stac2cube.open_cube(tmp_path / "along.zarr", decode=False).cloud_mask[2] == 1, after.SCL[2] == 9
    )
    assert cli.main(["update", str(tmp_path / "along.zarr"), "-q"], standalone_mode=False) == 0
    stac2cube.get_cloud_layers(moved, tmp_path / "of-moved.zarr", method="scl", dilate_m=0)
    for cube in (moved, tmp_path / "along.zarr", tmp_path / "of-moved.zarr"):
        with pytest.raises(BadInputError, match="moved already"):
            stac2cube.move_scenes(cube, moved, tmp_path / "twice.zarr")
    assert not (tmp_path / "twice.zarr").exists()
    rules = replace(PHASE, strategy="graph")
    by_clouds = stac2cube.coregister_scenes(layers, tmp_path / "by.zarr", clouds=tmp_path / "clouds.zarr", rules=rules)
    assert by_clouds.shift_x.values[1] == pytest.approx(-12, abs=1)


def test_the_report_shows_shifts(moved: Path, layers: Path, tmp_path: Path) -> None:
    page = write_report(moved, tmp_path / "report.html").read_text()
    assert page.count("data:image/gif") == 1
    assert page.count('class="east"') == page.count('class="north"') == 1 + figures_of(moved)["shifts"]["measured"]
    assert "Arrows: how windows lie" in page
    assert "windows differ" in page or "windows agree" in page or "nothing matches" in page
    assert "in place already" in page
    with pytest.raises(BadInputError, match="not co-registered"):
        draw_before_after(layers, tmp_path / "no.gif")


def test_input_that_makes_no_sense_is_refused(layers: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.zarr"
    for rules, words in (
        ({"engine": "magic"}, "engine should be one of arosics, phase, not 'magic'"),
        ({"strategy": "graph", "reference": "seasonal"}, "seasonal"),
        ({"max_shift": 0}, "max_shift should be a number of pixels, more than 0 and at most 10, not 0"),
        ({"resampling": "nearest"}, "cannot be resampled"),
        ({"source": "moon"}, "source should be one of auto, scenes, cube, not 'moon'"),
        ({"reference": "/nowhere.tif"}, "neither"),
        ({"band": "B99"}, "no band 'B99'"),
    ):
        with pytest.raises(BadInputError, match=words):
            stac2cube.coregister_scenes(layers, out, rules=ShiftRules(**{"engine": "phase", **rules}))
        assert not out.exists()
    away = tmp_path / "away.tif"
    with rasterio.open(
        away, "w", driver="GTiff", width=50, height=50, count=1, dtype="float32", nodata=np.nan,
        crs=CRS.from_epsg(EPSG), transform=Affine(10, 0, ORIGIN[0] + 1e5, 0, -10, ORIGIN[1]),
    ) as file:  # fmt: skip
        file.write(np.ones((1, 50, 50), dtype="float32"))
    with pytest.raises(BadInputError, match="shows no ground"):
        stac2cube.coregister_scenes(layers, out, rules=replace(PHASE, reference=str(away)))
    small = tmp_path / "small"
    small.mkdir()
    items = catalog(small / "items.json", [write(small, TAKES[0])])
    words = {"mission": "sentinel-2-l2a", "aoi": LATTICE[:100, :100], "time": "2022/2024", "bands": ["B04"]}
    stac2cube.get_stac_layers(small / "layers.zarr", catalog=items, **words)
    with pytest.raises(BadInputError, match="too few to measure"):
        stac2cube.coregister_scenes(small / "layers.zarr", small / "out.zarr", rules=PHASE)


def test_killed_at_any_moment_it_goes_on(layers: Path, moved: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.zarr"
    words = [sys.executable, "-m", "stac2cube", "coregister", str(layers), str(out), "--engine", "phase", "-q"]
    for seconds in (1.5, 2.5, 3.5):
        run = subprocess.Popen(words)
        time.sleep(seconds)
        run.kill()
        run.wait()
    subprocess.run(words, check=True)
    assert differences(moved, out) == []


@NEEDS_AROSICS
def test_shifts_that_change_over_a_scene(tmp_path: Path) -> None:
    takes = (Take("2022-06-05"), Take("2022-06-15", 6, -3, bend=14), Take("2022-06-25", -8, 5))
    layers = series(tmp_path, takes)
    rules = replace(PHASE, reference="sentinel-2a_R065_20220605")
    stac2cube.coregister_scenes(layers, tmp_path / "one.zarr", rules=rules)
    stac2cube.coregister_scenes(layers, tmp_path / "local.zarr", rules=replace(rules, mode="local"))
    inner = (slice(40, -40), slice(40, -40))
    left = {}
    for name in ("one", "local"):
        cube = stac2cube.open_cube(tmp_path / f"{name}.zarr")
        bent = cube.B04.values[1][inner]
        left[name] = float(np.sqrt(np.nanmean(np.square(bent - truth(takes[1])[inner]))))
        assert not np.isnan(bent).any()
    assert left["local"] < 0.7 * left["one"], left
    rows = rows_of(tmp_path / "local.zarr")
    assert [row.properties["shift_field"] is not None for row in rows] == [False, True, False], (
        "where it is needed only"
    )
    along = stac2cube.move_scenes(layers, tmp_path / "local.zarr", tmp_path / "along.zarr")
    np.testing.assert_array_equal(along.B04, stac2cube.open_cube(tmp_path / "local.zarr").B04)
    with pytest.raises(BadInputError, match="go with the strategy 'reference'"):
        replace(PHASE, mode="local", strategy="graph")


def test_the_ledger_says_where_the_agency_refined_the_geometry(tmp_path: Path) -> None:
    """As files of this machine tell it, in archives that are mounted; what is not there is not known."""
    takes = [Take("2022-06-05"), Take("2022-06-15", 12, -7), Take("2022-06-25", -8, 5), Take("2022-07-05")]
    items = [write(tmp_path, take) for take in takes]
    for name, one, flag in zip("abc", items, ("REFINED", "NOT_REFINED", "SOMEHOW"), strict=False):
        path = tmp_path / f"MTD_DS-{name}.xml"
        path.write_text(f'<n1:Level-1C_DataStrip_ID><Image_Refining flag="{flag}"/></n1:Level-1C_DataStrip_ID>')
        one["assets"]["datastrip_metadata"] = {"href": str(path), "type": "application/xml"}
    items[3]["assets"]["datastrip_metadata"] = {"href": "https://example.org/MTD_DS.xml"}
    source = catalog(tmp_path / "items.json", items)
    words = {"mission": "sentinel-2-l2a", "aoi": LATTICE, "time": "2022", "bands": ["B04", "SCL"]}
    stac2cube.get_stac_layers(tmp_path / "layers.zarr", catalog=source, **words)
    out = tmp_path / "moved.zarr"
    stac2cube.coregister_scenes(tmp_path / "layers.zarr", out, rules=ShiftRules(engine="phase"))
    rows = Ledger(out, read_root(out).ledger).entries().values()
    assert [row.properties.get("geometry_refined") for row in rows] == [True, False, None, None]
    page = write_report(out, tmp_path / "report.html").read_text()
    assert "refined by ESA" in page
    assert (page.count("<td>yes</td>"), page.count("<td>no</td>")) == (1, 1)
