"""The picture against which scenes are measured."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import stac2cube
from stac2cube.build.plan import Block
from stac2cube.coregister.reference import MakeReference
from stac2cube.errors import BadInputError
from stac2cube.model.grid import grid_from_geobox
from tests.stages.shifted import Take, series
from tests.stages.test_coregister import LATTICE, PHASE


@dataclass(frozen=True)
class Arrays:
    """Pictures that are arrays, NaN where they show no ground."""

    def read(self, picture: np.ndarray, window: tuple[slice, slice]) -> tuple[np.ndarray, np.ndarray]:
        return picture[window], np.isfinite(picture[window])


def median_of(*pictures: np.ndarray) -> np.ndarray:
    look: Any = Arrays()
    made_of: Any = pictures
    return MakeReference(look)(made_of, Block(grid_from_geobox(LATTICE[:4, :4]), (0, 0)))["picture"]


def test_a_median_shows_ground_where_three_scenes_do() -> None:
    pictures = [np.full((4, 4), value, "float32") for value in (1, 5, 2, 9)]
    pictures[3][0] = pictures[2][1] = pictures[3][1] = np.nan
    made = median_of(*pictures)
    assert (made[2:] == 3.5).all()
    assert (made[0] == 2).all()
    assert np.isnan(made[1]).all(), "the mean of two would be a double image"
    assert (median_of(pictures[0]) == 1).all(), "one scene is itself"


def test_a_median_of_two_scenes_is_refused(tmp_path: Path) -> None:
    layers = series(tmp_path, [Take("2022-06-05"), Take("2022-06-15", 12, -7)])
    out = tmp_path / "out.zarr"
    with pytest.raises(BadInputError, match=r"median needs 3 scenes or more, and .* has 2"):
        stac2cube.coregister_scenes(layers, out, rules=replace(PHASE, reference="median"))
    assert not out.exists()
