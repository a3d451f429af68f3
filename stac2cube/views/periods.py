"""Periods of a calendar, laid out the same whatever dates a cube holds, so that an update never moves their edges."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import pandas as pd

from stac2cube.errors import BadInputError

WORDS = {"week": "7D", "month": "1MS", "season": "QS-DEC", "year": "1YS"}
"""Periods by name. A season of winter begins in December and belongs to the year it begins in."""

FIRST_MONDAY = pd.Timestamp("1970-01-05")
"""Where periods of whole days are counted from: those of 7 days are weeks from Monday to Sunday."""

FIRST_YEAR = pd.Timestamp("1900-01-01")
"""Where periods of months and years are counted from: before any satellite."""


@dataclass(frozen=True)
class Period:
    """One stretch of time and the steps in it.

    Attributes:
        begin: Its first moment, UTC.
        end: The first moment after it.
        places: Places of its steps, in order of time; none where no scene was acquired.
    """

    begin: np.datetime64
    end: np.datetime64
    places: tuple[int, ...]


def periods_of(times: np.ndarray, period: str, window: str = "") -> tuple[Period, ...]:
    """All periods from that of the first step to that of the last.

    Args:
        times: ``(time,)`` datetime64.
        period: A word of :data:`WORDS`, or pandas' name of a frequency that says when a period begins: ``"1MS"``,
            ``"QS-DEC"``, ``"YS"``, ``"10D"``; ``"all"`` is one period for all steps.
        window: A number of days, ``"30D"``: a period's steps are those of so many days about its middle, also where
            they lie in its neighbours. "" for the period itself.

    Raises:
        BadInputError: No steps, or another word.
    """
    width = _width(window)
    if not len(times):
        raise BadInputError("there are no steps to compose")
    exact = times.astype("datetime64[us]")
    order = np.argsort(exact, kind="stable")
    if period == "all":
        if width is not None:
            raise BadInputError("a window goes with periods, and there is only one of all steps")
        return (Period(exact.min(), exact.max() + np.timedelta64(1, "us"), tuple(int(place) for place in order)),)
    edges = _edges(pd.Timestamp(exact.min()), pd.Timestamp(exact.max()), _step(period))
    owner = np.searchsorted(edges, exact, side="right") - 1
    ordered = exact[order]
    periods = []
    for place in range(owner.min(), owner.max() + 1):
        begin, end = edges[place], edges[place + 1]
        first, last = (begin, end) if width is None else _about(begin, end, width)
        inside = order[np.searchsorted(ordered, first) : np.searchsorted(ordered, last)]
        periods.append(Period(begin, end, tuple(int(step) for step in inside)))
    return tuple(periods)


def _about(begin: np.datetime64, end: np.datetime64, width: np.timedelta64) -> tuple[np.datetime64, np.datetime64]:
    """The stretch of a width about the middle of a period; its end is exclusive."""
    first = begin + (end - begin) / 2 - width / 2
    return first, first + width


def _width(window: str) -> np.timedelta64 | None:
    """Days as a stretch of time, None for no window."""
    if not window:
        return None
    found = re.fullmatch(r"(\d+)D", window)
    if found is None or int(found[1]) < 1:
        raise BadInputError(f"a window is a number of days such as 30D, not {window!r}")
    return np.timedelta64(int(found[1]) * 86_400_000_000, "us")


def _edges(first: pd.Timestamp, last: pd.Timestamp, step: pd.DateOffset) -> np.ndarray:
    """Beginnings of periods, from before the first moment to after the last; datetime64[us]."""
    begin = FIRST_YEAR
    if isinstance(step, pd.offsets.Day):
        length = pd.Timedelta(days=step.n)
        begin = FIRST_MONDAY + (first - FIRST_MONDAY) // length * length
    edges: np.ndarray = pd.date_range(begin, last + 2 * step, freq=step).values.astype("datetime64[us]")
    return edges


def _step(period: str) -> pd.DateOffset:
    """A frequency that begins at days, months, quarters or years."""
    known = f"{', '.join(WORDS)}, all, or a frequency of pandas such as 1MS, QS-DEC, 1YS or 10D"
    try:
        step = pd.tseries.frequencies.to_offset(WORDS.get(period, period))
    except ValueError as error:
        raise BadInputError(f"unknown period {period!r}: use {known}") from error
    begins = (pd.offsets.Day, pd.offsets.MonthBegin, pd.offsets.QuarterBegin, pd.offsets.YearBegin)
    if not isinstance(step, begins) or step.n < 1:
        raise BadInputError(f"a period is named by how it begins, not {period!r}: use {known}")
    return step
