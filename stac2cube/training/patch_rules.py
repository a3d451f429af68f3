"""The words of a set of patches: their size, which are good enough, how they are stored."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from stac2cube.errors import BadInputError
from stac2cube.training.splits import Splits

Form = Literal["webdataset", "zarr", "geotiff"]


@dataclass(frozen=True)
class Good:
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
        splits: Who learns and who judges.
        per_shard: Patches per file.
        form: Tar files as WebDataset reads them, one Zarr group, or a folder of GeoTIFFs per patch.
        seed: Decides the order of patches; with the splits' seed everything that is drawn.

    Raises:
        BadInputError: A number that cannot be.
    """

    size: int = 128
    stride: int | None = None
    stack: int = 1
    good: Good = field(default_factory=Good)
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
                words["good"] = Good(**words["good"])
            if "splits" in words:
                words["splits"] = Splits(**words["splits"])
            return cls(**words)
        except TypeError as error:
            raise BadInputError(f"rules of patches: {error}") from error


def digest_of(value: Any) -> str:
    """16 hexadecimal digits that stand for plain JSON values."""
    return hashlib.blake2b(json.dumps(value, sort_keys=True).encode(), digest_size=8).hexdigest()
