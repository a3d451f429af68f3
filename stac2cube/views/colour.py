"""Colours for the eye: three layers as red, green and blue of a screen, with one stretch for all dates."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import xarray as xr

from stac2cube.errors import BadInputError
from stac2cube.kernels.colour import GAMMA, GREY, stretched, white_of
from stac2cube.views.layer import common_names, derived_attributes, names_text, physical

RECIPES = {
    "true": ("red", "green", "blue"),
    "false": ("nir", "red", "green"),
    "agriculture": ("swir16", "nir", "blue"),
    "vegetation": ("swir16", "nir", "red"),
    "healthy": ("nir", "swir16", "blue"),
    "land_water": ("nir", "swir16", "red"),
    "urban": ("swir22", "swir16", "red"),
    "haze": ("swir22", "swir16", "nir"),
    "natural_haze": ("swir22", "nir", "green"),
    "swir": ("swir22", "nir", "red"),
}
"""Common names of the bands shown as red, green and blue: the usual combinations for Landsat 8, which hold for
Sentinel-2's bands of the same names. False is colour infrared, vegetation red; haze sees through thin haze."""

ALIASES = {
    "rgb": "true",
    "cir": "false",
    "civ": "false",
    "vea": "vegetation",
    "law": "land_water",
    "fcu": "urban",
    "atp": "haze",
    "sir": "swir",
}
"""Short names in use for the same."""

SAMPLE = 4_000_000
"""Pixels, of all dates together, from which the stretch is found at most."""

Nodata = Literal["grey", "white", "black", "alpha"]

SHADES = {"grey": GREY, "white": 1.0, "black": 0.0, "alpha": 0.0}


def rgb(
    dataset: xr.Dataset,
    recipe: str | Sequence[str] = "true",
    *,
    stretch: Literal["series"] | tuple[float, float] = "series",
    gamma: float = GAMMA,
    nodata: Nodata = "white",
) -> xr.DataArray:
    """A picture of each step, as a screen shows it.

    Args:
        dataset: An opened cube of reflectance (or a composite of it), dims ``(time, y, x)`` or ``(y, x)``.
        recipe: A name of :data:`RECIPES` or :data:`ALIASES`, or three bands, shown as red, green and blue, by common
            name or name of the layer.
        stretch: ``"series"``: black is 0, white the 98th percentile of all dates together, see
            :func:`stac2cube.kernels.colour.white_of`; or the two values that become black and white.
        gamma: Exponent that lifts the dark, 1 for none.
        nodata: What is shown where any of the three lacks data; ``"alpha"`` gives a fourth channel, 0 there, else 255.

    Returns:
        ``(time, y, x, rgb)`` uint8, coordinate ``rgb`` the names of the channels. Lazy where the cube is dask's, the
        percentile too; it is taken from every n-th pixel.

    Raises:
        BadInputError: Unknown recipe, missing band, black not below white.
    """
    if nodata not in SHADES:
        raise BadInputError(f"pixels without data are shown {' or '.join(SHADES)}, not {nodata!r}")
    layers = [physical(dataset[name]) for name in bands_of(dataset, recipe)]
    if stretch == "series":
        black, white = 0.0, _white(layers)
    elif isinstance(stretch, str) or len(stretch) != 2 or not stretch[0] < stretch[1]:
        raise BadInputError(f"a stretch is 'series' or two values, that of black below that of white, not {stretch!r}")
    else:
        black, white = float(stretch[0]), xr.DataArray(np.float32(stretch[1]))
    channels = ["red", "green", "blue", *(["alpha"] if nodata == "alpha" else [])]
    picture: xr.DataArray = xr.apply_ufunc(
        _picture,
        *layers,
        white,
        kwargs={"black": black, "gamma": gamma, "nodata": SHADES[nodata], "alpha": nodata == "alpha"},
        output_core_dims=[["rgb"]],
        dask="parallelized",
        dask_gufunc_kwargs={"output_sizes": {"rgb": len(channels)}},
        output_dtypes=[np.dtype("uint8")],
        keep_attrs=False,
    )
    title = recipe if isinstance(recipe, str) else ", ".join(recipe)
    attributes = derived_attributes(dataset) | {"long_name": f"colours: {title}"}
    return picture.assign_coords(rgb=np.array(channels, dtype=object)).rename("rgb").assign_attrs(attributes)


def bands_of(dataset: xr.Dataset, recipe: str | Sequence[str]) -> list[str]:
    """Names of the layers a recipe shows as red, green and blue; errors as :func:`rgb`."""
    if isinstance(recipe, str):
        name = ALIASES.get(recipe, recipe)
        if name not in RECIPES:
            raise BadInputError(
                f"unknown colours {recipe!r}: known are {names_text((*RECIPES, *ALIASES))}, or name three bands"
            )
        wanted: Sequence[str] = RECIPES[name]
    else:
        wanted = tuple(recipe)
    if len(wanted) != 3:
        raise BadInputError(f"colours are made of three bands, not {len(wanted)}")
    common: Mapping[str, str] = common_names(dataset) | {str(name): str(name) for name in dataset.data_vars}
    lacking = [band for band in wanted if band not in common]
    if lacking:
        raise BadInputError(f"there is no {names_text(lacking)} band to show: there are {names_text(common)}")
    return [common[band] for band in wanted]


def _white(layers: Sequence[xr.DataArray]) -> xr.DataArray:
    """What becomes white, without dims; lazy where the layers are."""
    stride = math.ceil(math.sqrt(max(layers[0].size, 1) / SAMPLE))
    some = [layer.isel(y=slice(None, None, stride), x=slice(None, None, stride)) for layer in layers]
    dims = list(some[0].dims)
    whole = [layer.chunk(-1) if layer.chunks is not None else layer for layer in some]
    white: xr.DataArray = xr.apply_ufunc(
        _white_of_all,
        *whole,
        input_core_dims=[dims] * len(whole),
        dask="parallelized",
        output_dtypes=[np.dtype("float32")],
        keep_attrs=False,
    )
    return white


def _white_of_all(*layers: np.ndarray) -> np.ndarray:
    return np.asarray(white_of(np.stack(layers, axis=-1)), dtype="float32")


def _picture(
    red: np.ndarray,
    green: np.ndarray,
    blue: np.ndarray,
    white: np.ndarray,
    black: float,
    gamma: float,
    nodata: float,
    alpha: bool,
) -> np.ndarray:
    colours = np.stack([red, green, blue], axis=-1)
    shown = stretched(colours, np.asarray(white, dtype="float32")[..., None], black=black, gamma=gamma, nodata=nodata)
    picture: np.ndarray = np.rint(shown * 255).astype("uint8")
    if not alpha:
        return picture
    seen = np.isfinite(colours).all(axis=-1, keepdims=True)
    return np.concatenate([picture, np.where(seen, np.uint8(255), np.uint8(0))], axis=-1)
