"""One picture per week, month, season or year, out of all observations in it: lazily, in blocks of bounded size."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import xarray as xr

from stac2cube.errors import BadInputError
from stac2cube.kernels import temporal
from stac2cube.views.layer import choose, derived_attributes, is_class, names_text, physical
from stac2cube.views.periods import Period, periods_of
from stac2cube.views.spectral import indices

METHODS: dict[str, Callable[..., np.ndarray]] = {
    "median": temporal.median,
    "mean": temporal.mean,
    "max": temporal.highest,
    "min": temporal.lowest,
}
"""Methods that look at each layer by itself."""

BLOCK_BYTES = 64 * 2**20
"""How large a layer's block of all steps of a period may get in memory, as float32."""

SMALLEST_EDGE = 128
"""Blocks are not cut below this many pixels."""

N_VALID = "n_valid"
OBSERVED = "observed"


def composite(
    dataset: xr.Dataset,
    period: str = "month",
    method: str = "median",
    *,
    by: str | None = None,
    layers: Sequence[str] | None = None,
    window: str = "",
) -> xr.Dataset:
    """Temporal composites of an opened cube. Hide clouds first, with ``mask_clouds``, ``mask_by`` or ``mask_classes``.

    Args:
        dataset: Dims ``(time, y, x)``, decoded or stored.
        period: ``"week"``, ``"month"``, ``"season"``, ``"year"``, ``"all"``, or a frequency of pandas that says when a
            period begins (``"1MS"``, ``"QS-DEC"``, ``"10D"``). Months of different years stay apart.
        method: ``"median"``, ``"mean"``, ``"max"``, ``"min"`` or a percentile (``"p10"``), of each layer by itself; or
            a whole observation: ``"medoid"``, the one nearest to all others over all layers, or ``"best"``, the one
            that is highest in ``by``.
        by: For ``"best"``: a layer or a spectral index (``"NDVI"``).
        layers: Names; all that are not classes if None.
        window: A number of days, ``"30D"``, for a rolling composite: what is composed lies within so many days about
            the middle of each period. "" for the period itself.

    Returns:
        The layers, float32, and ``n_valid`` (uint16): how many observations have data in all these layers; for
        ``"medoid"`` and ``"best"`` also ``observed`` (datetime64, NaT where none). Coordinates ``time`` (a period's
        begin), ``period_end`` (exclusive), ``steps`` (how many scenes). NaN where no observation has data, a whole
        period long where there was no scene. Memory follows the longest period, not the cube.

    Raises:
        BadInputError: Unknown method or period, no such layer, ``by`` missing, decibels to be averaged.
    """
    names = choose(dataset, layers, lambda layer: not is_class(layer), "a quantity")
    if "time" not in dataset.dims:
        raise BadInputError("a composite is made of steps along time, and there is none")
    _check(dataset, names, method, by)
    periods = periods_of(dataset["time"].values, period, window)
    quantities = {name: physical(dataset[name]) for name in names}
    score = _score(dataset, by) if by is not None else None
    parts = [_compose(quantities, score, part, method) for part in periods]
    whole = xr.concat(parts, dim="time", coords="minimal", compat="override", join="override")
    begins = np.array([part.begin for part in periods], "datetime64[us]")
    coordinates = {
        "time": begins,
        "period_end": ("time", np.array([part.end for part in periods], "datetime64[us]")),
        "steps": ("time", np.array([len(part.places) for part in periods], "int32")),
    }
    said = f"{method}{f' by {by}' if by else ''} per {period}{f' over {window}' if window else ''}"
    attributes = derived_attributes(dataset) | {"composite": said}
    return whole.assign_coords(coordinates).assign_attrs(attributes)


def _check(dataset: xr.Dataset, names: Sequence[str], method: str, by: str | None) -> None:
    known = (*METHODS, "medoid", "best", "p0 to p100")
    if method not in (*METHODS, "medoid", "best") and _percent(method) is None:
        raise BadInputError(f"unknown method {method!r}: known are {names_text(known)}")
    if (by is not None) != (method == "best"):
        raise BadInputError("by= goes with method='best' and only with it: name a layer or an index such as NDVI")
    in_db = [name for name in names if dataset[name].attrs.get("units") == "dB"]
    if in_db and method in ("mean", "medoid"):
        raise BadInputError(f"{in_db[0]} is in dB, of which a {method} means little: compose linear power, then to_db")


