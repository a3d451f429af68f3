"""Indices and composites stored as cubes: what views show, followed and synced."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import stac2cube
from stac2cube import Composition
from stac2cube.cli import cli
from stac2cube.cube.reader import differences
from stac2cube.cube.root import read_root
from stac2cube.errors import BadInputError, CubeMismatchError
from stac2cube.places.local import Local
from stac2cube.stages.care import verify
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


def test_an_index_says_what_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["indices", "ndwi2"], standalone_mode=False) == 0
    told = capsys.readouterr().out
    assert "NDMI" in told
    assert "(N - S1) / (N + S1)" in told or "(N-S1)/(N+S1)" in told
    assert "N = nir" in told
