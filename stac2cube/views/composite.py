"""Composites in time: periods of a calendar, selection of steps, reducers."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from stac2cube.algorithms import raster as temporal
from stac2cube.errors import BadInputError
from stac2cube.model.cube_spec import seconds_since
from stac2cube.views.indices import indices
from stac2cube.views.units import choose_layers, derived_attributes, is_class, names_text, physical

# Calendar periods. They do not depend on the dates of a cube, so that an update never moves their edges.

WORDS = {"week": "7D", "month": "1MS", "season": "QS-DEC", "year": "1YS"}
"""Periods by name. Winter begins in December and belongs to the year in which it begins."""

FIRST_MONDAY = pd.Timestamp("1970-01-05")
"""Origin of periods of whole days: those of 7 days are weeks from Monday to Sunday."""

FIRST_YEAR = pd.Timestamp("1900-01-01")
"""Origin of periods of months and years: before any satellite."""


@dataclass(frozen=True)
class CalendarPeriod:
    """A period and its steps.

    Attributes:
        begin: Start, UTC.
        end: End, exclusive.
        places: Indices of its steps, in order of time; empty if no scene was acquired.
    """

    begin: np.datetime64
    end: np.datetime64
    places: tuple[int, ...]


def periods_of(times: np.ndarray, period: str, window: str = "") -> tuple[CalendarPeriod, ...]:
    """All periods from that of the first step to that of the last.

    Args:
        times: ``(time,)`` datetime64.
        period: A key of :data:`WORDS`, or a pandas frequency of period starts: ``"1MS"``, ``"QS-DEC"``, ``"YS"``,
            ``"10D"``; ``"all"`` is one period for all steps.
        window: A number of days, ``"30D"``: a period then has the steps of this many days around its middle, also those
            in neighbouring periods. "" for the period itself.

    Raises:
        BadInputError: No steps, or an unknown period or window.
    """
    width = _width(window)
    if not len(times):
        raise BadInputError("there are no steps to compose")
    exact = times.astype("datetime64[us]")
    order = np.argsort(exact, kind="stable")
    if period == "all":
        if width is not None:
            raise BadInputError("a window goes with periods, and there is only one of all steps")
        return (
            CalendarPeriod(exact.min(), exact.max() + np.timedelta64(1, "us"), tuple(int(place) for place in order)),
        )
    edges = _edges(pd.Timestamp(exact.min()), pd.Timestamp(exact.max()), _step(period))
    owner = np.searchsorted(edges, exact, side="right") - 1
    ordered = exact[order]
    periods = []
    for place in range(owner.min(), owner.max() + 1):
        begin, end = edges[place], edges[place + 1]
        first, last = (begin, end) if width is None else _about(begin, end, width)
        inside = order[np.searchsorted(ordered, first) : np.searchsorted(ordered, last)]
        periods.append(CalendarPeriod(begin, end, tuple(int(step) for step in inside)))
    return tuple(periods)


def _about(begin: np.datetime64, end: np.datetime64, width: np.timedelta64) -> tuple[np.datetime64, np.datetime64]:
    """The window of a width around the middle of a period; its end is exclusive."""
    first = begin + (end - begin) / 2 - width / 2
    return first, first + width


def _width(window: str) -> np.timedelta64 | None:
    """Parse a window in days, None for no window."""
    if not window:
        return None
    found = re.fullmatch(r"(\d+)D", window)
    if found is None or int(found[1]) < 1:
        raise BadInputError(f"a window is a number of days such as 30D, not {window!r}")
    return np.timedelta64(int(found[1]) * 86_400_000_000, "us")


def _edges(first: pd.Timestamp, last: pd.Timestamp, step: pd.DateOffset) -> np.ndarray:
    """Starts of periods, from before the first moment to after the last; datetime64[us]."""
    begin = FIRST_YEAR
    if isinstance(step, pd.offsets.Day):
        length = pd.Timedelta(days=step.n)
        begin = FIRST_MONDAY + (first - FIRST_MONDAY) // length * length
    edges: np.ndarray = pd.date_range(begin, last + 2 * step, freq=step).values.astype("datetime64[us]")
    return edges


def _step(period: str) -> pd.DateOffset:
    """Parse a frequency of days, or of starts of months, quarters or years."""
    known = f"{', '.join(WORDS)}, all, or a frequency of pandas such as 1MS, QS-DEC, 1YS or 10D"
    try:
        step = pd.tseries.frequencies.to_offset(WORDS.get(period, period))
    except ValueError as error:
        raise BadInputError(f"unknown period {period!r}: use {known}") from error
    begins = (pd.offsets.Day, pd.offsets.MonthBegin, pd.offsets.QuarterBegin, pd.offsets.YearBegin)
    if not isinstance(step, begins) or step.n < 1:
        raise BadInputError(f"a period is named by how it begins, not {period!r}: use {known}")
    return step


# One composite per week, month, season or year, from all observations in it: lazily, in blocks of bounded size.

METHODS: dict[str, Callable[..., np.ndarray]] = {
    "median": temporal.median,
    "mean": temporal.mean,
    "max": temporal.highest,
    "min": temporal.lowest,
}
"""Methods that reduce each layer independently."""

BLOCK_BYTES = 64 * 2**20
"""Largest size in memory of a layer's block with all steps of a period, as float32."""

