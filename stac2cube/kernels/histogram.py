"""Histograms, the limits that percentiles set, and moments after clipping: sums that come out alike in any order."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from stac2cube.errors import BadInputError


@dataclass(frozen=True)
class Bins:
    """Equal bins over a range; one more on either side holds what lies beyond.

    Attributes:
        low: Lower end of the range.
        high: Upper end; the last bin ends there or just beyond.
        width: Of a bin.
    """

    low: float
    high: float
    width: float

    def __post_init__(self) -> None:
        if not (all(map(math.isfinite, (self.low, self.high, self.width))) and self.width > 0 and self.low < self.high):
            raise BadInputError(f"bins want low < high and a width above 0, not {self.low}, {self.high}, {self.width}")

    @property
    def count(self) -> int:
        """Bins within the range."""
        return math.ceil(round((self.high - self.low) / self.width, 9))

    @property
    def edges(self) -> np.ndarray:
        """``(count + 1,)`` float64."""
        return self.low + self.width * np.arange(self.count + 1)

    def histogram(self, values: np.ndarray) -> np.ndarray:
        """How many values lie in each bin, lower edge included.

        Args:
            values: Any shape, floats; NaN is not counted.

        Returns:
            ``(count + 2,)`` int64: below the range, the bins, at or above its end.
        """
        found = values[np.isfinite(values)].astype("float64")
        # One rule for edges, so that a value never falls into another bin than np.histogram would choose.
        places = np.searchsorted(self.edges, found, side="right")
        counted: np.ndarray = np.bincount(places, minlength=self.count + 2)
        return counted

    def percentile(self, histogram: np.ndarray, percent: float) -> float:
        """The value below which so many percent of the counted ones lie, even within a bin.

        What lies beyond the range counts at its ends. The answer is never farther than a bin's width from that of all
        values, if it lies within the range.

        Args:
            histogram: As :meth:`histogram` gives it, or a sum of such.
            percent: 0 to 100.

        Raises:
            BadInputError: Nothing was counted.
        """
        total = int(histogram.sum())
        if total == 0:
            raise BadInputError("no valid pixel was counted: there is nothing to take percentiles of")
        wanted = max(percent / 100 * total, _LEAST)  # of no values, the smallest: never an empty bin
        below = np.cumsum(histogram)
        place = int(np.searchsorted(below, wanted, side="left"))
        if place == 0:
            return self.low
        if place > self.count:
            return float(self.edges[-1])
        before = below[place - 1]
        return float(self.edges[place - 1] + self.width * (wanted - before) / max(histogram[place], 1))


@dataclass(frozen=True)
class Moments:
    """Count, sum and sum of squares of deviations from a fixed point, so that parts add up.

    Attributes:
        count: Values.
        first: Sum of value - origin, float64.
        second: Sum of (value - origin) squared, float64.
    """

    count: int
    first: float
    second: float


def clipped_moments(values: np.ndarray, low: float, high: float) -> Moments:
    """Moments of values clipped to limits, about the middle of the limits.

    Args:
        values: Any shape, floats; NaN is left out.
        low: Limit.
        high: Limit.
    """
    found = np.clip(values[np.isfinite(values)].astype("float64"), low, high) - (low + high) / 2
    return Moments(int(found.size), float(found.sum()), float(np.square(found).sum()))


def mean_and_std(parts: Iterable[Moments], low: float, high: float) -> tuple[float, float]:
    """Mean and standard deviation (of the population, divided by n) of all parts together.

    Sums are exact (``math.fsum``), so the order of the parts does not matter.

    Raises:
        BadInputError: No part has a value.
    """
    several = list(parts)
    count = sum(part.count for part in several)
    if count == 0:
        raise BadInputError("no valid pixel was counted: there is no mean")
    first = math.fsum(part.first for part in several) / count
    second = math.fsum(part.second for part in several) / count
    return (low + high) / 2 + first, math.sqrt(max(second - first * first, 0.0))


_LEAST = 1e-9


def thinned(
    rows: int, columns: int, most: int | None, strips: Sequence[slice], seed: Sequence[int]
) -> list[np.ndarray]:
    """Which pixels of a picture are looked at: at most so many, drawn evenly over its strips, always the same ones.

    Args:
        rows: Of the picture.
        columns: Of the picture.
        most: Pixels at most; None for all.
        strips: Rows of each part, in order.
        seed: Decides which.

    Returns:
        Per strip the flat places within it, ascending.
    """
    random = np.random.default_rng(list(seed))
    total, chosen = rows * columns, []
    for strip in strips:
        size = (strip.stop - strip.start) * columns
        if most is None or most >= total:
            chosen.append(np.arange(size))
            continue
        wanted = most * strip.stop * columns // total - most * strip.start * columns // total
        chosen.append(np.sort(random.choice(size, wanted, replace=False)))
    return chosen
