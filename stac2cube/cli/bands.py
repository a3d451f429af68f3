"""Whether the indices and colours that a recipe names have their bands: told by its words, before anything is made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from stac2cube.cli.words import listed
from stac2cube.errors import BadInputError
from stac2cube.recipe.file import Entry, Recipe

if TYPE_CHECKING:
    import xarray as xr

KEEPING = ("mask", "coregister", "superres")
"""Kinds that have the bands of what they are made of."""

SPEAKING = ("names", "by", "indices", "show")
"""Words that speak of indices or colours."""

Parameters = Callable[[Recipe, Entry], Mapping[str, Any]]


def require_bands(recipe: Recipe, entry: Entry, parameters_of: Parameters) -> None:
    """Refuse an index or colours of bands that an entry is not made of.

    What is made of a cube that no entry makes is not known here, and neither are clouds.

    Args:
        recipe: The recipe.
        entry: One of its entries.
        parameters_of: What an entry's command understands.

    Raises:
        BadInputError: Naming the index and the band, and the entry that lacks it.
    """
    said = {word: entry.words[word] for word in SPEAKING if entry.words.get(word)}
    source = _source(recipe, entry)
    if not said or source is None or (bands := _bands(recipe, source, parameters_of)) is None:
        return
    from stac2cube.views.picture import require_shown  # with xarray and pandas: only where there is something to check
    from stac2cube.views.spectral import recipe_for

    try:
        for word, value in said.items():
            names = _names(value)
            if word == "show":
                require_shown(bands, ",".join(names))
            else:
                for name in names:
                    if word != "by" or name not in bands.data_vars:
                        recipe_for(bands, name)
    except BadInputError as error:
        raise BadInputError(f"made of {source.label}: {error}") from error


def _source(recipe: Recipe, entry: Entry) -> Entry | None:
    """The entry whose pixels another is made of."""
    names = entry.inputs.get("of", ())
    return next((other for other in recipe.entries if other.kind.feeds and names == (other.name,)), None)


def _bands(recipe: Recipe, entry: Entry, parameters_of: Parameters) -> xr.Dataset | None:
    """What an entry makes, with layers but without pixels; None if that is not known."""
    from stac2cube.mission import find_mission
    from stac2cube.views.index_names import plain_name, registry_name

    if entry.kind.name == "layers":
        parameters = parameters_of(recipe, entry)
        mission = find_mission(parameters["mission"])
        return _empty([band.name for band in mission.choose_bands(listed(parameters["bands"]))], mission.name)
    source = _source(recipe, entry)
    bands = None if source is None else _bands(recipe, source, parameters_of)
    if bands is None or entry.kind.name in KEEPING:
        return bands
    if entry.kind.name == "composite":
        chosen = _names(entry.words.get("layers") or tuple(bands.data_vars))
        return bands[[name for name in chosen if name in bands.data_vars]]
    if entry.kind.name == "indices":
        return _empty([plain_name(registry_name(name)) for name in _names(entry.words["names"])], "")
    return None


def _empty(layers: list[str], mission: str) -> xr.Dataset:
    import numpy as np
    import xarray as xr

    nothing = (("time", "y", "x"), np.zeros((0, 0, 0), "float32"))
    return xr.Dataset(dict.fromkeys(layers, nothing), attrs={"mission": mission})


def _names(value: Any) -> list[str]:
    return list(value) if isinstance(value, tuple) else list(listed(str(value)) or ())
