"""Many observations of a pixel into one: along the last axis, aware of those without data.

Values are ``(..., time)`` float, NaN without data; results lack the last axis. Places count along it; -1 is none.
"""

from __future__ import annotations

import numpy as np


def quantile(values: np.ndarray, part: float) -> np.ndarray:
    """A quantile of the observations with data, linear between neighbours (type 7 of Hyndman and Fan, 1996).

    Args:
        values: ``(..., time)`` float.
        part: 0 the lowest, 0.5 the median, 1 the highest.

    Returns:
        float32; NaN where no observation has data.
    """
    ordered = np.sort(values, axis=-1)  # NaN goes last
    count = np.isfinite(values).sum(axis=-1, keepdims=True)
    place = np.maximum(count - 1, 0) * part
    lower = np.floor(place).astype("int64")
    low = np.take_along_axis(ordered, lower, axis=-1).astype("float64")
    high = np.take_along_axis(ordered, np.minimum(lower + 1, np.maximum(count - 1, 0)), axis=-1)
    found: np.ndarray = (low + (high - low) * (place - lower))[..., 0].astype("float32")
    return found


def median(values: np.ndarray) -> np.ndarray:
    """The middle observation, or the mean of the two in the middle; float32."""
    return quantile(values, 0.5)


def mean(values: np.ndarray) -> np.ndarray:
    """The mean of the observations with data, summed in float64; float32."""
    valid = np.isfinite(values)
    total = np.where(valid, values, 0).sum(axis=-1, dtype="float64")
    with np.errstate(invalid="ignore"):
        average: np.ndarray = (total / valid.sum(axis=-1)).astype("float32")
    return average


def lowest(values: np.ndarray) -> np.ndarray:
    """The lowest observation; float32."""
    least: np.ndarray = np.fmin.reduce(values, axis=-1).astype("float32")
    return least


def highest(values: np.ndarray) -> np.ndarray:
    """The highest observation; float32."""
    most: np.ndarray = np.fmax.reduce(values, axis=-1).astype("float32")
    return most


def count_whole(*layers: np.ndarray) -> np.ndarray:
    """How many observations have data in every layer; uint16."""
    counted: np.ndarray = _whole(layers).sum(axis=-1).astype("uint16")
    return counted


def medoid_place(*layers: np.ndarray) -> np.ndarray:
    """The observation nearest to all others: the one with the least sum of distances over all layers.

    Distances are Euclidean, among observations with data in every layer. Source: N. Flood, "Seasonal composite
    Landsat TM/ETM+ images using the medoid (a multi-dimensional median)", Remote Sensing 5(12), 6481-6500, 2013,
    doi:10.3390/rs5126481. The earliest wins where several are as near.

    Args:
        *layers: Each ``(..., time)`` float, in units in which their distances compare.

    Returns:
        Its place, int16; -1 where no observation is whole.
    """
    whole = _whole(layers)
    steps = whole.shape[-1]
    sums = np.zeros(whole.shape, "float64")
    for one in range(steps):
        for other in range(one + 1, steps):
            both = whole[..., one] & whole[..., other]
            square = np.zeros(both.shape, "float64")
            for layer in layers:
                square += (layer[..., one].astype("float64") - layer[..., other]) ** 2
            distance = np.sqrt(np.where(both, square, 0))
            sums[..., one] += distance
            sums[..., other] += distance
    nearest = np.where(whole, sums, np.inf).argmin(axis=-1)
    return _or_none(nearest, whole)


def best_place(score: np.ndarray, *layers: np.ndarray) -> np.ndarray:
    """The observation of the highest score among those with data in every layer; the earliest of equals.

    Args:
        score: ``(..., time)`` float; NaN is never best.
        *layers: Each ``(..., time)`` float.

    Returns:
        Its place, int16; -1 where there is none.
    """
    whole = _whole((score, *layers))
    return _or_none(np.where(whole, score, -np.inf).argmax(axis=-1), whole)


def take(values: np.ndarray, place: np.ndarray) -> np.ndarray:
    """The observation at a place; float32, NaN where the place is -1."""
    found = np.take_along_axis(values, np.maximum(place, 0)[..., None].astype("int64"), axis=-1)[..., 0]
    taken: np.ndarray = np.where(place >= 0, found, np.nan).astype("float32")
    return taken


def _whole(layers: tuple[np.ndarray, ...]) -> np.ndarray:
    whole = np.ones(layers[0].shape, bool)
    for layer in layers:
        whole &= np.isfinite(layer)
    return whole


def _or_none(place: np.ndarray, whole: np.ndarray) -> np.ndarray:
    chosen: np.ndarray = np.where(whole.any(axis=-1), place, -1).astype("int16")
    return chosen
