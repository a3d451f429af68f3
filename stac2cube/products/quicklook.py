"""A cube at a glance: a sheet with a panel per date, or an animation. The stretch is the same for all dates."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import BinaryIO

import numpy as np

from stac2cube.cube.files import written_whole
from stac2cube.errors import BadInputError
from stac2cube.products.animation import write_animation
from stac2cube.products.frames import Frames, frames_of
from stac2cube.products.timelapse import legend_text
from stac2cube.views.mask_recipes import Hiding
from stac2cube.views.picture import Look
from stac2cube.views.steps import Choice


def draw(
    cube: str | Path,
    out: str | Path,
    most: int = 24,
    *,
    look: Look | None = None,
    hiding: Hiding | None = None,
    choice: Choice | None = None,
) -> Path:
    """Draw a cube.

    Args:
        cube: The cube.
        out: ``.png`` for a sheet of panels, ``.gif`` for an animation.
        most: Dates shown at most, spread over the whole time.
        look: What is shown; natural colour, or the first layer, if None.
        hiding: What is hidden before.
        choice: Which steps; all if None.

    Returns:
        The file.

    Raises:
        BadInputError: Another kind of file, a cube without steps, or nothing of that name to show.
    """
    target = Path(out)
    if target.suffix not in (".png", ".gif"):
        raise BadInputError(f"{target}: a quicklook is a .png or a .gif")
    frames = frames_of(Path(cube), most, look=look, hiding=hiding, choice=choice)
    if target.suffix == ".png":
        with written_whole(target) as partial:
            write_sheet(frames, partial)
    else:
        write_animation(with_titles(frames), target)
    return target


def write_sheet(frames: Frames, out: Path | BinaryIO) -> None:
    """A PNG with a panel per step."""
    from matplotlib.figure import Figure

    count = len(frames.titles)
    rows = -(-count // (4 if count <= 16 else 6))
    columns = -(-count // rows)
    height, width = frames.pictures.shape[1:3]
    # A letter of 8 points is 1/15 inch wide on average, at most, and a line 0.16 inch high.
    words = textwrap.wrap(legend_text(frames.legend), int(2.6 * columns * 15))
    size = (2.6 * columns, (2.6 * height / width + 0.3) * rows + 0.16 * len(words))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for place, axis in enumerate(axes):
        axis.set_axis_off()
        if place < count:
            axis.imshow(frames.pictures[place], interpolation="nearest")
            axis.set_title(frames.titles[place], fontsize=8)
    if words:
        figure.supxlabel("\n".join(words), fontsize=8)
    figure.savefig(out, dpi=120)


def with_titles(frames: Frames) -> list[np.ndarray]:
    """The pictures with their titles in the corner; ``(rows, columns, 3)`` uint8 each."""
    from PIL import Image, ImageDraw

    from stac2cube.products.map_marks import font

    images = []
    for title, picture in zip(frames.titles, frames.pictures, strict=True):
        image = Image.fromarray(picture)
        pen = ImageDraw.Draw(image)
        pen.rectangle((0, 0, pen.textlength(title, font=font(11)) + 8, 16), fill=(0, 0, 0))
        pen.text((4, 2), title, font=font(11), fill=(255, 255, 255))
        images.append(np.asarray(image))
    return images
