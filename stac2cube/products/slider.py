"""Two steps of a cube beside each other under a slider, as one HTML page that needs nothing else."""

from __future__ import annotations

import base64
import io
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import numpy as np

from stac2cube.cube.files import write_whole
from stac2cube.cube.root import read_root
from stac2cube.errors import BadInputError
from stac2cube.products.frames import frames_of
from stac2cube.products.map_marks import Compass, draw_north, draw_scale
from stac2cube.products.pages import clean
from stac2cube.products.terms import attribution_of
from stac2cube.products.timelapse import enlarged, legend_text
from stac2cube.views.mask_recipes import Hiding
from stac2cube.views.picture import Look
from stac2cube.views.steps import Choice

WIDTH = 1200
"""Longer edge of a picture, pixels, if not said."""


def write_slider(
    cube: str | Path,
    steps: tuple[str, str],
    out: str | Path,
    *,
    look: Look | None = None,
    hiding: Hiding | None = None,
    width: int = WIDTH,
) -> Path:
    """Write a page with a step on the left and another on the right of a line that moves.

    Args:
        cube: The cube.
        steps: Scene keys, or dates that are of one step only: left, right. Their stretch is one.
        out: The HTML file; replaced whole if it exists.
        look: What is shown; natural colour if None.
        hiding: What is hidden before.
        width: Longer edge of a picture, pixels.

    Returns:
        The file.

    Raises:
        BadInputError: No such step, twice the same, nothing of that name to show.
        CubeError: Not a cube.
    """
    from jinja2 import Environment

    target = Path(out)
    frames = frames_of(Path(cube), None, width, look=look, hiding=hiding, choice=Choice(steps=steps), smooth=True)
    if len(frames.titles) != 2:
        raise BadInputError(f"a slider shows two steps that are there, and these are {len(frames.titles)}")
    frames = enlarged(frames)
    spec = read_root(Path(cube)).spec
    compass = Compass.of(spec.grid)
    compass = replace(compass, metres=compass.metres * frames.pixels)
    first = Choice(steps=steps[:1])
    swapped = _day(Path(cube), first) != str(frames.times[0])
    order = (1, 0) if swapped else (0, 1)
    template = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, finalize=clean).from_string(
        files("stac2cube.products").joinpath("slider.html.j2").read_text()
    )
    page = template.render(
        title=str(spec.recipe.get("title", Path(cube).stem)),
        dates=[frames.titles[place] for place in order],
        pictures=[_data_url(frames.pictures[place], compass) for place in order],
        legend=legend_text(frames.legend),
        notice=attribution_of(spec, frames.times.astype("datetime64[us]").tolist(), frames.origin),
        columns=frames.pictures.shape[2],
        rows=frames.pictures.shape[1],
    )
    target.parent.mkdir(parents=True, exist_ok=True)
    write_whole(target, page.encode())
    return target


def _day(cube: Path, choice: Choice) -> str:
    from stac2cube.cube.reader import open_cube

    return str(choice.of(open_cube(cube, chunks=None))["time"].values[0])


def _data_url(picture: np.ndarray, compass: Compass) -> str:
    """A picture with scale and north, as text that a page can hold."""
    from PIL import Image, ImageDraw

    image = Image.fromarray(picture)
    pen = ImageDraw.Draw(image)
    draw_scale(pen, (14, picture.shape[0] - 14), compass.metres, picture.shape[1])
    draw_north(pen, (picture.shape[1] - 26, 42), compass.north)
    file = io.BytesIO()
    image.save(file, format="PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
