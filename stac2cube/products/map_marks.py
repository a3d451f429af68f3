"""What makes a picture a map: scale bar, north arrow, legend. Drawn with Pillow."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pyproj import CRS, Geod, Transformer

from stac2cube.grid import Grid
from stac2cube.views.picture import Legend, Swatch

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont

INK, PALE, PAPER = (32, 36, 42), (110, 116, 124), (255, 255, 255)
"""Colours of what is written, of what matters less, and of the ground under it."""

STEPS = (1, 2, 5)
"""A scale bar is so many, times a power of ten, metres long."""


ROW = 16
"""Pixels from one row of a legend's swatches to the next."""


@dataclass(frozen=True)
class Compass:
    """How a grid lies on the earth, in its middle.

    Attributes:
        metres: Length of a pixel's upper edge on the ground.
        north: Direction of true north, degrees clockwise from the top of the picture.
    """

    metres: float
    north: float

    @classmethod
    def of(cls, grid: Grid) -> Compass:
        """Measured on the WGS84 ellipsoid."""
        crs = CRS.from_user_input(grid.crs)
        to_globe = Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
        x = grid.origin[0] + grid.resolution * grid.shape[1] / 2
        y = grid.origin[1] - grid.resolution * grid.shape[0] / 2
        reach = 10 * grid.resolution
        west, east = (to_globe.transform(x + side * reach, y) for side in (-1, 1))
        length = Geod(ellps="WGS84").inv(*west, *east)[2]
        longitude, latitude = to_globe.transform(x, y)
        back = Transformer.from_crs("EPSG:4326", crs, always_xy=True)
        farther = latitude + (1e-3 if latitude < 89.9 else -1e-3)
        up = back.transform(longitude, farther)
        sign = 1 if farther > latitude else -1
        north = math.degrees(math.atan2(sign * (up[0] - x), sign * (up[1] - y)))
        return cls(length / 20, north)


def nice_length(longest: float) -> float:
    """The longest round length, metres, that is at most ``longest``."""
    power = 10.0 ** math.floor(math.log10(longest))
    return max(step * power for step in STEPS if step * power <= longest)


def length_text(metres: float) -> str:
    """A round length for people: ``"500 m"``, ``"2 km"``."""
    return f"{metres / 1000:g} km" if metres >= 1000 else f"{metres:g} m"


@lru_cache(maxsize=32)
def font(size: int, bold: bool = False) -> FreeTypeFont:
    """DejaVu Sans, which matplotlib brings, so that pictures are alike everywhere."""
    import matplotlib as mpl
    from PIL import ImageFont

    name = f"DejaVuSans{'-Bold' if bold else ''}.ttf"
    return ImageFont.truetype(str(Path(mpl.get_data_path()) / "fonts" / "ttf" / name), size)


