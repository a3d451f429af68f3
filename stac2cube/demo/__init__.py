"""A simulated archive of Sentinel-2-like scenes with known truth, for the demo, the tests and the benchmarks.

It imports nothing of the house but errors, so that it cannot agree with a mistake made there; only
:mod:`stac2cube.demo.show`, which runs the main job on it, does.
"""

from stac2cube.demo.archive import Archive, ArchiveSpec
from stac2cube.demo.making import simulate
from stac2cube.demo.product import Product
from stac2cube.demo.scenes import Image, Overpass, Tile
from stac2cube.demo.surface import Truth

__all__ = ["Archive", "ArchiveSpec", "Image", "Overpass", "Product", "Tile", "Truth", "simulate"]
