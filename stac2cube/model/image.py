"""What a reader of image files offers: an opened image, and a request for one of its bands."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np

from stac2cube.errors import BadInputError
from stac2cube.model.equality import equal_nan

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

# How a band is wanted.

CLASS_RESAMPLING = ("nearest", "mode")
"""What classes may be resampled by: anything else would invent classes."""

CONTINUOUS_RESAMPLING = ("nearest", "bilinear", "cubic", "lanczos", "average", "med", "min", "max")


@equal_nan
@dataclass(frozen=True, slots=True)
class BandRequest:
    """How one band is wanted.

    Attributes:
        name: Band name, key of :attr:`stac2cube.model.scene.Granule.assets`.
        dtype: NumPy dtype of the result.
        fill: Value of pixels without data, in the file and in the result.
        kind: ``"class"`` values are never interpolated.
        resampling: GDAL's name of the method, used where the lattices differ.
        above: Values not above it hold no data.
        optional: Whether a granule may lack it, and then has no data.
        exact: From overviews only if they are averages whose whole pixels fill one of the target, as those of TIFFs
            may be: averages of averages are the averages. JPEG 2000's are low-passed.
        reduced: With ``exact``: of JPEG 2000 a lower wavelet level is averaged, see
            :func:`stac2cube.pixels.warp.source_window`. Near pixels without data all pixels are, all the same.
    """

    name: str
    dtype: str
    fill: float
    kind: Literal["continuous", "class"]
    resampling: str = "bilinear"
    above: float = -math.inf
    optional: bool = False
    exact: bool = False
    reduced: bool = False

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


# An image that blocks are cut from, whoever reads it.

Roi = tuple[slice, slice]
"""Rows and columns."""


class Image(Protocol):
    """One file with georeferenced bands of one lattice, opened.

    Attributes:
        geobox: Lattice of the full resolution.
        nodata: Value of pixels without data, None if the file does not say.
        bands: Number of bands.
        factors: How many of its pixels make one of each overview, ascending.
        is_jpeg2000: Whether overviews are the low-pass half of a wavelet transform.
        quick: Whether it may be resampled without GDAL where that makes the same pixels.
    """

    @property
    def geobox(self) -> GeoBox: ...  # noqa: D102 - see above
    @property
    def nodata(self) -> float | None: ...  # noqa: D102
    @property
    def bands(self) -> int: ...  # noqa: D102
    @property
    def factors(self) -> list[int]: ...  # noqa: D102
    @property
    def is_jpeg2000(self) -> bool: ...  # noqa: D102
    @property
    def quick(self) -> bool: ...  # noqa: D102

    def geobox_of(self, level: int) -> GeoBox:
        """Lattice of the full resolution (0) or of an overview (from 1)."""
        ...

    def is_averaged(self, level: int) -> bool:
        """Whether the pixels of an overview stand for what they cover: False where it says that they were chosen.

        Where it says nothing, they are taken for means.
        """
        ...

    def read(self, index: int, roi: Roi, level: int = 0) -> np.ndarray:
        """Pixels as in the file.

        Args:
            index: Band, from 1.
            roi: What of that level, within it.
            level: Full resolution (0) or overview (from 1).

        Returns:
            ``(rows, columns)``, writable.
        """
        ...