def draw_scale(pen: ImageDraw, corner: tuple[int, int], metres: float, width: int) -> None:
    """A scale bar whose lower left corner is at a pixel.

    Args:
        pen: Draws on the picture.
        corner: Column and row.
        metres: That a pixel of the picture is wide.
        width: Of the picture, pixels; the bar takes a quarter of it at most.
    """
    length = nice_length(metres * width / 4)
    pixels = round(length / metres)
    left, bottom = corner
    pen.rectangle((left - 1, bottom - 6, left + pixels + 1, bottom + 1), fill=PAPER)
    pen.rectangle((left, bottom - 5, left + pixels // 2, bottom), fill=INK)
    pen.rectangle((left, bottom - 5, left + pixels, bottom), outline=INK)
    text = length_text(length)
    pen.text((left, bottom - 10), text, font=font(11), fill=INK, anchor="ls", stroke_width=2, stroke_fill=PAPER)


def draw_north(pen: ImageDraw, middle: tuple[int, int], north: float, size: int = 15) -> None:
    """An arrow to the north with an N over it; ``north`` as of :class:`Compass`."""
    angle = math.radians(north)

    def turned(right: float, up: float) -> tuple[float, float]:
        return (
            middle[0] + right * math.cos(angle) + up * math.sin(angle),
            middle[1] + right * math.sin(angle) - up * math.cos(angle),
        )

    tip, left, right, notch = (
        turned(*point) for point in ((0, size), (-size * 0.55, -size), (size * 0.55, -size), (0, -size * 0.55))
    )
    pen.polygon([tip, right, notch, left], fill=PAPER, outline=INK)
    pen.polygon([tip, notch, left], fill=INK)
    pen.text(
        turned(0, size + 9), "N", font=font(12, bold=True), fill=INK, anchor="mm", stroke_width=2, stroke_fill=PAPER
    )


def draw_legend(pen: ImageDraw, corner: tuple[int, int], legend: Legend, room: int) -> None:
    """A legend whose upper right corner is at a pixel: a ramp with its limits, or swatches with their meanings.

    Args:
        pen: Draws on the picture.
        corner: Column and row.
        legend: What colours mean.
        room: Pixels that it may take to the left.
    """
    right, top = corner
    pen.text((right, top), shortened(legend.title, 12, room), font=font(12), fill=INK, anchor="ra")
    if legend.ramp is not None:
        taken = _draw_ramp(pen, (right, top + 18), legend, min(180, room))
        _draw_swatches(pen, (right - taken - 18, top), legend.swatches, room - taken - 18)
        return
    _draw_swatches(pen, corner, legend.swatches, room)


def _draw_swatches(pen: ImageDraw, corner: tuple[int, int], swatches: Sequence[Swatch], room: int) -> None:
    right, top = corner
    for line, row in enumerate(swatch_rows(swatches, room)):
        at, middle = right + 10 - sum(map(_swatch_width, row)), top + 25 + ROW * line
        for swatch in row:
            colour, text = swatch
            pen.rectangle((at, middle - 6, at + 11, middle + 5), fill=colour, outline=PALE)
            pen.text((at + 16, middle), text, font=font(11), fill=INK, anchor="lm")
            at += _swatch_width(swatch)


def swatch_rows(swatches: Sequence[Swatch], room: int) -> list[list[Swatch]]:
    """Swatches in as many rows as fit into some pixels; one that is too long has a row of its own."""
    rows: list[list[Swatch]] = []
    for swatch in swatches:
        if not rows or sum(map(_swatch_width, rows[-1])) + _swatch_width(swatch) > room:
            rows.append([])
        rows[-1].append(swatch)
    return rows


def _swatch_width(swatch: Swatch) -> int:
    return 26 + round(font(11).getlength(swatch[1]))


def _draw_ramp(pen: ImageDraw, corner: tuple[int, int], legend: Legend, room: int) -> int:
    """How many pixels it takes to the left."""
    assert legend.ramp is not None
    right, top = corner
    low, high = (f"{value:.2g}" if abs(value) < 1000 else f"{value:.0f}" for value in legend.limits)
    high += f" {legend.units}" if legend.units else ""
    widths = [round(pen.textlength(text, font=font(11))) + 6 for text in (low, high)]
    length = max(40, room - sum(widths))
    left = right - widths[1] - length
    for place, colour in enumerate(legend.ramp[np.linspace(0, 255, length).round().astype(int)]):
        pen.line((left + place, top, left + place, top + 11), fill=tuple(int(part) for part in colour))
    pen.rectangle((left - 1, top - 1, left + length, top + 12), outline=PALE)
    pen.text((left - 6, top + 6), low, font=font(11), fill=INK, anchor="rm")
    pen.text((left + length + 6, top + 6), high, font=font(11), fill=INK, anchor="lm")
    return length + sum(widths)


def shortened(text: str, size: int, room: int) -> str:
    """A text that takes so many pixels at most, with an ellipsis where something is left out."""
    while text and font(size).getlength(text) > room:
        text = text[:-2].rstrip() + "…" if len(text) > 1 else ""
    return text
