"""How a band is wanted."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from stac2cube.equality import equal_nan
from stac2cube.errors import BadInputError

CLASS_RESAMPLING = ("nearest", "mode")
"""What classes may be resampled by: anything else would invent classes."""

CONTINUOUS_RESAMPLING = ("nearest", "bilinear", "cubic", "lanczos", "average", "med", "min", "max")


@equal_nan
@dataclass(frozen=True, slots=True)
class BandRequest:
    """How one band is wanted.

    Attributes:
        name: Band name, key of :attr:`stac2cube.scene.Granule.assets`.
        dtype: NumPy dtype of the result.
        fill: Value of pixels without data, in the file and in the result.
        kind: ``"class"`` values are never interpolated.
        resampling: GDAL's name of the method, used where the lattices differ.
        above: Values not above it hold no data.
        optional: Whether a granule may lack it, and then has no data.
        exact: From overviews only if they are averages whose whole pixels fill one of the target, as those of TIFFs
            may be: averages of averages are the averages. JPEG 2000's are low-passed.
    """

    name: str
    dtype: str
    fill: float
    kind: Literal["continuous", "class"]
    resampling: str = "bilinear"
    above: float = -math.inf
    optional: bool = False
    exact: bool = False

    def __post_init__(self) -> None:
        """Refuse methods that do not fit.

        Raises:
            BadInputError: Unknown, or interpolation of classes.
        """
        allowed = CLASS_RESAMPLING if self.kind == "class" else CONTINUOUS_RESAMPLING
        if self.resampling not in allowed:
            raise BadInputError(
                f"band {self.name} cannot be resampled by {self.resampling!r}: choose {', '.join(allowed)}"
            )
