"""Stored numbers of one step of a cube, for stages that make a cube from a cube; runs on workers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stac2cube.cube.shard import open_array
from stac2cube.cube.spec import Layer
from stac2cube.errors import ReadError

Window = tuple[slice, slice]
"""Rows and columns of a cube's grid; may reach beyond it."""


@dataclass(frozen=True)
class StoredStep:
    """One sealed step of a cube.

    Attributes:
        cube: Its path.
        slot: Place on the stored time axis; it stays where it is in all generations.
    """

    cube: str
    slot: int

    def read(self, layers: Sequence[Layer], window: Window) -> dict[str, np.ndarray]:
        """Pixels of some layers, their fill beyond the grid: ``(rows, columns)`` each, of the layer's dtype.

        Raises:
            ReadError: The cube is not there, or a file of it is damaged.
        """
        return {layer.name: self._read(layer, window) for layer in layers}

    def _read(self, layer: Layer, window: Window) -> np.ndarray:
        rows, columns = window
        out = np.full((rows.stop - rows.start, columns.stop - columns.start), layer.fill_scalar, dtype=layer.dtype)
        try:
            array = open_array(Path(self.cube) / layer.name)
            inside = [
                slice(max(part.start, 0), min(part.stop, size))
                for part, size in zip(window, array.shape[1:], strict=True)
            ]
            if all(part.stop > part.start for part in inside):
                into = tuple(
                    slice(part.start - whole.start, part.stop - whole.start)
                    for part, whole in zip(inside, window, strict=True)
                )
                out[into] = array[self.slot, inside[0], inside[1]]
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            raise ReadError(f"{layer.name} of {self.cube}, slot {self.slot}: {error}") from error
        return out


def widened(window: Window, by: int) -> Window:
    """A window with so many more pixels on every side."""
    rows, columns = window
    return slice(rows.start - by, rows.stop + by), slice(columns.start - by, columns.stop + by)
