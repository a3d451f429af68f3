"""Training sets: products on disk, samples on one grid, and their index."""

from __future__ import annotations
