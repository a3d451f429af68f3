"""How much a build reads and writes, known before its first pixel."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from stac2cube.stages.layers import LayersJob
from stac2cube.work import Step

OF_READ, OF_WRITTEN = 0.6, 0.55
"""What compression leaves of read and of written pixels, roughly; of Sentinel-2's bands."""


@dataclass(frozen=True)
class Size:
    """What a build amounts to, at most.

    Attributes:
        blocks: To make.
        read: Bytes of pixels to read, as they are uncompressed.
        written: Bytes of pixels to write, as they are uncompressed.
        files: To write.
    """

    blocks: int
    read: float
    written: float
    files: int


def size_of(job: LayersJob, steps: Iterable[Step]) -> Size:
    """What some steps of a job amount to.

    Args:
        job: The job.
        steps: Of it.
    """
    grid, layers = job.spec.grid, job.spec.layers
    blocks = pixels = 0
    for step in steps:
        for tile in step.tiles:
            rows, columns = grid.window(tile)
            pixels += (rows.stop - rows.start) * (columns.stop - columns.start)
            blocks += 1
    # A band coarser than the grid is read in its own pixels, a finer one too.
    read = sum(
        (grid.resolution / band.gsd) ** 2 * np.dtype(band.quantity.dtype).itemsize for band in job.wanted.query.bands
    )
    written = sum(np.dtype(layer.dtype).itemsize for layer in layers)
    return Size(blocks, pixels * read, float(pixels * written), blocks * len(layers))
