"""A layer of an opened cube, as all views see it: which band it is, whether it holds classes, what it measures."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import xarray as xr

from stac2cube.errors import BadInputError
from stac2cube.mission import Mission, find_mission, mission_names

STORED = ("_FillValue", "scale_factor", "add_offset")
"""Attributes of a layer whose numbers are as stored (``open_cube(..., decode=False)``); decoding moves them away."""

CLASSIFICATIONS = ("scl", "qa_pixel", "qa_radsat")
"""Names of layers, in lower case, that hold classes or bits whether or not their attributes say so."""

CUBE_ONLY = ("stac2cube", "zarr_conventions")
"""Attributes of a cube's root that are not true of what is derived from it."""


def is_class(layer: xr.DataArray) -> bool:
    """Whether a layer holds classes or bits, which no arithmetic may touch."""
    told = "flag_values" in layer.attrs or "flag_masks" in layer.attrs
    return told or str(layer.name).lower() in CLASSIFICATIONS


def is_stored(layer: xr.DataArray) -> bool:
    """Whether a layer's numbers are still to be decoded."""
    return any(name in layer.attrs for name in STORED)


def physical(layer: xr.DataArray) -> xr.DataArray:
    """A continuous layer in its physical unit, from stored numbers or decoded ones.

    Args:
        layer: Any dims.

    Returns:
        Same dims, float32, NaN without data: stored number * ``scale_factor`` + ``add_offset`` as CF 1.11 section 8.1
        says, reckoned in float64.

    Raises:
        BadInputError: It holds classes.
    """
    if is_class(layer):
        raise BadInputError(f"{layer.name} holds classes, not a quantity: leave it out of what is computed")
    if not is_stored(layer):
        return layer if layer.dtype == np.float32 else layer.astype("float32")
    scale, offset = layer.attrs.get("scale_factor", 1.0), layer.attrs.get("add_offset", 0.0)
    decoded: xr.DataArray = apply(
        _decode, layer, scale=scale, offset=offset, fill=layer.attrs.get("_FillValue", np.nan)
    )
    return decoded.assign_attrs({name: value for name, value in layer.attrs.items() if name not in STORED})


def hide(layer: xr.DataArray, keep: xr.DataArray) -> xr.DataArray:
    """A layer without data wherever ``keep`` is False: NaN, or its fill value where it holds stored integers."""
    if "_FillValue" in layer.attrs and layer.dtype.kind in "iu":
        return layer.where(keep, layer.dtype.type(layer.attrs["_FillValue"]))
    return layer.where(keep)


def apply(function: Callable[..., np.ndarray], *layers: xr.DataArray, dtype: str = "float32", **words: Any) -> Any:
    """Run a pixelwise kernel on layers, block by block where they are dask's.

    Args:
        function: NumPy in, one array of the same shape out.
        *layers: On one grid.
        dtype: NumPy dtype name of what the kernel gives.
        **words: Further arguments of the kernel.

    Returns:
        A DataArray without name and attributes.
    """
    return xr.apply_ufunc(
        function, *layers, kwargs=words, dask="parallelized", output_dtypes=[np.dtype(dtype)], keep_attrs=False
    )


def choose(
    dataset: xr.Dataset, layers: Sequence[str] | None, fits: Callable[[xr.DataArray], bool], what: str
) -> list[str]:
    """Names of layers to work on: those asked for, or all that fit.

    Raises:
        BadInputError: One asked for is not there, or none fits.
    """
    if layers is not None:
        lacking = [name for name in layers if name not in dataset.data_vars]
        if lacking:
            raise BadInputError(f"there is no layer {', '.join(lacking)}: there are {names_text(dataset.data_vars)}")
        return list(layers)
    found = [str(name) for name, layer in dataset.data_vars.items() if fits(layer)]
    if not found:
        raise BadInputError(f"no layer is {what}: name some of {names_text(dataset.data_vars)} with layers=")
    return found


def mission_of(dataset: xr.Dataset) -> Mission | None:
    """The mission whose bands these are, as the cube's recipe or the attribute ``mission`` says; None if none does."""
    own = dataset.attrs.get("stac2cube", {})
    own = json.loads(own) if isinstance(own, str) else own  # as open_cube gives it, or as plain xarray does
    recipe = own.get("spec", {}).get("recipe", {})
    name = recipe.get("mission", dataset.attrs.get("mission"))
    return find_mission(name) if name in mission_names() else None


def common_names(dataset: xr.Dataset) -> dict[str, str]:
    """Layers by common name (``red``, ``nir``, ``vv``); a layer's own name in lower case if the mission is unknown.

    Where a mission has no band called ``nir``, its ``nir08`` is known by both names (Landsat's only near infrared).
    """
    mission = mission_of(dataset)
    names = {str(name): str(name).lower() for name in dataset.data_vars}
    if mission is not None:
        names |= {name: mission.bands[name].common_name for name in names if name in mission.bands}
    found = {common: name for name, common in names.items()}
    known = {band.common_name for band in mission.bands.values()} if mission is not None else set(found)
    if "nir08" in found and "nir" not in known:
        found["nir"] = found["nir08"]
    return found


def derived_attributes(dataset: xr.Dataset) -> dict[str, Any]:
    """Attributes of what is made from a cube: its own, without those that only a cube on disk may carry."""
    mission = mission_of(dataset)
    attributes = {str(name): value for name, value in dataset.attrs.items() if name not in CUBE_ONLY}
    return attributes | ({"mission": mission.name} if mission is not None else {})


def names_text(names: Iterable[Any]) -> str:
    """Names for an error message."""
    return ", ".join(str(name) for name in names) or "none"


def _decode(stored: np.ndarray, scale: float, offset: float, fill: float) -> np.ndarray:
    values = stored * np.float64(scale) + np.float64(offset)
    decoded: np.ndarray = np.where(stored == fill, np.nan, values).astype("float32")
    return decoded
