"""The index of a set of samples: what there is, what its numbers mean, and what became of every scene.

It lists every scene asked for: one that failed is there with its reason, so that a set never gets smaller in silence.
:mod:`stac2cube.training.index_file` writes and reads it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

from stac2cube.equality import equal_nan

Radiometry = Literal["toa", "boa", "raw"]
"""What the numbers of the bands are: reflectance at the top or the bottom of the atmosphere, or counts as delivered."""

Status = Literal["done", "failed"]


@dataclass(frozen=True)
class SampleGrid:
    """Where the pixels of a sample lie: the grid of all its files.

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
    """The channels of ``x.tif`` after its bands that say where a pixel counts.

    Attributes:
        channels: Their names: ``("valid",)``, or one ``"valid_B02"`` per band. 1 is valid, 0 is not.
        threshold: Share of a pixel's footprint that valid source pixels had to cover, 0 to 1.
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
    """What ``y.tif`` holds: one band of class numbers, uint8.

    Attributes:
        backend: Where they come from: ``"scl"``, ``"raster"``, ``"vector"`` or ``"clouds"``.
        mapping: Value of the source (as text) -> class. Values that it does not name became ``ignore_index``.
        ignore_index: Class of pixels that no loss may count; the nodata tag of the file.
        classes: Class -> its name, in order; "" where it has none.
    """

    backend: str
    mapping: Mapping[str, int]
    ignore_index: int
    classes: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Sample:
    """One sample, or a scene that should have become one.

    Attributes:
        id: Unique in the set; the name of its folder.
        status: ``"done"`` or ``"failed"``.
        reason: Why it failed, "" if it did not.
        x_path: Bands and validity, relative to the index; None if it failed, as the other paths.
        y_path: Labels; None in a set without labels.
        angles_path: Angles; None in a set without angles.
        meta_path: Facts in full.
        time: Acquisition, ISO 8601, UTC, ``"2023-05-12T10:26:01Z"``.
        tile: Tile code ``"32TMT"``, "" where there is none.
        platform: ``"sentinel-2a"``, "" if unknown.
        orbit: Relative orbit, 0 if unknown.
        grid: Where its pixels lie; None if it failed.
        bounds: West, south, east, north, WGS84 degrees; None if it failed.
        valid_fraction: Share of pixels that are valid in all bands, 0 to 1.
        cloud_cover: Percent as the catalog gave it, or None.
        counts: Class -> pixels of it, ``ignore_index`` too; empty without labels.
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
        """When it was acquired, with a time zone."""
        return datetime.fromisoformat(self.time).astimezone(UTC)


@equal_nan
@dataclass(frozen=True)
class SampleIndex:
    """All samples of a folder, and what their numbers mean.

    Attributes:
        mission: Name of the mission page.
        bands: Names of the first bands of every ``x.tif``, in order; the validity channels follow.
        radiometry: See :data:`Radiometry`.
        nodata: Value of bands without data; NaN is written as ``"nan"``.
        target_grid: What was asked for: a band's name, or ``"grid"`` for one explicit grid that all samples share.
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
        """Those that can be used."""
        return tuple(sample for sample in self.samples if sample.status == "done")

    @property
    def failed(self) -> tuple[Sample, ...]:
        """Those that should be there and are not."""
        return tuple(sample for sample in self.samples if sample.status == "failed")
