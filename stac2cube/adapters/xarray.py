"""xarray: how an array of one's own becomes a lazy variable.

xarray's guide "How to add a new backend" (docs.xarray.dev, internals) has backends import these from ``xarray.core``,
which is otherwise private. A release that gives them a public place is to be preferred.

* :class:`LazilyIndexedArray` wraps an :class:`xarray.backends.BackendArray` and puts off reading.
* :class:`ExplicitIndexer` is a key as the array gets it, with ``tuple``; :class:`VectorizedIndexer` one whose parts are
  arrays that belong together element by element.
* :func:`explicit_indexing_adapter` reads by a key of any kind, through a method that knows one kind
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
