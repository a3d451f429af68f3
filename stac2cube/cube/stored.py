"""Stored numbers of one step of a cube, for stages that make a cube from a cube; runs on workers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stac2cube.cube.generation import Held
from stac2cube.cube.shard import open_array
from stac2cube.cube.spec import Layer
from stac2cube.errors import CubeError, ReadError

Window = tuple[slice, slice]
"""Rows and columns of a cube's grid; may reach beyond it."""


@dataclass(frozen=True)
class StoredStep:
    """One sealed step of a cube.

    Attributes:
        cube: Its path.
        slot: Place on the stored time axis.
        generation: In which it has that slot: what keeps a cube may give it another.
    """

    cube: str
    slot: int
    generation: int

    def read(self, layers: Sequence[Layer], window: Window) -> dict[str, np.ndarray]:
        """Pixels of some layers, their fill beyond the grid: ``(rows, columns)`` each, of the layer's dtype.

        Raises:
            ReadError: The cube is not there, a file of it is damaged, or it was rebuilt and this generation is gone.
        """
        held = Held(Path(self.cube), self.generation)
        while True:
            try:
                folder = held.folder()
                pixels = {layer.name: self._read(folder, layer, window) for layer in layers}
                if held.folder() == folder:  # else the generations were swapped while we read
                    return pixels
            except CubeError as error:
                raise ReadError(str(error)) from error

    def _read(self, cube: Path, layer: Layer, window: Window) -> np.ndarray:
        rows, columns = window
        out = np.full((rows.stop - rows.start, columns.stop - columns.start), layer.fill_scalar, dtype=layer.dtype)
        try:
            array = open_array(cube / layer.name)
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
