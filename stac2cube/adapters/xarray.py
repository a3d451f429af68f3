"""xarray: how a custom array becomes a lazy variable.

xarray's guide "How to add a new backend" (docs.xarray.dev, internals) tells backends to import these from
``xarray.core``, which is otherwise private. Prefer a public location once a release has one.

* :class:`LazilyIndexedArray` wraps an :class:`xarray.backends.BackendArray` and delays reading.
* :class:`ExplicitIndexer` is a key passed to the array, with ``tuple``; in :class:`VectorizedIndexer` the parts are
  arrays that are combined element by element.
* :func:`explicit_indexing_adapter` reads with any kind of key, through a method that supports one kind
  (:class:`IndexingSupport`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stac2cube.adapters import taken

if TYPE_CHECKING:
    from xarray.core.indexing import (
        ExplicitIndexer,
        IndexingSupport,
        LazilyIndexedArray,
        VectorizedIndexer,
        explicit_indexing_adapter,
    )
else:
    ExplicitIndexer, IndexingSupport, LazilyIndexedArray, VectorizedIndexer, explicit_indexing_adapter = taken(
        "xarray",
        "xarray.core.indexing",
        "ExplicitIndexer",
        "IndexingSupport",
        "LazilyIndexedArray",
        "VectorizedIndexer",
        "explicit_indexing_adapter",
    )

__all__ = [
    "ExplicitIndexer",
    "IndexingSupport",
    "LazilyIndexedArray",
    "VectorizedIndexer",
    "explicit_indexing_adapter",
]
