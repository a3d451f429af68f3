"""From layers to colours: band combinations, stretch, balance, legends."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import xarray as xr

from stac2cube.errors import BadInputError
from stac2cube.model.tables import shipped_and_own
from stac2cube.views.indices import formula_for, indices, registry
from stac2cube.views.masks import class_colours
from stac2cube.views.options import Stretch, Style
from stac2cube.views.units import apply, common_names, derived_attributes, is_class, names_text, physical

# Colour balance of a picture in rio-color's notation: contrast, gamma and saturation.
#
# The package color-operations, the maintained fork of rio-color that rio-tiler uses, implements them: ``sigmoidal BANDS
# CONTRAST BIAS`` is ImageMagick's sigmoidal contrast, ``gamma BANDS G`` the power 1/G, ``saturation PROPORTION`` a
# factor on the chroma of CIE LCH.


def balanced(colours: np.ndarray, operations: str) -> np.ndarray:
    """Apply colour operations, one after another.

    Args:
        colours: ``(..., 3)`` float, 0 to 1.
        operations: For example ``"gamma B 0.9, sigmoidal RGB 6 0.4, saturation 1.2"``.

    Returns:
        ``(..., 3)`` float32, 0 to 1.

    Raises:
        BadInputError: Invalid operations, or color-operations is not installed.
    """
    flat = np.moveaxis(colours.reshape(-1, 1, 3), -1, 0).astype("float64")
    for operation in _parsed(operations):
        flat = np.clip(operation(flat), 0, 1)
    balanced: np.ndarray = np.moveaxis(flat, 0, -1).reshape(colours.shape).astype("float32")
    return balanced


def check_balance(operations: str) -> str:
    """Validate operations and return them unchanged; errors as :func:`balanced`."""
    balanced(np.full((1, 3), 0.5), operations)
    return operations


def _parsed(operations: str):  # type: ignore[no-untyped-def]
    try:
        from color_operations import parse_operations
    except ImportError as error:
        raise BadInputError("balancing colours needs color-operations: pip install 'stac2cube[pictures]'") from error
    try:
        found = parse_operations(operations)
        for operation in found:
            operation(np.full((3, 1, 1), 0.5))
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise BadInputError(
            f"the balance {operations!r} is not understood ({error}): write for example "
            "'gamma B 0.9, sigmoidal RGB 6 0.4, saturation 1.2'"
        ) from error
    return found


# From reflectance to screen values: one stretch for all pictures of a series, so that nothing flickers.

BRIGHTEST = 98.0
"""Percentile over all dates that becomes white; clouds may saturate."""

GAMMA = 1 / 1.6
"""Exponent that brightens dark land, as in the agencies' quicklooks."""

GREY = 0.82
"""Grey value of pixels without data."""

WHITE_BOUNDS = (0.05, 0.45)
"""Limits of the reflectance that becomes white, so that dark or cloudy scenes do not determine the stretch."""


def white_of(colours: np.ndarray) -> float:
    """Compute the value that becomes white from pictures.

    Args:
        colours: ``(..., 3)`` float, reflectance, NaN without data.

    Returns:
        The percentile :data:`BRIGHTEST` of pixels with data in all three, within :data:`WHITE_BOUNDS`.
    """
    valid = np.isfinite(colours).all(axis=-1)
    white = float(np.percentile(colours[valid], BRIGHTEST)) if valid.any() else 1.0
    return min(max(white, WHITE_BOUNDS[0]), WHITE_BOUNDS[1])


