"""Roles: what a file of a product is for, in words that hold in every catalog.

``l1c.band.B02`` is a band, ``l1c.product_metadata`` the product's own metadata (``MTD_MSIL1C.xml``),
``l1c.tile_metadata`` its granule's (``MTD_TL.xml``); ``l2a.scl_20m``, ``l2a.aot_20m`` and ``l2a.wvp_20m`` are what only
Level-2A has. ``l1c.band.*`` stands for all bands of a level.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stac2cube.errors import BadInputError
from stac2cube.mission import find_mission

LEVELS = {"l1c": "sentinel-2-l1c", "l2a": "sentinel-2-l2a"}
"""First word of a role -> mission."""

METADATA = {
    "product_metadata": ("product_metadata", "product-metadata"),
    "tile_metadata": ("granule_metadata", "granule-metadata", "tile_metadata"),
}
"""Metadata files -> what catalogs call them (all recorded answers agree in these)."""

CLASSES = {name: (f"{name.upper()}_20m", name, name.upper()) for name in ("scl", "aot", "wvp")}
"""Layers of Level-2A at 20 m -> what catalogs call them."""

DEFAULT = ("l1c.band.*", "l1c.product_metadata", "l1c.tile_metadata", "l2a.scl_20m")
"""What is fetched if nothing is said: all that samples of Level-1C with classes as labels need."""


@dataclass(frozen=True, order=True)
class Role:
    """A role.

    Attributes:
        word: ``"l1c.band.B02"``.
        level: ``"l1c"``.
        assets: What its asset may be called, in order of preference.
    """

    word: str
    level: str
    assets: tuple[str, ...]

    def asset_of(self, item: Mapping[str, Any]) -> str:
        """Name of its asset in an item, "" if it has none."""
        return next((name for name in self.assets if name in item["assets"]), "")


def parse_roles(words: Sequence[str], catalog: str = "") -> tuple[Role, ...]:
    """Roles by their words, in order, each once.

    Args:
        words: As ``"l1c.band.B02"`` or ``"l1c.band.*"``.
        catalog: The catalog whose names for bands come first.

    Raises:
        BadInputError: One is not known; says which are.
    """
    found: dict[str, Role] = {}
    for word in words:
        level, _, rest = word.partition(".")
        if level not in LEVELS:
            raise BadInputError(
                f"role {word!r} begins with no level: say one of {', '.join(LEVELS)}, as in l1c.band.B02"
            )
        known = _known(level, catalog)
        chosen = [name for name in known if name.startswith("band.")] if rest == "band.*" else [rest]
        for name in chosen:
            if name not in known:
                raise BadInputError(f"there is no role {word!r}; of {level} there are {', '.join(known)}")
            found.setdefault(f"{level}.{name}", Role(f"{level}.{name}", level, known[name]))
    return tuple(found.values())


def metadata_href(item: Mapping[str, Any], kind: str) -> str:
    """Where a metadata file of an item lies, "" if the item does not say.

    Args:
        item: A STAC item.
        kind: A key of :data:`METADATA`.
    """
    return next((str(item["assets"][name]["href"]) for name in METADATA[kind] if name in item["assets"]), "")


def _known(level: str, catalog: str) -> dict[str, tuple[str, ...]]:
    mission = find_mission(LEVELS[level])
    pages = sorted(mission.pages, key=lambda page: page.catalog != catalog)
    bands = {
        f"band.{band.name}": tuple(dict.fromkeys(name for page in pages for name in page.asset_names(band)))
        for band in mission.bands.values()
        if band.quantity.name == "reflectance"
    }
    classes = {f"{name}_20m": names for name, names in CLASSES.items()} if level == "l2a" else {}
    return bands | METADATA | classes
