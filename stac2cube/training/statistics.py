"""Statistics of a whole set in two passes: histograms set limits, then mean and deviation of what is clipped to them.

The first pass writes ``histogram.npz`` and ``stats.json``; the second adds moments to ``stats.json``. Both add up parts
made at any place, one per frame; the sums are exact, so neither workers nor order change a digit.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from stac2cube.cube.files import remove_tree, write_whole
from stac2cube.errors import BadInputError
from stac2cube.kernels.histogram import Bins, Moments, clipped_moments, mean_and_std, thinned
from stac2cube.training.frames import Frame, Source
from stac2cube.training.parts import Making
from stac2cube.training.patch_rules import digest_of

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

    def require_fit(self, bands: Sequence[str], radiometry: str) -> None:
        """Be sure that these statistics are of such numbers.

        Raises:
            BadInputError: Other bands or another radiometry: standardised by them, numbers would mean nothing.
        """
        mine = tuple(band.name for band in self.bands)
        if mine != tuple(bands):
            raise BadInputError(f"the statistics are of the bands {', '.join(mine)}, not {', '.join(bands)}")
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


def read_statistics(path: Path) -> Statistics:
    """Read ``stats.json``, or that of a folder.

    Raises:
        BadInputError: It is not there, of another schema, or damaged.
    """
    file = path / STATS if path.is_dir() else path
    try:
        value = json.loads(file.read_text())
        if value.pop("schema") != SCHEMA:
            raise BadInputError(f"{file} is not of the schema {SCHEMA!r}")
        rules = StatisticsRules(**value["rules"] | {"percentiles": tuple(value["rules"]["percentiles"])})
        bands = tuple(Band(**band | {"limits": tuple(band["limits"])}) for band in value["bands"])
        return Statistics(**value | {"rules": rules, "bands": bands})
    except FileNotFoundError:
        raise BadInputError(f"{file} does not exist: make it with `stac2cube statistics`") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInputError(f"{file} holds no statistics that this version reads: {error}") from error


def count_values(source: Source, rules: StatisticsRules, out: Path, making: Making | None = None) -> Statistics | None:
    """The first pass: a histogram per band over all valid pixels, and the limits that it sets.

    Args:
        source: The frames.
        rules: How.
        out: Folder for ``stats.json`` and ``histogram.npz``.
        making: Where the work is done; in threads of this process if None.

    Returns:
        The statistics so far; None if it was stopped: run it again.

    Raises:
        BadInputError: A band has no valid pixel.
        IncompleteError: Frames could not be read; run it again.
    """
    folder = out / f".counting-{_digest(source)}-{digest_of(asdict(rules))}"
    parts = _parts(source, rules, folder)
    if not (making or Making()).make(parts, _count):
        return None
    total: np.ndarray = np.sum([np.load(path) for path in parts], axis=0)
    bins, bands = rules.bins, []
    for name, histogram in zip(source.bands, total, strict=True):
        try:
            lower, upper = (bins.percentile(histogram, percent) for percent in rules.percentiles)
        except BadInputError as error:
            raise BadInputError(f"{source.name}, {name}: {error}") from error
        bands.append(Band(name, int(histogram.sum()), int(histogram[0]), int(histogram[-1]), (lower, upper)))
    packed = io.BytesIO()
    np.savez_compressed(packed, counts=total[:, 1:-1], edges=bins.edges, bands=np.array(source.bands))
    write_whole(out / HISTOGRAM, packed.getvalue())
    made = Statistics(source.name, source.radiometry, rules, len(source.frames), _digest(source), tuple(bands))
    _write(out, made)
    remove_tree(folder)
    return made


def add_moments(source: Source, out: Path, making: Making | None = None) -> Statistics | None:
    """The second pass: mean and standard deviation of the same pixels, clipped to the limits of the first.

    Returns:
        The whole statistics; None if it was stopped.

    Raises:
        BadInputError: The first pass was of other bands, another radiometry or other frames.
        IncompleteError: Frames could not be read; run it again.
    """
    known = read_statistics(out)
    known.require_fit(source.bands, source.radiometry)
    if known.digest != _digest(source):
        raise BadInputError(f"{out}: the first pass was of {known.frames} other frames: make it again")
    limits = tuple(band.limits for band in known.bands)
    folder = out / f".moments-{known.digest}-{digest_of([asdict(known.rules), limits])}"
    parts = _parts(source, known.rules, folder, limits)
    if not (making or Making()).make(parts, _measure):
        return None
    loaded = [json.loads(path.read_text()) for path in parts]
    bands = []
    for place, band in enumerate(known.bands):
        moments = [Moments(*moment) for part in loaded for moment in part[place]]
        mean, std = mean_and_std(moments, *band.limits)
        bands.append(replace(band, mean=mean, std=std))
    made = replace(known, bands=tuple(bands))
    _write(out, made)
    remove_tree(folder)
    return made


@dataclass(frozen=True)
class _Look:
    """A frame, and how it is looked at."""

    frame: Frame
    rules: StatisticsRules
    limits: tuple[tuple[float, float], ...] = ()

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
    bins = look.rules.bins
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
    source: Source, rules: StatisticsRules, folder: Path, limits: tuple[tuple[float, float], ...] = ()
) -> Mapping[Path, _Look]:
    if not source.frames:
        raise BadInputError(f"{source.name} has no frames")
    folder.mkdir(parents=True, exist_ok=True)
    return {folder / f"{at:06d}": _Look(frame, rules, limits) for at, frame in enumerate(source.frames)}


def _digest(source: Source) -> str:
    return digest_of([[frame.place, frame.key] for frame in source.frames])


def _write(out: Path, made: Statistics) -> None:
    write_whole(out / STATS, (json.dumps(made.to_json(), indent=1) + "\n").encode())
