"""From images to blocks, on the worker: open, retry, warp and mosaic files and arrays of Zarr stores."""

from __future__ import annotations
