"""Which values become black and white: one decision for all dates, so that nothing flickers."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import numpy as np
import xarray as xr

from stac2cube.errors import BadInputError
from stac2cube.kernels.colour import white_of

Stretch = str | tuple[float, ...]
"""``"series"``, percentiles of the series as ``"p2-p98"``, the values of black and white, or these for each of three
bands: six values."""

SAMPLE = 4_000_000
"""Pixels, of all dates together, from which a stretch is found at most."""

_PERCENTILES = re.compile(r"p(\d{1,3}(?:\.\d+)?)-p(\d{1,3}(?:\.\d+)?)")


def parse_stretch(text: str) -> Stretch:
    """A stretch as it is written on a command line: ``series``, ``p2-p98`` or ``0,0.3``.

    Raises:
        BadInputError: Something else.
    """
    words = text.split(",")
    if len(words) == 1:
        return check_stretch(text)
    try:
        return check_stretch(tuple(float(word) for word in words))
    except ValueError as error:
        raise BadInputError(_refused(text)) from error


def check_stretch(stretch: Stretch) -> Stretch:
    """The stretch itself.

    Raises:
        BadInputError: It is none.
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
    """The values of black and white of each of some layers.

    Args:
        layers: On one grid, in physical units, NaN without data.
        stretch: ``"series"`` is 0 and what :func:`stac2cube.kernels.colour.white_of` says of three layers of
            reflectance, the same for all; percentiles are of each layer by itself.

    Returns:
        ``(channel, edge)`` float32: black, white. Lazy where the layers are; found from every n-th pixel.

    Raises:
        BadInputError: No such stretch.
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
        rows.append((black, white if white > black else black + 1.0))  # of one value, and of none
    return np.array(rows, dtype="float32")


def _refused(given: object) -> str:
    return (
        "a stretch is 'series', percentiles as p2-p98, or two values, that of black below that of white (or two for "
        f"each of three bands), not {given!r}"
    )
