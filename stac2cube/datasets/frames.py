"""Frames to cut patches from: steps of cubes and folders of samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Protocol

import numpy as np
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.errors import RasterioError
from rasterio.windows import Window

from stac2cube.build.clear_pixels import MatchBand, Picture, match_band
from stac2cube.build.derived import Parent
from stac2cube.datasets.index import Sample, SampleIndex, read_sample_index
from stac2cube.datasets.patch_rules import digest_of
from stac2cube.datasets.sample_cube import STAGE
from stac2cube.errors import BadInputError, ReadError
from stac2cube.model.cube_spec import Layer
from stac2cube.model.fields import equal_nan
from stac2cube.store.staging import StoredStep
from stac2cube.trust.text import parse_json

# Frames for training, from cubes and folders of samples.
#
# A frame is one picture of one place. Frames of one ``place`` share one pixel lattice, so they stack in time.

STRIP = 512
"""Rows read at a time when a whole frame is read: memory is one strip, regardless of the size of the frame."""

IGNORE = 255
"""Class of unlabelled pixels, unless the source defines another."""


@dataclass(frozen=True)
class FrameWindow:
    """A window of a frame.

    Attributes:
        values: ``(bands, rows, columns)`` float32, NaN without data.
        labels: ``(rows, columns)`` uint8 classes, the source's ignore index where unlabelled; None without labels.
        cloudy: ``(rows, columns)`` bool, True at cloud or shadow; None where clouds are unknown.
    """

    values: np.ndarray
    labels: np.ndarray | None
    cloudy: np.ndarray | None

    @property
    def valid(self) -> np.ndarray:
        """``(rows, columns)`` bool, True where every band has data."""
        good: np.ndarray = np.isfinite(self.values).all(axis=0)
        return good


class FrameReader(Protocol):
    """Reader of a frame's pixels; picklable, sent to workers."""

    def read(self, rows: slice, columns: slice) -> FrameWindow:
        """Read a window within the frame.

        Raises:
            ReadError: The files are missing or damaged.
        """
        ...


@dataclass(frozen=True)
class Frame:
    """One picture of one place.

    Attributes:
        key: Scene key or sample id, unique in its source.
        time: Acquisition time, with a time zone.
        place: Frames of the same place have the same lattice.
        geobox: That lattice.
        version: Digest of its inputs and rules: differs if its pixels may differ.
        pixels: Reader of its pixels.
    """

    key: str
    time: datetime
    place: str
    geobox: GeoBox
    version: str
    pixels: FrameReader = field(repr=False)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        rows, columns = self.geobox.shape
        return int(rows), int(columns)

    def strips(self) -> list[slice]:
        """Its rows in parts of :data:`STRIP`."""
        return [slice(top, min(top + STRIP, self.shape[0])) for top in range(0, self.shape[0], STRIP)]


@dataclass(frozen=True)
class FrameSet:
    """All frames, and the meaning of their values.

    Attributes:
        name: Name of the source, for messages and manifests.
        bands: In the order of the first axis of :attr:`FrameWindow.values`.
        radiometry: Kind of the values: ``"toa"``, ``"boa"``, ``"raw"``, or a cube's units per band.
        ignore: The class that is ignored.
        classes: Class -> name, of the labels; None without labels.
        frames: Sorted by place, time and key.
    """

    name: str
    bands: tuple[str, ...]
    radiometry: str
    ignore: int
    classes: dict[int, str] | None
    frames: tuple[Frame, ...]

    @property
    def digest(self) -> str:
        """Digest of the frames and their pixels."""
        return digest_of([[frame.place, frame.key, frame.version] for frame in self.frames])


# The frames of a cube, or of a folder of samples, each with its reader.


@dataclass(frozen=True)
class StepPicture:
    """A step of a cube.

    Attributes:
        step: Its pixels.
        bands: Layers read, in physical units.
        label: Layer of classes and the step that has it (this one, or that of a cube on the same grid), or None.
        look: Rule that detects clouds, and its input; None where clouds are unknown.
    """

    step: StoredStep
    bands: tuple[Layer, ...]
    label: tuple[StoredStep, Layer] | None
    look: tuple[MatchBand, Picture] | None

    def read(self, rows: slice, columns: slice) -> FrameWindow:
        """See :class:`stac2cube.datasets.frames.FrameReader`."""
        window = (rows, columns)
        stored = self.step.read(self.bands, window)
        values = np.stack([layer.decoded(stored[layer.name]) for layer in self.bands])
        labels = cloudy = None
        if self.label is not None:
            there, layer = self.label
            labels = _as_classes(there.read((layer,), window)[layer.name], layer)
        if self.look is not None:
            look, picture = self.look
            cloudy = ~look.clear(picture, window)
        return FrameWindow(values, labels, cloudy)


