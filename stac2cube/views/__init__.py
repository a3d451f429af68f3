"""Lazy views of an opened cube: physical units, masks, filters, indices, composites, colours. Nothing here is stored.

Every view takes what :func:`stac2cube.open_cube` gives, decoded or not, with dask or without, and gives a Dataset or
DataArray on the same grid. Pixels without data are masked before any arithmetic and come out as NaN (as the fill value
where stored numbers are kept). With dask nothing is computed before it is asked for.
"""

from __future__ import annotations