def _percent(method: str) -> float | None:
    """The number of a percentile's name, None if it is none."""
    found = re.fullmatch(r"p(\d{1,3}(?:\.\d+)?)", method)
    return float(found[1]) if found and float(found[1]) <= 100 else None


def _score(dataset: xr.Dataset, by: str) -> xr.DataArray:
    if by in dataset.data_vars:
        return physical(dataset[by])
    found = indices(dataset, by)
    return next(iter(found.data_vars.values()))


def _compose(
    quantities: dict[str, xr.DataArray], score: xr.DataArray | None, period: Period, method: str
) -> xr.Dataset:
    """One period: layers and counts, without time."""
    steps = list(period.places)
    if not steps:
        return _nothing(quantities, method)
    kept = {name: _blocks(layer.isel(time=steps)) for name, layer in quantities.items()}
    together = list(kept.values())
    result: dict[str, xr.DataArray] = {}
    if method in ("medoid", "best"):
        scores = [] if score is None else [_blocks(score.isel(time=steps))]
        kernel = temporal.medoid_place if score is None else temporal.best_place
        place = _reduce(kernel, *scores, *together, dtype="int16")
        result = {name: _reduce(temporal.take, layer, place, cores=(["time"], [])) for name, layer in kept.items()}
        times = together[0]["time"].values.astype("datetime64[us]")
        result[OBSERVED] = _reduce(partial(_time_at, times=times), place, dtype="datetime64[us]", cores=([],))
    else:
        percent = _percent(method)
        kernel = METHODS[method] if percent is None else partial(temporal.quantile, part=percent / 100)
        result = {name: _reduce(kernel, layer) for name, layer in kept.items()}
    result[N_VALID] = _reduce(temporal.count_whole, *together, dtype="uint16").assign_attrs(_ABOUT[N_VALID])
    for name, layer in quantities.items():
        result[name] = result[name].assign_attrs(layer.attrs)
    return xr.Dataset(result).drop_vars(["time", "scene"], errors="ignore")


_ABOUT = {N_VALID: {"long_name": "observations with data in all layers", "units": "1"}}


def _nothing(quantities: dict[str, xr.DataArray], method: str) -> xr.Dataset:
    """A period without scenes, in the blocks of the others."""
    first = next(iter(quantities.values()))
    empty = {name: xr.full_like(layer.isel(time=0, drop=True), np.nan) for name, layer in quantities.items()}
    plain = first.isel(time=0, drop=True).drop_attrs()
    if method in ("medoid", "best"):
        empty[OBSERVED] = xr.full_like(plain, np.datetime64("NaT", "us"), dtype="datetime64[us]")
    empty[N_VALID] = xr.full_like(plain, 0, dtype="uint16").assign_attrs(_ABOUT[N_VALID])
    return xr.Dataset(empty).drop_vars("scene", errors="ignore")


def _blocks(layer: xr.DataArray) -> xr.DataArray:
    """A layer of dask's in blocks that hold all steps and are small enough."""
    if layer.chunks is None:
        return layer
    most = math.isqrt(BLOCK_BYTES // (4 * layer.sizes["time"]))
    sizes: dict[Any, int] = {"time": -1}
    for axis in ("y", "x"):
        edge = max(layer.variable.chunksizes[axis])  # coordinates may have chunks of their own
        while edge > max(most, SMALLEST_EDGE):
            edge = -(-edge // 2)
        sizes[axis] = edge
    return layer.chunk(sizes)


def _reduce(
    kernel: Callable[..., np.ndarray],
    *layers: xr.DataArray,
    dtype: str = "float32",
    cores: Sequence[Sequence[str]] | None = None,
) -> xr.DataArray:
    """A kernel over time, block by block."""
    reduced: xr.DataArray = xr.apply_ufunc(
        kernel,
        *layers,
        input_core_dims=[["time"]] * len(layers) if cores is None else cores,
        dask="parallelized",
        output_dtypes=[np.dtype(dtype)],
        keep_attrs=False,
    )
    return reduced


def _time_at(place: np.ndarray, times: np.ndarray) -> np.ndarray:
    found: np.ndarray = np.where(place >= 0, times[np.maximum(place, 0)], np.datetime64("NaT", "us"))
    return found
