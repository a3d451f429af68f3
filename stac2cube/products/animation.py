"""A series of pictures as a GIF or an MP4."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

import numpy as np

from stac2cube.cube.files import written_whole
from stac2cube.errors import BadInputError

Colour = tuple[int, int, int]

COLOURS = 256
"""Of a GIF: one table for all its pictures, so that what does not change keeps its colour."""

SAMPLES = 24
"""Pictures from which the table of colours is made at most."""

FPS = 25
"""Pictures per second of an MP4; each step is repeated, for players that know no slower ones."""

BT709, LIMITED = 1, 1
"""Numbers of H.264 for primaries, transfer and matrix of BT.709, and for values from 16 to 235."""


def write_animation(
    pictures: np.ndarray | Sequence[np.ndarray], out: Path, seconds: float = 0.7, *, keep: Sequence[Colour] = ()
) -> None:
    """Write a ``.gif`` or ``.mp4``, whole or not at all.

    Args:
        pictures: ``(steps, rows, columns, 3)`` uint8.
        out: The file.
        seconds: That each is shown.
        keep: Colours that a GIF shall show exactly, few or many as their pixels may be.

    Raises:
        BadInputError: Another kind of file, or an MP4 without the package av.
    """
    if out.suffix not in (".gif", ".mp4"):
        raise BadInputError(f"{out}: an animation is a .gif or an .mp4")
    with written_whole(out) as partial:
        if out.suffix == ".gif":
            write_gif(pictures, partial, seconds, keep=keep)
        else:
            _write_mp4(pictures, partial, seconds)


def write_gif(
    pictures: np.ndarray | Sequence[np.ndarray],
    out: Path | BinaryIO,
    seconds: float = 0.7,
    *,
    keep: Sequence[Colour] = (),
) -> None:
    """A GIF that begins again at its end; arguments as :func:`write_animation`."""
    from PIL import Image

    chosen = np.unique(np.linspace(0, len(pictures) - 1, min(SAMPLES, len(pictures))).round().astype(int))
    together = np.concatenate([pictures[place] for place in chosen])
    exact = list(dict.fromkeys(keep))[: COLOURS // 2]
    table = Image.fromarray(together).quantize(COLOURS - len(exact), method=Image.Quantize.MEDIANCUT)
    if exact:
        used = (table.getpalette() or [])[: 3 * (COLOURS - len(exact))]
        table = Image.new("P", (1, 1))
        table.putpalette(used + [part for colour in exact for part in colour])
    images = [Image.fromarray(one).quantize(palette=table, dither=Image.Dither.NONE) for one in pictures]
    length = int(1000 * seconds)
    images[0].save(out, format="GIF", save_all=True, append_images=images[1:], duration=length, loop=0)


def require_video() -> None:
    """Be sure that an MP4 can be written.

    Raises:
        BadInputError: The package av is not installed.
    """
    try:
        import av  # noqa: F401
    except ImportError as error:
        raise BadInputError(
            "an MP4 needs the package av: pip install 'stac2cube[pictures]', or write a .gif"
        ) from error


def _write_mp4(pictures: np.ndarray | Sequence[np.ndarray], out: Path, seconds: float) -> None:
    """H.264 that every player shows: an even number of rows and columns, 4:2:0, and said of its colours what they are.

    Without a word some players take them for BT.601 and some for BT.709, depending on the height of the picture.
    """
    require_video()
    import av

    rows, columns = (size + size % 2 for size in pictures[0].shape[:2])
    each = max(1, round(FPS * seconds))
    with av.open(str(out), "w", format="mp4", options={"movflags": "+faststart"}) as file:
        stream = file.add_stream("libx264", rate=Fraction(FPS))
        stream.width, stream.height, stream.pix_fmt = columns, rows, "yuv420p"
        stream.options = {"crf": "18"}
        coder = stream.codec_context
        coder.color_primaries = coder.color_trc = coder.colorspace = BT709
        coder.color_range = LIMITED
        for place, picture in enumerate(pictures):
            even = np.pad(picture, ((0, rows - picture.shape[0]), (0, columns - picture.shape[1]), (0, 0)), mode="edge")
            screen = av.VideoFrame.from_ndarray(np.ascontiguousarray(even), format="rgb24")
            frame = screen.reformat(format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG")
            for number in range(place * each, (place + 1) * each):
                frame.pts, frame.time_base = number, 1 / Fraction(FPS)
                file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
