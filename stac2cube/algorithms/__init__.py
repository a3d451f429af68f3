"""Functions from NumPy to NumPy: the computations of the stages, without files and catalogs."""

from __future__ import annotations
