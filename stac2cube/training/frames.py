"""Pictures to learn from, wherever they lie; :mod:`stac2cube.training.finding` finds them.

A frame is one picture of one place. Frames of one ``place`` share their pixels' lattice, so they stack in time.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

import numpy as np
from odc.geo.geobox import GeoBox

from stac2cube.training.patch_rules import digest_of

STRIP = 512
"""Rows read at a time where a whole frame is looked at: memory is a strip, however large the frame."""

IGNORE = 255
"""The label of pixels without one, unless the source says otherwise."""


@dataclass(frozen=True)
class Pixels:
    """A window of a frame.

    Attributes:
        values: ``(bands, rows, columns)`` float32, NaN without data.
        labels: ``(rows, columns)`` uint8 classes, the source's ignore index where there is none; None without labels.
        cloudy: ``(rows, columns)`` bool, True where cloud or shadow is known; None where nothing is known of clouds.
    """

    values: np.ndarray
    labels: np.ndarray | None
    cloudy: np.ndarray | None

    @property
    def valid(self) -> np.ndarray:
        """``(rows, columns)`` bool, True where every band has data."""
        good: np.ndarray = np.isfinite(self.values).all(axis=0)
        return good


class Picturing(Protocol):
    """How the pixels of a frame are read; pickles and travels to workers."""

    def read(self, rows: slice, columns: slice) -> Pixels:
        """A window within the frame.

        Raises:
            ReadError: The files are gone or damaged.
        """
        ...


@dataclass(frozen=True)
class Frame:
    """One picture of one place.

    Attributes:
        key: Scene key or sample id, unique in its source.
        time: Acquisition, with a time zone.
        place: Frames of the same place have the same lattice.
        geobox: That lattice.
        version: Stands for what it was made of and how: another if its pixels may be others.
        pixels: How it is read.
    """

    key: str
    time: datetime
    place: str
    geobox: GeoBox
    version: str
    pixels: Picturing = field(repr=False)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        rows, columns = self.geobox.shape
        return int(rows), int(columns)

    def strips(self) -> list[slice]:
        """Its rows in parts of :data:`STRIP`."""
        return [slice(top, min(top + STRIP, self.shape[0])) for top in range(0, self.shape[0], STRIP)]


@dataclass(frozen=True)
class Source:
    """All frames, and what their numbers mean.

    Attributes:
        name: Where they come from, for messages and manifests.
        bands: In the order of the first axis of :attr:`Pixels.values`.
        radiometry: What the numbers are: ``"toa"``, ``"boa"``, ``"raw"``, or a cube's units per band.
        ignore: The label that counts for nothing.
        classes: Class -> name, of the labels; None without labels.
        frames: Sorted by place, time and key.
    """

    name: str
    bands: tuple[str, ...]
    radiometry: str
    ignore: int
    classes: dict[int, str] | None
    frames: tuple[Frame, ...]

    @property
    def digest(self) -> str:
        """Stands for the frames and their pixels."""
        return digest_of([[frame.place, frame.key, frame.version] for frame in self.frames])
