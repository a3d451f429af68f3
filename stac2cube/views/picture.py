"""What is shown of a cube, in one word: colours of three bands, an index, a layer, or classes; and its legend."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import xarray as xr

from stac2cube.errors import BadInputError
from stac2cube.kernels.balance import check_balance
from stac2cube.kernels.colour import GREY
from stac2cube.views.classes import class_colours
from stac2cube.views.colour import Nodata, rgb
from stac2cube.views.combinations import bands_of, find_combination
from stac2cube.views.index_names import registry
from stac2cube.views.layer import apply, common_names, is_class, names_text, physical
from stac2cube.views.spectral import indices, recipe_for
from stac2cube.views.stretch import Stretch, limits

Colour = tuple[int, int, int]
Swatch = tuple[Colour, str]
"""A colour and its meaning."""

SCREEN: tuple[Colour, ...] = ((214, 69, 65), (46, 160, 67), (65, 105, 225))
"""Red, green and blue as swatches of a legend."""

RAMPS = {
    "vegetation": "YlGn",
    "kernel": "YlGn",
    "water": "YlGnBu",
    "snow": "Blues",
    "burn": "YlOrBr",
    "soil": "YlOrBr",
    "urban": "OrRd",
    "radar": "viridis",
}
"""Matplotlib's colour maps for the domains of the registry of indices; other layers are shown in grey."""

CLOUD_MASK, SHADOW_MASK = "cloud_mask", "shadow_mask"
"""Layers of a clouds cube, which is shown by both together if nothing else is asked for."""

MASKS = "masks"
"""The word for that."""

SKY: dict[int, Swatch] = {
    0: ((107, 143, 128), "clear"),
    1: ((36, 48, 56), "shadow"),
    2: ((247, 247, 245), "cloud"),
}
"""Colours and meanings of what masks say."""

NO_DATA: Swatch = ((round(255 * GREY),) * 3, "no data")
"""The swatch of a legend for pixels without data, where a picture shows such."""

SHADES: dict[str, int] = {"grey": round(255 * GREY), "white": 255, "black": 0, "alpha": 0}


@dataclass(frozen=True)
class Look:
    """What is shown, and how.

    Attributes:
        show: A colour composite (``"cir"``), three bands with commas, a layer, or a spectral index; "" for natural
            colour where the cube has it, masks of clouds, else its first layer.
        stretch: See :func:`stac2cube.rgb`; ``"series"`` of a single layer is from its 2nd to its 98th percentile.
        balance: Of colours, see :func:`stac2cube.rgb`.
        ramp: Name of a colour map of matplotlib for a single layer; one that suits it if "".
    """

    show: str = ""
    stretch: Stretch = "series"
    balance: str = ""
    ramp: str = ""


@dataclass(frozen=True)
class Legend:
    """What colours mean.

    Attributes:
        title: What is shown.
        swatches: Colour and meaning: bands of a colour composite, classes, or what a ramp does not tell.
        ramp: ``(256, 3)`` uint8 from the lowest value to the highest, None without a ramp.
        limits: These two values.
        units: Theirs.
    """

    title: str
    swatches: tuple[Swatch, ...] = ()
    ramp: np.ndarray | None = None
    limits: tuple[float, float] = (0.0, 1.0)
    units: str = ""


def picture(dataset: xr.Dataset, look: Look | None = None, *, nodata: Nodata = "white") -> tuple[xr.DataArray, Legend]:
    """Every step as a screen shows it, with one stretch for all of them, and the legend.

    Args:
        dataset: An opened cube, dims ``(time, y, x)``.
        look: What is shown; the usual if None.
        nodata: What is shown where there is no data, see :func:`stac2cube.rgb`.

    Returns:
        ``(time, y, x, rgb)`` uint8 as of :func:`stac2cube.rgb`, lazy where the cube is dask's, and what it means. The
        limits of a ramp are computed.

    Raises:
        BadInputError: Nothing of that name, no such stretch, balance or ramp.
    """
    look = look or Look()
    if look.balance:
        check_balance(look.balance)
    word = look.show or _usual(dataset)
    if word == MASKS and CLOUD_MASK in dataset.data_vars:
        return _sky(dataset, nodata)
    if "," in word or find_combination(word) is not None:
        return _colours(dataset, replace(look, show=word), nodata)
    name = common_names(dataset).get(word, word)
    if name in dataset.data_vars:
        layer = dataset[name]
        return _classes(layer, nodata) if is_class(layer) else _ramp(layer, look, nodata)
    require_shown(dataset, word)
    return _ramp(next(iter(indices(dataset, word).data_vars.values())), look, nodata)


