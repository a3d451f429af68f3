"""stac2cube: satellite catalogs to analysis-ready Zarr cubes that can be extended safely for years.

The public names are listed in ``__init__.pyi``. They are imported when first used, so that ``import stac2cube`` is fast
on a login node.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import lazy_loader

_import_name, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

_WITH_DATASETS = ("stac2cube.archives", "stac2cube.store", "stac2cube.stages", "stac2cube.views")
"""Subpackages whose functions take or return Datasets."""


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    value = _import_name(name)
    if str(getattr(value, "__module__", "")).startswith(_WITH_DATASETS):
        import_module("stac2cube.export.accessor")  # registers .s2c on their Datasets
    return value
