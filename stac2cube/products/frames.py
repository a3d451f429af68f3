"""Pictures of the steps of a cube, small enough for a screen, with one stretch for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import xarray as xr

from stac2cube.cube.reader import open_cube
from stac2cube.errors import BadInputError
from stac2cube.views.layer import is_class, physical
from stac2cube.views.mask_recipes import Hiding
from stac2cube.views.picture import Legend, Look, picture
from stac2cube.views.steps import Choice


@dataclass(frozen=True)
class Frames:
    """Pictures of some steps.

    Attributes:
        titles: Date and platform of each.
        pictures: ``(steps, rows, columns, 3)`` uint8.
        times: Of each, datetime64; none where a series of pictures has no times.
        legend: What their colours mean.
        pixels: How many pixels of the cube one of theirs covers along each axis; below 1 where they are enlarged.
    """

    titles: tuple[str, ...]
    pictures: np.ndarray
    times: np.ndarray = field(default_factory=lambda: np.empty(0, "datetime64[us]"))
    legend: Legend = field(default_factory=lambda: Legend(""))
    pixels: float = 1.0


def frames_of(
    cube: Path,
    most: int | None = 24,
    edge: int = 360,
    *,
    look: Look | None = None,
    hiding: Hiding | None = None,
    choice: Choice | None = None,
    smooth: bool = False,
) -> Frames:
    """Pictures of a cube.

    Args:
        cube: The cube.
        most: Steps at most, spread over the whole time; None for all.
        edge: Longer edge of a picture at most, pixels.
        look: What is shown; the usual if None.
        hiding: What is hidden before.
        choice: Which steps; all if None.
        smooth: Whether pixels are means of those they cover, which reads all, and not one of them.

    Raises:
        BadInputError: No steps, or nothing there to show.
    """
    dataset = open_cube(cube, chunks="shards" if smooth else None)
    if dataset.sizes["time"] == 0:
        raise BadInputError(f"{cube} has no step to show yet")
    dataset = (choice or Choice()).of(dataset)
    if hiding:
        dataset = hiding.apply(dataset)
    count = dataset.sizes["time"]
    if count == 0:
        raise BadInputError(f"{cube} has no step to show after hiding")
    some = dataset
    if most is not None and count > most:
        some = dataset.isel(time=np.unique(np.linspace(0, count - 1, most).round().astype(int)))
    stride = max(1, -(-max(dataset.sizes["y"], dataset.sizes["x"]) // edge))
    small = _means(some, stride) if smooth else some.isel(y=slice(None, None, stride), x=slice(None, None, stride))
    shown, legend = picture(small, look, nodata="grey")
    titles = tuple(_title(some, place) for place in range(some.sizes["time"]))
    pictures = shown.transpose("time", "y", "x", "rgb").values
    return Frames(titles, pictures, some["time"].values, _only_seen(legend, pictures), float(stride))


def _only_seen(legend: Legend, pictures: np.ndarray) -> Legend:
    """A legend of classes without those that no picture shows."""
    if legend.ramp is not None or legend.swatches[:3] == legend.swatches:
        return legend
    seen = {tuple(colour) for colour in np.unique(pictures.reshape(-1, 3), axis=0).tolist()}
    return replace(legend, swatches=tuple(swatch for swatch in legend.swatches if swatch[0] in seen))


def _means(dataset: xr.Dataset, stride: int) -> xr.Dataset:
    """A coarser cube: means of quantities, every n-th pixel of classes."""
    if stride == 1:
        return dataset
    window = {"y": stride, "x": stride}
    every = dict.fromkeys(("y", "x"), slice(stride // 2, None, stride))
    layers = {}
    rows, columns = (dataset.sizes[axis] // stride for axis in ("y", "x"))
    for name, layer in dataset.data_vars.items():
        if is_class(layer):
            layers[name] = layer.isel(every).isel(y=slice(rows), x=slice(columns)).drop_vars(("y", "x"))
        else:
            means = physical(layer).coarsen(window, boundary="trim").mean().drop_vars(("y", "x"))
            layers[name] = means.astype("float32").assign_attrs(layer.attrs)
    return xr.Dataset(layers, attrs=dataset.attrs)


def _title(dataset: xr.Dataset, place: int) -> str:
    words: Sequence[str] = [str(dataset["time"].values[place])[:10]]
    if "platform" in dataset.coords:
        words = [*words, str(dataset["platform"].values[place])]
    return "  ".join(words)
