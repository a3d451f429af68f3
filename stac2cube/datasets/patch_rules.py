"""Rules of a set of patches: size, quality, storage, splits."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from itertools import combinations
from typing import TYPE_CHECKING, Any, Literal

from stac2cube.errors import BadInputError
from stac2cube.model.fields import Options, Range, documented, option
from stac2cube.model.period import Period, parse_period

if TYPE_CHECKING:
    import numpy as np

# Splits into training, validation and test by place and time, which share neither ground nor days.
#
# The earth is divided into blocks of one lattice for all cubes, zones and missions: rows of equal height, starting at
# the equator, each divided from Greenwich on into blocks as wide as they are high at the middle of the row. A hash of
# its number and the seed assigns each block to one split permanently: the same ground is never used for training in one
# year and for validation in the next, and extending a cube moves no patch to another split. A patch that overlaps
# blocks of different splits belongs to none.

METRES_PER_DEGREE = 111_194.93
"""Length of a degree of a great circle: 6371 km, the mean radius of the earth (IUGG), times pi / 180."""

USUAL = {"train": 0.8, "val": 0.1, "test": 0.1}

Bounds = tuple[float, float, float, float]
"""West, south, east, north."""


@documented
@dataclass(frozen=True)
class Splits(Options):
    """How patches are split.

    Attributes:
        shares: Split -> fraction of the ground; their sum is 1.
        times: Split -> its period, as in ``--time``; no two may share a day, UTC. Empty for no split by time. A patch
            is used only if its ground and all its days belong to one split.
    """

    shares: Mapping[str, float] = field(default_factory=lambda: dict(USUAL))
    block: float = option(
        5120.0,
        "Edge of a block, in metres: larger than the distance over which the ground resembles itself.",
        unit="metres",
        bounds=Range(above=0),
    )
    times: Mapping[str, str] = field(default_factory=dict)
    seed: int = option(0, "Seed that decides which block goes where.")

    def __post_init__(self) -> None:
        """Check the options.

        Raises:
            BadInputError: An invalid number, shares that do not sum to 1, times that share a day or name another split.
        """
        super().__post_init__()
        if not self.shares or min(self.shares.values()) < 0 or not math.isclose(sum(self.shares.values()), 1):
            raise BadInputError(f"shares of splits should sum to 1, not {dict(self.shares)}")
        if bad := [name for name in self.shares if not name.isidentifier()]:
            raise BadInputError(f"a split is named by one word, not {bad[0]!r}")
        if self.times and set(self.times) != set(self.shares):
            raise BadInputError(
                f"times are said of {', '.join(self.times)}, shares of {', '.join(self.shares)}: say them of the same"
            )
        _refuse_overlaps(self.periods())

    def periods(self) -> dict[str, Period]:
        """The period of each split."""
        return {name: parse_period(text) for name, text in self.times.items()}

    def blocks(self, bounds: Bounds) -> set[tuple[int, int]]:
        """Column and row of all blocks that a box intersects.

        Args:
            bounds: WGS84 degrees; west > east where the box crosses the antimeridian.
        """
        west, south, east, north = bounds
        found = set()
        for row in _numbers(south, north, METRES_PER_DEGREE / self.block):
            middle = (row + 0.5) * self.block / METRES_PER_DEGREE
            scale = METRES_PER_DEGREE * math.cos(math.radians(min(abs(middle), 90.0))) / self.block
            for start, stop in ((west, east),) if west <= east else ((west, 180.0), (-180.0, east)):
                found |= {(column, row) for column in _numbers(start, stop, scale)}
        return found

    def of_block(self, column: int, row: int) -> str:
        """The split of a block."""
        digest = hashlib.blake2b(f"{self.seed} {self.block} {column} {row}".encode(), digest_size=8).digest()
        drawn, upto = int.from_bytes(digest) / 2**64, 0.0
        for name, share in self.shares.items():
            upto += share
            if drawn < upto:
                return name
        return list(self.shares)[-1]

    def of_ground(self, bounds: Bounds) -> str:
        """The split of a patch by its location, "" if it overlaps blocks of different splits.

        Args:
            bounds: See :meth:`blocks`.
        """
        found = {self.of_block(*block) for block in self.blocks(bounds)}
        return found.pop() if len(found) == 1 else ""

    def of_times(self, times: Sequence[datetime]) -> frozenset[str]:
        """The splits whose period contains all of the times."""
        if not self.times:
            return frozenset(self.shares)
        periods = self.periods()
        return frozenset(name for name, period in periods.items() if all(time in period for time in times))


def ground_bounds(crs: str, boxes: Sequence[Bounds]) -> list[Bounds]:
    """Bounding boxes in WGS84 degrees of boxes in any CRS, edges densified.

    Longitudes are within -180 to 180, also for grids in degrees with longitudes beyond 180, so that the same ground has
    the same bounds. A box across the antimeridian has west > east.
    """
    from pyproj import Transformer

    transformer = Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    found = [transformer.transform_bounds(*box) for box in boxes]
    return [
        (
            west if -180 <= west < 180 else (west + 180) % 360 - 180,
            south,
            east if -180 < east <= 180 else (east + 180) % 360 - 180,
            north,
        )
        for west, south, east, north in found
    ]


def drawn_order(seed: int, names: Sequence[str]) -> np.ndarray:
    """A pseudo-random order of names for a seed; an additional name does not change the order of the others.

    Returns:
        Indices into ``names``, ``(len(names),)``.
    """
    import numpy as np

    digests = [hashlib.blake2b(f"{seed} {name}".encode(), digest_size=8).digest() for name in names]
    return np.array(sorted(range(len(names)), key=lambda place: (digests[place], names[place])), dtype="int64")


def _numbers(start: float, stop: float, scale: float) -> range:
    """Numbers of the blocks from degree ``start`` to ``stop``, half-open intervals."""
    first = math.floor(start * scale)
    return range(first, max(math.ceil(stop * scale), first + 1))


def _refuse_overlaps(periods: Mapping[str, Period]) -> None:
    for (one, mine), (other, theirs) in combinations(periods.items(), 2):
        for first, last in mine.intervals:
            for begin, end in theirs.intervals:
                if first.date() <= end.date() and begin.date() <= last.date():
                    day = f"{max(first, begin):%Y-%m-%d}"
                    raise BadInputError(f"the times of {one} and {other} overlap from {day}: splits share no day")


# Options of a set of patches: their size, quality and storage.

Form = Literal["webdataset", "zarr", "geotiff"]


_ONE = Range(least=1)
_SHARE = Range(least=0, most=1)


@documented
@dataclass(frozen=True)
class PatchQuality(Options):
    """Quality criteria of patches. Fractions are of the patch's pixels, over all its frames.

    Where clouds are unknown, ``max_cloud`` must be 1. Sets without labels have no pixels to ignore. ``balance`` only
    thins patches for training.
    """

    min_valid: float = option(0.95, "Smallest fraction of pixels with data in every band.", bounds=_SHARE)
    max_cloud: float = option(1.0, "Largest fraction of pixels known to be cloud or shadow.", bounds=_SHARE)
    max_ignore: float = option(1.0, "Largest fraction of pixels without a label.", bounds=_SHARE)
    max_share: float = option(
        1.0,
        "Largest fraction of one class among the labelled pixels: below 1 leaves out patches of one class alone.",
        bounds=_SHARE,
    )
    balance: float | None = option(
        None,
        "How many times as many patches of a majority class are taken for training as of the rarest. Default: all.",
        bounds=Range(least=1),
    )


@documented
@dataclass(frozen=True)
class PatchRules(Options):
    """How frames are cut into patches.

    A stack of 1 gives patches without a time axis. Together with the splits' seed, ``seed`` determines every random
    choice. The form webdataset writes tar files, zarr one group, geotiff a folder of files per patch.

    Attributes:
        good: Quality criteria of patches.
        splits: Fractions of training, validation and test, and how the ground is divided.
    """

    size: int = option(128, "Edge of a patch in pixels.", unit="pixels", bounds=_ONE)
    stride: int | None = option(
        None,
        "Distance from one patch to the next in pixels. Default: the edge of a patch.",
        unit="pixels",
        bounds=_ONE,
    )
    stack: int = option(1, "Number of consecutive time steps in a patch.", bounds=_ONE)
    good: PatchQuality = field(default_factory=PatchQuality)
    splits: Splits = field(default_factory=Splits)
    per_shard: int = option(256, "Number of patches per file.", bounds=_ONE)
    form: Form = option("webdataset", "Storage format.")
    seed: int = option(0, "Seed that decides the order of the patches.")

    @property
    def step(self) -> int:
        """Distance from one patch to the next, pixels."""
        return self.stride or self.size

    def to_json(self) -> dict[str, Any]:
        """Convert to plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> PatchRules:
        """Read the output of :meth:`to_json`, or a table of the same keys written by hand.

        Raises:
            BadInputError: An unknown key or an invalid number.
        """
        words = dict(value)
        try:
            if "good" in words:
                words["good"] = PatchQuality(**words["good"])
            if "splits" in words:
                words["splits"] = Splits(**words["splits"])
            return cls(**words)
        except TypeError as error:
            raise BadInputError(f"rules of patches: {error}") from error