def stretched(
    colours: np.ndarray,
    white: float | np.ndarray,
    *,
    black: float | np.ndarray = 0.0,
    gamma: float = GAMMA,
    nodata: float = GREY,
) -> np.ndarray:
    """Convert values to screen values: linear from black to white, clipped, then to the power of gamma.

    Args:
        colours: ``(..., 3)`` float, NaN without data.
        white: Value that becomes 1, one or one per channel.
        black: Value that becomes 0.
        gamma: Exponent.
        nodata: Screen value of pixels without data in any of the three channels.

    Returns:
        ``(..., 3)`` float32, 0 to 1.
    """
    valid = np.isfinite(colours).all(axis=-1)
    scaled = np.clip((np.nan_to_num(colours) - black) / (white - black), 0, 1) ** gamma
    shown: np.ndarray = np.where(valid[..., None], scaled, nodata).astype("float32")
    return shown


# Colour composites by name: bands shown as red, green and blue (``tables/colours.toml``).

TABLE = "colours.toml"


@dataclass(frozen=True)
class Combination:
    """A combination of three bands.

    Attributes:
        bands: Common names, in the order red, green, blue of the screen.
        about: Description.
        aliases: Other names.
    """

    bands: tuple[str, str, str]
    about: str = ""
    aliases: tuple[str, ...] = ()


def combinations() -> dict[str, Combination]:
    """All combinations by name: the shipped ones, and the user's own, which add or override.

    Raises:
        TableError: A table is malformed.
    """
    return {
        name: file.make(Combination, value, f"the colours {name}")
        for file in shipped_and_own(TABLE)
        for name, value in file.parse().items()
    }


def find_combination(name: str) -> Combination | None:
    """Find a combination by name or alias; None if it does not exist."""
    known = combinations()
    return known.get(name) or next((one for one in known.values() if name in one.aliases), None)


