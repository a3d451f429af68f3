"""A cube as a film: a picture per step with its date, legend, scale, north and the providers' attribution."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from stac2cube.cube.root import read_root
from stac2cube.errors import BadInputError
from stac2cube.products.animation import require_video, write_animation
from stac2cube.products.frames import Frames, frames_of
from stac2cube.products.map_marks import (
    INK,
    PALE,
    PAPER,
    ROW,
    Compass,
    draw_legend,
    draw_north,
    draw_scale,
    font,
    shortened,
    swatch_rows,
)
from stac2cube.products.terms import attribution_of
from stac2cube.views.mask_recipes import Hiding
from stac2cube.views.picture import NO_DATA, Legend, Look
from stac2cube.views.steps import Choice

WIDTH = 640
"""Longer edge of a picture, pixels, if not said."""

LEAST = 420
"""Columns below which small pictures are enlarged, so that there is room for what is written."""

STRIP = 66
"""Rows below a picture on which date, legend and attribution stand; more where a legend has many swatches."""


@dataclass(frozen=True)
class Film:
    """How a timelapse is made.

    Attributes:
        look: What is shown.
        hiding: What is hidden before.
        choice: Which steps.
        most: Steps at most, spread over the whole time; None for all.
        width: Longer edge of a picture, pixels.
        seconds: That each step is shown.
        title: Beside the date; "" for none.
    """

    look: Look = Look()  # noqa: RUF009 - it is frozen
    hiding: Hiding = Hiding()  # noqa: RUF009
    choice: Choice = Choice()  # noqa: RUF009
    most: int | None = None
    width: int = WIDTH
    seconds: float = 0.7
    title: str = ""


def write_timelapse(cube: str | Path, out: str | Path, film: Film | None = None) -> Path:
    """Make a film of a cube. The stretch is one for all steps, so that nothing flickers.

    Args:
        cube: The cube.
        out: ``.gif`` or ``.mp4``; replaced whole if it exists.
        film: How; natural colour of all steps if None.

    Returns:
        The file.

    Raises:
        BadInputError: Another kind of file, nothing to show, no step left, or an MP4 without the package av.
        CubeError: Not a cube.
    """
    film, target = film or Film(), Path(out)
    if target.suffix not in (".gif", ".mp4"):
        raise BadInputError(f"{target}: a timelapse is a .gif or an .mp4")
    if target.suffix == ".mp4":
        require_video()
    if film.width < LEAST or film.seconds <= 0:
        raise BadInputError(f"a timelapse is at least {LEAST} pixels wide, and its steps are shown for some seconds")
    spec = read_root(Path(cube)).spec
    frames = enlarged(
        frames_of(
            Path(cube),
            film.most,
            film.width,
            look=film.look,
            hiding=film.hiding,
            choice=film.choice,
            smooth=True,
        )
    )
    compass = Compass.of(spec.grid)
    compass = replace(compass, metres=compass.metres * frames.pixels)
    words = attribution_of(spec, frames.times.astype("datetime64[us]").tolist(), frames.origin)
    writing = _Writing.of(frames, film.title, words)
    canvases = [_canvas(frames, place, compass, writing) for place in range(len(frames.titles))]
    keep = (INK, PALE, PAPER, *(colour for colour, _ in frames.legend.swatches))
    write_animation(canvases, target, film.seconds, keep=keep)
    return target


def enlarged(frames: Frames) -> Frames:
    """Frames of at least :data:`LEAST` columns: small pictures with larger pixels."""
    factor = -(-LEAST // frames.pictures.shape[2])
    if factor == 1:
        return frames
    larger = frames.pictures.repeat(factor, axis=1).repeat(factor, axis=2)
    return replace(frames, pictures=larger, pixels=frames.pixels / factor)


@dataclass(frozen=True)
class _Writing:
    """What stands below all pictures of a film.

    Attributes:
        title: Beside the date, shortened to half of the picture; "" for none.
        notice: The providers' attribution.
        reach: Columns that the longest date and the title take.
        rows: Below a picture; the notice stands under the legend's last row.
    """

    title: str
    notice: str
    reach: int
    rows: int

    @classmethod
    def of(cls, frames: Frames, title: str, notice: str) -> _Writing:
        columns = frames.pictures.shape[2]
        title = shortened(title, 13, columns // 2 - 60)
        date = max(font(20, bold=True).getlength(_date(frames, place)) for place in range(len(frames.titles)))
        reach = 12 + round(date) + (14 + round(font(13).getlength(title)) if title else 0)
        room = _room(columns, reach)
        lines = 1 if frames.legend.ramp is not None else len(swatch_rows(frames.legend.swatches, room))
        return cls(title, notice, reach, STRIP + ROW * max(0, lines - 1))


def _room(columns: int, reach: int) -> int:
    """Columns for the legend, beside what is written to its left."""
    return columns - 12 - reach - 24


def _date(frames: Frames, place: int) -> str:
    return frames.titles[place].split("  ")[0]


def _canvas(frames: Frames, place: int, compass: Compass, writing: _Writing) -> np.ndarray:
    """One picture with all that stands on it and below it; uint8."""
    from PIL import Image, ImageDraw

    picture = frames.pictures[place]
    rows, columns = picture.shape[:2]
    image = Image.new("RGB", (columns, rows + writing.rows), PAPER)
    image.paste(Image.fromarray(picture))
    pen = ImageDraw.Draw(image)
    draw_scale(pen, (12, rows - 12), compass.metres, columns)
    draw_north(pen, (columns - 24, 40), compass.north)
    _draw_timeline(pen, frames.times, place, rows, columns)
    date = _date(frames, place)
    pen.text((12, rows + 12), date, font=font(20, bold=True), fill=INK, anchor="la")
    after = 12 + round(font(20, bold=True).getlength(date)) + 14
    pen.text((after, rows + 31), writing.title, font=font(13), fill=INK, anchor="ls")
    draw_legend(pen, (columns - 12, rows + 10), frames.legend, _room(columns, writing.reach))
    pen.text((12, rows + writing.rows - 8), writing.notice, font=font(10), fill=PALE, anchor="ls")
    return np.asarray(image)


def _draw_timeline(pen, times: np.ndarray, place: int, row: int, columns: int) -> None:  # type: ignore[no-untyped-def]
    """A line along the lower edge of the picture, as long as time has gone, with a mark for each step."""
    first, last = times[0], times[-1]
    whole = max((last - first) / np.timedelta64(1, "us"), 1.0)
    at = [round(float((time - first) / np.timedelta64(1, "us")) / whole * (columns - 1)) for time in times]
    pen.rectangle((0, row, columns, row + 2), fill=(226, 229, 233))
    pen.rectangle((0, row, at[place], row + 2), fill=INK)
    for one in at:
        pen.line((one, row, one, row + 4), fill=PALE)


def legend_text(legend: Legend) -> str:
    """A legend in one line, for pages: ``"NDVI, 0.1 to 0.8"``."""
    said = legend.title
    if legend.ramp is not None:
        low, high = legend.limits
        said = f"{said}, {low:.2g} to {high:.2g} {legend.units}".strip()
    elif meanings := [swatch[1] for swatch in legend.swatches if swatch != NO_DATA]:
        said += f" ({', '.join(meanings)})"
    return f"{said}; grey: no data" if NO_DATA in legend.swatches else said