@documented
@dataclass(frozen=True)
class StatisticsRules(Options):
    """How statistics are computed."""

    low: float = option(0.0, "Lowest value that is counted.")
    high: float = option(1.0, "Highest value that is counted.")
    width: float = option(
        0.0005,
        "Width of a histogram bin, which is the precision of percentiles.",
        bounds=Range(above=0),
    )
    percentiles: tuple[float, float] = option(
        (2.0, 98.0), "Lower and upper percentile; values beyond them are clipped.", bounds=Range(0, 100)
    )
    max_pixels_per_scene: int | None = option(
        None, "Number of pixels taken from each scene. Default: all.", bounds=Range(least=1)
    )
    seed: int = option(0, "Seed that chooses the pixels.")

    def __post_init__(self) -> None:
        """Check the options.

        Raises:
            BadInputError: An option is invalid; the message names it.
        """
        super().__post_init__()
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise BadInputError(f"a range of values has low < high, not {self.low} and {self.high}")
        lower, upper = self.percentiles
        if lower >= upper:
            raise BadInputError(f"percentiles are two of 0 to 100, the lower first, not {self.percentiles}")


def digest_of(value: Any) -> str:
    """Digest of plain JSON values, 16 hexadecimal digits."""
    return hashlib.blake2b(json.dumps(value, sort_keys=True).encode(), digest_size=8).hexdigest()
