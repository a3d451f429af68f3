"""Frames of a cube, animations, and timelapses with title, scale bar, north arrow and legend."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import xarray as xr
from pyproj import CRS, Geod, Transformer

from stac2cube.errors import BadInputError
from stac2cube.export.stac import Origin, attribution_of
from stac2cube.model.grid import Grid
from stac2cube.store.files import written_whole
from stac2cube.store.metadata import level_path, levels_of, read_root
from stac2cube.store.reader import open_cube
from stac2cube.views.options import Film, Hiding, Style, TimeSelection
from stac2cube.views.render import CLOUD_MASK, NO_DATA, Legend, Swatch, picture
from stac2cube.views.units import common_names, is_class, physical

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont

# A series of pictures as a GIF or an MP4.

Colour = tuple[int, int, int]

COLOURS = 256
"""Colours of a GIF: one table for all its pictures, so that unchanged areas keep their colour."""

SAMPLES = 24
"""Largest number of pictures from which the colour table is made."""

FPS = 25
"""Pictures per second of an MP4; each step is repeated, for players that do not support lower rates."""

BT709, LIMITED = 1, 1
"""Numbers of H.264 for primaries, transfer and matrix of BT.709, and for values from 16 to 235."""


def write_animation(
    pictures: np.ndarray | Sequence[np.ndarray], out: Path, seconds: float = 0.7, *, keep: Sequence[Colour] = ()
) -> None:
    """Write a ``.gif`` or ``.mp4``, atomically.

    Args:
        pictures: ``(steps, rows, columns, 3)`` uint8.
        out: The file.
        seconds: Seconds per picture.
        keep: Colours that a GIF shows exactly, even if few pixels have them.

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
    """Write a looping GIF; arguments as for :func:`write_animation`."""
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
    """Check that an MP4 can be written.

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
    """Write H.264 that every player supports: an even number of rows and columns, 4:2:0, and a declared colour space.

    Without the declaration, some players assume BT.601 and some BT.709, depending on the height of the picture.
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


# Pictures of the steps of a cube, small enough for a screen, with one stretch for all.

SEASONS = {12: "Dec-Feb", 3: "Mar-May", 6: "Jun-Aug", 9: "Sep-Nov"}
"""Seasons by their first month."""


@dataclass(frozen=True)
class Frames:
    """Pictures of some steps.

    Attributes:
        titles: Date and platform of each picture.
        pictures: ``(steps, rows, columns, 3)`` uint8.
        times: Time of each picture, datetime64; empty where pictures have no times.
        keys: Scene keys, where the pictures are steps of a cube.
        origin: Source of their pixels.
        legend: Meaning of their colours.
        pixels: Pixels of the cube per pixel of a picture, along each axis; below 1 where pictures are enlarged.
    """

    titles: tuple[str, ...]
    pictures: np.ndarray
    times: np.ndarray = field(default_factory=lambda: np.empty(0, "datetime64[us]"))
    keys: tuple[str, ...] = ()
    origin: Origin = Origin()  # noqa: RUF009 - it is frozen
    legend: Legend = field(default_factory=lambda: Legend(""))
    pixels: float = 1.0


def frames_of(
    cube: Path,
    most: int | None = 24,
    edge: int = 360,
    *,
    look: Style | None = None,
    hiding: Hiding | None = None,
    choice: TimeSelection | None = None,
    smooth: bool = False,
) -> Frames:
    """Draw pictures of a cube.

    Args:
        cube: The cube.
        most: Largest number of steps, spread over the whole time; None for all.
        edge: Longest edge of a picture, pixels.
        look: Style of the picture; the default style if None.
        hiding: Masks that are applied first.
        choice: Steps to draw; all if None.
        smooth: Whether a pixel is the mean of all pixels that it covers, which reads all of them, instead of one.

    Raises:
        BadInputError: No steps, or nothing to show.
    """
    hidden_by_other = hiding is not None and bool(hiding.clouds)
    level = 1 if hidden_by_other else _coarsest(cube, edge)
    dataset = open_cube(cube, chunks="shards" if smooth else None, level=level)
    if dataset.sizes["time"] == 0:
        raise BadInputError(f"{cube} has no step to show yet")
    dataset = (choice or TimeSelection()).of(dataset)
    if hiding:
        dataset = hiding.apply(dataset)
    found = frames_from(dataset, cube, most, edge, look=look, smooth=smooth)
    return replace(found, pixels=found.pixels * level)


