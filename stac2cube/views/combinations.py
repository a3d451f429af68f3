"""Colour composites by name: which bands are shown as red, green and blue of a screen (``tables/colours.toml``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import xarray as xr

from stac2cube.errors import BadInputError
from stac2cube.table import shipped_and_own
from stac2cube.views.layer import common_names, names_text

TABLE = "colours.toml"


@dataclass(frozen=True)
class Combination:
    """Three bands.

    Attributes:
        bands: Common names, in the order red, green, blue of the screen.
        about: What it shows.
        aliases: Other names for it.
    """

    bands: tuple[str, str, str]
    about: str = ""
    aliases: tuple[str, ...] = ()


def combinations() -> dict[str, Combination]:
    """All of them by name: as shipped, then a person's own that add or override.

    Raises:
        TableError: A table is malformed.
    """
    found: dict[str, Combination] = {}
    for file in shipped_and_own(TABLE):
        for name, value in file.parse().items():
            file.check(Combination, value, f"the colours {name}")
            lists = {key: tuple(part) for key, part in value.items() if isinstance(part, list)}
            found[name] = Combination(**{**value, **lists})
    return found


def find_combination(name: str) -> Combination | None:
    """By its name or another for it; None if there is none."""
    known = combinations()
    return known.get(name) or next((one for one in known.values() if name in one.aliases), None)


def bands_of(dataset: xr.Dataset, recipe: str | Sequence[str]) -> list[str]:
    """Names of the layers that are shown as red, green and blue.

    Args:
        dataset: An opened cube.
        recipe: A name, or three bands by common name or name of the layer.

    Raises:
        BadInputError: Unknown name, not three bands, or one that is not there.
    """
    if isinstance(recipe, str):
        combination = find_combination(recipe)
        if combination is None:
            known = [word for name, one in combinations().items() for word in (name, *one.aliases)]
            raise BadInputError(f"unknown colours {recipe!r}: known are {names_text(known)}, or name three bands")
        wanted: Sequence[str] = combination.bands
    else:
        wanted = tuple(recipe)
    if len(wanted) != 3:
        raise BadInputError(f"colours are made of three bands, not {len(wanted)}")
    common: Mapping[str, str] = common_names(dataset) | {str(name): str(name) for name in dataset.data_vars}
    lacking = [band for band in wanted if band not in common]
    if lacking:
        raise BadInputError(f"there is no {names_text(lacking)} band to show: there are {names_text(common)}")
    return [common[band] for band in wanted]