def require_shown(dataset: xr.Dataset, word: str) -> None:
    """Refuse a word by which nothing of a cube can be shown; of layers only their names are looked at.

    Raises:
        BadInputError: With what can be shown.
    """
    if "," in word or find_combination(word) is not None:
        bands_of(dataset, _recipe(word))
    elif not (word == MASKS or common_names(dataset).get(word, word) in dataset.data_vars):
        try:
            recipe_for(dataset, word)
        except BadInputError as error:
            raise BadInputError(
                f"there is nothing called {word!r} to show: say colours (true, cir, swir ...), three bands with "
                f"commas, a layer ({names_text(dataset.data_vars)}) or an index; {error}"
            ) from error


def settled(dataset: xr.Dataset, look: Look | None = None) -> Look:
    """A look with the values of black and white that a whole series decides, for pictures of parts of it.

    Arguments and errors as in :func:`picture`; computes.
    """
    look = look or Look()
    word = look.show or _usual(dataset)
    if "," in word or find_combination(word) is not None:
        layers = [physical(dataset[name]) for name in bands_of(dataset, _recipe(word))]
        return replace(look, show=word, stretch=tuple(limits(layers, look.stretch).values.ravel().tolist()))
    _, legend = picture(dataset, look)
    return replace(look, show=word, stretch=look.stretch if legend.ramp is None else legend.limits)


def _recipe(word: str) -> str | tuple[str, ...]:
    several = tuple(part.strip() for part in word.split(","))
    return several if len(several) > 1 else word


def _usual(dataset: xr.Dataset) -> str:
    if CLOUD_MASK in dataset.data_vars:
        return MASKS
    names = common_names(dataset)
    return "true" if {"red", "green", "blue"} <= names.keys() else str(next(iter(dataset.data_vars)))


def _colours(dataset: xr.Dataset, look: Look, nodata: Nodata) -> tuple[xr.DataArray, Legend]:
    recipe = _recipe(look.show)
    shown = rgb(dataset, recipe, stretch=look.stretch, balance=look.balance, nodata=nodata)
    combination = find_combination(look.show)
    title = look.show if combination is None else combination.about.partition(":")[0]
    common = {layer: name for name, layer in common_names(dataset).items()}
    bands = [common.get(layer, layer) for layer in bands_of(dataset, recipe)]
    return shown, Legend(title, tuple(zip(SCREEN, bands, strict=True)))


def _ramp(layer: xr.DataArray, look: Look, nodata: Nodata) -> tuple[xr.DataArray, Legend]:
    from matplotlib import colormaps

    name = look.ramp or _usual_ramp(str(layer.name))
    if name not in colormaps:
        raise BadInputError(f"unknown colour map {name!r}: it is one of matplotlib's, viridis or YlGn for example")
    table = (colormaps[name](np.linspace(0, 1, 256))[:, :3] * 255).round().astype("uint8")
    values = physical(layer)
    edges = limits([values], "p2-p98" if look.stretch == "series" else look.stretch).values[0]
    low, high = float(edges[0]), float(edges[1])
    shown = _painted(values, table, nodata, _Stretched(low, high))
    title = str(layer.name) if layer.name in layer.attrs.get("long_name", "") else ""
    title = title or f"{layer.name}, {layer.attrs.get('long_name', '')}".rstrip(", ")
    units = str(layer.attrs.get("units", "1"))
    return shown, Legend(title, ramp=table, limits=(low, high), units="" if units == "1" else units)