def frames_from(
    dataset: xr.Dataset,
    cube: Path,
    most: int | None = 24,
    edge: int = 360,
    *,
    look: Style | None = None,
    smooth: bool = False,
) -> Frames:
    """Draw pictures of an opened cube, or of a selection of it; other arguments as for :func:`frames_of`.

    Args:
        dataset: The steps, decoded or not.
        cube: Path of their cube.
        most: Largest number of steps.
        edge: Longest edge of a picture, pixels.
        look: Style of the picture.
        smooth: Whether pixels are means.

    Raises:
        BadInputError: No steps, or bands of the picture are missing.
    """
    if look is None or not look.show:
        _require_usual(dataset, cube)
    whole = dataset if "time" in dataset.dims else dataset.expand_dims("time")
    count = whole.sizes["time"]
    if count == 0:
        raise BadInputError(f"{cube} has no step to show")
    some = whole
    if most is not None and count > most:
        some = whole.isel(time=np.unique(np.linspace(0, count - 1, most).round().astype(int)))
    stride = max(1, -(-max(whole.sizes["y"], whole.sizes["x"]) // edge))
    small = _means(some, stride) if smooth else some.isel(y=slice(None, None, stride), x=slice(None, None, stride))
    shown, legend = picture(small, look, nodata="alpha")
    titles = tuple(_title(some, place) for place in range(some.sizes["time"]))
    keys = tuple(map(str, np.atleast_1d(some["scene"].values)))
    values = shown.transpose("time", "y", "x", "rgb").values
    pictures, bare = np.ascontiguousarray(values[..., :3]), values[..., 3] == 0
    pictures[bare] = NO_DATA[0]
    seen = _only_seen(legend, pictures)
    if bare.any():
        seen = replace(seen, swatches=(*seen.swatches, NO_DATA))
    return Frames(titles, pictures, some["time"].values, keys, Origin.of_steps(some), seen, float(stride))


def is_mask(cube: Path) -> bool:
    """Whether pictures of a cube show its masks."""
    return CLOUD_MASK in {layer.name for layer in read_root(cube).spec.layers}


def _require_usual(dataset: xr.Dataset, cube: Path) -> None:
    """Check that a selection has the three bands of natural colour, instead of falling back to another picture."""
    known = common_names(open_cube(cube, chunks=None))
    usual = [known[colour] for colour in ("red", "green", "blue") if colour in known]
    lacking = sorted(set(usual) - {str(name) for name in dataset.data_vars}) if len(usual) == 3 else []
    if lacking:
        raise BadInputError(f"a picture of {cube} needs also {', '.join(lacking)}")


def _coarsest(cube: Path, edge: int) -> int:
    """The coarsest level of a cube that has enough pixels and all steps."""
    steps, longest = read_root(cube).steps, max(read_root(cube).spec.grid.shape)
    enough = [level for level in levels_of(cube) if longest / level >= edge]
    whole = [level for level in enough if read_root(level_path(cube, level)).steps == steps]
    return max(whole, default=1)


def _only_seen(legend: Legend, pictures: np.ndarray) -> Legend:
    """Remove classes that no picture shows from a legend."""
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
            quantity = physical(layer)  # whose attributes no longer say how numbers were stored
            means = quantity.coarsen(window, boundary="trim").mean().drop_vars(("y", "x"))
            layers[name] = means.astype("float32").assign_attrs(quantity.attrs)
    return xr.Dataset(layers, attrs=dataset.attrs)


def _title(dataset: xr.Dataset, place: int) -> str:
    """Date and platform of a step; for a composite its period."""
    day = str(dataset["time"].values[place])[:10]
    found = re.fullmatch(r"\d{8}_(.+)", str(np.atleast_1d(dataset["scene"].values)[place]))
    if found is not None:
        return period_text(day, found[1])
    words: Sequence[str] = [day]
    if "platform" in dataset.coords:
        words = [*words, str(np.atleast_1d(dataset["platform"].values)[place])]
    return "  ".join(words)


def period_text(day: str, period: str) -> str:
    """Readable text of a composite's period, from its first day: a month, a season by its months, a year."""
    year, month = int(day[:4]), int(day[5:7])
    if period == "month":
        return day[:7]
    if period == "year":
        return day[:4]
    if period == "season":
        return f"{SEASONS[month]} {year}" if month != 12 else f"{SEASONS[month]} {year}/{(year + 1) % 100:02d}"
    return day if period == "all" else f"{day} +{period}"


# Map elements: scale bar, north arrow, legend. Drawn with Pillow.

INK, PALE, PAPER = (32, 36, 42), (110, 116, 124), (255, 255, 255)
"""Colours of text, of secondary text and lines, and of the background."""

STEPS = (1, 2, 5)
"""Lengths of scale bars: one of these times a power of ten, metres."""


ROW = 16
"""Height of a row of swatches in a legend, pixels."""


@dataclass(frozen=True)
class Compass:
    """Scale and orientation of a grid at its centre.

    Attributes:
        metres: Length of a pixel's upper edge on the ground.
        north: Direction of true north, degrees clockwise from the top of the picture.
    """

    metres: float
    north: float

    @classmethod
    def of(cls, grid: Grid) -> Compass:
        """Compute scale and orientation on the WGS84 ellipsoid."""
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
    """Text of a round length: ``"500 m"``, ``"2 km"``."""
    return f"{metres / 1000:g} km" if metres >= 1000 else f"{metres:g} m"


@lru_cache(maxsize=32)
def font(size: int, bold: bool = False) -> FreeTypeFont:
    """DejaVu Sans, which is included in matplotlib, so that pictures are the same on every machine."""
    import matplotlib as mpl
    from PIL import ImageFont

    name = f"DejaVuSans{'-Bold' if bold else ''}.ttf"
    return ImageFont.truetype(str(Path(mpl.get_data_path()) / "fonts" / "ttf" / name), size)


def draw_scale(pen: ImageDraw, corner: tuple[int, int], metres: float, width: int) -> None:
    """Draw a scale bar.

    Args:
        pen: Draws on the picture.
        corner: Column and row of its lower left corner.
        metres: Width of a pixel of the picture, metres.
        width: Width of the picture, pixels; the bar takes at most a quarter of it.
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
    """Draw an arrow to the north with an N above it; ``north`` as in :class:`Compass`."""
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
    """Draw a legend: a ramp with its limits, or swatches with their meanings.

    Args:
        pen: Draws on the picture.
        corner: Column and row of its upper right corner.
        legend: Meaning of the colours.
        room: Largest width, pixels.
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
    """Arrange swatches in rows of a width in pixels; a swatch that is too long has its own row."""
    rows: list[list[Swatch]] = []
    for swatch in swatches:
        if not rows or sum(map(_swatch_width, rows[-1])) + _swatch_width(swatch) > room:
            rows.append([])
        rows[-1].append(swatch)
    return rows


def _swatch_width(swatch: Swatch) -> int:
    return 26 + round(font(11).getlength(swatch[1]))


def _draw_ramp(pen: ImageDraw, corner: tuple[int, int], legend: Legend, room: int) -> int:
    """Draw a ramp; return its width, pixels."""
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
    """Shorten a text to ``room`` pixels, with an ellipsis if something is left out."""
    while text and font(size).getlength(text) > room:
        text = text[:-2].rstrip() + "…" if len(text) > 1 else ""
    return text


# A cube as a timelapse: a picture per step with its date, legend, scale, north and the providers' attribution.

LEAST = 420
"""Smallest number of columns: smaller pictures are enlarged, so that there is room for the text."""

STRIP = 66
"""Rows below a picture for date, legend and attribution; more if a legend has many swatches."""


def write_timelapse(cube: str | Path, out: str | Path, film: Film | None = None) -> Path:
    """Make a timelapse of a cube. The stretch is the same for all steps, so that nothing flickers.

    Args:
        cube: The cube.
        out: ``.gif`` or ``.mp4``; replaced atomically if it exists.
        film: Options; natural colour of all steps if None.

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
        raise BadInputError(
            f"a timelapse needs a width of at least {LEAST} pixels, and a positive number of seconds per step"
        )
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
    """Enlarge the pixels of small frames to at least :data:`LEAST` columns."""
    factor = -(-LEAST // frames.pictures.shape[2])
    if factor == 1:
        return frames
    larger = frames.pictures.repeat(factor, axis=1).repeat(factor, axis=2)
    return replace(frames, pictures=larger, pixels=frames.pixels / factor)


@dataclass(frozen=True)
class _Writing:
    """Text below all pictures of a timelapse.

    Attributes:
        title: Title beside the date, shortened to half of the picture; "" for no title.
        notice: The providers' attribution.
        reach: Width of the longest date and the title, columns.
        rows: Rows below a picture; the notice is below the legend's last row.
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
    """Columns for the legend, to the right of date and title."""
    return columns - 12 - reach - 24


def _date(frames: Frames, place: int) -> str:
    return frames.titles[place].split("  ")[0]


def _canvas(frames: Frames, place: int, compass: Compass, writing: _Writing) -> np.ndarray:
    """Draw one picture with its map elements and the text below it; uint8."""
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
    """Draw a line along the lower edge of the picture, proportional to the elapsed time, with a mark for each step."""
    first, last = times[0], times[-1]
    whole = max((last - first) / np.timedelta64(1, "us"), 1.0)
    at = [round(float((time - first) / np.timedelta64(1, "us")) / whole * (columns - 1)) for time in times]
    pen.rectangle((0, row, columns, row + 2), fill=(226, 229, 233))
    pen.rectangle((0, row, at[place], row + 2), fill=INK)
    for one in at:
        pen.line((one, row, one, row + 4), fill=PALE)


def legend_text(legend: Legend) -> str:
    """A legend as one line of text, for pages: ``"NDVI, 0.1 to 0.8"``."""
    said = legend.title
    if legend.ramp is not None:
        low, high = legend.limits
        said = f"{said}, {low:.2g} to {high:.2g} {legend.units}".strip()
    elif meanings := [swatch[1] for swatch in legend.swatches if swatch != NO_DATA]:
        said += f" ({', '.join(meanings)})"
    return f"{said}; grey: no data" if NO_DATA in legend.swatches else said
