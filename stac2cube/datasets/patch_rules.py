"""Rules of a set of patches: size, quality, storage, splits."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from itertools import combinations
from typing import Any, Literal, get_args

import numpy as np
from pyproj import Transformer

from stac2cube.errors import BadInputError
from stac2cube.model.period import Period, parse_period

# Who learns and who judges: splits by place and by time that share neither ground nor days.
#
# The earth is cut into blocks of one lattice for all cubes, zones and missions: rows of equal height from the equator
# on, each cut from Greenwich on into blocks as wide as high in its middle. A block belongs to one split for ever,
# decided by a hash of its number and the seed: the same ground is never learnt from in one year and judged in the
# next, and a cube that grows moves nobody. A patch that reaches over the border of blocks of different splits belongs
# to none.

METRES_PER_DEGREE = 111_194.93
"""Of a great circle: 6371 km, the mean radius of the earth (IUGG), times pi / 180."""

USUAL = {"train": 0.8, "val": 0.1, "test": 0.1}

Bounds = tuple[float, float, float, float]
"""West, south, east, north."""


@dataclass(frozen=True)
class Splits:
    """How patches are split.

    Attributes:
        shares: Split -> share of the ground; their sum is 1.
        block: Edge of a block, metres: larger than the distance over which the ground resembles itself.
        times: Split -> the time it may take pictures of, as in ``--time``; no two may share a day, UTC. Empty for
            no split by time. A patch counts only if its ground and all its days belong to one split.
        seed: Decides which block goes where.

    Raises:
        BadInputError: Shares that do not sum to 1, times that share a day or name another split.
    """

    shares: Mapping[str, float] = field(default_factory=lambda: dict(USUAL))
    block: float = 5120.0
    times: Mapping[str, str] = field(default_factory=dict)
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.shares or min(self.shares.values()) < 0 or not math.isclose(sum(self.shares.values()), 1):
            raise BadInputError(f"shares of splits should sum to 1, not {dict(self.shares)}")
        if self.block <= 0:
            raise BadInputError(f"the edge of a block is in metres above 0, not {self.block}")
        if bad := [name for name in self.shares if not name.isidentifier()]:
            raise BadInputError(f"a split is named by one word, not {bad[0]!r}")
        if self.times and set(self.times) != set(self.shares):
            raise BadInputError(
                f"times are said of {', '.join(self.times)}, shares of {', '.join(self.shares)}: say them of the same"
            )
        _refuse_overlaps(self.periods())

    def periods(self) -> dict[str, Period]:
        """The time of each split."""
        return {name: parse_period(text) for name, text in self.times.items()}

    def blocks(self, bounds: Bounds) -> set[tuple[int, int]]:
        """Column and row of all blocks that a box touches.

        Args:
            bounds: WGS84 degrees; west is east of east where it spans 180 degrees.
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
        """The split of a patch by where it lies, "" if it reaches over blocks of different splits.

        Args:
            bounds: See :meth:`blocks`.
        """
        found = {self.of_block(*block) for block in self.blocks(bounds)}
        return found.pop() if len(found) == 1 else ""

    def of_times(self, times: Sequence[datetime]) -> frozenset[str]:
        """The splits to which all of some times may belong."""
        if not self.times:
            return frozenset(self.shares)
        periods = self.periods()
        return frozenset(name for name, period in periods.items() if all(time in period for time in times))


def ground_bounds(crs: str, boxes: Sequence[Bounds]) -> list[Bounds]:
    """Boxes of any CRS as boxes around them in WGS84 degrees, edges densified."""
    transformer = Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    return [transformer.transform_bounds(*box) for box in boxes]


def drawn_order(seed: int, names: Sequence[str]) -> np.ndarray:
    """An order of names that looks random, is decided by the seed, and where one more name moves no other past another.

    Returns:
        Places in ``names``, ``(len(names),)``.
    """
    digests = [hashlib.blake2b(f"{seed} {name}".encode(), digest_size=8).digest() for name in names]
    return np.array(sorted(range(len(names)), key=lambda place: (digests[place], names[place])), dtype="int64")


