"""A simulated archive of Sentinel-2-like scenes with known truth, for the demo, the tests and the benchmarks.

It imports nothing of the package but errors, so that it cannot repeat a mistake made there; only
:func:`stac2cube.cli.build.show_demo`, which runs the main job on the archive, imports more.
"""

from __future__ import annotations

from stac2cube.testing.archive import Archive, ArchiveSpec, simulate
from stac2cube.testing.items import GranuleProduct
from stac2cube.testing.scenes import GranuleImage, Overpass, SurfaceTruth, Tile

__all__ = ["Archive", "ArchiveSpec", "GranuleImage", "GranuleProduct", "Overpass", "SurfaceTruth", "Tile", "simulate"]
