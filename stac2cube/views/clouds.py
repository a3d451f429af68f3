"""Layers without clouds: masks of a clouds cube laid over the cube they were made from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import xarray as xr

from stac2cube.errors import BadInputError, CubeMismatchError
from stac2cube.views.classes import hide_all
from stac2cube.views.layer import names_text

USUAL_MASKS = ("cloud_mask", "shadow_mask")

SHOWN = 3
"""Scene keys named in a message at most."""


def mask_clouds(
    layers: xr.Dataset,
    clouds: xr.Dataset,
    *,
    masks: Sequence[str] | None = None,
    missing: Literal["error", "drop", "hide"] = "error",
    max_cloud: float | None = None,
) -> xr.Dataset:
    """Hide what a clouds cube calls cloud, and what it does not know.

    Steps are matched by scene key, whatever their order and number.

    Args:
        layers: An opened cube, dims ``(time, y, x)``, coordinate ``scene`` along time.
        clouds: An opened clouds cube on the same grid, its masks uint8: 0 good, 255 no data, anything else bad.
        masks: Names of the masks; ``cloud_mask``, and ``shadow_mask`` where there is one, if None. A pixel is kept
            where all of them are 0.
        missing: What becomes of steps that the clouds cube lacks: an ``"error"``; ``"drop"`` leaves them out;
            ``"hide"`` keeps them without data.
        max_cloud: Leave out steps whose ``cloud_fraction`` is higher, 0 to 1.

    Returns:
        ``layers``, NaN (stored numbers: their fill) where hidden. Layers of classes are left.

    Raises:
        BadInputError: No such mask, no scene keys, steps missing, another word for ``missing``.
        CubeMismatchError: The cubes lie on different grids.
    """
    if missing not in ("error", "drop", "hide"):
        raise BadInputError(f"steps missing from the clouds are an 'error', 'drop' or 'hide', not {missing!r}")
    if max_cloud is not None:
        layers = _clear_enough(layers, clouds, max_cloud)
    names = _masks(clouds, masks)
    _require_same_grid(layers, clouds)
    keys, known = (_keys(dataset, what) for dataset, what in ((layers, "layers"), (clouds, "clouds")))
    place_of = {key: place for place, key in enumerate(known)}
    lacking = [key for key in keys if key not in place_of]
    if lacking and missing == "error":
        more = " ..." if len(lacking) > SHOWN else ""
        raise BadInputError(
            f"the clouds cube lacks {len(lacking)} of {len(keys)} steps ({', '.join(lacking[:SHOWN])}{more}): update "
            "it, or say missing='drop' or 'hide'"
        )
    if missing == "drop":
        layers = layers.isel(time=[place for place, key in enumerate(keys) if key in place_of])
        keys = [key for key in keys if key in place_of]
    return hide_all(layers, _good(layers, clouds[names], [place_of.get(key) for key in keys]))


def _clear_enough(layers: xr.Dataset, clouds: xr.Dataset, most: float) -> xr.Dataset:
    """The layers without the steps that the clouds cube knows to be cloudier."""
    if not 0 <= most <= 1:
        raise BadInputError(f"max_cloud is a fraction, 0 to 1, not {most}")
    if "cloud_fraction" not in clouds.coords:
        raise BadInputError("the clouds have no coordinate cloud_fraction: give what open_cube gives")
    fractions = clouds["cloud_fraction"].values
    cloudy = {key for key, fraction in zip(_keys(clouds, "clouds"), fractions, strict=True) if fraction > most}
    return layers.isel(time=[place for place, key in enumerate(_keys(layers, "layers")) if key not in cloudy])


def _good(layers: xr.Dataset, masks: xr.Dataset, places: Sequence[int | None]) -> xr.DataArray:
    """Where all masks are 0, in the order of the layers' steps; nowhere in a step without a place."""
    there = np.array([place is not None for place in places], bool)
    # A step without masks borrows those of any other, and is hidden whole.
    rows = np.array([0 if place is None else place for place in places], int)
    if not masks.sizes["time"]:
        masks = masks.reindex(time=layers["time"].values[:1], fill_value=255)
    ordered = masks.isel(time=rows).drop_vars([name for name in masks.coords if name not in ("y", "x")])
    good = xr.DataArray(there, dims="time")
    for mask in ordered.data_vars.values():
        good = (mask == 0) & good
    return good.transpose("time", "y", "x")


def _masks(clouds: xr.Dataset, masks: Sequence[str] | None) -> list[str]:
    wanted = [name for name in USUAL_MASKS if name in clouds.data_vars] if masks is None else list(masks)
    lacking = [name for name in wanted if name not in clouds.data_vars]
    if lacking or not wanted or (masks is None and USUAL_MASKS[0] not in wanted):
        raise BadInputError(
            f"the clouds have no {names_text(lacking) if lacking else USUAL_MASKS[0]}: there are "
            f"{names_text(clouds.data_vars)}; name the masks with masks="
        )
    return wanted


def _keys(dataset: xr.Dataset, what: str) -> list[str]:
    if "scene" not in dataset.coords or dataset["scene"].dims != ("time",):
        raise BadInputError(f"the {what} have no scene keys along time: give what open_cube gives")
    keys = [str(key) for key in dataset["scene"].values]
    if len(set(keys)) < len(keys):
        raise BadInputError(f"the {what} hold the same scene twice")
    return keys


def _require_same_grid(layers: xr.Dataset, clouds: xr.Dataset) -> None:
    for axis in ("y", "x"):
        if layers.sizes[axis] != clouds.sizes[axis] or not np.array_equal(layers[axis].values, clouds[axis].values):
            raise CubeMismatchError(
                f"layers and clouds lie on different grids ({axis} differs): cut both alike, or make the clouds from "
                "this cube"
            )