def _sky(dataset: xr.Dataset, nodata: Nodata) -> tuple[xr.DataArray, Legend]:
    """Clear sky, cloud and its shadow in a colour each."""
    cloud = dataset[CLOUD_MASK]
    shadow = dataset[SHADOW_MASK] if SHADOW_MASK in dataset.data_vars else cloud.where(False, 0)
    said = apply(_sky_classes, cloud, shadow, dtype="uint8")
    table = np.zeros((256, 3), "uint8")
    for value, (colour, _) in SKY.items():
        table[value] = colour
    shown = _painted(said, table, nodata, _Classes(frozenset({255})))
    return shown, Legend("clouds and their shadows", tuple(SKY.values()))


def _sky_classes(cloud: np.ndarray, shadow: np.ndarray) -> np.ndarray:
    return np.select([cloud == 1, shadow == 1, cloud == 0], [2, 1, 0], 255).astype("uint8")


def _classes(layer: xr.DataArray, nodata: Nodata) -> tuple[xr.DataArray, Legend]:
    colours, meanings = class_colours(layer)
    table = np.zeros((256, 3), "uint8")
    for value, colour in colours.items():
        table[value] = colour
    none = {value for value, meaning in meanings.items() if meaning in ("no_data", "nodata")} or {255}
    shown = _painted(layer, table, nodata, _Classes(frozenset(none)))
    said = tuple(
        (colours[value], meaning.replace("_", " ")) for value, meaning in meanings.items() if value not in none
    )
    return shown, Legend(str(layer.attrs.get("long_name", layer.name)), said)


@dataclass(frozen=True)
class _Stretched:
    """Values to places in a ramp of 256; -1 without data."""

    low: float
    high: float

    def __call__(self, values: np.ndarray) -> np.ndarray:
        part = (np.nan_to_num(values) - self.low) / (self.high - self.low)
        places: np.ndarray = np.where(np.isfinite(values), np.rint(np.clip(part, 0, 1) * 255), -1).astype("int16")
        return places


@dataclass(frozen=True)
class _Classes:
    """Classes to places in a table of 256; -1 without data."""

    none: frozenset[int]

    def __call__(self, values: np.ndarray) -> np.ndarray:
        missing = ~np.isfinite(values) | np.isin(values, list(self.none))
        places: np.ndarray = np.clip(np.nan_to_num(values), 0, 255).astype("int16")
        places[missing] = -1
        return places


def _painted(layer: xr.DataArray, table: np.ndarray, nodata: Nodata, places: Any) -> xr.DataArray:
    """Places in a table to its colours."""
    if nodata not in SHADES:
        raise BadInputError(f"pixels without data are shown {' or '.join(SHADES)}, not {nodata!r}")
    colours = np.vstack([table, np.full((1, 3), SHADES[nodata], "uint8")])
    channels = ["red", "green", "blue"]
    if nodata == "alpha":
        colours = np.hstack([colours, np.repeat([255, 0], (len(table), 1)).astype("uint8")[:, None]])
        channels = [*channels, "alpha"]
    shown: xr.DataArray = xr.apply_ufunc(
        _paint,
        layer,
        kwargs={"places": places, "colours": colours},
        output_core_dims=[["rgb"]],
        dask="parallelized",
        dask_gufunc_kwargs={"output_sizes": {"rgb": len(channels)}},
        output_dtypes=[np.dtype("uint8")],
        keep_attrs=False,
    )
    return shown.assign_coords(rgb=np.array(channels, dtype=object)).rename("rgb")


def _paint(values: np.ndarray, places: Any, colours: np.ndarray) -> np.ndarray:
    painted: np.ndarray = colours[places(values)]
    return painted


def _usual_ramp(layer: str) -> str:
    entry = registry().get(layer)
    return "gray" if entry is None else RAMPS.get(str(entry.application_domain), "viridis")
