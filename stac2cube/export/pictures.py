"""Quicklooks, thumbnails, contact sheets and the slider page."""

from __future__ import annotations

import base64
import io
import textwrap
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from stac2cube.errors import BadInputError
from stac2cube.export.animation import (
    Compass,
    Frames,
    draw_north,
    draw_scale,
    enlarged,
    frames_of,
    is_mask,
    legend_text,
    write_animation,
)
from stac2cube.export.stac import attribution_of
from stac2cube.progress import duration
from stac2cube.store.files import write_whole, written_whole
from stac2cube.store.metadata import read_root
from stac2cube.trust.text import printable
from stac2cube.views.options import Hiding, Style, TimeSelection

if TYPE_CHECKING:
    from jinja2 import Environment
    from PIL.Image import Image


# Pictures that are embedded in a page.

QUALITY = 84
"""Quality of JPEG pictures, percent."""

GAP, LINE = 6, 20
"""Pixels between the pictures of a sheet, and above each for its date."""


def data_url(picture: np.ndarray, *, flat: bool = False) -> str:
    """Encode a picture as a data URL.

    Args:
        picture: ``(rows, columns, 3)`` uint8, or float from 0 to 1.
        flat: Whether it has only a few colours, for which PNG is smaller and sharper than JPEG.
    """
    from PIL import Image

    if picture.dtype != np.uint8:
        picture = (np.clip(picture, 0, 1) * 255).round().astype("uint8")
    image = Image.fromarray(picture)
    content = io.BytesIO()
    if flat:
        image.quantize(16).save(content, format="PNG", optimize=True)
    else:
        image.save(content, format="JPEG", quality=QUALITY, optimize=True, subsampling=0)
    return _url(content, "png" if flat else "jpeg")


def drawn(cube: Path, draw: Callable[[Path, BinaryIO], None], kind: str) -> str:
    """Encode the picture that a function draws of a cube as a data URL, "" if it raises BadInputError."""
    content = io.BytesIO()
    try:
        draw(cube, content)
    except BadInputError:
        return ""
    return _url(content, kind)


