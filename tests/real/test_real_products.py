"""The products' own metadata files, recorded; and items that say nothing but where that file lies."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from stac2cube.algorithms.radiometry import ProductFacts, parse_product
from stac2cube.errors import RadiometryError
from stac2cube.model.catalog import find_catalog
from stac2cube.model.mission import find_mission
from stac2cube.model.scene import identify
from stac2cube.search.items import Reading, to_granule
from tests.real.recorded import DATA, real

pytestmark = real

SAFE = DATA / "safe_xml"
SAID = {
    "S2A_MSIL1C_20210908T042701_N0301_R133_T46RER_20210908T070248.SAFE/MTD_MSIL1C.xml": ProductFacts("03.01", 0),
    "S2B_MSIL2A_20220413T150759_N0400_R025_T33XWJ_20220414T082126.SAFE/MTD_MSIL2A.xml": ProductFacts("04.00", -1000),
    "S2A_MSIL2A_20230625T234621_N0509_R073_T01WCP_20230626T022157.SAFE/MTD_MSIL2A.xml": ProductFacts("05.09", -1000),
}
"""Read with one's own eyes."""


@pytest.mark.parametrize("file", SAID)
def test_what_products_say(file: str) -> None:
    assert parse_product((SAFE / file).read_text(), file) == SAID[file]


@pytest.mark.parametrize(("file", "shift"), list(zip(SAID, (1000, 0, 0), strict=True)))
def test_an_item_that_says_nothing_is_known_by_its_product(file: str, shift: int, tmp_path: Path) -> None:
    level = "l1c" if "L1C" in file else "l2a"
    feature = {
        "id": "nameless",
        "collection": f"sentinel-2-{level}",
        "geometry": {"type": "Polygon", "coordinates": [[[9, 47], [10, 47], [10, 48], [9, 47]]]},
        "properties": {"datetime": "2022-01-01T00:00:00Z", "platform": "sentinel-2a", "sat:relative_orbit": 1},
        "assets": {
            "B04": {"href": "file:///nowhere/B04.jp2"},
            "product_metadata": {"href": f"file://{SAFE / file}"},
        },
    }
    mission = find_mission(f"sentinel-2-{level}")
    reading = Reading(
        mission, replace(find_catalog("terrabyte"), local_root=(str(SAFE), "/nowhere")), mission.choose_bands(["B04"])
    )
    granule = to_granule(feature, reading, identify(feature, mission))
    assert granule.assets["B04"].shift == shift
    del feature["assets"]["product_metadata"]
    with pytest.raises(RadiometryError, match="neither its processing baseline nor an offset"):
        to_granule(feature, reading, identify(feature, mission))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("<a>", "not XML"),
        ("<a/>", "not the metadata of a Sentinel-2 product"),
        (
            "<a><PROCESSING_BASELINE>09.00</PROCESSING_BASELINE><QUANTIFICATION_VALUE>5000</QUANTIFICATION_VALUE></a>",
            "5000",
        ),
        (
            "<a><PROCESSING_BASELINE>09.00</PROCESSING_BASELINE><QUANTIFICATION_VALUE>10000</QUANTIFICATION_VALUE>"
            "<RADIO_ADD_OFFSET band_id='0'>-1000</RADIO_ADD_OFFSET>"
            "<RADIO_ADD_OFFSET band_id='1'>-500</RADIO_ADD_OFFSET></a>",
            "offsets that no rule covers",
        ),
    ],
)
def test_what_no_rule_covers_is_refused(text: str, words: str) -> None:
    with pytest.raises(RadiometryError, match=words):
        parse_product(text, "a.xml")
