from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from stac2cube.errors import BadInputError
from stac2cube.model.classes import WORDS
from stac2cube.store.reader import open_cube
from stac2cube.views.masks import class_mask, mask_classes
from tests.views.cubes import classes, counts, image, nothing_computed, truths

ALL = np.stack([classes(number) for number in range(7)])

# Written down from ESA's table of classes, word by word.
SCL = {
    "nodata": {0},
    "saturated": {1},
    "dark": {2},
    "shadow": {3},
    "land": {4, 5},
    "water": {6},
    "unclassified": {7},
    "cloud": {8, 9},
    "cirrus": {10},
    "snow": {11},
    "clear": {4, 5, 6, 11},
}

# Values that USGS prints as examples in its tables of QA_PIXEL interpretations, and some bits by hand.
QA_PIXEL = {
    1: "nodata",
    21824: "land",  # clear with low confidences
    21952: "water",  # clear over water
    22280: "cloud",  # high confidence cloud
    22018: "near_cloud",
    54596: "cirrus",  # dilated cloud is not set, high confidence cirrus
    23888: "shadow",  # high confidence cloud shadow
    30048: "snow",
    23826: "near_cloud",  # dilated cloud over shadow: what decides comes first
    55052: "cloud",
    0b1001_0000: "shadow",
    0b1010_0000: "snow",
}


@pytest.mark.parametrize("word", SCL)
@pytest.mark.parametrize("decode", [True, False])
def test_scene_classes_word_by_word(cube: Path, word: str, decode: bool) -> None:
    with nothing_computed():
        mask = class_mask(open_cube(cube, decode=decode), [word])
    assert mask.dtype == bool
    assert np.array_equal(mask.values, np.isin(ALL, list(SCL[word])))


def test_the_words_part_all_pixels(cube: Path) -> None:
    dataset = open_cube(cube, chunks=None)
    times_named = sum(class_mask(dataset, [word]).values.astype(int) for word in SCL if word != "clear")
    assert (times_named == 1).all()


@pytest.mark.parametrize("floats", [False, True])
def test_quality_bits(floats: bool) -> None:
    values = np.array([list(QA_PIXEL)], "uint16")
    layer = image(values, "QA_PIXEL", flag_masks=[1, 2])
    if floats:  # as xarray decodes a fill value of 1
        layer = layer.where(layer != 1)
    dataset = layer.to_dataset().chunk({"x": 5})
    for word in set(QA_PIXEL.values()):
        said = class_mask(dataset, [word]).values[0]
        assert said.tolist() == [other == word for other in QA_PIXEL.values()], word
    clear = class_mask(dataset, ["clear"]).values[0]
    assert clear.tolist() == [word in ("land", "water", "snow") for word in QA_PIXEL.values()]


@pytest.mark.parametrize("chunks", ["shards", None, {"y": 33, "x": 20}])
def test_clear_pixels_are_kept_others_have_no_data(cube: Path, chunks) -> None:
    with nothing_computed():
        masked = mask_classes(open_cube(cube, chunks=chunks))
    clear = np.isin(ALL, [4, 5, 6, 11])
    expected = np.where(clear, truths("B08"), np.nan)
    np.testing.assert_allclose(masked["B08"].values, expected, rtol=1e-6)
    assert np.array_equal(masked["SCL"].values, ALL)
    assert masked["B08"].attrs["long_name"] == "near infrared"


def test_stored_numbers_stay_integers_with_their_fill(cube: Path) -> None:
    with nothing_computed():
        masked = mask_classes(open_cube(cube, decode=False), drop=["cloud", "cirrus", "shadow", "snow"])["B04"]
    bad = np.isin(ALL, [0, 3, 8, 9, 10, 11])
    stored = np.stack([counts("B04", number) for number in range(7)])
    assert masked.dtype == np.uint16
    assert np.array_equal(masked.values, np.where(bad, 0, stored))


def test_what_cannot_be_asked(cube: Path) -> None:
    dataset = open_cube(cube)
    with pytest.raises(BadInputError, match="unknown class clouds: known are clear, nodata"):
        mask_classes(dataset, keep=["clouds"])
    with pytest.raises(BadInputError, match="SCL has no class near_cloud"):
        mask_classes(dataset, drop=["near_cloud"])
    with pytest.raises(BadInputError, match="not both"):
        mask_classes(dataset, keep=["land"], drop=["cloud"])
    with pytest.raises(BadInputError, match="no classification"):
        mask_classes(dataset.drop_vars("SCL"))
    both = dataset.assign(QA_PIXEL=dataset["SCL"].astype("uint16"))
    with pytest.raises(BadInputError, match="choose one with layer="):
        mask_classes(both)
    assert mask_classes(both, layer="SCL")["B04"].equals(mask_classes(dataset)["B04"])
    assert set(SCL) - {"clear"} < set(WORDS)
