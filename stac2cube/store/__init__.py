"""The cube on disk: plain Zarr v3 with a ledger. This room knows no STAC and no dask."""

from __future__ import annotations
