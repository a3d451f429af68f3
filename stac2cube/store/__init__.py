"""The cube on disk: plain Zarr v3 with a ledger. This room depends on neither STAC nor dask."""

from __future__ import annotations
