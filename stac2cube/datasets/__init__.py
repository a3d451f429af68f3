"""Training sets: products on disk, samples on one grid, and the index that says what there is."""

from __future__ import annotations
