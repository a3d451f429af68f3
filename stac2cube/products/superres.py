"""A super-resolved cube at a glance: the same place as it was measured, and on the finer grid."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stac2cube.cube.reader import open_cube
from stac2cube.cube.root import read_root
from stac2cube.errors import BadInputError
from stac2cube.kernels.colour import stretched, white_of
from stac2cube.views.combinations import bands_of

CROP = 80
"""Edge of the place shown, pixels of 10 m."""

DATES = 3
"""Dates shown at most: the clearest."""


@dataclass(frozen=True)
class Pair:
    """The same place twice.

    Attributes:
        day: Of the step.
        coarse: As it was measured, ``(rows, columns, 3)`` float32, 0 to 1.
        fine: On the finer grid, with the same stretch.
        pixel: Edge of a pixel there, units of the grid.
    """

    day: str
    coarse: np.ndarray
    fine: np.ndarray
    pixel: float


def pairs_of(cube: Path) -> list[Pair]:
    """The middle of the area on the clearest dates.

    Args:
        cube: A super-resolved cube whose layers are still there.

    Raises:
        BadInputError: The cube is not super-resolved, has no step, or its layers are gone.
    """
    spec = read_root(cube).spec
    if spec.stage != "superres":
        raise BadInputError(f"{cube} is not super-resolved")
    parent = Path(spec.request["layers"])
    if not (parent / "zarr.json").exists():
        raise BadInputError(f"{parent}, from which {cube} was made, is not there any more")
    fine, coarse = open_cube(cube, chunks=None), open_cube(parent, chunks=None)
    # Bands of 10 m are the same where only those of 20 m became finer: these are shown then.
    bands = bands_of(coarse, "true") if spec.recipe["superres"]["target"] != 10 else ["B12", "B11", "B8A"]
    if fine.sizes["time"] == 0:
        raise BadInputError(f"{cube} has no step to show yet")
    shown = fine.valid_fraction.values * (1 - np.nan_to_num(fine.get("cloud_fraction", fine.valid_fraction * 0).values))
    chosen = np.sort(np.argsort(-shown, kind="stable")[:DATES])
    scale = round(coarse.x.diff("x").values[0] / fine.x.diff("x").values[0])
    top, left = (max(0, (coarse.sizes[name] - CROP) // 2) for name in ("y", "x"))
    pairs = []
    for place in chosen:
        pictures = []
        for dataset, by in ((coarse, 1), (fine, scale)):
            step = list(dataset.scene.values).index(fine.scene.values[place])
            window = {"y": slice(top * by, (top + CROP) * by), "x": slice(left * by, (left + CROP) * by)}
            part = dataset[bands].isel({"time": step, **window})
            pictures.append(np.stack([part[band].values for band in bands], axis=-1).astype("float32"))
        white = white_of(pictures[0][None])
        measured, finer = (stretched(picture[None], white)[0] for picture in pictures)
        pairs.append(Pair(str(fine.time.values[place])[:10], measured, finer, spec.grid.resolution))
    return pairs
