"""NumPy in, NumPy out: the arithmetic of each stage, free of files and catalogs."""

from __future__ import annotations
