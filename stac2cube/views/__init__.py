"""Lazy views of an opened cube: physical units, masks, filters, indices, composites, colours. Nothing here is stored.

Every view accepts a Dataset from :func:`stac2cube.open_cube`, decoded or not, with dask or without, and returns a
Dataset or DataArray on the same grid. Pixels without data are masked before any arithmetic and become NaN (the fill
value where stored values are kept). With dask all views are lazy.
"""

from __future__ import annotations
