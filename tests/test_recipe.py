"""Recipes: what is understood, and what is refused with its reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from stac2cube.errors import BadInputError
from stac2cube.recipe import read_recipe, write_recipe


def test_a_recipe_and_back(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("cubes: alps\nreport:\nlayers:\n  mission: sentinel-2-l2a\n  max-cloud-cover: 40\n")
    recipe = read_recipe(path)
    assert recipe.cube("layers") == tmp_path / "alps" / "layers.zarr"
    assert list(recipe.stages) == ["layers", "report"], "in the order in which they run"
    assert recipe.stages["layers"] == {"mission": "sentinel-2-l2a", "max_cloud_cover": 40}
    write_recipe(recipe)
    assert read_recipe(path) == recipe


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("layers: {mission: m}", "at least 'cubes: FOLDER'"),
        ("cubes: a", "names no stage"),
        ("cubes: a\nlayer:", "has 'layer'; known are cubes, layers"),
        ("cubes: a\nlayers: {missoin: m}", "layers does not know 'missoin'; known words are .*mission"),
        ("cubes: a\nlayers: [1, 2]", "should be a table"),
        ("cubes: [a", "is not YAML"),
        ("- 1", "at least 'cubes: FOLDER'"),
    ],
)
def test_a_recipe_that_is_wrong(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(BadInputError, match=words):
        read_recipe(path)


def test_no_recipe(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="cannot be read: No such file"):
        read_recipe(tmp_path / "nothing.yaml")
