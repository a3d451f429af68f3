"""Pictures that travel inside a page."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from stac2cube.errors import BadInputError
from stac2cube.products.frames import Frames, frames_of, is_mask

if TYPE_CHECKING:
    from PIL.Image import Image

QUALITY = 84
"""Of JPEG pictures, percent."""

GAP, LINE = 6, 20
"""Pixels between the pictures of a sheet, and above each for its date."""


def data_url(picture: np.ndarray, *, flat: bool = False) -> str:
    """A picture as a data URL.

    Args:
        picture: ``(rows, columns, 3)`` uint8, or float from 0 to 1.
        flat: Whether it has a few colours only, which PNG keeps smaller and sharper than JPEG.
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
    """What a function draws of a cube as a data URL, "" for a cube that has nothing of the kind to show."""
    content = io.BytesIO()
    try:
        draw(cube, content)
    except BadInputError:
        return ""
    return _url(content, kind)


def sheet_of(frames: Frames) -> Image:
    """Frames side by side, their dates above them, as an image that notebooks show by themselves."""
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
    """Small pictures of some steps, spread over the whole time; none for a cube that has nothing to show.

    Args:
        cube: The cube.
        most: Steps at most.
        edge: Longer edge of a picture at most, pixels.

    Returns:
        Per step its picture (a data URL), its size, its key, and its title.
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