@equal_nan
@dataclass(frozen=True)
class SamplePicture:
    """The files of a sample.

    Attributes:
        x: Bands, then channels of validity.
        y: Labels, or None.
        bands: Number of bands; the channels of validity follow.
        nodata: Value of bands without data.
    """

    x: Path
    y: Path | None
    bands: int
    nodata: float

    def read(self, rows: slice, columns: slice) -> FrameWindow:
        """See :class:`stac2cube.datasets.frames.FrameReader`."""
        read = _read_tiff(self.x, rows, columns)
        values, validity = read[: self.bands].astype("float32"), read[self.bands :]
        hidden = np.isnan(values) | (values == np.float32(self.nodata))
        if validity.size:
            hidden |= np.broadcast_to(validity == 0, values.shape) if len(validity) == 1 else validity == 0
        values[hidden] = np.nan
        labels = None if self.y is None else _read_tiff(self.y, rows, columns)[0].astype("uint8")
        return FrameWindow(values, labels, None)


def frames_of_cube(
    cube: str | Path,
    bands: Sequence[str] | None = None,
    *,
    labels: str | None = None,
    clouds: str | Path | None = None,
) -> FrameSet:
    """The steps of a cube as frames.

    Args:
        cube: The cube.
        bands: Names of layers. None: all without classes; for a cube of samples, its bands.
        labels: A layer of classes of the cube or of ``clouds``, as ``"SCL"`` or ``"cloud_mask"``; None for no labels.
        clouds: Its clouds cube, whose masks mark cloudy pixels; otherwise the cube's own classes do, if it has any.

    Raises:
        BadInputError: A band or label does not exist, the grids differ, or a step has no step in the clouds cube.
        CubeError: Not a cube.
    """
    cube, clouds = Path(cube), None if clouds is None else Path(clouds)
    parent = Parent.read(cube)
    sky = None if clouds is None else Parent.read(clouds)
    chosen = _bands(parent, bands)
    look = match_band(parent, sky, chosen[0])
    if sky is not None and (lacking := [key for key in parent.rows if key not in sky.rows]):
        raise BadInputError(f"{clouds} lacks {len(lacking)} of {len(parent.rows)} steps ({lacking[0]} ...): update it")
    named, in_sky = _label(parent, sky, labels)
    geobox, frames = parent.spec.grid.geobox, []
    for key, row in parent.rows.items():
        stored = parent.stored(row)
        above = stored if sky is None else sky.stored(sky.rows[key])
        made_of = [
            parent.spec.recipe,
            dict(row.parts),
            None if sky is None else [sky.spec.recipe, dict(sky.rows[key].parts)],
        ]
        frames.append(
            Frame(
                key,
                row.time,
                cube.stem,
                geobox,
                digest_of(made_of),
                StepPicture(
                    step=stored,
                    bands=chosen,
                    label=None if named is None else (above if in_sky else stored, named),
                    look=(look, Picture(stored, above)) if look.masks else None,
                ),
            )
        )
    units = {layer.name: f"{layer.units} {layer.scale} {layer.offset}" for layer in chosen}
    radiometry = f"{parent.mission or parent.spec.stage} {'; '.join(f'{name} {of}' for name, of in units.items())}"
    classes = None if named is None else dict(named.flags)
    names = tuple(layer.name for layer in chosen)
    return FrameSet(str(cube), names, radiometry, IGNORE, classes, tuple(sorted(frames, key=_order)))


def frames_of_samples(folder: Path) -> FrameSet:
    """The samples of a folder as frames.

    Raises:
        BadInputError: No index, or it lists failed samples: an incomplete set must not be used for training unnoticed.
    """
    index = read_sample_index(folder)
    root = folder if folder.is_dir() else folder.parent
    if index.failed:
        first = index.failed[0]
        raise BadInputError(
            f"{folder}: {len(index.failed)} sample(s) failed ({first.id}: {first.reason}): make them again with "
            "`stac2cube samples`, or make a set without them in another folder"
        )
    frames = []
    for sample in index.done:
        assert sample.grid is not None and sample.x_path is not None  # noqa: PT018 - the index was checked
        geobox = GeoBox(sample.grid.shape, Affine(*sample.grid.transform), sample.grid.crs)
        place = f"{sample.tile or 'place'}_{sample.grid.transform[2]:.0f}_{sample.grid.transform[5]:.0f}"
        y = None if sample.y_path is None else root / sample.y_path
        picture = SamplePicture(root / sample.x_path, y, len(index.bands), index.nodata)
        frames.append(Frame(sample.id, sample.moment, place, geobox, _version(root, sample), picture))
    frames.sort(key=_order)
    return FrameSet(
        name=str(root),
        bands=index.bands,
        radiometry=_radiometry(index),
        ignore=IGNORE if index.labels is None else index.labels.ignore_index,
        classes=_classes(index),
        frames=tuple(frames),
    )


