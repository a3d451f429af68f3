"""The interface of readers of image files: an opened image, and a request for one of its bands."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from stac2cube.errors import BadInputError
from stac2cube.model.fields import equal_nan

if TYPE_CHECKING:
    import numpy as np
    from odc.geo.geobox import GeoBox

# Requests for bands.

CLASS_RESAMPLING = ("nearest", "mode")
"""Methods to resample classes; all others would invent classes."""

CONTINUOUS_RESAMPLING = ("nearest", "bilinear", "cubic", "lanczos", "average", "med", "min", "max")

METHODS = ("nearest", "bilinear", "cubic", "average", "mode", "max", "min", "med", "q1", "q3", "sum")
"""Resampling methods for values with the coverage of each pixel, by GDAL's names."""


@equal_nan
@dataclass(frozen=True, slots=True)
class BandRequest:
    """How one band is to be read.

    Attributes:
        name: Band name, key of :attr:`stac2cube.model.scene.Granule.assets`.
        dtype: NumPy dtype of the result.
        fill: Value of pixels without data, in the file and in the result.
        kind: ``"class"`` values are never interpolated.
        resampling: GDAL's name of the method, used if the lattices differ.
        above: Values not above it are no data.
        optional: Whether a granule may lack the band; it then has no data there.
        exact: Use overviews only if they are averages whose whole pixels fill one pixel of the target, as those of
            TIFFs may be: averages of averages are the averages. Those of JPEG 2000 are low-passed.
        reduced: With ``exact``: average a lower wavelet level of JPEG 2000, see
            :func:`stac2cube.pixels.warp.source_window`. Near pixels without data, full-resolution pixels are averaged.
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
        """Refuse methods that do not fit the kind of band.

        Raises:
            BadInputError: The method is unknown, or interpolates classes.
        """
        allowed = CLASS_RESAMPLING if self.kind == "class" else CONTINUOUS_RESAMPLING
        if self.resampling not in allowed:
            raise BadInputError(
                f"band {self.name} cannot be resampled by {self.resampling!r}: choose {', '.join(allowed)}"
            )


# An opened image, independent of its reader.

Roi = tuple[slice, slice]
"""Rows and columns."""


class Image(Protocol):
    """One opened file with georeferenced bands on one lattice.

    Attributes:
        geobox: Lattice of the full resolution.
        nodata: Value of pixels without data, None if the file declares none.
        bands: Number of bands.
        factors: Downsampling factor of each overview, ascending.
        is_jpeg2000: Whether overviews are the low-pass half of a wavelet transform.
        quick: Whether it may be resampled without GDAL where the result is the same.
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
        """Whether the pixels of an overview are averages: False if the file declares that they were picked.

        If the file declares nothing, they are treated as means.
        """
        ...

    def read(self, index: int, roi: Roi, level: int = 0) -> np.ndarray:
        """Read pixels as stored in the file.

        Args:
            index: Band, from 1.
            roi: Rows and columns of that level.
            level: Full resolution (0) or overview (from 1).

        Returns:
            ``(rows, columns)``, writable.
        """
        ...
