"""A cube at a glance: a sheet with a panel per date, or an animation. The stretch is the same for all dates.

Cubes of a mission in true colour, clouds by their masks, others by their first layer in grey.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import xarray as xr

from stac2cube.cube.overviews import level_path, levels_of
from stac2cube.cube.reader import open_cube
from stac2cube.cube.root import read_root
from stac2cube.errors import BadInputError
from stac2cube.kernels.colour import GREY, stretched, white_of
from stac2cube.mission import find_mission, mission_names

TRUE_COLOUR = ("red", "green", "blue")
"""Common names of the bands shown."""

MASK, SHADOW = "cloud_mask", "shadow_mask"
"""Layers of a clouds cube."""

CLEAR_SKY, CLOUD, SHADE = (0.42, 0.56, 0.50), (0.97, 0.97, 0.96), (0.14, 0.19, 0.22)
"""Colours of what masks say."""


@dataclass(frozen=True)
class Frames:
    """Pictures of some steps.

    Attributes:
        titles: Date and platform of each.
        pictures: ``(steps, rows, columns, 3)`` float32, 0 to 1.
        keys: Of their scenes, where they are those of a cube's steps.
    """

    titles: tuple[str, ...]
    pictures: np.ndarray
    keys: tuple[str, ...] = ()


def draw(cube: str | Path, out: str | Path, most: int = 24) -> Path:
    """Draw a cube.

    Args:
        cube: The cube.
        out: ``.png`` for a sheet of panels, ``.gif`` for an animation.
        most: Dates shown at most, spread over the whole time.

    Returns:
        The file.

    Raises:
        BadInputError: Another kind of file, a cube without steps, or one without red, green and blue.
    """
    target = Path(out)
    if target.suffix not in (".png", ".gif"):
        raise BadInputError(f"{target}: a quicklook is a .png or a .gif")
    frames = frames_of(Path(cube), most)
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.suffix == ".png":
        write_sheet(frames, target)
    else:
        write_animation(frames, target)
    return target


def frames_of(cube: Path, most: int = 24, edge: int = 360) -> Frames:
    """Decimated true-colour pictures.

    Args:
        cube: The cube.
        most: Steps at most.
        edge: Longer edge of a picture at most, pixels.

    Raises:
        BadInputError: No steps, or no red, green and blue.
    """
    return frames_from(open_cube(cube, chunks=None, level=_coarsest(cube, edge)), cube, most, edge)


def frames_from(dataset: xr.Dataset, cube: Path, most: int = 24, edge: int = 360) -> Frames:
    """Decimated pictures of an opened cube, or of a selection of it; see :func:`frames_of`.

    Args:
        dataset: The steps, decoded or not.
        cube: The cube that they are of.
        most: Steps at most.
        edge: Longer edge of a picture at most, pixels.

    Raises:
        BadInputError: No steps, or not all bands that make the picture.
    """
    bands = colour_bands(cube)
    if lacking := sorted(set(bands) - {str(name) for name in dataset.data_vars}):
        raise BadInputError(f"a picture of {cube} needs also {', '.join(lacking)}")
    whole = dataset if "time" in dataset.dims else dataset.expand_dims("time")
    count = whole.sizes["time"]
    if count == 0:
        raise BadInputError(f"{cube} has no step to show yet")
    chosen = np.unique(np.linspace(0, count - 1, min(most, count)).round().astype(int))
    stride = max(1, -(-max(whole.sizes["y"], whole.sizes["x"]) // edge))
    some = whole.isel(time=chosen, y=slice(None, None, stride), x=slice(None, None, stride))
    titles, keys = (
        tuple(_title(some, place) for place in range(len(chosen))),
        tuple(map(str, np.atleast_1d(some["scene"].values))),
    )
    if is_mask(cube):
        return Frames(titles, _masks(some), keys)
    physical = xr.decode_cf(some[list(dict.fromkeys(bands))], decode_times=False)
    colours = np.stack([physical[band].values for band in bands], axis=-1).astype("float32")
    return Frames(titles, stretched(colours, white_of(colours)), keys)


def is_mask(cube: Path) -> bool:
    """Whether a cube is shown by its masks."""
    return MASK in {layer.name for layer in read_root(cube).spec.layers}


def _masks(some: xr.Dataset) -> np.ndarray:
    """Clear sky, cloud and shadow in a colour each, grey without data: ``(steps, rows, columns, 3)``."""
    cloud = some[MASK].values.astype("float32")
    shown = np.full((*cloud.shape, 3), GREY, dtype="float32")
    shown[cloud == 0] = CLEAR_SKY
    if SHADOW in some:
        shown[some[SHADOW].values == 1] = SHADE
    shown[cloud == 1] = CLOUD
    return shown


def _coarsest(cube: Path, edge: int) -> int:
    """The level of a cube that shows all its steps with the fewest pixels that are enough."""
    steps, longest = read_root(cube).steps, max(read_root(cube).spec.grid.shape)
    enough = [level for level in levels_of(cube) if longest / level >= edge]
    whole = [level for level in enough if read_root(level_path(cube, level)).steps == steps]
    return max(whole, default=1)


def write_sheet(frames: Frames, out: Path | BinaryIO) -> None:
    """A PNG with a panel per step."""
    from matplotlib.figure import Figure

    count = len(frames.titles)
    columns = min(count, 4 if count <= 16 else 6)
    rows = -(-count // columns)
    height, width = frames.pictures.shape[1:3]
    figure = Figure(figsize=(2.6 * columns, (2.6 * height / width + 0.3) * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for place, axis in enumerate(axes):
        axis.set_axis_off()
        if place < count:
            axis.imshow(frames.pictures[place], interpolation="nearest")
            axis.set_title(frames.titles[place], fontsize=8)
    figure.savefig(out, dpi=120)


def write_animation(frames: Frames, out: Path | BinaryIO, seconds: float = 0.7) -> None:
    """A GIF with a frame per step and its date in the corner."""
    from PIL import Image, ImageDraw

    images = []
    for title, picture in zip(frames.titles, frames.pictures, strict=True):
        image = Image.fromarray((picture * 255).astype("uint8"))
        pen = ImageDraw.Draw(image)
        pen.rectangle((0, 0, pen.textlength(title) + 8, 14), fill=(0, 0, 0))
        pen.text((4, 1), title, fill=(255, 255, 255))
        images.append(image)
    images[0].save(out, format="GIF", save_all=True, append_images=images[1:], duration=int(1000 * seconds), loop=0)


def colour_bands(cube: Path) -> list[str]:
    """Names of the layers shown as red, green and blue.

    Raises:
        BadInputError: The cube lacks one of them.
    """
    spec = read_root(cube).spec
    names = {layer.name for layer in spec.layers}
    mission = find_mission(spec.recipe["mission"]) if spec.recipe.get("mission") in mission_names() else None
    if mission is None or not names & mission.bands.keys():
        return [spec.layers[0].name] * len(TRUE_COLOUR)  # clouds, indices and the like: their first layer in grey
    by_colour = {band.common_name: band.name for band in mission.bands.values() if band.name in names}
    lacking = [colour for colour in TRUE_COLOUR if colour not in by_colour]
    if lacking:
        raise BadInputError(f"{cube} has no {', '.join(lacking)} band to show true colour with")
    return [by_colour[colour] for colour in TRUE_COLOUR]


def _title(dataset: xr.Dataset, place: int) -> str:
    words: Sequence[str] = [str(dataset["time"].values[place])[:10]]
    if "platform" in dataset.coords:
        words = [*words, str(np.atleast_1d(dataset["platform"].values)[place])]
    return "  ".join(words)
