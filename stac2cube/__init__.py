"""stac2cube: satellite catalogs to analysis-ready Zarr cubes that can be extended safely for years."""

from __future__ import annotations

__version__ = "0.1.0"
