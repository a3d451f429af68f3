from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from stac2cube.errors import BadInputError, CubeMismatchError
from stac2cube.store.reader import open_cube
from stac2cube.views.masks import mask_clouds
from tests.views.cubes import GRID, counts, key, nothing_computed, truths

ORDER = [4, 1, 0, 6, 5, 2, 3]


def drawn(name: str) -> np.ndarray:
    """Masks of all steps, in order of time: 0 good, 1 bad, 255 unknown."""
    random = np.random.default_rng(len(name))
    return random.choice(np.array([0, 1, 255], "uint8"), (7, *GRID.shape), p=[0.6, 0.3, 0.1])


def clouds_of(dataset: xr.Dataset, order: list[int] | None = None, names=("cloud_mask",)) -> xr.Dataset:
    """A clouds cube over the same grid; its steps in another order and at times some minutes off."""
    places = ORDER if order is None else order
    later = dataset["time"].values[places] + np.timedelta64(4, "m")
    layers = {name: (("time", "y", "x"), drawn(name)[places]) for name in names}
    scenes = ("time", np.array([key(place) for place in places], dtype=object))
    return xr.Dataset(layers, {"time": later, "scene": scenes, "y": dataset["y"], "x": dataset["x"]})


@pytest.mark.parametrize("decoded", [False, True])
@pytest.mark.parametrize("chunks", [None, {"time": 1, "y": 40, "x": 70}])
def test_clouds_are_hidden_step_by_step_by_scene_key(cube: Path, decoded: bool, chunks) -> None:
    dataset = open_cube(cube)
    clouds = clouds_of(dataset)
    if decoded:  # as xarray decodes a fill value of 255
        clouds = clouds.where(clouds != 255)
    if chunks is not None:
        clouds = clouds.chunk(chunks).assign_coords(scene=clouds["scene"])  # as open_cube has it: keys in memory
    with nothing_computed():
        masked = mask_clouds(dataset, clouds)
    expected = np.where(drawn("cloud_mask") == 0, truths("B03"), np.nan)
    np.testing.assert_allclose(masked["B03"].values, expected, rtol=1e-6)
    assert masked["B03"].dims == ("time", "y", "x")
    assert masked["SCL"].equals(dataset["SCL"])
    assert np.array_equal(masked["time"], dataset["time"])


def test_shadows_are_hidden_too_where_there_is_a_mask_of_them(cube: Path) -> None:
    dataset = open_cube(cube, decode=False)
    clouds = clouds_of(dataset, names=("cloud_mask", "shadow_mask", "cloud_mask_60"))
    good = (drawn("cloud_mask") == 0) & (drawn("shadow_mask") == 0)
    stored = np.stack([counts("B03", number) for number in range(7)])
    masked = mask_clouds(dataset, clouds)["B03"]
    assert masked.dtype == np.uint16
    assert np.array_equal(masked.values, np.where(good, stored, 0))
    other = mask_clouds(dataset, clouds, masks=["cloud_mask_60"])["B03"].values
    assert np.array_equal(other, np.where(drawn("cloud_mask_60") == 0, stored, 0))


def test_steps_that_the_clouds_lack(cube: Path) -> None:
    dataset = open_cube(cube)
    clouds = clouds_of(dataset, [2, 0, 5])
    with pytest.raises(BadInputError, match=r"lacks 4 of 7 steps \(sentinel-2a_R108_20230105, .* \.\.\.\): update it"):
        mask_clouds(dataset, clouds)
    dropped = mask_clouds(dataset, clouds, missing="drop")
    assert dropped["scene"].values.tolist() == [key(0), key(2), key(5)]
    expected = np.where(drawn("cloud_mask") == 0, truths("B03"), np.nan)
    np.testing.assert_allclose(dropped["B03"].values, expected[[0, 2, 5]], rtol=1e-6)
    hidden = mask_clouds(dataset, clouds, missing="hide")["B03"].values
    np.testing.assert_allclose(hidden[[0, 2, 5]], expected[[0, 2, 5]], rtol=1e-6)
    assert np.isnan(hidden[[1, 3, 4, 6]]).all()
    empty = clouds.isel(time=[])
    assert np.isnan(mask_clouds(dataset, empty, missing="hide")["B03"].values).all()
    assert mask_clouds(dataset, empty, missing="drop").sizes["time"] == 0


def test_what_does_not_fit_is_refused(cube: Path) -> None:
    dataset = open_cube(cube)
    clouds = clouds_of(dataset)
    with pytest.raises(BadInputError, match="no shadow: there are cloud_mask"):
        mask_clouds(dataset, clouds, masks=["shadow"])
    with pytest.raises(BadInputError, match="no cloud_mask: there are a"):
        mask_clouds(dataset, clouds.rename(cloud_mask="a"))
    with pytest.raises(CubeMismatchError, match="y differs"):
        mask_clouds(dataset, clouds.isel(y=slice(1, None)))
    with pytest.raises(CubeMismatchError, match="x differs"):
        mask_clouds(dataset, clouds.assign_coords(x=clouds["x"] + 1))
    with pytest.raises(BadInputError, match="no scene keys"):
        mask_clouds(dataset, clouds.drop_vars("scene"))
    with pytest.raises(BadInputError, match="same scene twice"):
        mask_clouds(dataset, clouds_of(dataset, [0, 0, *ORDER]))
    with pytest.raises(BadInputError, match="'error', 'drop' or 'hide'"):
        mask_clouds(dataset, clouds, missing="ignore")
