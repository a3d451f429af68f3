"""Frames of a cube, and animations of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

import numpy as np
import xarray as xr

from stac2cube.errors import BadInputError
from stac2cube.export.stac import Origin
from stac2cube.store.files import written_whole
from stac2cube.store.metadata import level_path, levels_of, read_root
from stac2cube.store.reader import open_cube
from stac2cube.views.options import Hiding, Style, TimeSelection
from stac2cube.views.render import CLOUD_MASK, NO_DATA, Legend, picture
from stac2cube.views.units import common_names, is_class, physical

# A series of pictures as a GIF or an MP4.

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


# Pictures of the steps of a cube, small enough for a screen, with one stretch for all of them.

SEASONS = {12: "Dec-Feb", 3: "Mar-May", 6: "Jun-Aug", 9: "Sep-Nov"}
"""Seasons by their first month."""


@dataclass(frozen=True)
class Frames:
    """Pictures of some steps.

    Attributes:
        titles: Date and platform of each.
        pictures: ``(steps, rows, columns, 3)`` uint8.
        times: Of each, datetime64; none where a series of pictures has no times.
        keys: Of their scenes, where they are those of a cube's steps.
        origin: Where their pixels come from.
        legend: What their colours mean.
        pixels: How many pixels of the cube one of theirs covers along each axis; below 1 where they are enlarged.
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
    """Pictures of an opened cube, or of a selection of it; arguments otherwise as of :func:`frames_of`.

    Args:
        dataset: The steps, decoded or not.
        cube: The cube that they are of.
        most: Steps at most.
        edge: Longer edge of a picture at most, pixels.
        look: What is shown.
        smooth: Whether pixels are means.

    Raises:
        BadInputError: No steps, or not all bands that make the picture.
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
    """Whether a cube is shown by its masks."""
    return CLOUD_MASK in {layer.name for layer in read_root(cube).spec.layers}


def _require_usual(dataset: xr.Dataset, cube: Path) -> None:
    """A part of a cube in natural colour needs its three bands, and does not become something else without."""
    known = common_names(open_cube(cube, chunks=None))
    usual = [known[colour] for colour in ("red", "green", "blue") if colour in known]
    lacking = sorted(set(usual) - {str(name) for name in dataset.data_vars}) if len(usual) == 3 else []
    if lacking:
        raise BadInputError(f"a picture of {cube} needs also {', '.join(lacking)}")


def _coarsest(cube: Path, edge: int) -> int:
    """The level of a cube that shows all its steps with the fewest pixels that are enough."""
    steps, longest = read_root(cube).steps, max(read_root(cube).spec.grid.shape)
    enough = [level for level in levels_of(cube) if longest / level >= edge]
    whole = [level for level in enough if read_root(level_path(cube, level)).steps == steps]
    return max(whole, default=1)


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
    """Date and platform of a step; of a composite its period."""
    day = str(dataset["time"].values[place])[:10]
    found = re.fullmatch(r"\d{8}_(.+)", str(np.atleast_1d(dataset["scene"].values)[place]))
    if found is not None:
        return period_text(day, found[1])
    words: Sequence[str] = [day]
    if "platform" in dataset.coords:
        words = [*words, str(np.atleast_1d(dataset["platform"].values)[place])]
    return "  ".join(words)


def period_text(day: str, period: str) -> str:
    """A period of a composite for people, from its first day: a month, a season by its months, a year."""
    year, month = int(day[:4]), int(day[5:7])
    if period == "month":
        return day[:7]
    if period == "year":
        return day[:4]
    if period == "season":
        return f"{SEASONS[month]} {year}" if month != 12 else f"{SEASONS[month]} {year}/{(year + 1) % 100:02d}"
    return day if period == "all" else f"{day} +{period}"
