"""What tells whether the files behind an item are still those that a step was made from.

A processing baseline alone does not: archives replace broken products by new ones of the same baseline, under another
id or under the same (microsoft/PlanetaryComputer, discussions 264 and 291). So a step remembers of its items when they
were made, by which product, when the catalog wrote them, and their checksums.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from stac2cube.source.identity import Item, generated, moment_or_none

_PRODUCTS = ("s2:product_uri", "s2:datastrip_id", "eopf:datastrip_id", "s1:product_identifier", "landsat:product_id")
_CHECKSUMS = ("file:checksum", "checksum:multihash")

Standing = Literal["newer", "same", "older"]


def version_of(item: Item, assets: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Facts of an item that change when its files do; those that it does not say are absent.

    Args:
        item: The item.
        assets: Those that are read.

    Returns:
        ``generated``, ``created`` and ``updated`` as times of ISO 8601; ``product``, the names of product and
        datastrip; ``checksum``, of the checksums of all assets read, if all have one.
    """
    properties = item["properties"]
    found = {"generated": generated(item)}
    for key in ("created", "updated"):
        time = moment_or_none(properties.get(key))
        found[key] = time.isoformat(timespec="microseconds") if time else ""
    found["product"] = " ".join(str(properties[key]) for key in _PRODUCTS if isinstance(properties.get(key), str))
    sums = [next((str(asset[key]) for key in _CHECKSUMS if asset.get(key)), "") for asset in assets]
    if sums and all(sums):
        found["checksum"] = hashlib.sha256("\n".join(sorted(sums)).encode()).hexdigest()[:16]
    return {key: value for key, value in found.items() if value}


def standing(had: Mapping[str, str], now: Mapping[str, str]) -> Standing:
    """How an item as it is now stands to what it was, or to the one in whose place it stands.

    Equal checksums say that nothing changed, whatever times say. Of what only one of both says nothing follows.
    """
    sums = had.get("checksum"), now.get("checksum")
    if all(sums) and sums[0] == sums[1]:
        return "same"
    made = had.get("generated", ""), now.get("generated", "")
    if all(made) and made[0] != made[1]:
        return "newer" if made[1] > made[0] else "older"
    if all(sums):
        return "newer"
    products = had.get("product"), now.get("product")
    if all(products) and products[0] != products[1]:
        return "newer"
    for key in ("created", "updated"):
        times = had.get(key, ""), now.get(key, "")
        if all(times) and times[1] > times[0]:
            return "newer"
    return "same"
