"""How the pixels of scenes are read: the task of layers, of looks at them, and of reads without a cube."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from odc.geo.geobox import GeoBox

from stac2cube.cube.spec import CubeSpec
from stac2cube.errors import ReadError
from stac2cube.scene import Scene
from stac2cube.source.band import BandRequest
from stac2cube.source.engine import Engine
from stac2cube.source.headers import StoredHeaders, stored_headers
from stac2cube.source.read import read_block
from stac2cube.source.sea import Sea
from stac2cube.stages.request import Wanted, local_sources
from stac2cube.work import Block

_MUCH = 4
"""Times that pixels of a cube may be larger than the source's and granules still be joined."""


@dataclass(frozen=True)
class ReadScene:
    """The task of layers: the granules of a scene into one block.

    Attributes:
        bands: What is wanted.
        seamless: Join granules before they are resampled.
        sea: What is known of missing tiles, None for nothing.
        headers: Headers of images that the catalog keeps, None if it keeps none.
    """

    bands: tuple[BandRequest, ...]
    seamless: bool = False
    sea: Sea | None = None
    headers: StoredHeaders | None = None

    def __call__(self, scene: Scene, block: Block) -> dict[str, np.ndarray]:
        """Pixels of one block, see :meth:`read`."""
        return self.read(scene, block.geobox)

    def read(self, scene: Scene, geobox: GeoBox) -> dict[str, np.ndarray]:
        """Pixels on any lattice, see :func:`stac2cube.source.read.read_block`.

        Raises:
            ReadError: The scene has a problem, or an asset is missing or cannot be read.
        """
        if scene.problem:
            raise ReadError(scene.problem)
        engine = replace(Engine.of_environment(), headers=self.headers)
        pixels = read_block(scene.granules, self.bands, geobox, seamless=self.seamless, engine=engine)
        if self.sea is None:
            return pixels
        return {name: self.sea.fill(layer, geobox) for name, layer in pixels.items()}


def reader_of(wanted: Wanted, spec: CubeSpec) -> ReadScene:
    """What reads the blocks of a request."""
    mission = wanted.query.mission
    sea = None if math.isnan(mission.sea) else Sea(mission.sea, mission.withheld)
    # Of pixels much larger than the source's, an average over overviews shows no seam and reads far less.
    finest = min(band.gsd for band in wanted.query.bands)
    seamless = mission.seamless and spec.grid.resolution <= _MUCH * finest
    return ReadScene(wanted.bands, seamless, sea, stored_headers(local_sources(wanted)))
