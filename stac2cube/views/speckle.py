"""Radar images with less speckle, as a view."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from stac2cube.errors import BadInputError
from stac2cube.kernels.speckle import check_window, lee
from stac2cube.views.layer import choose, derived_attributes, physical
from stac2cube.views.neighbours import over_windows
from stac2cube.views.physical import is_power

SENTINEL_1_LOOKS = 4.4
"""Equivalent number of looks of Sentinel-1's IW GRD in high resolution (ESA, Sentinel-1 Product Definition,
S1-RS-MDA-52-7440, table 5-1), from which RTC products of 10 m are made."""


def despeckle(
    dataset: xr.Dataset, *, window: int = 7, looks: float = SENTINEL_1_LOOKS, layers: Sequence[str] | None = None
) -> xr.Dataset:
    """Lee's filter over radar backscatter in linear power, step by step, see :func:`stac2cube.kernels.speckle.lee`.

    Args:
        dataset: An opened cube, dims ``(time, y, x)`` or ``(y, x)``.
        window: Edge of the filter's window, pixels, odd.
        looks: Equivalent number of looks of the images: the fewer, the smoother the result.
        layers: Names; VV, VH, HH and HV if None. Others are left as they are.

    Returns:
        The Dataset with these layers float32, NaN exactly where there was no data or power not above 0; the same
        numbers whatever the chunks.

    Raises:
        BadInputError: No such layer, none of backscatter, one in dB, an even window, looks not above 0.
    """
    check_window(window)
    names = choose(dataset, layers, is_power, "radar backscatter")
    in_db = [name for name in names if dataset[name].attrs.get("units") == "dB"]
    if in_db:
        raise BadInputError(f"speckle is filtered in linear power, {in_db[0]} is in dB: filter first, then to_db")
    if not (np.isfinite(looks) and looks > 0):
        raise BadInputError(f"looks must be a number above 0, not {looks!r}")

    def one(values: np.ndarray) -> np.ndarray:
        return lee(values, window, looks)

    filtered = {name: over_windows(one, physical(dataset[name]), window // 2) for name in names}
    return dataset.assign(filtered).drop_attrs(deep=False).assign_attrs(derived_attributes(dataset))