def _numbers(start: float, stop: float, scale: float) -> range:
    """Numbers of the blocks from a degree to a degree, the end of one being the beginning of the next."""
    first = math.floor(start * scale)
    return range(first, max(math.ceil(stop * scale), first + 1))


def _refuse_overlaps(periods: Mapping[str, Period]) -> None:
    for (one, mine), (other, theirs) in combinations(periods.items(), 2):
        for first, last in mine.intervals:
            for begin, end in theirs.intervals:
                if first.date() <= end.date() and begin.date() <= last.date():
                    day = f"{max(first, begin):%Y-%m-%d}"
                    raise BadInputError(f"the times of {one} and {other} overlap from {day}: what judges may not teach")


# The words of a set of patches: their size, which are good enough, how they are stored.

Form = Literal["webdataset", "zarr", "geotiff"]


@dataclass(frozen=True)
class PatchQuality:
    """Which patches are good enough. Fractions are of the patch's pixels, over all its frames.

    Attributes:
        min_valid: Of pixels with data in every band, at least.
        max_cloud: Of pixels known to be cloud or shadow, at most; where nothing is known of clouds this must be 1.
        max_ignore: Of pixels without a label, at most; sets without labels have none to ignore.
        max_share: Of one class among the labelled pixels, at most: below 1 leaves out patches of one class alone.
        balance: How many times as many patches of a majority class are taken for training as of the rarest; None for
            all. Those that judge are never thinned.
    """

    min_valid: float = 0.95
    max_cloud: float = 1.0
    max_ignore: float = 1.0
    max_share: float = 1.0
    balance: float | None = None

    def __post_init__(self) -> None:
        for name in ("min_valid", "max_cloud", "max_ignore", "max_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise BadInputError(f"{name} is a fraction, 0 to 1, not {getattr(self, name)}")
        if self.balance is not None and self.balance < 1:
            raise BadInputError(f"balance is how many times as many, 1 or more, not {self.balance}")


@dataclass(frozen=True)
class PatchRules:
    """How pictures are cut into patches.

    Attributes:
        size: Edge of a patch, pixels.
        stride: Pixels from patch to patch; ``size`` if None, less for patches that overlap.
        stack: Frames of one place per patch, one after another in time; 1 gives no axis of time.
        good: Which patches are good enough.
        splits: Shares of training, validation and test, and how the ground is divided.
        per_shard: Patches per file.
        form: Tar files as WebDataset reads them, one Zarr group, or a folder of GeoTIFFs per patch.
        seed: Decides the order of patches; with the splits' seed everything that is drawn.

    Raises:
        BadInputError: A number that cannot be.
    """

    size: int = 128
    stride: int | None = None
    stack: int = 1
    good: PatchQuality = field(default_factory=PatchQuality)
    splits: Splits = field(default_factory=Splits)
    per_shard: int = 256
    form: Form = "webdataset"
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("size", "stack", "per_shard"):
            if getattr(self, name) < 1:
                raise BadInputError(f"{name} is 1 or more, not {getattr(self, name)}")
        if self.stride is not None and not self.stride >= 1:
            raise BadInputError(f"stride is 1 or more pixels, not {self.stride}")
        if self.form not in get_args(Form):
            raise BadInputError(f"patches are stored as {', '.join(get_args(Form))}, not {self.form!r}")

    @property
    def step(self) -> int:
        """Pixels from patch to patch."""
        return self.stride or self.size

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> PatchRules:
        """Read back what :meth:`to_json` wrote, or what a person wrote in the same words.

        Raises:
            BadInputError: An unknown word or a number that cannot be.
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


def digest_of(value: Any) -> str:
    """16 hexadecimal digits that stand for plain JSON values."""
    return hashlib.blake2b(json.dumps(value, sort_keys=True).encode(), digest_size=8).hexdigest()