def sheet_of(frames: Frames) -> Image:
    """Arrange frames side by side, with their dates above them, as an image that notebooks display."""
    from PIL import Image, ImageDraw

    rows, columns = frames.pictures.shape[1:3]
    across = min(len(frames.titles), max(1, 960 // columns))
    down = -(-len(frames.titles) // across)
    sheet = Image.new("RGB", (across * (columns + GAP) - GAP, down * (rows + LINE) - GAP), "white")
    pen = ImageDraw.Draw(sheet)
    for place, (title, picture) in enumerate(zip(frames.titles, frames.pictures, strict=True)):
        left, top = (place % across) * (columns + GAP), (place // across) * (rows + LINE)
        pen.text((left, top), title, fill="black")
        sheet.paste(Image.fromarray(picture), (left, top + LINE - GAP))
    return sheet


def thumbnails(cube: Path, most: int = 24, edge: int = 360) -> list[dict[str, Any]]:
    """Draw small pictures of some steps, spread over the whole time; an empty list if there is nothing to show.

    Args:
        cube: The cube.
        most: Largest number of steps.
        edge: Longest edge of a picture, pixels.

    Returns:
        Per step its picture (a data URL), size, key and title.
    """
    try:
        frames = frames_of(cube, most, edge)
    except BadInputError:
        return []
    flat = is_mask(cube)
    rows, columns = frames.pictures.shape[1:3]
    return [
        {"src": data_url(picture, flat=flat), "key": key, "title": title, "width": columns, "height": rows}
        for key, title, picture in zip(frames.keys, frames.titles, frames.pictures, strict=True)
    ]


def _url(content: io.BytesIO, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content.getvalue()).decode()}"


# Quicklooks of a cube: a sheet with a panel per date, or an animation. The stretch is the same for all dates.


def draw(
    cube: str | Path,
    out: str | Path,
    most: int = 24,
    *,
    look: Style | None = None,
    hiding: Hiding | None = None,
    choice: TimeSelection | None = None,
) -> Path:
    """Draw a cube.

    Args:
        cube: The cube.
        out: ``.png`` for a sheet of panels, ``.gif`` for an animation.
        most: Largest number of dates, spread over the whole time.
        look: Style of the pictures; natural colour, or the first layer, if None.
        hiding: Masks that are applied first.
        choice: Steps to draw; all if None.

    Returns:
        The file.

    Raises:
        BadInputError: Another kind of file, a cube without steps, or the style names something unknown.
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
    """Write a PNG with a panel per step."""
    from matplotlib.figure import Figure

    count = len(frames.titles)
    rows = -(-count // (4 if count <= 16 else 6))
    columns = -(-count // rows)
    height, width = frames.pictures.shape[1:3]
    # A letter of 8 points is on average at most 1/15 inch wide, and a line 0.16 inch high.
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
    """Draw the titles into the corners of the pictures; ``(rows, columns, 3)`` uint8 each."""
    from PIL import Image, ImageDraw

    from stac2cube.export.animation import font

    images = []
    for title, picture in zip(frames.titles, frames.pictures, strict=True):
        image = Image.fromarray(picture)
        pen = ImageDraw.Draw(image)
        pen.rectangle((0, 0, pen.textlength(title, font=font(11)) + 8, 16), fill=(0, 0, 0))
        pen.text((4, 2), title, font=font(11), fill=(255, 255, 255))
        images.append(np.asarray(image))
    return images


# Templates of pages, and number formats.


@cache
def environment() -> Environment:
    """The templates of this package; all values from a cube are escaped, including control characters."""
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    made = Environment(
        loader=PackageLoader("stac2cube.export", ""),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
        finalize=clean,
    )
    made.filters |= {"thousands": thousands, "duration": duration, "said": join_words, "drawing": Markup}
    return made


def clean(value: Any) -> Any:
    """Remove control characters from the texts that a template shows; our own markup is unchanged."""
    return printable(value, lines=True) if type(value) is str else value


def thousands(number: int) -> str:
    """Format an integer with narrow spaces between thousands."""
    return f"{number:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def join_words(value: Any) -> str:
    """Format a value, None as a dash."""
    return "\N{EN DASH}" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


# Two steps of a cube under a slider, as one self-contained HTML page.

WIDTH = 1200
"""Default length of the longer edge of a picture, pixels."""


def write_slider(
    cube: str | Path,
    steps: tuple[str, str],
    out: str | Path,
    *,
    look: Style | None = None,
    hiding: Hiding | None = None,
    width: int = WIDTH,
) -> Path:
    """Write a page with one step to the left and another to the right of a movable line.

    Args:
        cube: The cube.
        steps: Scene keys, or dates with only one step: left, right. Both have the same stretch.
        out: The HTML file; replaced atomically if it exists.
        look: Style of the pictures; natural colour if None.
        hiding: Masks that are applied first.
        width: Longer edge of a picture, pixels.

    Returns:
        The file.

    Raises:
        BadInputError: No such step, twice the same step, or the style names something unknown.
        CubeError: Not a cube.
    """
    from jinja2 import Environment

    target = Path(out)
    frames = frames_of(
        Path(cube), None, width, look=look, hiding=hiding, choice=TimeSelection(steps=steps), smooth=True
    )
    if len(frames.titles) != 2:
        raise BadInputError(f"a slider shows two steps that are there, and these are {len(frames.titles)}")
    frames = enlarged(frames)
    spec = read_root(Path(cube)).spec
    compass = Compass.of(spec.grid)
    compass = replace(compass, metres=compass.metres * frames.pixels)
    first = TimeSelection(steps=steps[:1])
    swapped = _day(Path(cube), first) != str(frames.times[0])
    order = (1, 0) if swapped else (0, 1)
    template = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, finalize=clean).from_string(
        files("stac2cube.export").joinpath("slider.html.j2").read_text(encoding="utf-8")
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


def _day(cube: Path, choice: TimeSelection) -> str:
    from stac2cube.store.reader import open_cube

    return str(choice.of(open_cube(cube, chunks=None))["time"].values[0])


def _data_url(picture: np.ndarray, compass: Compass) -> str:
    """Draw scale bar and north arrow on a picture, and encode it as a data URL."""
    from PIL import Image, ImageDraw

    image = Image.fromarray(picture)
    pen = ImageDraw.Draw(image)
    draw_scale(pen, (14, picture.shape[0] - 14), compass.metres, picture.shape[1])
    draw_north(pen, (picture.shape[1] - 26, 42), compass.north)
    file = io.BytesIO()
    image.save(file, format="PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
