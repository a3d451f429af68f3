"""A super-resolved cube at a glance: the same place as it was measured, and on the finer grid."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

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


def draw_side_by_side(cube: Path, out: Path | BinaryIO) -> None:
    """A PNG: the middle of the area, 10 m on the left and the finer grid on the right, date by date.

    Args:
        cube: A super-resolved cube whose layers are still there.
        out: Where.

    Raises:
        BadInputError: The cube is not super-resolved, has no step, or its bands of 10 m are the same.
    """
    from matplotlib.figure import Figure

    spec = read_root(cube).spec
    if spec.stage != "superres":
        raise BadInputError(f"{cube} is not super-resolved")
    fine = open_cube(cube, chunks=None)
    coarse = open_cube(spec.request["layers"], chunks=None)
    # Bands of 10 m are the same where only those of 20 m became finer: these are shown then.
    bands = bands_of(coarse, "true") if spec.recipe["superres"]["target"] != 10 else ["B12", "B11", "B8A"]
    if fine.sizes["time"] == 0:
        raise BadInputError(f"{cube} has no step to show yet")
    shown = fine.valid_fraction.values * (1 - np.nan_to_num(fine.get("cloud_fraction", fine.valid_fraction * 0).values))
    chosen = np.sort(np.argsort(-shown, kind="stable")[:DATES])
    keys = fine.scene.values[chosen]
    scale = round(coarse.x.diff("x").values[0] / fine.x.diff("x").values[0])
    top, left = (max(0, (coarse.sizes[name] - CROP) // 2) for name in ("y", "x"))
    figure = Figure(figsize=(7.2, 3.6 * len(keys)), layout="constrained")
    axes = figure.subplots(len(keys), 2, squeeze=False)
    for row, key in enumerate(keys):
        pair = []
        for dataset, by in ((coarse, 1), (fine, scale)):
            place = list(dataset.scene.values).index(key)
            window = {"y": slice(top * by, (top + CROP) * by), "x": slice(left * by, (left + CROP) * by)}
            part = dataset[bands].isel({"time": place, **window})
            pair.append(np.stack([part[band].values for band in bands], axis=-1).astype("float32"))
        white = white_of(pair[0][None])
        for axis, picture, title in zip(axes[row], pair, ("10 m", f"a grid of {10 / scale:g} m"), strict=True):
            axis.imshow(stretched(picture[None], white)[0], interpolation="nearest")
            axis.set_title(f"{str(fine.time.values[chosen[row]])[:10]}   {title}", fontsize=8)
            axis.set_axis_off()
    figure.savefig(out, dpi=110, format="png")
