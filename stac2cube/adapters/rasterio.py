"""rasterio: the errors that GDAL itself raises.

Some functions, :func:`rasterio.shutil.copy` among them, pass on errors of GDAL (a full disk, for example) as they are.
Their classes have no public name, and no public base but :class:`Exception`.
"""

from __future__ import annotations

from stac2cube.adapters import taken

GdalError: type[Exception]
"""Base of the errors of GDAL."""

(GdalError,) = taken("rasterio", "rasterio._err", "CPLE_BaseError")