SMALLEST_EDGE = 128
"""Smallest edge of a block, pixels."""

N_VALID = "n_valid"
OBSERVED = "observed"
OBSERVATIONS = (N_VALID, OBSERVED)
"""Layers of a composite that describe how it was made."""


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
        period: ``"week"``, ``"month"``, ``"season"``, ``"year"``, ``"all"``, or a pandas frequency of period starts
            (``"1MS"``, ``"QS-DEC"``, ``"10D"``). Months of different years are different periods.
        method: ``"median"``, ``"mean"``, ``"max"``, ``"min"`` or a percentile (``"p10"``), of each layer independently;
            or one observation for all layers: ``"medoid"``, the one nearest to all others over all layers, or
            ``"best"``, the one with the highest value of ``by``.
        by: For ``"best"``: a layer or a spectral index (``"NDVI"``).
        layers: Names; all that are not classes if None. For ``"medoid"`` they should have one unit. The layers
            ``n_valid`` and ``observed`` of a composite are never used.
        window: A number of days, ``"30D"``, for a rolling composite of the observations of this many days around the
            middle of each period. "" for the period itself.

    Returns:
        The layers, float32, and ``n_valid`` (uint16): number of observations with data in all these layers; for
        ``"medoid"`` and ``"best"`` also ``observed`` (datetime64, NaT without data). Coordinates ``time`` (start of the
        period), ``period_end`` (exclusive), ``steps`` (number of scenes). NaN where no observation has data; a period
        without scenes is all NaN. Memory depends on the longest period, not on the length of the cube.

    Raises:
        BadInputError: Unknown method or period, no such layer, ``by`` missing, a mean of decibels.
    """
    names = _composed(dataset, layers)
    if "time" not in dataset.dims:
        raise BadInputError("a composite needs time steps, and this dataset has none")
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
    made = whole.assign_coords(coordinates).assign_attrs(attributes)
    # Written by xarray as it likes, NaT would be a number of 64 bits that other readers take for a time.
    for name, fill in (("time", None), ("period_end", None), (OBSERVED, np.nan)):
        if name in made.variables:
            made[name].encoding = seconds_since(begins[0], fill)
    return made


def _composed(dataset: xr.Dataset, layers: Sequence[str] | None) -> list[str]:
    """Names of the layers that are composed."""
    own = [name for name in layers or () if name in OBSERVATIONS]
    if own:
        raise BadInputError(f"{names_text(own)} is what a composite says of itself: leave it out")
    return choose_layers(
        dataset, layers, lambda layer: not is_class(layer) and str(layer.name) not in OBSERVATIONS, "a quantity"
    )


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
    """The number in a percentile's name, None for other names."""
    found = re.fullmatch(r"p(\d{1,3}(?:\.\d+)?)", method)
    return float(found[1]) if found and float(found[1]) <= 100 else None


