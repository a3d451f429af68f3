"""A simulated archive of Sentinel-2-like scenes with known truth, for the demo, the tests and the benchmarks.

It imports nothing of the house but errors, so that it cannot agree with a mistake made there.
"""

from __future__ import annotations

from stac2cube.demo.archive import Archive, ArchiveSpec, simulate

__all__ = ["Archive", "ArchiveSpec", "simulate"]
