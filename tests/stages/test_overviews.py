"""Overviews: exact against plain loops, in step with their cube whatever becomes of it, and a pyramid to others."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import zarr
from zarr_cm import multiscales, proj, spatial

import stac2cube
from stac2cube.build.derived import drop
from stac2cube.build.loop import build
from stac2cube.build.plan import Block, BuildOptions, Step
from stac2cube.cli import cli
from stac2cube.errors import BadInputError
from stac2cube.executors.base import Threads
from stac2cube.export.animation import frames_of
from stac2cube.maintain.care import rollback, verify
from stac2cube.maintain.update import children_of
from stac2cube.model.cube_spec import CubeSpec, Layer
from stac2cube.model.grid import Grid
from stac2cube.store.ledger import Ledger
from stac2cube.store.metadata import level_path, levels_of, overviews_folder, read_root
from stac2cube.store.reader import differences
from tests.build import toy
from tests.items import catalog
from tests.stages.shifted import Take, series, write


def in_loops(values: np.ndarray, layer: Layer) -> np.ndarray:
    """What halving means, one pixel at a time."""
    rows, columns = ((size + 1) // 2 for size in values.shape)
    out = np.full((rows, columns), layer.fill, dtype=layer.dtype)
    for row in range(rows):
        for column in range(columns):
            four = values[2 * row : 2 * row + 2, 2 * column : 2 * column + 2].ravel().tolist()
            good = [value for value in four if value != layer.fill and np.isfinite(value)]
            if good and layer.flags:
                out[row, column] = max(good, key=lambda value: (Counter(good)[value], -good.index(value)))
            elif good:
                mean = sum(good) / len(good)
                out[row, column] = mean if np.dtype(layer.dtype).kind == "f" else round(mean)
                if out[row, column] == layer.fill:  # data all the same
                    out[row, column] -= 1
    return out


LAYERS = (
    Layer("counts", "uint16", 0, 1e-4, -0.1),
    Layer("ratio", "float32", float("nan")),
    Layer("height", "int16", 0),
    Layer("class", "uint8", 255, flags=((0, "land"), (1, "water"), (2, "snow"), (255, "no_data"))),
)
TALL = Grid("EPSG:32632", 10.0, (500000.0, 5000000.0), (4301, 37), chunk=(256, 256), shard=(2048, 256))


@dataclass(frozen=True)
class Noise:
    """Pixels of every kind, a quarter of them without data, and a block without any."""

    def __call__(self, number: int, block: Block) -> Mapping[str, np.ndarray]:
        random = np.random.default_rng([number, *block.tile])
        window = block.grid.window(block.tile)
        shape = tuple(part.stop - part.start for part in window)
        gone = random.random(shape) < 0.25
        return {
            "counts": np.where(gone, 0, random.integers(1, 65536, shape)).astype("uint16"),
            "ratio": np.where(gone, np.nan, random.random(shape)).astype("float32"),
            "height": np.where(gone, 0, random.integers(-2, 3, shape)).astype("int16"),
            "class": np.where(gone, 255, random.integers(0, 3, shape)).astype("uint8"),
        }


def test_every_level_is_what_plain_loops_make_of_the_one_before(tmp_path: Path) -> None:
    spec, steps = CubeSpec("layers", TALL, LAYERS, {"mission": "toy"}), toy.steps(range(2))
    steps = [Step(step.entry, step.payload, tuple(TALL.tiles())[: 3 - step.payload]) for step in steps]
    build(tmp_path / "tall.zarr", spec, steps, Noise(), Threads(2))
    coarsest = stac2cube.store_overviews(tmp_path / "tall.zarr", levels=2)
    assert levels_of(tmp_path / "tall.zarr") == (2, 4)
    assert coarsest.sizes == {"time": 2, "y": 1076, "x": 10}
    assert list(coarsest.x.values[:2]) == [500020.0, 500060.0], "the centre of four pixels"
    for level in (2, 4):
        finer, made = (
            stac2cube.open_cube(tmp_path / "tall.zarr", level=which, decode=False, chunks=None)
            for which in (level // 2, level)
        )
        assert len(list(read_root(level_path(tmp_path / "tall.zarr", level)).spec.grid.tiles())) == (2, 1)[level // 4]
        for layer in LAYERS:
            for step in range(2):
                wanted = in_loops(finer[layer.name].values[step], layer)
                np.testing.assert_array_equal(made[layer.name].values[step], wanted, err_msg=f"{level} {layer.name}")


def test_they_are_a_pyramid_by_the_convention(tmp_path: Path) -> None:
    build(tmp_path / "a.zarr", toy.SPEC, toy.steps(range(2)), toy.Make(), Threads(2))
    stac2cube.store_overviews(tmp_path / "a.zarr", levels=2)
    folder = overviews_folder(tmp_path / "a.zarr")
    document = json.loads((folder / "zarr.json").read_text())
    for convention in (multiscales, proj, spatial):
        assert convention.validate_group_metadata(document)
    layout = document["attributes"]["multiscales"]["layout"]
    assert [(entry["asset"], entry.get("derived_from")) for entry in layout] == [("1", None), ("2", "1"), ("4", "2")]
    assert [entry["spatial:transform"][0] for entry in layout] == [10.0, 20.0, 40.0]
    group = zarr.open_group(folder, mode="r")
    assert [group[f"{entry['asset']}/B02"].shape[1:] for entry in layout] == [(150, 130), (75, 65), (38, 33)]
    np.testing.assert_array_equal(group["1/B02"][1], toy.pixels(1))


def make_all(path: Path, numbers: range, version: str = "05.00", bonus: int = 0) -> None:
    steps = [toy.step(number, version) for number in numbers]
    build(path, toy.SPEC, steps, toy.Make(bonus=bonus), Threads(2), options=BuildOptions(superseded="replace"))


def require_in_step(cube: Path) -> None:
    """The levels hold what those of a cube made anew would."""
    for level in (2, 4):
        made = stac2cube.open_cube(cube, level=level, decode=False, chunks=None)
        base = stac2cube.open_cube(cube, level=level // 2, decode=False, chunks=None)
        assert list(made.scene.values) == list(base.scene.values)
        for layer in toy.SPEC.layers:
            for step in range(base.sizes["time"]):
                np.testing.assert_array_equal(made[layer.name][step], in_loops(base[layer.name].values[step], layer))
        assert verify(level_path(cube, level)) == []


def test_they_follow_whatever_becomes_of_the_cube(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cube, words = tmp_path / "a.zarr", ["overviews", str(tmp_path / "a.zarr"), "--levels", "2", "-q"]
    make_all(cube, range(2))
    assert cli.main(words, standalone_mode=False) == 0
    before = read_root(level_path(cube, 2)).commit
    assert cli.main(words, standalone_mode=False) == 0
    assert read_root(level_path(cube, 2)).commit == before, "nothing to do, nothing done"
    make_all(cube, range(3))
    capsys.readouterr()
    assert cli.main([*words[:2], "-q"], standalone_mode=False) == 0
    assert "2 steps sealed, 4 were present" in capsys.readouterr().out
    require_in_step(cube)
    make_all(cube, range(1), "05.11", bonus=7)
    assert cli.main(words, standalone_mode=False) == 0
    require_in_step(cube)
    drop(cube, ["toy_0001"])
    assert cli.main(words, standalone_mode=False) == 0
    require_in_step(cube)
    rollback(cube, 1)
    assert cli.main(words, standalone_mode=False) == 0
    require_in_step(cube)
    assert stac2cube.open_cube(cube, level=4).sizes["time"] == 2


def test_pictures_are_made_of_the_level_that_is_enough(tmp_path: Path) -> None:
    cube = tmp_path / "a.zarr"
    make_all(cube, range(2))
    assert frames_of(cube, edge=70).pictures.shape == (2, 50, 44, 3), "every third of 150 x 130 pixels"
    stac2cube.store_overviews(cube, levels=1)
    assert frames_of(cube, edge=70).pictures.shape == (2, 38, 33, 3), "every second of 75 x 65"
    make_all(cube, range(3))
    assert frames_of(cube, edge=70).pictures.shape == (3, 50, 44, 3), "the overview does not have the third step yet"


def test_sync_brings_them_along(tmp_path: Path) -> None:
    takes = (Take("2022-05-05"), Take("2022-05-15"))
    layers = series(tmp_path, takes[:1], bands=("B04",))
    stac2cube.store_overviews(layers, levels=2)
    assert [path for path, _ in children_of(layers)] == [level_path(layers.resolve(), 2)]
    assert [path for path, _ in children_of(level_path(layers, 2))] == [level_path(layers.resolve(), 4)]
    catalog(tmp_path / "items.json", [write(tmp_path, take, ("B04",)) for take in takes])
    assert cli.main(["sync", str(layers), "--apply", "-q"], standalone_mode=False) == 0
    for level in (2, 4):
        assert stac2cube.open_cube(layers, level=level).sizes["time"] == 2
    rows = Ledger(level_path(layers, 4), read_root(level_path(layers, 4)).ledger).sealed()
    assert all(0 < row.properties["valid_fraction"] <= 1 for row in rows.values())


def test_what_cannot_be_is_said(tmp_path: Path) -> None:
    cube = tmp_path / "a.zarr"
    make_all(cube, range(1))
    with pytest.raises(BadInputError, match="make them: stac2cube overviews"):
        stac2cube.open_cube(cube, level=2)
    with pytest.raises(BadInputError, match="needs no overview"):
        stac2cube.store_overviews(cube)
    stac2cube.store_overviews(cube, levels=1)
    with pytest.raises(BadInputError, match="no level 8: there are 1, 2"):
        stac2cube.open_cube(cube, level=8)
    with pytest.raises(BadInputError, match="is an overview already"):
        stac2cube.store_overviews(level_path(cube, 2))
    assert differences(cube, overviews_folder(cube) / "1") == []
