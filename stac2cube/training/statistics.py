"""Statistics of a whole set: what is asked, what is known of each band, and the file that holds it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from stac2cube.cube.files import write_whole
from stac2cube.errors import BadInputError
from stac2cube.kernels.histogram import Bins
from stac2cube.training.documents import read_document

SCHEMA = "stac2cube-statistics/1"

STATS, HISTOGRAM = "stats.json", "histogram.npz"


@dataclass(frozen=True)
class StatisticsRules:
    """How statistics are made.

    Attributes:
        low: Lower end of the range of values counted.
        high: Upper end.
        width: Width of a bin; percentiles are known no finer.
        percentiles: Lower and upper; what lies beyond is clipped.
        max_pixels_per_scene: Pixels looked at of each frame at most, drawn by the seed; None for all.
        seed: Decides which.

    Raises:
        BadInputError: A number that cannot be.
    """

    low: float = 0.0
    high: float = 1.0
    width: float = 0.0005
    percentiles: tuple[float, float] = (2.0, 98.0)
    max_pixels_per_scene: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        Bins(self.low, self.high, self.width)
        lower, upper = self.percentiles
        if not 0 <= lower < upper <= 100:
            raise BadInputError(f"percentiles are two of 0 to 100, the lower first, not {self.percentiles}")
        if self.max_pixels_per_scene is not None and self.max_pixels_per_scene < 1:
            raise BadInputError(f"max_pixels_per_scene is 1 or more, not {self.max_pixels_per_scene}")

    @property
    def bins(self) -> Bins:
        """The bins of the histograms."""
        return Bins(self.low, self.high, self.width)


@dataclass(frozen=True)
class Band:
    """What is known of one band.

    Attributes:
        name: Of the band.
        pixels: Valid ones counted.
        below: Of them below the range.
        above: Of them at or above its end.
        limits: The percentiles, physical units.
        mean: Of values clipped to the limits; None before the second pass.
        std: Their standard deviation (population); None before the second pass.
    """

    name: str
    pixels: int
    below: int
    above: int
    limits: tuple[float, float]
    mean: float | None = None
    std: float | None = None


@dataclass(frozen=True)
class Statistics:
    """Statistics of a set.

    Attributes:
        source: What it is of.
        radiometry: What the numbers are, see :class:`stac2cube.training.frames.Source`.
        rules: How they were made.
        frames: How many frames.
        digest: Stands for the frames' keys.
        bands: Per band.
    """

    source: str
    radiometry: str
    rules: StatisticsRules
    frames: int
    digest: str
    bands: tuple[Band, ...] = field(default=())

    @property
    def names(self) -> tuple[str, ...]:
        """Of the bands."""
        return tuple(band.name for band in self.bands)

    def require_fit(self, bands: Sequence[str], radiometry: str) -> None:
        """Be sure that these statistics are of such numbers.

        Raises:
            BadInputError: Other bands or another radiometry: standardised by them, numbers would mean nothing.
        """
        if self.names != tuple(bands):
            raise BadInputError(f"the statistics are of the bands {', '.join(self.names)}, not {', '.join(bands)}")
        if self.radiometry != radiometry:
            raise BadInputError(f"the statistics are of {self.radiometry!r}, the pixels are {radiometry!r}")

    def standardised(self, values: np.ndarray, axis: int = 0) -> np.ndarray:
        """Values clipped to the limits, less the mean, by the deviation: float32; 0, the mean, where there is no data.

        Args:
            values: Bands along ``axis``, NaN without data.
            axis: Of the bands.

        Raises:
            BadInputError: The second pass is still to be made.
        """
        if any(band.mean is None or band.std is None for band in self.bands):
            raise BadInputError("these statistics have no mean yet: make their second pass")
        shape = [1] * values.ndim
        shape[axis] = len(self.bands)
        low, high = (np.reshape([band.limits[end] for band in self.bands], shape) for end in (0, 1))
        mean = np.reshape([band.mean for band in self.bands], shape)
        std = np.reshape([band.std or 1.0 for band in self.bands], shape)
        out: np.ndarray = ((np.clip(values.astype("float64"), low, high) - mean) / std).astype("float32")
        out[np.isnan(values)] = 0
        return out

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"schema": SCHEMA, **asdict(self)}


def read_statistics(path: str | Path) -> Statistics:
    """Read ``stats.json``, or that of a folder.

    Raises:
        BadInputError: It is not there, of another schema, or damaged.
    """
    file = Path(path) / STATS if Path(path).is_dir() else Path(path)
    value = read_document(file, SCHEMA, "statistics", "make it with `stac2cube statistics`")
    try:
        rules = StatisticsRules(**value["rules"] | {"percentiles": tuple(value["rules"]["percentiles"])})
        bands = tuple(Band(**band | {"limits": tuple(band["limits"])}) for band in value["bands"])
        plain = {name: part for name, part in value.items() if name != "schema"}
        return Statistics(**plain | {"rules": rules, "bands": bands})
    except (ValueError, KeyError, TypeError) as error:
        raise BadInputError(f"{file} holds no statistics that this version reads: {error}") from error


def write_statistics(out: Path, made: Statistics) -> None:
    """Write ``stats.json`` into a folder, atomically."""
    write_whole(out / STATS, (json.dumps(made.to_json(), indent=1) + "\n").encode())
