"""Colours for the eye: layers as red, green and blue of a screen, with one stretch for all dates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import xarray as xr

from stac2cube.errors import BadInputError
from stac2cube.kernels.balance import balanced, check_balance
from stac2cube.kernels.colour import GAMMA, GREY, stretched
from stac2cube.views.combinations import bands_of
from stac2cube.views.layer import derived_attributes, physical
from stac2cube.views.stretch import Stretch, limits

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
    """A picture of each step, as a screen shows it.

    Args:
        dataset: An opened cube of reflectance (or a composite of it), dims ``(time, y, x)`` or ``(y, x)``.
        recipe: A name of ``tables/colours.toml`` (``"true"``, ``"cir"``), or three bands, shown as red, green and blue,
            by common name or name of the layer.
        stretch: What becomes black and white, one decision for all dates. ``"series"``: 0 and the 98th percentile of
            all bands and dates together, see :func:`stac2cube.kernels.colour.white_of`; ``"p2-p98"``: percentiles of
            each band over all dates; or two values.
        gamma: Exponent that lifts the dark, 1 for none; :data:`stac2cube.kernels.colour.GAMMA` if None, and 1 where
            there is a balance.
        balance: Operations in the words of rio-color, after the stretch; see :mod:`stac2cube.kernels.balance`.
        nodata: What is shown where any of the three lacks data; ``"alpha"`` gives a fourth channel, 0 there, else 255.

    Returns:
        ``(time, y, x, rgb)`` uint8, coordinate ``rgb`` the names of the channels. Lazy where the cube is dask's, the
        percentiles too; they are taken from every n-th pixel.

    Raises:
        BadInputError: Unknown recipe, missing band, black not below white, a balance that is not understood.
    """
    if nodata not in SHADES:
        raise BadInputError(f"pixels without data are shown {' or '.join(SHADES)}, not {nodata!r}")
    layers = [physical(dataset[name]) for name in bands_of(dataset, recipe)]
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
