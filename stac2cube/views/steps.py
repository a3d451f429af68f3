"""Which steps of an opened cube: by time, by key, by how cloudy they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date
from typing import Any

import numpy as np
import xarray as xr

from stac2cube.errors import BadInputError


@dataclass(frozen=True)
class Choice:
    """Which steps.

    Attributes:
        time: Words for a time as :func:`stac2cube.period.parse_period` reads them; None for all.
        steps: Scene keys, or ISO dates that are of one step only; none for all.
        max_cloud: Per cent of a step that may be cloud: what the clouds cube said, else the catalog; None for all.
    """

    time: str | None = None
    steps: tuple[str, ...] = ()
    max_cloud: float | None = None

    def of(self, dataset: xr.Dataset) -> xr.Dataset:
        """The steps chosen, in order of time.

        Raises:
            BadInputError: None is left, a step is not there or means several, or nothing is known of clouds.
        """
        if self.steps:
            places = sorted({step_place(dataset, step) for step in self.steps})
            dataset = dataset.isel(time=places)
        if self.time is not None:
            from stac2cube.period import parse_period

            period = parse_period(self.time)
            moments: list[Any] = dataset["time"].values.astype("datetime64[us]").tolist()
            dataset = dataset.isel(time=[moment.replace(tzinfo=UTC) in period for moment in moments])
            if dataset.sizes["time"] == 0:
                raise BadInputError(f"there is no step in {self.time}: choose another time")
        if self.max_cloud is not None:
            dataset = dataset.isel(time=_percent(dataset) <= self.max_cloud)
        if self.max_cloud is not None and dataset.sizes["time"] == 0:
            raise BadInputError(f"there is no step with at most {self.max_cloud:g} % cloud: allow more")
        return dataset


def step_place(dataset: xr.Dataset, step: str) -> int:
    """Place of a step in an opened cube.

    Args:
        dataset: The cube.
        step: Scene key, or an ISO date that is that of one step only.

    Raises:
        BadInputError: None fits, or several do.
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
    """What may be said instead: the steps of the days nearest to one that was said, else the first there are."""
    if not keys:
        return "the cube is empty"
    try:
        away = [abs((date.fromisoformat(day) - date.fromisoformat(step)).days) for day in days]
    except ValueError:
        return f"give a date, or a key such as {', '.join(keys[:3])}{' ...' if len(keys) > 3 else ''}"
    near = sorted(sorted(range(len(keys)), key=lambda place: away[place])[:3])
    return f"the nearest are {', '.join(f'{days[place]} ({keys[place]})' for place in near)}"


def _percent(dataset: xr.Dataset) -> np.ndarray:
    if "cloud_fraction" in dataset.coords:
        return 100 * np.asarray(dataset["cloud_fraction"].values, float)
    if "cloud_cover" in dataset.coords:
        return np.asarray(dataset["cloud_cover"].values, float)
    raise BadInputError("nothing is known of how cloudy the steps are: say no limit")