def _score(dataset: xr.Dataset, by: str) -> xr.DataArray:
    if by in dataset.data_vars:
        return physical(dataset[by])
    found = indices(dataset, by)
    return next(iter(found.data_vars.values()))


def _compose(
    quantities: dict[str, xr.DataArray], score: xr.DataArray | None, period: CalendarPeriod, method: str
) -> xr.Dataset:
    """Compose one period: layers and counts, without the time dimension."""
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
    """A period without scenes, with the same blocks as the others."""
    first = next(iter(quantities.values()))
    empty = {name: xr.full_like(layer.isel(time=0, drop=True), np.nan) for name, layer in quantities.items()}
    plain = first.isel(time=0, drop=True).drop_attrs()
    if method in ("medoid", "best"):
        empty[OBSERVED] = xr.full_like(plain, np.datetime64("NaT", "us"), dtype="datetime64[us]")
    empty[N_VALID] = xr.full_like(plain, 0, dtype="uint16").assign_attrs(_ABOUT[N_VALID])
    return xr.Dataset(empty).drop_vars("scene", errors="ignore")


def _blocks(layer: xr.DataArray) -> xr.DataArray:
    """Rechunk a dask layer to blocks that hold all steps and are small enough."""
    if layer.chunks is None:
        return layer
    most = math.isqrt(BLOCK_BYTES // (4 * layer.sizes["time"]))
    sizes: dict[Any, int] = {"time": -1}
    for axis in ("y", "x"):
        edge = max(layer.variable.chunksizes[axis])  # coordinates may have other chunks
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
    """Apply a kernel over time, block by block."""
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


# Steps of an opened cube: by time, key and cloud cover.


def step_place(dataset: xr.Dataset, step: str) -> int:
    """Index of a step in an opened cube.

    Args:
        dataset: The cube.
        step: Scene key, or an ISO date with only one step.

    Raises:
        BadInputError: No step or several steps match.
    """
    keys = [str(key) for key in dataset["scene"].values]
    days = [str(time)[:10] for time in dataset["time"].values]
    found = [place for place in range(len(keys)) if step in (keys[place], days[place])]
    if len(found) == 1:
        return found[0]
    if found:
        raise BadInputError(f"{step} names several steps: {', '.join(keys[place] for place in found)}")
    raise BadInputError(f"there is no step {step!r}: {_others(step, keys, days)}")


def _others(step: str, keys: Sequence[str], days: Sequence[str]) -> str:
    """Hint for an error message: the steps nearest to a date, else the first keys."""
    if not keys:
        return "the cube is empty"
    try:
        away = [abs((date.fromisoformat(day) - date.fromisoformat(step)).days) for day in days]
    except ValueError:
        return f"give a date, or a key such as {', '.join(keys[:3])}{' ...' if len(keys) > 3 else ''}"
    near = sorted(sorted(range(len(keys)), key=lambda place: away[place])[:3])
    return f"the nearest are {', '.join(f'{days[place]} ({keys[place]})' for place in near)}"


def cloud_percent(dataset: xr.Dataset) -> np.ndarray:
    """Cloud cover of each step of an opened cube: ``(time,)`` float, percent; NaN where unknown.

    Raises:
        BadInputError: The cube has no cloud cover.
    """
    if "cloud_fraction" in dataset.coords:
        return 100 * np.asarray(dataset["cloud_fraction"].values, float)
    if "cloud_cover" in dataset.coords:
        return np.asarray(dataset["cloud_cover"].values, float)
    raise BadInputError("the cloud cover of the steps is unknown: leave out the limit")
