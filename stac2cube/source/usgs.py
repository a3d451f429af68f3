"""Assets of Landsat items as the USGS called them at first: by the ends of their file names, ``SR_B2.TIF``.

Band numbers mean other colours on TM and ETM+ (Landsat 4 to 7) than on OLI (8 and 9): USGS, Landsat Collection 2
Level-2 Science Product Guides, LSDS-1618 and LSDS-1619. Today's items call assets by their common names.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_TM = {"1": "blue", "2": "green", "3": "red", "4": "nir08", "5": "swir16", "7": "swir22"}
_OLI = {"1": "coastal", "2": "blue", "3": "green", "4": "red", "5": "nir08", "6": "swir16", "7": "swir22"}
_OLD = re.compile(r"(?:.*_)?(SR_B(\d)|ST_B(?:6|10)|QA_PIXEL|QA_RADSAT)\.TIF", re.IGNORECASE)
_PRODUCT = re.compile(r"L([COET])0(\d)_")


def assets_of_today(item: Mapping[str, Any]) -> Mapping[str, Any]:
    """Assets of an item by today's names; those that have them, and all of other items, as they are."""
    assets: Mapping[str, Any] = item["assets"]
    old = {key: match for key in assets if (match := _OLD.fullmatch(key))}
    product = _PRODUCT.match(str(item["id"])) if old else None
    if product is None:
        return assets
    numbers = _OLI if int(product[2]) >= 8 else _TM
    named = {key: _name(match, numbers) for key, match in old.items()}
    return {named.get(key) or key: asset for key, asset in assets.items()}


def _name(match: re.Match[str], numbers: Mapping[str, str]) -> str:
    if match[2]:
        return numbers.get(match[2], "")
    word = match[1].upper()
    return "lwir" if word.startswith("ST") else word.lower()
