"""Statistics of a whole set in two passes: histograms, then moments."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from stac2cube.datasets.files import Making, made_folder, read_document
from stac2cube.datasets.frames import Frame, FrameSet
from stac2cube.datasets.patch_rules import StatisticsRules, digest_of
from stac2cube.errors import BadInputError
from stac2cube.store.files import remove_partials, remove_tree, write_whole

# Histograms, limits from percentiles, and moments after clipping: sums that do not depend on the order.


@dataclass(frozen=True)
class Bins:
    """Equal bins over a range, and one more on either side for values beyond it.

    Attributes:
        low: Lower end of the range.
        high: Upper end; the last bin ends there or just beyond.
        width: Width of a bin.
    """

    low: float
    high: float
    width: float

    def __post_init__(self) -> None:
        if not (all(map(math.isfinite, (self.low, self.high, self.width))) and self.width > 0 and self.low < self.high):
            raise BadInputError(f"bins want low < high and a width above 0, not {self.low}, {self.high}, {self.width}")

    @classmethod
    def of(cls, rules: StatisticsRules) -> Bins:
        """The bins of rules."""
        return cls(rules.low, rules.high, rules.width)

    @property
    def count(self) -> int:
        """Number of bins within the range."""
        return math.ceil(round((self.high - self.low) / self.width, 9))

    @property
    def edges(self) -> np.ndarray:
        """``(count + 1,)`` float64."""
        return self.low + self.width * np.arange(self.count + 1)

    def histogram(self, values: np.ndarray) -> np.ndarray:
        """Count the values in each bin, lower edge included.

        Args:
            values: Any shape, floats; NaN is not counted.

        Returns:
            ``(count + 2,)`` int64: below the range, the bins, at or above its end.
        """
        found = values[np.isfinite(values)].astype("float64")
        # The same rule for edges as np.histogram, so that a value always falls into the same bin.
        places = np.searchsorted(self.edges, found, side="right")
        counted: np.ndarray = np.bincount(places, minlength=self.count + 2)
        return counted

    def percentile(self, histogram: np.ndarray, percent: float) -> float:
        """Percentile of the counted values, interpolated linearly within a bin.

        Values beyond the range count at its ends. The result differs by at most the width of a bin from the
        percentile of all values, if that is within the range.

        Args:
            histogram: Result of :meth:`histogram`, or a sum of such.
            percent: 0 to 100.

        Raises:
            BadInputError: Nothing was counted.
        """
        total = int(histogram.sum())
        if total == 0:
            raise BadInputError("no valid pixel was counted: there is nothing to take percentiles of")
        wanted = max(percent / 100 * total, _LEAST)  # above 0, so that 0 percent does not choose an empty bin
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
    """Count, sum and sum of squares of deviations from a fixed origin, so that parts can be added.

    Attributes:
        count: Number of values.
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
        low: Lower limit.
        high: Upper limit.
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
    """Choose at most ``most`` pixels of a frame, evenly over its strips, reproducible by the seed.

    Args:
        rows: Number of rows of the frame.
        columns: Number of columns of the frame.
        most: Largest number of pixels; None for all.
        strips: Rows of each part, in order.
        seed: Seed of the random choice.

    Returns:
        Per strip the flat indices within it, ascending.
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


# Statistics of a whole set: the values of each band, and their file.

SCHEMA = "stac2cube-statistics/1"

STATS, HISTOGRAM = "stats.json", "histogram.npz"


@dataclass(frozen=True)
class BandStatistics:
    """Statistics of one band.

    Attributes:
        name: Name of the band.
        pixels: Number of valid pixels.
        below: Number of pixels below the range.
        above: Number of pixels at or above its end.
        limits: The percentiles, physical units.
        mean: Mean of the values clipped to the limits; None before the second pass.
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
        source: Name of the source.
        radiometry: Kind of the values, see :class:`stac2cube.datasets.frames.FrameSet`.
        rules: How they were computed.
        frames: Number of frames.
        digest: Digest of the frames, see :attr:`stac2cube.datasets.frames.FrameSet.digest`.
        bands: Statistics per band.
    """

    source: str
    radiometry: str
    rules: StatisticsRules
    frames: int
    digest: str
    bands: tuple[BandStatistics, ...] = field(default=())

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the bands."""
        return tuple(band.name for band in self.bands)

    def require_fit(self, bands: Sequence[str], radiometry: str) -> None:
        """Check that these statistics fit the bands and their radiometry.

        Raises:
            BadInputError: Other bands or another radiometry: standardised values would be meaningless.
        """
        if self.names != tuple(bands):
            raise BadInputError(f"the statistics are of the bands {', '.join(self.names)}, not {', '.join(bands)}")
        if self.radiometry != radiometry:
            raise BadInputError(f"the statistics are of {self.radiometry!r}, the pixels are {radiometry!r}")

    def standardised(self, values: np.ndarray, axis: int = 0) -> np.ndarray:
        """Clip values to the limits, subtract the mean, divide by the standard deviation: float32; no data becomes 0.

        Args:
            values: Bands along ``axis``, NaN without data.
            axis: Axis of the bands.

        Raises:
            BadInputError: The second pass was not run yet.
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
    """Read ``stats.json``, from its path or its folder.

    Args:
        path: The file, or the folder that ``stac2cube statistics`` wrote.

    Returns:
        The statistics of every band.

    Raises:
        BadInputError: The file does not exist, has another schema, or is damaged.
    """
    file = Path(path) / STATS if Path(path).is_dir() else Path(path)
    value = read_document(file, SCHEMA, "statistics", "make it with `stac2cube statistics`")
    try:
        rules = StatisticsRules(**value["rules"] | {"percentiles": tuple(value["rules"]["percentiles"])})
        bands = tuple(BandStatistics(**band | {"limits": tuple(band["limits"])}) for band in value["bands"])
        plain = {name: part for name, part in value.items() if name != "schema"}
        return Statistics(**plain | {"rules": rules, "bands": bands})
    except (ValueError, KeyError, TypeError) as error:
        raise BadInputError(f"{file} holds no statistics that this version reads: {error}") from error


def write_statistics(out: Path, made: Statistics) -> None:
    """Write ``stats.json`` into a folder, atomically."""
    write_whole(out / STATS, (json.dumps(made.to_json(), indent=1) + "\n").encode())


# Statistics of a whole set in two passes: limits from histograms, then mean and deviation of the clipped values.
#
# The first pass writes ``histogram.npz`` and ``stats.json``; the second adds moments to ``stats.json``. Both add up
# parts made at any place, one per frame; the sums are exact, so neither workers nor order change the result.


def count_values(
    source: FrameSet, rules: StatisticsRules, folder: str | Path, making: Making | None = None
) -> Statistics | None:
    """Run the first pass: a histogram per band over all valid pixels, and the limits from it.

    If the folder already has it for the same pixels and rules, nothing is done.

    Args:
        source: The frames.
        rules: How statistics are computed.
        folder: For ``stats.json`` and ``histogram.npz``.
        making: Where the work is done; in threads of this process if None.

    Returns:
        The statistics so far; None if the run was stopped: run it again.

    Raises:
        BadInputError: A band has no valid pixel.
        IncompleteError: Frames could not be read; run it again.
    """
    out = Path(folder)
    if (known := _known(source, rules, out)) is not None:
        _clear(out)
        return known
    gathered = out / f".counting-{source.digest}-{digest_of(asdict(rules))}"
    parts = _parts(source, rules, gathered)
    if not (making or Making()).make(parts, _count):
        return None
    total: np.ndarray = np.sum([np.load(path) for path in parts], axis=0)
    bins, bands = Bins.of(rules), []
    for name, histogram in zip(source.bands, total, strict=True):
        try:
            lower, upper = (bins.percentile(histogram, percent) for percent in rules.percentiles)
        except BadInputError as error:
            raise BadInputError(f"{source.name}, {name}: {error}") from error
        bands.append(BandStatistics(name, int(histogram.sum()), int(histogram[0]), int(histogram[-1]), (lower, upper)))
    packed = io.BytesIO()
    np.savez_compressed(packed, counts=total[:, 1:-1], edges=bins.edges, bands=np.array(source.bands))
    write_whole(out / HISTOGRAM, packed.getvalue())
    made = Statistics(source.name, source.radiometry, rules, len(source.frames), source.digest, tuple(bands))
    write_statistics(out, made)
    _clear(out)
    return made


def add_moments(
    source: FrameSet, folder: str | Path, making: Making | None = None, *, rules: StatisticsRules | None = None
) -> Statistics | None:
    """Run the second pass: mean and standard deviation of the same pixels, clipped to the limits of the first.

    Args:
        source: The frames.
        folder: Folder of the first pass.
        making: Where the work is done; in threads of this process if None.
        rules: Rules that the first pass must have used; any rules if None.

    Returns:
        The complete statistics; None if the run was stopped.

    Raises:
        BadInputError: The first pass was of other bands, another radiometry, other frames, or by other rules.
        IncompleteError: Frames could not be read; run it again.
    """
    out = Path(folder)
    known = read_statistics(out)
    known.require_fit(source.bands, source.radiometry)
    if rules is not None and rules != known.rules:
        differing = [
            f"{field.name} {getattr(known.rules, field.name)}, not {getattr(rules, field.name)}"
            for field in fields(rules)
            if getattr(known.rules, field.name) != getattr(rules, field.name)
        ]
        raise BadInputError(f"{out}: the first pass was by other rules ({'; '.join(differing)}): make it again")
    if known.digest != source.digest:
        raise BadInputError(f"{out}: the first pass was of {known.frames} other frames: make it again")
    if all(band.mean is not None for band in known.bands):
        _clear(out)
        return known
    limits = tuple(band.limits for band in known.bands)
    gathered = out / f".moments-{known.digest}-{digest_of([asdict(known.rules), limits])}"
    parts = _parts(source, known.rules, gathered, limits)
    if not (making or Making()).make(parts, _measure):
        return None
    loaded = [json.loads(path.read_text(encoding="utf-8")) for path in parts]
    bands = []
    for place, band in enumerate(known.bands):
        moments = [Moments(*moment) for part in loaded for moment in part[place]]
        mean, std = mean_and_std(moments, *band.limits)
        bands.append(replace(band, mean=mean, std=std))
    made = replace(known, bands=tuple(bands))
    write_statistics(out, made)
    _clear(out)
    return made


@dataclass(frozen=True)
class _Look:
    """A frame, and which of its pixels are read."""

    frame: Frame
    rules: StatisticsRules
    limits: tuple[tuple[float, float], ...] = ()

    def __str__(self) -> str:
        return self.frame.key

    def strips(self) -> Iterator[np.ndarray]:
        """Values ``(bands, pixels)`` of the chosen pixels, strip by strip."""
        rows, columns = self.frame.shape
        strips = self.frame.strips()
        seed = [self.rules.seed, *blake2b(self.frame.key.encode(), digest_size=8).digest()]
        places = thinned(rows, columns, self.rules.max_pixels_per_scene, strips, seed)
        for strip, chosen in zip(strips, places, strict=True):
            values = self.frame.pixels.read(strip, slice(0, columns)).values
            yield values.reshape(len(values), -1)[:, chosen]


def _count(look: _Look, out: Path) -> None:
    bins = Bins.of(look.rules)
    total = np.sum([[bins.histogram(band) for band in values] for values in look.strips()], axis=0)
    packed = io.BytesIO()
    np.save(packed, total)
    write_whole(out, packed.getvalue())


def _measure(look: _Look, out: Path) -> None:
    found: list[list[list[float]]] = [[] for _ in look.limits]
    for values in look.strips():
        for place, (band, (low, high)) in enumerate(zip(values, look.limits, strict=True)):
            moments = clipped_moments(band, low, high)
            found[place].append([moments.count, moments.first, moments.second])
    write_whole(out, json.dumps(found).encode())


def _parts(
    source: FrameSet, rules: StatisticsRules, folder: Path, limits: tuple[tuple[float, float], ...] = ()
) -> Mapping[Path, _Look]:
    if not source.frames:
        raise BadInputError(f"{source.name} has no frames")
    made_folder(folder)
    return {folder / f"{at:06d}": _Look(frame, rules, limits) for at, frame in enumerate(source.frames)}


def _known(source: FrameSet, rules: StatisticsRules, out: Path) -> Statistics | None:
    """Statistics of an earlier run for the same pixels and rules, if there are any."""
    if not ((out / STATS).exists() and (out / HISTOGRAM).exists()):
        return None
    known = read_statistics(out)
    same = (known.names, known.radiometry, known.rules, known.digest)
    return known if same == (source.bands, source.radiometry, rules, source.digest) else None


def _clear(out: Path) -> None:
    """Remove the parts of a finished pass, and partial files left by killed runs."""
    for left in [*out.glob(".counting-*"), *out.glob(".moments-*")]:
        remove_tree(left)
    remove_partials(out)
