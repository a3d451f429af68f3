from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from stac2cube.errors import BadInputError, TableError
from stac2cube.store.reader import open_cube
from stac2cube.views.masks import mask_by, mask_classes, mask_recipes
from tests.views.cubes import classes, image, nothing_computed, truths

SCENES = np.stack([classes(number) for number in range(7)])

HIDDEN = {
    "clear": {0, 1, 2, 3, 7, 8, 9, 10},
    "clouds": {0, 3, 8, 9, 10},
    "clouds_snow": {0, 3, 8, 9, 10, 11},
    "strict": {0, 1, 2, 3, 7, 8, 9, 10, 11},
    "3,8,9,10,11": {0, 3, 8, 9, 10, 11},
    "cloud, shadow": {0, 3, 8, 9},
    "snow": {0, 11},
}
"""Classes of SCL that each recipe hides, written down from docs/products.md."""


@pytest.mark.parametrize("recipe", HIDDEN)
@pytest.mark.parametrize("decode", [True, False])
def test_each_recipe_hides_its_classes(cube: Path, recipe: str, decode: bool) -> None:
    with nothing_computed():
        masked = mask_by(open_cube(cube, decode=decode), recipe)
    hidden = np.isin(SCENES, list(HIDDEN[recipe]))
    values = masked["B08"].values
    gone = np.isnan(values) if decode else values == 0
    assert np.array_equal(gone, hidden | np.isnan(truths("B08")))
    assert np.array_equal(masked["SCL"].values, SCENES), "classes stay: they say why"


def test_the_shipped_recipes_fit_landsat_too() -> None:
    bits = np.array([[1, 21824, 22280, 54596, 23888, 30048]], "uint16")  # nothing, land, cloud, cirrus, shadow, snow
    dataset = xr.Dataset({"red": image(np.full((1, 6), 0.2, "float32")), "qa_pixel": image(bits, "qa_pixel")})
    dataset["qa_pixel"].attrs |= {"flag_masks": [1, 2], "flag_values": [1, 2]}
    shown = {name: np.isfinite(mask_by(dataset, name)["red"].values[0]).tolist() for name in mask_recipes()}
    assert shown["clear"] == [False, True, False, False, False, True]
    assert shown["clouds"] == [False, True, False, False, False, True]
    assert shown["clouds_snow"] == shown["strict"] == [False, True, False, False, False, False]
    with pytest.raises(BadInputError, match="holds bits, not numbers of classes"):
        mask_by(dataset, "3,8")


def test_what_is_refused(cube: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = open_cube(cube)
    with pytest.raises(BadInputError, match="unknown mask 'fog': known are clear, clouds, clouds_snow, strict; or say"):
        mask_by(dataset, "fog")
    with pytest.raises(BadInputError, match="SCL has no class 12"):
        mask_by(dataset, "3,12")
    with pytest.raises(BadInputError, match="SCL has no class near_cloud"):
        mask_by(dataset, "near_cloud,cloud")
    with pytest.raises(BadInputError, match="no classification"):
        mask_by(dataset.drop_vars("SCL"), "clear")
    monkeypatch.setenv("STAC2CUBE_CONFIG_DIR", str(tmp_path))
    table = tmp_path / "masks.toml"
    table.write_text('[mine]\ndrop = ["water"]')
    assert mask_by(dataset, "mine").equals(mask_classes(dataset, drop=["water"]))
    for text, problem in (
        ('[mine]\ndrop = ["rain"]', "unknown words rain"),
        ('[mine]\ndrop = ["snow"]\nkeep = ["water"]', "either keep or drop"),
        ('[mine]\nabout = "nothing"', "either keep or drop"),
        ("[mine]\nhide = []", "no key 'hide'"),
    ):
        table.write_text(text)
        with pytest.raises(TableError, match=problem):
            mask_by(dataset, "clear")
