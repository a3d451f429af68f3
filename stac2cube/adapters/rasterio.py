"""rasterio: the errors raised by GDAL itself.

Some functions, such as :func:`rasterio.shutil.copy`, pass on errors of GDAL (a full disk, for example) unchanged.
Their classes have no public name, and no public base except :class:`Exception`.
"""

from __future__ import annotations

from stac2cube.adapters import taken

GdalError: type[Exception]
"""Base of the errors of GDAL."""

(GdalError,) = taken("rasterio", "rasterio._err", "CPLE_BaseError")
