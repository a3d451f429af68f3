"""How the pixels of scenes are read: the task of layers, of looks at them, and of reads without a cube."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from odc.geo.geobox import GeoBox

from stac2cube.cube.spec import CubeSpec
from stac2cube.errors import ReadError
from stac2cube.grid import Grid
from stac2cube.mission import Mission
from stac2cube.scene import Scene
from stac2cube.source.band import BandRequest
from stac2cube.source.engine import Engine
from stac2cube.source.headers import StoredHeaders, stored_headers
from stac2cube.source.read import read_block
from stac2cube.source.sea import Sea, cells_of
from stac2cube.stages.request import Wanted, local_sources
from stac2cube.work import Block, Step

log = logging.getLogger(__name__)

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
        found = cells_of(scene.granules)
        return {name: self.sea.fill(layer, geobox, found) for name, layer in pixels.items()}


def reader_of(wanted: Wanted, spec: CubeSpec) -> ReadScene:
    """What reads the blocks of a request."""
    mission = wanted.query.mission
    # Of pixels much larger than the source's, an average over overviews shows no seam and reads far less.
    finest = min(band.gsd for band in wanted.query.bands)
    seamless = mission.seamless and spec.grid.resolution <= _MUCH * finest
    return ReadScene(wanted.bands, seamless, sea_of(mission), stored_headers(local_sources(wanted)))


def sea_of(mission: Mission) -> Sea | None:
    """What is known of missing tiles of a mission, None for nothing."""
    return None if math.isnan(mission.sea) else Sea(mission.sea, mission.withheld)


def name_missing(steps: Sequence[Step], sea: Sea, grid: Grid) -> list[Step]:
    """Steps whose ledger rows name the tiles that are missing, and that visit every block where some is sea."""
    named = []
    for step in steps:
        lacking, open_sea = sea.missing(grid.geobox, cells_of(step.payload.granules))
        if lacking:
            log.warning("tiles that hold land are missing, there is no data there: %s", ", ".join(lacking))
        facts = {"missing_tiles": lacking, "sea_tiles": open_sea}
        properties = {**step.entry.properties, **{name: tiles for name, tiles in facts.items() if tiles}}
        tiles = tuple(grid.tiles()) if open_sea else step.tiles
        named.append(replace(step, entry=replace(step.entry, properties=properties), tiles=tiles))
    return named
