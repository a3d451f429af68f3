"""What is chosen on the page, and the recipe that says it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from stac2cube.errors import BadInputError
from stac2cube.mission import Mission, find_mission
from stac2cube.period import parse_period
from stac2cube.trust.address import public_each

_NAME = re.compile(r"[A-Za-z0-9][\w-]{0,63}", re.ASCII)


@dataclass(frozen=True)
class Product:
    """Something the page offers to make of the layers.

    Attributes:
        name: On the page.
        title: For people.
        needs: Common names of bands it is made from.
        entries: Of the recipe.
    """

    name: str
    title: str
    needs: tuple[str, ...]
    entries: Mapping[str, Mapping[str, Any]]


def products_of(mission: Mission) -> tuple[Product, ...]:
    """What can be offered for a mission."""
    by_common = {band.common_name: band.name for band in mission.bands.values()}
    offered = [
        Product("clear", f"Hide clouds by {name}", (name,), {"clouds": {"method": name.lower()}, "mask": {}})
        for name in ("SCL", "QA_PIXEL")
        if name in mission.bands
    ]
    if {"red", "nir"} <= by_common.keys():
        names = {"names": ["ndvi"]}
        offered.append(Product("ndvi", "NDVI of every date", (by_common["red"], by_common["nir"]), {"indices": names}))
    if not mission.static:
        monthly = {"monthly": {"period": "month", "method": "median"}}
        offered.append(Product("monthly", "Monthly medians", (), {"composite": monthly}))
    offered.append(Product("quicklook", "A picture of every date", (), {"quicklook": {}}))
    offered.append(Product("report", "A report", (), {"report": {}}))
    return tuple(offered)


@dataclass(frozen=True)
class Draft:
    """What is chosen.

    Attributes:
        area: Its number in the session.
        mission: Name.
        catalog: Name, URL, path, or "auto".
        time: Time words.
        bands: Names; () for the mission's default.
        resolution: Pixel edge, None for the finest band's.
        max_cloud_cover: Percent, None for any.
        products: Names of :func:`products_of`.
        name: Of the recipe.
    """

    area: int
    mission: str
    catalog: str = "auto"
    time: str = ""
    bands: tuple[str, ...] = ()
    resolution: float | None = None
    max_cloud_cover: float | None = None
    products: tuple[str, ...] = ()
    name: str = "recipe"

    @classmethod
    def of(cls, said: Mapping[str, Any]) -> Draft:
        """From what the page sends.

        Raises:
            BadInputError: Something is lacking or of another kind.
        """
        if said.get("area") is None:
            raise BadInputError("there is no area yet: draw one, open a file, or write its corners")
        if not str(said.get("time") or "").strip() and not find_mission(str(said["mission"])).static:
            raise BadInputError("there is no time yet: a year will do, for example 2024")
        try:
            return cls(
                area=int(said["area"]),
                mission=str(said["mission"]),
                catalog=str(said.get("catalog") or "auto"),
                time=str(said.get("time") or "").strip(),
                bands=tuple(map(str, said.get("bands") or ())),
                resolution=_number(said.get("resolution")),
                max_cloud_cover=_number(said.get("max_cloud_cover")),
                products=tuple(map(str, said.get("products") or ())),
                name=str(said.get("name") or "recipe"),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise BadInputError(f"the page sent something that is not understood: {error}") from error

    def chosen_bands(self) -> tuple[str, ...]:
        """Names of the bands chosen and of those that products need; () where that is the mission's default.

        Raises:
            BadInputError: An unknown mission or band.
        """
        mission = find_mission(self.mission)
        names = [band.name for band in mission.choose_bands(self.bands or None)]
        needed = [need for one in self._offered() for need in one.needs if need not in names]
        whole = tuple(dict.fromkeys([*names, *needed]))
        return () if set(whole) == set(mission.default_bands) else whole

    def recipe(self, aoi: str | Mapping[str, Any]) -> str:
        """The recipe.

        Args:
            aoi: The word for the area.

        Raises:
            BadInputError: The name will not do for a file.
        """
        if not _NAME.fullmatch(self.name):
            raise BadInputError(f"a recipe's name is letters, digits, - and _, not {self.name!r}")
        layers = {
            "mission": self.mission,
            "aoi": aoi,
            "time": parse_period(self.time).text if self.time else None,
            "bands": list(self.chosen_bands()) or None,
            "resolution": self.resolution,
            "max_cloud_cover": self.max_cloud_cover,
            "catalog": None if self.catalog == "auto" else public_each(self.catalog),
        }
        said = {word: value for word, value in layers.items() if value is not None}
        content: dict[str, Mapping[str, Any]] = {"layers": said}
        for product in self._offered():
            content |= product.entries
        parts = [yaml.safe_dump({"cubes": self.name})]
        parts += [_written(name, words) for name, words in content.items()]
        return f"# What it does: stac2cube config show {self.name}.yaml --commands\n{''.join(parts)}"

    def _offered(self) -> tuple[Product, ...]:
        offered = products_of(find_mission(self.mission))
        return tuple(product for product in offered if product.name in self.products)


def _number(value: Any) -> float | None:
    if value in (None, ""):
        return None
    number = float(value)
    return int(number) if number.is_integer() else number


def _written(name: str, words: Mapping[str, Any]) -> str:
    """An entry: nothing where nothing is said, short lists on their line."""
    if not words:
        return f"{name}:\n"
    lines = [f"{name}:"]
    for word, value in words.items():
        flow = isinstance(value, (list, dict))
        text = yaml.safe_dump(value, default_flow_style=flow, width=10**6, sort_keys=False, allow_unicode=True)
        lines.append(f"  {word}: {text.removesuffix('...' + chr(10)).strip()}")
    return "\n".join(lines) + "\n"