def find_frames(
    source: str | Path,
    bands: Sequence[str] | None = None,
    *,
    labels: str | None = None,
    clouds: str | Path | None = None,
) -> FrameSet:
    """The frames of a cube or of a folder of samples.

    Args:
        source: A cube, or a folder of samples.
        bands: Layers of a cube that become bands. Default: all layers that are measured. Not for samples.
        labels: The layer of a cube that holds a class per pixel, for example ``"SCL"``. Not for samples.
        clouds: The clouds cube of a cube; it gives the cloud cover of each patch. Not for samples.

    Returns:
        The frames, one per scene.

    Raises:
        BadInputError: The source is neither, or options for cubes are given for samples.
    """
    path = Path(source)
    if (path / "zarr.json").exists():
        return frames_of_cube(path, bands, labels=labels, clouds=None if clouds is None else Path(clouds))
    if bands is not None or labels is not None or clouds is not None:
        raise BadInputError(f"{source} is no cube: bands, labels and clouds are as its samples have them")
    return frames_of_samples(path)


def _version(root: Path, sample: Sample) -> str:
    """Digest of the inputs of a sample, from its own metadata file.

    Raises:
        BadInputError: The file does not exist, or is invalid.
    """
    path = root / str(sample.meta_path)
    try:
        return digest_of(parse_json(path.read_text(encoding="utf-8"))["made_of"])
    except (OSError, ValueError, KeyError) as error:
        raise BadInputError(
            f"{path} cannot be read ({error}): make the sample again with `stac2cube samples`"
        ) from error


def _order(frame: Frame) -> tuple[str, datetime, str]:
    return frame.place, frame.time, frame.key


def _bands(parent: Parent, names: Sequence[str] | None) -> tuple[Layer, ...]:
    continuous = {layer.name: layer for layer in parent.spec.layers if not (layer.flags or layer.bits)}
    if names is None and parent.spec.stage == STAGE:  # angles are bands only if named
        names = parent.spec.recipe["bands"]
    lacking = [name for name in names or () if name not in continuous]
    if lacking or not continuous:
        raise BadInputError(f"{parent.path} has no band {', '.join(lacking)}: there are {', '.join(continuous)}")
    return tuple(continuous[name] for name in names) if names else tuple(continuous.values())


def _label(parent: Parent, sky: Parent | None, name: str | None) -> tuple[Layer | None, bool]:
    """The layer of classes, and whether the clouds cube has it."""
    if name is None:
        return None, False
    for cube in (parent, sky):
        for layer in cube.spec.layers if cube else ():
            if layer.name == name:
                if np.dtype(layer.dtype) != np.uint8:
                    raise BadInputError(f"{name} is {layer.dtype}: labels are classes of uint8")
                return layer, cube is sky
    raise BadInputError(f"{parent.path} has no layer {name!r} to take labels from")


def _as_classes(stored: np.ndarray, layer: Layer) -> np.ndarray:
    classes: np.ndarray = np.where(stored == layer.fill_scalar, IGNORE, stored).astype("uint8")
    return classes


def _read_tiff(path: Path, rows: slice, columns: slice) -> np.ndarray:
    window = Window(columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start)
    try:
        with rasterio.open(path) as file:
            read: np.ndarray = file.read(window=window)
    except RasterioError as error:
        raise ReadError(f"{path} cannot be read: {error}") from error
    return read


def _radiometry(index: SampleIndex) -> str:
    return f"{index.mission} {index.radiometry}"


def _classes(index: SampleIndex) -> dict[int, str] | None:
    if index.labels is None:
        return None
    numbers = sorted({*index.labels.mapping.values(), *index.labels.classes} - {index.labels.ignore_index})
    return {number: index.labels.classes.get(number, "") for number in numbers}
