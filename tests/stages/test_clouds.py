"""Clouds of a series whose clouds are known: found, masked, made anew, followed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio

import stac2cube
from stac2cube.build.derived import Parent
from stac2cube.build.plan import Block
from stac2cube.build.status import cube_status
from stac2cube.cli import cli
from stac2cube.clouds.rules import CloudRules
from stac2cube.clouds.s2cloudless import find_l1c_scenes, may_carry_offset
from stac2cube.errors import BadInputError, CubeMismatchError, IncompleteError
from stac2cube.executors.local import Local
from stac2cube.export.animation import frames_of
from stac2cube.export.report import write_report
from stac2cube.model.grid import grid_from_geobox
from stac2cube.store.ledger import Ledger
from stac2cube.store.metadata import read_root
from stac2cube.store.reader import differences
from stac2cube.testing.archive import write_jp2
from tests.items import catalog
from tests.stages import skies
from tests.stages.skies import LATTICE, Series, series, stored

pytest.importorskip("lightgbm", reason="LightGBM is not installed, or the OpenMP that it needs: apt install libgomp1")


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Series:
    return series(tmp_path_factory.mktemp("few"), 4)


@pytest.fixture(scope="module")
def clouds(few: Series) -> Path:
    path = few.folder / "clouds.zarr"
    stac2cube.get_cloud_layers(few.layers, path, catalog=few.l1c)
    return path


def test_any_baseline_gives_the_same_probabilities(tmp_path: Path) -> None:
    """The same sky and ground, written by processors with and without offset, and by one who took it off."""
    cubes = []
    for baseline, about in (("02.08", {}), ("03.01", {}), ("04.00", {}), ("05.09", {})):
        folder = tmp_path / baseline
        folder.mkdir()
        scene = skies.overpass(folder, 3, baseline, **about)
        l2a, l1c = catalog(folder / "l2a.json", [scene.l2a]), catalog(folder / "l1c.json", [scene.l1c])
        words = {"mission": "sentinel-2-l2a", "aoi": LATTICE, "time": "2022/2024", "bands": ["B08"]}
        stac2cube.get_stac_layers(folder / "layers.zarr", catalog=l2a, **words)
        stac2cube.get_cloud_layers(folder / "layers.zarr", folder / "clouds.zarr", catalog=l1c)
        cubes.append(stored(folder / "clouds.zarr").cloud_probability.values)
    assert cubes[0].max() > 90
    assert cubes[0].min() < 10
    for other in cubes[1:]:
        np.testing.assert_array_equal(cubes[0], other)


def test_engines_places_and_blocks_change_no_pixel(few: Series, clouds: Path, tmp_path: Path) -> None:
    for name, words in (("library", {"engine": "library"}), ("local", {"place": Local(workers=2)})):
        out = tmp_path / f"{name}.zarr"
        stac2cube.get_cloud_layers(few.layers, out, catalog=few.l1c, **words)
        assert differences(clouds, out) == []
    parent = Parent.read(few.layers)
    steps, task = find_l1c_scenes(parent, CloudRules(), few.l1c, on_cluster=False)
    whole = stored(clouds)
    small = replace(grid_from_geobox(LATTICE), chunk=(100, 100), shard=(200, 300))
    for place, step in enumerate(steps):
        for tile in small.tiles():
            rows, columns = small.window(tile)
            made = task(step.payload, Block(small, tile))
            for name, pixels in made.items():
                np.testing.assert_array_equal(
                    pixels, whole[name].values[place, rows, columns], err_msg=f"{name} {tile}"
                )


def test_masks_are_made_anew_from_probabilities(few: Series, clouds: Path, tmp_path: Path) -> None:
    out = tmp_path / "clouds.zarr"
    stac2cube.get_cloud_layers(few.layers, out, catalog=few.l1c)
    with pytest.raises(CubeMismatchError, match="thresholds"):
        stac2cube.get_cloud_layers(few.layers, out, catalog=few.l1c, thresholds=(0.3, 0.6))
    words = ["--thresholds", "0.3,0.6", "--dilate-m", "60", "--from-probability", "--catalog", "nowhere", "-q"]
    assert cli.main(["clouds", str(few.layers), str(out), *words], standalone_mode=False) == 0
    root = read_root(out)
    assert (root.generation, root.spec.recipe["thresholds"]) == (1, [0.3, 0.6])
    assert len(list((out / ".stac2cube" / "history").glob("*.json"))) == root.commit
    direct = tmp_path / "direct.zarr"
    stac2cube.get_cloud_layers(few.layers, direct, catalog=few.l1c, thresholds=(0.3, 0.6), dilate_m=60)
    mine, theirs = stored(out), stored(direct)
    assert list(mine.data_vars) == list(theirs.data_vars)
    np.testing.assert_array_equal(mine.cloud_probability, theirs.cloud_probability)
    np.testing.assert_array_equal(mine.scene, theirs.scene)
    for name in ("cloud_mask", "cloud_mask_60", "shadow_mask"):
        assert float((mine[name] == theirs[name]).mean()) > 0.995, name
    # It goes on as any clouds cube: nothing to add now.
    stac2cube.get_cloud_layers(few.layers, out, catalog=few.l1c, thresholds=(0.3, 0.6), dilate_m=60)
    assert read_root(out).commit == root.commit
    with pytest.raises(BadInputError, match="need the L1C again"):
        stac2cube.get_cloud_layers(few.layers, out, resolution=20, from_probability=True)
    with pytest.raises(BadInputError, match="no cloud probabilities"):
        stac2cube.get_cloud_layers(few.layers, few.layers, from_probability=True)


def test_the_scene_classification_gives_clouds_without_l1c(few: Series, tmp_path: Path) -> None:
    out = tmp_path / "scl.zarr"
    stac2cube.get_cloud_layers(few.layers, out, method="scl", dilate_m=0)
    made, classes = stored(out), stored(few.layers).SCL.values
    assert list(made.data_vars) == ["cloud_mask", "shadow_mask", "flags"]
    np.testing.assert_array_equal(made.cloud_mask == 1, np.isin(classes, (8, 9, 10)))
    np.testing.assert_array_equal(made.shadow_mask == 1, classes == 3)
    np.testing.assert_array_equal(made.flags == 255, classes == 0)
    wide = tmp_path / "wide.zarr"
    stac2cube.get_cloud_layers(few.layers, wide, method="scl", dilate_m=50)
    grown, cloudy = stored(wide).cloud_mask.values == 1, made.cloud_mask.values == 1
    assert (grown >= cloudy).all()
    row, column = (int(v[0]) for v in np.nonzero(grown[2] & ~cloudy[2]))
    near = np.argwhere(cloudy[2]) - (row, column)
    assert (near**2).sum(axis=1).min() <= 25, "within 50 m of a cloud"
    with pytest.raises(BadInputError, match="no QA_PIXEL of Landsat"):
        stac2cube.get_cloud_layers(few.layers, tmp_path / "qa.zarr", method="qa_pixel")


def test_a_masked_cube_is_what_the_view_shows(few: Series, clouds: Path, tmp_path: Path) -> None:
    out = tmp_path / "masked.zarr"
    shown = stac2cube.mask_clouds(stac2cube.open_cube(few.layers), stac2cube.open_cube(clouds))
    made = stac2cube.apply_masks(few.layers, clouds, out)
    for name in ("B04", "B08", "SCL"):
        np.testing.assert_array_equal(made[name].values, shown[name].values)
    fractions = made.cloud_fraction.values
    assert fractions.max() > 0.3
    assert fractions.min() < 0.2
    limit = str((fractions.max() + np.sort(fractions)[-2]) / 2)
    words = ["mask", str(few.layers), str(clouds), str(tmp_path / "clear.zarr"), "--max-cloud", limit, "-q"]
    assert cli.main(words, standalone_mode=False) == 0
    clear = stac2cube.open_cube(tmp_path / "clear.zarr")
    view = stac2cube.mask_clouds(stac2cube.open_cube(few.layers), stac2cube.open_cube(clouds), max_cloud=float(limit))
    assert clear.sizes["time"] == view.sizes["time"] == 3
    np.testing.assert_array_equal(clear.scene, view.scene)
    status = cube_status(tmp_path / "clear.zarr")
    assert (status.steps, status.empty, status.lacking) == (3, 1, 0), "what is left out is not lacking"
    page = write_report(tmp_path / "clear.zarr", tmp_path / "report.html").read_text()
    assert f"1 scene took no step: more than {100 * float(limit):g} % cloud" in page
    assert cli.main(["update", str(out), "-q"], standalone_mode=False) == 0
    assert cube_status(out).commit == 1, "nothing new to follow"
    for cube in (out, clouds):
        page = write_report(cube, tmp_path / "report.html").read_text()
        assert f"{100 * fractions.max():.1f}" in page
        assert "it has every step of" in page
    assert frames_of(clouds).pictures.shape[0] == 4
    with pytest.raises(BadInputError, match=r"max_cloud is a fraction"):
        stac2cube.apply_masks(few.layers, clouds, tmp_path / "no.zarr", max_cloud=40)
    with pytest.raises(BadInputError, match="has no nonsense"):
        stac2cube.apply_masks(few.layers, clouds, tmp_path / "no.zarr", masks=["nonsense"])


def test_a_step_made_anew_makes_its_clouds_stale(tmp_path: Path) -> None:
    scene, other = (skies.overpass(tmp_path, n, "03.01") for n in (0, 1))
    first, l1c = tmp_path / "l2a.json", catalog(tmp_path / "l1c.json", [scene.l1c, other.l1c])
    catalog(first, [scene.l2a, other.l2a])
    layers, out = tmp_path / "layers.zarr", tmp_path / "clouds.zarr"
    words = {"mission": "sentinel-2-l2a", "aoi": LATTICE, "time": "2022/2024", "bands": ["B08"]}
    stac2cube.get_stac_layers(layers, catalog=str(first), **words)
    stac2cube.get_cloud_layers(layers, out, catalog=l1c)
    assert (cube_status(out).lacking, cube_status(out).stale) == (0, ())
    newer = json.loads(json.dumps(scene.l2a))
    newer["id"] += "-again"
    newer["properties"]["s2:processing_baseline"] = "03.02"
    late = skies.overpass(tmp_path, 2, "03.01")
    catalog(first, [scene.l2a, newer, other.l2a, late.l2a])
    assert cli.main(["update", str(layers), "--replace-superseded", "-q"], standalone_mode=False) == 0
    status = cube_status(out)
    assert (status.lacking, len(status.stale), status.made_from) == (1, 1, str(layers))
    assert cli.main(["update", str(out), "-q"], standalone_mode=False) == 2, "the late step has no L1C"
    status = cube_status(out)
    assert (status.lacking, status.stale, status.generation) == (1, (), 1)
    assert "has no Sentinel-2 L1C" in next(iter(status.failed.values()))
    catalog(tmp_path / "l1c.json", [scene.l1c, other.l1c, late.l1c])
    assert cli.main(["update", str(out), "-q"], standalone_mode=False) == 0
    assert cube_status(out).steps == 3


def test_a_missing_band_is_named_and_other_steps_go_on(few: Series, tmp_path: Path) -> None:
    items = [json.loads(json.dumps(scene.l1c)) for scene in few.scenes]
    items[1]["assets"].pop("B10", items[1]["assets"].pop("cirrus", None))
    source = catalog(tmp_path / "l1c.json", items)
    with pytest.raises(IncompleteError, match=r"1 step\(s\).*B10"):
        stac2cube.get_cloud_layers(few.layers, tmp_path / "clouds.zarr", catalog=source)
    assert stored(tmp_path / "clouds.zarr").sizes["time"] == 3


def test_rules_that_make_no_sense_are_refused() -> None:
    for words, message in (
        ({"method": "guess"}, "method should be one of s2cloudless, scl, qa_pixel, not 'guess'"),
        ({"engine": "gpu"}, "engine should be one of forest, library, not 'gpu'"),
        ({"decode": "fast"}, "decode should be one of exact, reduced, not 'fast'"),
        ({"method": "scl", "decode": "reduced"}, "reads no L1C"),
        ({"thresholds": (0.0,)}, "thresholds should be numbers, each more than 0 and less than 1, not 0.0"),
        ({"thresholds": (0.4, 0.4)}, "the same in whole percent"),
        ({"resolution": 5}, "resolution should be a number of metres, at least 10 and at most 160, not 5"),
        ({"resolution": float("nan")}, "at most 160, not nan"),
        ({"resolution": "60"}, "at most 160, not '60'"),
        ({"thresholds": ()}, "at least one probability"),
        ({"dilate_m": -1}, "dilate_m should be a number of metres, at least 0, not -1"),
        ({"shadows": "no"}, "shadows should be true or false, not 'no'"),
    ):
        with pytest.raises(BadInputError, match=message):
            CloudRules(**words)


def test_reduced_decoding_is_recorded_and_the_same_whatever_the_blocks(tmp_path: Path) -> None:
    """L1C as terrabyte and the Copernicus Data Space have it, in JPEG 2000, and a swath that ends within the cube."""
    scene, late = (skies.overpass(tmp_path, number, "05.09", cover=0.4) for number in (1, 2))
    for place, one in enumerate((scene, late)):
        for asset in one.l1c["assets"].values():
            with rasterio.open(asset["href"]) as file:
                pixels, gsd = file.read(1), round(file.res[0])
            rows, columns = np.indices(pixels.shape)
            pixels[rows + columns < 1800 // gsd] = 0
            asset["href"] = str(Path(asset["href"]).with_suffix(".jp2"))
            write_jp2(Path(asset["href"]), pixels, skies.EPSG, skies.transform(gsd))
        catalog(tmp_path / f"l2a-{place}.json", [s.l2a for s in (scene, late)[: place + 1]])
    l1c, words = catalog(tmp_path / "l1c.json", [scene.l1c, late.l1c]), {"aoi": LATTICE, "time": "2022/2024"}
    layers, exact, reduced = (tmp_path / f"{name}.zarr" for name in ("layers", "exact", "reduced"))
    source = tmp_path / "l2a.json"
    source.write_text((tmp_path / "l2a-0.json").read_text())
    stac2cube.get_stac_layers(layers, mission="sentinel-2-l2a", bands=["B08"], catalog=str(source), **words)
    stac2cube.get_cloud_layers(layers, exact, catalog=l1c)
    command = ["clouds", str(layers), str(reduced), "--catalog", l1c, "-q"]
    assert cli.main([*command, "--decode", "reduced"], standalone_mode=False) == 0
    assert "decode" not in read_root(exact).spec.recipe, "as in cubes of earlier versions"
    assert read_root(reduced).spec.recipe["decode"] == "reduced"
    with pytest.raises(CubeMismatchError, match="decode"):
        stac2cube.get_cloud_layers(layers, reduced, catalog=l1c)
    one, other = (stored(path) for path in (exact, reduced))
    assert (one.cloud_probability != other.cloud_probability).any()
    assert float((one.cloud_mask != other.cloud_mask).mean()) < 0.01
    np.testing.assert_array_equal(one.cloud_mask == 255, other.cloud_mask == 255)
    parent, rules = Parent.read(layers), CloudRules(decode="reduced")
    (step,), task = find_l1c_scenes(parent, rules, l1c, on_cluster=False)
    small = replace(grid_from_geobox(LATTICE), chunk=(100, 100), shard=(200, 300))
    for tile in small.tiles():
        rows, columns = small.window(tile)
        for name, pixels in task(step.payload, Block(small, tile)).items():
            np.testing.assert_array_equal(pixels, other[name].values[0, rows, columns], err_msg=f"{name} {tile}")
    # What follows the cube, and what is made anew of its probabilities, keeps to it.
    source.write_text((tmp_path / "l2a-1.json").read_text())
    assert cli.main(["update", str(layers), "-q"], standalone_mode=False) == 0
    assert cli.main(["update", str(reduced), "-q"], standalone_mode=False) == 0
    rows = Ledger(reduced, read_root(reduced).ledger).entries().values()
    assert [row.properties["decode"] for row in rows] == ["reduced"] * 2
    assert cli.main([*command, "--thresholds", "0.6", "--from-probability"], standalone_mode=False) == 0
    assert read_root(reduced).spec.recipe["decode"] == "reduced"


def test_a_baseline_without_offset_is_never_accused(few: Series) -> None:
    parent = Parent.read(few.layers)
    (step, *_), _ = find_l1c_scenes(parent, CloudRules(), few.l1c, on_cluster=False)
    (granule, *_) = step.payload.granules
    for baseline, may in (("03.01", False), ("02.14", False), ("04.00", True), ("05.11", True), ("", True)):
        assert may_carry_offset((replace(granule, baseline=baseline),)) == may
