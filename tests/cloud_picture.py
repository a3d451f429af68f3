"""A scene before and after masking: ``python -m tests.cloud_picture docs/images`` draws it from simulated scenes."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np

import stac2cube
from stac2cube.testing.archive import ArchiveSpec, simulate

if TYPE_CHECKING:
    import xarray as xr

STEP = 3
"""The step that is shown: some clouds, much ground."""


def layers(folder: Path) -> Path:
    """A cube of one simulated year."""
    archive = simulate(folder / "archive", ArchiveSpec(years=(2022,), dates_per_year=6, tile_px=240))
    cube = folder / "layers.zarr"
    catalog = str(archive.catalog("earth-search"))
    stac2cube.get_stac_layers(cube, mission="sentinel-2-l2a", aoi=archive.area(), time="2022", catalog=catalog)
    return cube


def panels(pictures: dict[str, np.ndarray], out: Path) -> None:
    """Pictures beside each other, each with its title."""
    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(pictures), figsize=(3.6 * len(pictures), 3.6), layout="constrained")
    for axis, (title, picture) in zip(axes, pictures.items(), strict=True):
        axis.imshow(picture, interpolation="nearest")
        axis.set_title(title, fontsize=10)
        axis.set_axis_off()
    figure.savefig(out, dpi=80)
    plt.close(figure)


def clouds(cube: Path, folder: Path, out: Path) -> None:
    """A scene, what is cloud and shadow in it, and the scene without."""
    sky = stac2cube.get_cloud_layers(cube, folder / "clouds.zarr", method="scl")
    scene = stac2cube.open_cube(cube)
    clear = stac2cube.mask_clouds(scene, sky)
    found = sky.isel(time=STEP).compute()
    classes = np.full((*found.cloud_mask.shape, 3), 235, "uint8")
    classes[found.cloud_mask.values == 1] = (70, 130, 180)
    classes[found.shadow_mask.values == 1] = (60, 60, 60)

    def shown(data: xr.Dataset) -> np.ndarray:
        picture = stac2cube.rgb(data, "true", stretch=(0, 0.25)).isel(time=STEP).values
        return np.asarray(picture)

    panels({"scene": shown(scene), "cloud (blue), shadow (dark)": classes, "masked scene": shown(clear)}, out)


def main() -> None:
    """Draw it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clouds(layers(folder), folder, Path(sys.argv[1]) / "clouds-before-after.png")


if __name__ == "__main__":
    main()
