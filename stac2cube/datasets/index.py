"""The index of a set of samples, and its file."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, get_args

from stac2cube.datasets.files import read_document
from stac2cube.errors import BadInputError
from stac2cube.model.fields import equal_nan
from stac2cube.store.files import write_whole
from stac2cube.trust.names import is_below
from stac2cube.trust.text import printable

# The index of a set of samples: its samples, the meaning of their values, and the status of every scene.
#
# It lists every requested scene: failed ones with their reason, so that a set never gets smaller without a message.

Radiometry = Literal["toa", "boa", "raw"]
"""Kind of the band values: reflectance at the top or the bottom of the atmosphere, or counts as delivered."""

Status = Literal["done", "failed"]


@dataclass(frozen=True)
class SampleGrid:
    """The grid of a sample, common to all its files.

    Attributes:
        crs: ``"EPSG:32632"`` or WKT.
        transform: Affine coefficients a, b, c, d, e, f in GDAL's order of :class:`affine.Affine`; units of the CRS.
        shape: Rows and columns, pixels.
    """

    crs: str
    transform: tuple[float, float, float, float, float, float]
    shape: tuple[int, int]

    @property
    def resolution(self) -> float:
        """Pixel edge, units of the CRS."""
        return self.transform[0]


@dataclass(frozen=True)
class Validity:
    """The channels of validity in ``x.tif``, after its bands.

    Attributes:
        channels: Their names: ``("valid",)``, or one ``"valid_B02"`` per band. 1 is valid, 0 is not.
        threshold: Smallest fraction of a pixel's footprint covered by valid source pixels, 0 to 1.
    """

    channels: tuple[str, ...]
    threshold: float


@dataclass(frozen=True)
class Angles:
    """The channels of ``angles.tif``, float32, NaN where unknown.

    Attributes:
        channels: Their names, as ``"sun_zenith"``, or ``"sun_zenith_sin"`` and ``"sun_zenith_cos"``.
        form: ``"degrees"`` or ``"sin_cos"``.
    """

    channels: tuple[str, ...]
    form: Literal["degrees", "sin_cos"]


@dataclass(frozen=True)
class Labels:
    """The labels in ``y.tif``: one band of class numbers, uint8.

    Attributes:
        backend: Their source: ``"scl"``, ``"raster"``, ``"vector"`` or ``"clouds"``.
        mapping: Value of the source (as text) -> class. Other values became ``ignore_index``.
        ignore_index: Class of pixels that a loss must ignore; the nodata tag of the file.
        classes: Class -> its name, in order; "" if it has no name.
    """

    backend: str
    mapping: Mapping[str, int]
    ignore_index: int
    classes: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Sample:
    """One sample, or a scene whose sample failed.

    Attributes:
        id: Unique in the set; the name of its folder.
        status: ``"done"`` or ``"failed"``.
        reason: Why it failed, "" if it did not.
        x_path: Bands and validity, relative to the index; like the other paths, None if the sample failed.
        y_path: Labels; None in a set without labels.
        angles_path: Angles; None in a set without angles.
        meta_path: Complete metadata.
        time: Acquisition time, ISO 8601, UTC, ``"2023-05-12T10:26:01Z"``.
        tile: Tile code ``"32TMT"``, "" without a tile.
        platform: ``"sentinel-2a"``, "" if unknown.
        orbit: Relative orbit, 0 if unknown.
        grid: Its grid; None if it failed.
        bounds: West, south, east, north, WGS84 degrees; None if it failed.
        valid_fraction: Fraction of pixels that are valid in all bands, 0 to 1.
        cloud_cover: Percent, from the catalog, or None.
        counts: Class -> number of pixels, including ``ignore_index``; empty without labels.
    """

    id: str
    status: Status
    reason: str
    x_path: str | None
    y_path: str | None
    angles_path: str | None
    meta_path: str | None
    time: str
    tile: str = ""
    platform: str = ""
    orbit: int = 0
    grid: SampleGrid | None = None
    bounds: tuple[float, float, float, float] | None = None
    valid_fraction: float = 0.0
    cloud_cover: float | None = None
    counts: Mapping[int, int] = field(default_factory=dict)

    @property
    def moment(self) -> datetime:
        """Acquisition time, with a time zone."""
        return datetime.fromisoformat(self.time).astimezone(UTC)


@equal_nan
@dataclass(frozen=True)
class SampleIndex:
    """All samples of a folder, and the meaning of their values.

    Attributes:
        mission: Name of the mission page.
        bands: Names of the bands of every ``x.tif``, in order; the validity channels follow them.
        radiometry: See :data:`Radiometry`.
        nodata: Value of bands without data; NaN is written as ``"nan"``.
        target_grid: Requested target: a band's name, or ``"grid"`` for one explicit grid that all samples share.
        resolution: Pixel edge of all samples, units of their CRS.
        validity: See :class:`Validity`.
        angles: None in a set without angles.
        labels: None in a set without labels.
        samples: Sorted by id.
    """

    mission: str
    bands: tuple[str, ...]
    radiometry: Radiometry
    nodata: float
    target_grid: str
    resolution: float
    validity: Validity
    angles: Angles | None
    labels: Labels | None
    samples: tuple[Sample, ...]

    @property
    def done(self) -> tuple[Sample, ...]:
        """Samples that were made."""
        return tuple(sample for sample in self.samples if sample.status == "done")

    @property
    def failed(self) -> tuple[Sample, ...]:
        """Samples that failed."""
        return tuple(sample for sample in self.samples if sample.status == "failed")


# ``index.json`` beside the samples: paths in it are relative to its folder, so that a set can be moved.

SCHEMA = "stac2cube-samples/1"
"""Name and version of the format; other versions are refused."""

INDEX = "index.json"
"""Name of the file."""

_READINGS: dict[str, tuple[str, ...]] = {"radiometry": get_args(Radiometry), "status": get_args(Status)}


def write_index(folder: Path, index: SampleIndex) -> Path:
    """Write ``index.json``, atomically.

    Raises:
        BadInputError: The index is inconsistent; nothing is written.
    """
    _check(index, folder / INDEX)
    value = {"schema": SCHEMA} | asdict(index)
    value["nodata"] = "nan" if math.isnan(index.nodata) else index.nodata
    if index.labels is not None:
        value["labels"]["classes"] = {str(number): name for number, name in index.labels.classes.items()}
    value["samples"] = [sample_to_json(sample) for sample in index.samples]
    write_whole(folder / INDEX, (json.dumps(value, indent=1, allow_nan=False) + "\n").encode())
    return folder / INDEX


def read_sample_index(path: Path) -> SampleIndex:
    """Read an index.

    Args:
        path: ``index.json``, or its folder.

    Raises:
        BadInputError: The index does not exist, has another schema, is incomplete or inconsistent; with the location.
    """
    file = path / INDEX if path.is_dir() else path
    value = read_document(file, SCHEMA, "index of samples", "make samples with `stac2cube samples`")
    index = _index(value, str(file))
    _check(index, file)
    return index


def _index(value: Mapping[str, Any], where: str) -> SampleIndex:
    part = _part(SampleIndex, {k: v for k, v in value.items() if k != "schema"}, where)
    part["nodata"] = _number(part["nodata"], f"{where}: nodata")
    part["bands"] = tuple(part["bands"])
    validity = _part(Validity, part["validity"], f"{where}: validity")
    part["validity"] = Validity(tuple(validity["channels"]), float(validity["threshold"]))
    if part["angles"] is not None:
        angles = _part(Angles, part["angles"], f"{where}: angles")
        part["angles"] = Angles(tuple(angles["channels"]), angles["form"])
    if part["labels"] is not None:
        labels = _part(Labels, part["labels"], f"{where}: labels")
        part["labels"] = Labels(**labels | {"classes": {int(n): name for n, name in labels["classes"].items()}})
    part["samples"] = tuple(
        sample_from_json(sample, f"{where}: sample {at}") for at, sample in enumerate(part["samples"])
    )
    return SampleIndex(**part)


def sample_to_json(sample: Sample) -> dict[str, Any]:
    """A sample as plain JSON values."""
    return asdict(sample) | {"counts": {str(number): count for number, count in sample.counts.items()}}


def sample_from_json(value: Any, where: str) -> Sample:
    """Read the output of :func:`sample_to_json`.

    Raises:
        BadInputError: The value is not a sample; with the location.
    """
    part = _part(Sample, value, where)
    if part["grid"] is not None:
        grid = _part(SampleGrid, part["grid"], f"{where}: grid")
        part["grid"] = SampleGrid(grid["crs"], tuple(grid["transform"]), tuple(grid["shape"]))
    part["bounds"] = None if part["bounds"] is None else tuple(part["bounds"])
    part["counts"] = {int(number): count for number, count in part["counts"].items()}
    return Sample(**part)


def _part(kind: type, value: Any, where: str) -> dict[str, Any]:
    """Read the fields of a dataclass from JSON; missing and unknown fields are errors."""
    if not isinstance(value, dict):
        raise BadInputError(f"{where} should be an object, not {value!r}")
    names = {field.name for field in fields(kind)}
    if lacking := sorted(names - set(value)):
        raise BadInputError(f"{where} lacks {', '.join(lacking)}")
    if unknown := sorted(set(value) - names):
        raise BadInputError(f"{where} has unknown keys: {', '.join(unknown)}")
    for name, readings in _READINGS.items():
        if name in names and value[name] not in readings:
            raise BadInputError(f"{where}: {name} should be one of {', '.join(readings)}, not {value[name]!r}")
    return dict(value)


def _number(value: Any, where: str) -> float:
    if value == "nan":
        return math.nan
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise BadInputError(f"{where} should be a number or 'nan', not {value!r}")
    return float(value)


def _check(index: SampleIndex, file: Path) -> None:
    """Check the consistency of an index, read or to be written."""
    if not index.bands:
        raise BadInputError(f"{file}: there are no bands")
    repeated = _repeated([sample.id for sample in index.samples]) or _repeated(index.bands)
    if repeated:
        raise BadInputError(f"{file}: {repeated} is there twice")
    for sample in index.samples:
        where = f"{file}: sample {sample.id}"
        if sample.status == "failed":
            if not sample.reason:
                raise BadInputError(f"{where} failed without a reason")
            continue
        paths = (sample.x_path, sample.y_path, sample.angles_path, sample.meta_path)
        if leaving := next((path for path in paths if path is not None and not is_below(path)), None):
            raise BadInputError(f"{where}: the path {printable(leaving)!r} leads out of the set")
        if sample.x_path is None or sample.meta_path is None or sample.grid is None or sample.bounds is None:
            raise BadInputError(f"{where} is done but lacks x_path, meta_path, grid or bounds")
        for what, path, wanted in (
            ("y_path", sample.y_path, index.labels),
            ("angles_path", sample.angles_path, index.angles),
        ):
            if (path is None) != (wanted is None):
                raise BadInputError(f"{where}: {what} is {path!r}, which the set's own description contradicts")
        try:
            datetime.fromisoformat(sample.time)
        except ValueError:
            raise BadInputError(f"{where} has no time: {sample.time!r}") from None


def _repeated(names: Sequence[str]) -> str:
    seen: set[str] = set()
    return next((name for name in names if name in seen or seen.add(name)), "")  # type: ignore[func-returns-value]
