"""Values that must not come to mean that there is no data."""

from __future__ import annotations

from typing import Any

import numpy as np


def beside(fill: Any) -> Any:
    """What stands for a computed value that happens to be the value for no data.

    The same as GDAL's warper has from 3.12 on (``AvoidNoData`` in gdalwarpkernel.cpp): of whole numbers the one below,
    and above the lowest of the type; of floats the next larger one.

    Args:
        fill: The value for no data, as NumPy scalar of the pixels' type; not NaN.

    Returns:
        A NumPy scalar of the same type.
    """
    kind = fill.dtype.type
    if fill.dtype.kind in "iu":
        return kind(int(fill) + 1 if fill == np.iinfo(kind).min else int(fill) - 1)
    largest = np.finfo(kind).max
    return np.nextafter(fill, kind(0) if fill == largest else largest)
