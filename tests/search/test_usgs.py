"""Landsat items whose assets are called by the ends of their file names."""

from __future__ import annotations

import pytest

from stac2cube.search.parsing import assets_of_today

OLD = ("SR_B2.TIF", "SR_B4.TIF", "SR_B5.TIF", "SR_B7.TIF", "QA_PIXEL.TIF", "ST_B10.TIF", "MTL.txt")


@pytest.mark.parametrize(
    ("product", "names"),
    [
        ("LC08_L2SP_028030_20200114_20200824_02_T1", ["blue", "red", "nir08", "swir22"]),
        ("LE07_L2SP_028030_20200114_20200824_02_T1", ["green", "nir08", "swir16", "swir22"]),
    ],
)
def test_old_names_are_the_common_ones_of_their_sensor(product: str, names: list[str]) -> None:
    named = assets_of_today({"id": product, "assets": {name: {"href": name} for name in OLD}})
    assert list(named) == [*names, "qa_pixel", "lwir", "MTL.txt"]
    assert [named[name]["href"] for name in names] == list(OLD[:4])


def test_todays_names_and_strangers_stay() -> None:
    assets = {"blue": {"href": "a"}, "x.TIF": {"href": "b"}}
    assert assets_of_today({"id": "LC09_L2SP_x", "assets": assets}) == assets
    strange = {"SR_B2.TIF": {"href": "a"}}
    assert assets_of_today({"id": "unknown", "assets": strange}) is strange