def rgb_layers_of(dataset: xr.Dataset, recipe: str | Sequence[str]) -> list[str]:
    """Names of the layers that are shown as red, green and blue.

    Args:
        dataset: An opened cube.
        recipe: A name, or three bands by common name or name of the layer.

    Raises:
        BadInputError: Unknown name, not three bands, or a missing band.
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


# Limits of the stretch: the same for all dates, so that nothing flickers.

SAMPLE = 4_000_000
"""Largest number of pixels over all dates from which a stretch is computed."""

_PERCENTILES = re.compile(r"p(\d{1,3}(?:\.\d+)?)-p(\d{1,3}(?:\.\d+)?)")


def parse_stretch(text: str) -> Stretch:
    """Parse a stretch from the command line: ``series``, ``p2-p98`` or ``0,0.3``.

    Raises:
        BadInputError: An invalid stretch.
    """
    words = text.split(",")
    if len(words) == 1:
        return check_stretch(text)
    try:
        return check_stretch(tuple(float(word) for word in words))
    except ValueError as error:
        raise BadInputError(_refused(text)) from error


def check_stretch(stretch: Stretch) -> Stretch:
    """Validate a stretch and return it unchanged.

    Raises:
        BadInputError: An invalid stretch.
    """
    if isinstance(stretch, str):
        fits = stretch == "series" or percentiles_of(stretch) is not None
    else:
        pairs = np.array(stretch, float).reshape(-1, 2) if len(stretch) in (2, 6) else np.empty((0, 2))
        fits = len(pairs) > 0 and bool(np.isfinite(pairs).all() and (pairs[:, 0] < pairs[:, 1]).all())
    if not fits:
        raise BadInputError(_refused(stretch))
    return stretch


def percentiles_of(stretch: Stretch) -> tuple[float, float] | None:
    """Lower and upper percentile, None for another kind of stretch."""
    found = _PERCENTILES.fullmatch(stretch) if isinstance(stretch, str) else None
    if found is None or not float(found[1]) < float(found[2]) <= 100:
        return None
    return float(found[1]), float(found[2])


def limits(layers: Sequence[xr.DataArray], stretch: Stretch) -> xr.DataArray:
    """The values of black and white of each layer.

    Args:
        layers: On one grid, in physical units, NaN without data.
        stretch: ``"series"`` is 0 and :func:`stac2cube.views.render.white_of` of three layers of reflectance, the same
            for all; percentiles are computed for each layer.

    Returns:
        ``(channel, edge)`` float32: black, white. Lazy if the layers are; computed from every n-th pixel.

    Raises:
        BadInputError: An invalid stretch.
    """
    check_stretch(stretch)
    if not isinstance(stretch, str):
        pairs = np.array(stretch, "float32").reshape(-1, 2)
        if len(pairs) not in (1, len(layers)):
            raise BadInputError(_refused(stretch))
        return xr.DataArray(np.broadcast_to(pairs, (len(layers), 2)), dims=("channel", "edge"))
    stride = math.ceil(math.sqrt(max(layers[0].size, 1) / SAMPLE))
    some = [layer.isel(y=slice(None, None, stride), x=slice(None, None, stride)) for layer in layers]
    whole = [layer.chunk(-1) if layer.chunks is not None else layer for layer in some]
    found: xr.DataArray = xr.apply_ufunc(
        _limits,
        *whole,
        kwargs={"percentiles": percentiles_of(stretch)},
        input_core_dims=[list(some[0].dims)] * len(whole),
        output_core_dims=[["channel", "edge"]],
        dask="parallelized",
        dask_gufunc_kwargs={"output_sizes": {"channel": len(whole), "edge": 2}},
        output_dtypes=[np.dtype("float32")],
        keep_attrs=False,
    )
    return found


def _limits(*layers: np.ndarray, percentiles: tuple[float, float] | None) -> np.ndarray:
    if percentiles is None:
        return np.tile(np.array([0.0, white_of(np.stack(layers, axis=-1))], "float32"), (len(layers), 1))
    rows = []
    for layer in layers:
        valid = layer[np.isfinite(layer)]
        black, white = np.percentile(valid, percentiles) if valid.size else (0.0, 1.0)
        rows.append((black, white if white > black else black + 1.0))  # also for a constant layer, or an empty one
    return np.array(rows, dtype="float32")


def _refused(given: object) -> str:
    return (
        "a stretch is 'series', percentiles as p2-p98, or two values, that of black below that of white (or two for "
        f"each of three bands), not {given!r}"
    )


# Colour pictures: layers as red, green and blue, with one stretch for all dates.

Nodata = Literal["grey", "white", "black", "alpha"]

SHADES = {"grey": GREY, "white": 1.0, "black": 0.0, "alpha": 0.0}


def rgb(
    dataset: xr.Dataset,
    recipe: str | Sequence[str] = "true",
    *,
    stretch: Stretch = "series",
    gamma: float | None = None,
    balance: str = "",
    nodata: Nodata = "white",
) -> xr.DataArray:
    """Make a colour picture of each step.

    Args:
        dataset: An opened cube of reflectance (or a composite of it), dims ``(time, y, x)`` or ``(y, x)``.
        recipe: A name of ``tables/colours.toml`` (``"true"``, ``"cir"``), or three bands, shown as red, green and blue,
            by common name or name of the layer.
        stretch: Values that are shown as black and white, the same for all dates. ``"series"``: 0 and the 98th
            percentile of all bands and dates together, see :func:`stac2cube.views.render.white_of`; ``"p2-p98"``:
            percentiles of each band over all dates; or two values.
        gamma: Exponent that brightens dark pixels, 1 for none. None: :data:`stac2cube.views.render.GAMMA`, or 1 with a
            balance.
        balance: Operations in rio-color's notation, after the stretch; see :mod:`stac2cube.views.render`.
        nodata: Colour of pixels without data in any of the three bands; ``"alpha"`` adds a fourth channel, 0 there,
            else 255.

    Returns:
        ``(time, y, x, rgb)`` uint8, coordinate ``rgb`` with the names of the channels. Lazy for a dask cube, including
        the percentiles; these are computed from every n-th pixel.

    Raises:
        BadInputError: Unknown recipe, missing band, black not below white, an invalid balance.
    """
    if nodata not in SHADES:
        raise BadInputError(f"pixels without data are shown {' or '.join(SHADES)}, not {nodata!r}")
    layers = [physical(dataset[name]) for name in rgb_layers_of(dataset, recipe)]
    if gamma is None:
        gamma = 1.0 if balance else GAMMA
    how = {"gamma": gamma, "balance": check_balance(balance) if balance else "", "nodata": nodata}
    edges = limits(layers, stretch)
    channels = ["red", "green", "blue", *(["alpha"] if nodata == "alpha" else [])]
    picture: xr.DataArray = xr.apply_ufunc(
        _picture,
        *layers,
        edges,
        kwargs=how,
        input_core_dims=[[], [], [], ["channel", "edge"]],
        output_core_dims=[["rgb"]],
        dask="parallelized",
        dask_gufunc_kwargs={"output_sizes": {"rgb": len(channels)}},
        output_dtypes=[np.dtype("uint8")],
        keep_attrs=False,
    )
    title = recipe if isinstance(recipe, str) else ", ".join(recipe)
    attributes = derived_attributes(dataset) | {"long_name": f"colours: {title}"}
    return picture.assign_coords(rgb=np.array(channels, dtype=object)).rename("rgb").assign_attrs(attributes)


def _picture(
    red: np.ndarray, green: np.ndarray, blue: np.ndarray, edges: np.ndarray, gamma: float, balance: str, nodata: Nodata
) -> np.ndarray:
    colours = np.stack([red, green, blue], axis=-1)
    valid = np.isfinite(colours).all(axis=-1, keepdims=True)
    shown = stretched(colours, edges[..., 1], black=edges[..., 0], gamma=gamma, nodata=SHADES[nodata])
    if balance:
        shown = np.where(valid, balanced(shown, balance), shown)
    picture: np.ndarray = np.rint(shown * 255).astype("uint8")
    if nodata != "alpha":
        return picture
    return np.concatenate([picture, np.where(valid, np.uint8(255), np.uint8(0))], axis=-1)


# Pictures of a cube by one name: colours of three bands, an index, a layer, or classes; with legends.

Colour = tuple[int, int, int]
Swatch = tuple[Colour, str]
"""A colour and its meaning."""

SCREEN: tuple[Colour, ...] = ((214, 69, 65), (46, 160, 67), (65, 105, 225))
"""Colours of the red, green and blue swatches of a legend."""

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
"""Domain in the registry of indices -> matplotlib colour map; other layers are shown in grey."""

CLOUD_MASK, SHADOW_MASK = "cloud_mask", "shadow_mask"
"""Layers of a clouds cube; its default picture shows both."""

MASKS = "masks"
"""Name of that picture."""

SKY: dict[int, Swatch] = {
    0: ((107, 143, 128), "clear"),
    1: ((36, 48, 56), "shadow"),
    2: ((247, 247, 245), "cloud"),
}
"""Colours and meanings of the combined masks."""

NO_DATA: Swatch = ((round(255 * GREY),) * 3, "no data")
"""Swatch of a legend for pixels without data, if a picture shows any."""

INDEX_SHADES: dict[str, int] = {"grey": round(255 * GREY), "white": 255, "black": 0, "alpha": 0}


@dataclass(frozen=True)
class Legend:
    """Meaning of the colours of a picture.

    Attributes:
        title: Title.
        swatches: Colour and meaning: bands of a colour composite, classes, or additions to a ramp.
        ramp: ``(256, 3)`` uint8 from the lowest value to the highest, None without a ramp.
        limits: The lowest and the highest value.
        units: Units of the limits.
    """

    title: str
    swatches: tuple[Swatch, ...] = ()
    ramp: np.ndarray | None = None
    limits: tuple[float, float] = (0.0, 1.0)
    units: str = ""


def picture(dataset: xr.Dataset, look: Style | None = None, *, nodata: Nodata = "white") -> tuple[xr.DataArray, Legend]:
    """Make a picture of every step, with one stretch for all of them, and the legend.

    Args:
        dataset: An opened cube, dims ``(time, y, x)``.
        look: Style of the pictures; the default style if None.
        nodata: Colour of pixels without data, see :func:`stac2cube.rgb`.

    Returns:
        ``(time, y, x, rgb)`` uint8 as from :func:`stac2cube.rgb`, lazy for a dask cube, and the legend. The limits of a
        ramp are computed immediately.

    Raises:
        BadInputError: An unknown name, an invalid stretch, balance or ramp.
    """
    look = look or Style()
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
    """Check that a name can be shown for a cube; uses only the names of its layers.

    Raises:
        BadInputError: The name is unknown; the message lists the possible ones.
    """
    if "," in word or find_combination(word) is not None:
        rgb_layers_of(dataset, _recipe(word))
    elif not (word == MASKS or common_names(dataset).get(word, word) in dataset.data_vars):
        try:
            formula_for(dataset, word)
        except BadInputError as error:
            raise BadInputError(
                f"there is nothing called {word!r} to show: say colours (true, cir, swir ...), three bands with "
                f"commas, a layer ({names_text(dataset.data_vars)}) or an index; {error}"
            ) from error


def settled(dataset: xr.Dataset, look: Style | None = None) -> Style:
    """Fix the stretch of a style to the values of black and white of a series, for pictures of its parts.

    Arguments and errors as in :func:`picture`; computes immediately.
    """
    look = look or Style()
    word = look.show or _usual(dataset)
    if "," in word or find_combination(word) is not None:
        layers = [physical(dataset[name]) for name in rgb_layers_of(dataset, _recipe(word))]
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


def _colours(dataset: xr.Dataset, look: Style, nodata: Nodata) -> tuple[xr.DataArray, Legend]:
    recipe = _recipe(look.show)
    shown = rgb(dataset, recipe, stretch=look.stretch, balance=look.balance, nodata=nodata)
    combination = find_combination(look.show)
    title = look.show if combination is None else combination.about.partition(":")[0]
    common = {layer: name for name, layer in common_names(dataset).items()}
    bands = [common.get(layer, layer) for layer in rgb_layers_of(dataset, recipe)]
    return shown, Legend(title, tuple(zip(SCREEN, bands, strict=True)))


def _ramp(layer: xr.DataArray, look: Style, nodata: Nodata) -> tuple[xr.DataArray, Legend]:
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
    """Picture of a clouds cube: one colour each for clear sky, cloud and shadow."""
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
    """Convert values to indices of a ramp of 256 colours; -1 without data."""

    low: float
    high: float

    def __call__(self, values: np.ndarray) -> np.ndarray:
        part = (np.nan_to_num(values) - self.low) / (self.high - self.low)
        places: np.ndarray = np.where(np.isfinite(values), np.rint(np.clip(part, 0, 1) * 255), -1).astype("int16")
        return places


@dataclass(frozen=True)
class _Classes:
    """Convert classes to indices of a table of 256 colours; -1 without data."""

    none: frozenset[int]

    def __call__(self, values: np.ndarray) -> np.ndarray:
        missing = ~np.isfinite(values) | np.isin(values, list(self.none))
        places: np.ndarray = np.clip(np.nan_to_num(values), 0, 255).astype("int16")
        places[missing] = -1
        return places


def _painted(layer: xr.DataArray, table: np.ndarray, nodata: Nodata, places: Any) -> xr.DataArray:
    """Colour a layer by a table; ``places`` converts its values to indices of the table."""
    if nodata not in INDEX_SHADES:
        raise BadInputError(f"pixels without data are shown {' or '.join(INDEX_SHADES)}, not {nodata!r}")
    colours = np.vstack([table, np.full((1, 3), INDEX_SHADES[nodata], "uint8")])
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
