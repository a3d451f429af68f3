"""Convert the counts of providers to stored values; read scaling and angles from Sentinel-2 metadata; sun angles."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache, reduce
from xml.etree import ElementTree

import numpy as np
from pyproj import CRS, Transformer

from stac2cube.errors import RadiometryError

# Position of the sun.


def sun_at(time: datetime, longitude: float, latitude: float) -> tuple[float, float]:
    """Azimuth, clockwise from north, and elevation of the sun, degrees, to about 0.1 degrees without refraction.

    The low-accuracy formulas of Meeus, Astronomical Algorithms, chapter 25, as NOAA's solar calculator uses them.

    Args:
        time: With a time zone.
        longitude: Degrees east.
        latitude: Degrees north.
    """
    days = (time.astimezone(UTC) - datetime(2000, 1, 1, 12, tzinfo=UTC)).total_seconds() / 86400
    century = days / 36525
    mean_longitude = math.radians(280.46646 + 36000.76983 * century)
    anomaly = math.radians(357.52911 + 35999.05029 * century)
    centre = math.radians((1.914602 - 0.004817 * century) * math.sin(anomaly) + 0.019993 * math.sin(2 * anomaly))
    ecliptic = mean_longitude + centre
    obliquity = math.radians(23.439291 - 0.0130042 * century)
    declination = math.asin(math.sin(obliquity) * math.sin(ecliptic))
    ascension = math.atan2(math.cos(obliquity) * math.sin(ecliptic), math.cos(ecliptic))
    sidereal = math.radians(280.46061837 + 360.98564736629 * days + longitude)
    hour, north = sidereal - ascension, math.radians(latitude)
    elevation = math.asin(
        math.sin(north) * math.sin(declination) + math.cos(north) * math.cos(declination) * math.cos(hour)
    )
    azimuth = math.atan2(-math.sin(hour), math.tan(declination) * math.cos(north) - math.sin(north) * math.cos(hour))
    return math.degrees(azimuth) % 360, math.degrees(elevation)


@dataclass(frozen=True)
class SunAngles:
    """Sun angles over an area: one pair of angles, or a coarse grid of them.

    Attributes:
        crs: CRS of the positions below; azimuths are relative to its grid north.
        corner: x and y of the first value.
        step: Distance of the values, units of the CRS.
        azimuth: ``(rows, columns)`` degrees clockwise from the CRS's north, rows running south; ``(1, 1)`` for one
            pair.
        elevation: Same shape, degrees above the horizon.
    """

    crs: str
    corner: tuple[float, float]
    step: float
    azimuth: np.ndarray
    elevation: np.ndarray

    @classmethod
    def everywhere(cls, azimuth: float, elevation: float, crs: str) -> SunAngles:
        """One pair of angles."""
        return cls(crs, (0.0, 0.0), 1.0, np.array([[azimuth]]), np.array([[elevation]]))

    def at(self, x: float, y: float, crs: str) -> tuple[float, float]:
        """Azimuth, clockwise from the grid north of another CRS, and elevation at a position in that CRS, degrees."""
        from scipy import ndimage

        there = Transformer.from_crs(crs, self.crs, always_xy=True)
        east, north = there.transform(x, y)
        place = [[(self.corner[1] - north) / self.step], [(east - self.corner[0]) / self.step]]
        directions = [
            ndimage.map_coordinates(part(np.radians(self.azimuth)), place, order=1, mode="nearest")[0]
            for part in (np.sin, np.cos)
        ]
        elevation = float(ndimage.map_coordinates(self.elevation, place, order=1, mode="nearest")[0])
        azimuth = math.atan2(*directions)
        # A step towards the sun, transformed to the other CRS.
        geographic = CRS(self.crs).is_geographic
        length = 1e-3 if geographic else 100.0
        widening = 1 / math.cos(math.radians(north)) if geographic else 1.0
        towards = (east + length * math.sin(azimuth) * widening, north + length * math.cos(azimuth))
        back = Transformer.from_crs(self.crs, crs, always_xy=True)
        (x0, y0), (x1, y1) = back.transform(east, north), back.transform(*towards)
        return math.degrees(math.atan2(x1 - x0, y1 - y0)) % 360, elevation


# From the counts of a provider to the stored form of a band, decided per item from its own metadata.
#
# Since processing baseline 04.00 (January 2022) ESA adds 1000 to every valid Sentinel-2 count, so that slightly
# negative reflectance is preserved: reflectance = (count - 1000) / 10000 (Sentinel-2 Products Specification Document,
# issue 14.9, ``RADIO_ADD_OFFSET`` and ``BOA_ADD_OFFSET``). Reprocessed products have the offset whatever their date.
# The stored form is the current one for all years: uint16, scale 1e-4, offset -0.1, 0 for no data.

S2_OFFSET_COUNTS = 1000
"""Counts that baselines from 04.00 on add to every valid pixel."""

S2_OFFSET = -0.1
"""The same offset as declared by catalogs: to add to count / 10000 to get reflectance."""

SATURATED = np.uint16(65535)
"""ESA's value of a saturated Sentinel-2 pixel, and the largest count that can be stored."""


@dataclass(frozen=True, slots=True)
class S2Facts:
    """An item's metadata about the offset of its reflectance bands.

    Attributes:
        item: Its id, for messages.
        baseline: Processing baseline ``"05.00"``, "" if not declared.
        declared: Offset that the band declares, in reflectance (0.0 or -0.1), None if it declares none.
        removed: Whether the provider declares that it has subtracted the offset from the pixels
            (``earthsearch:boa_offset_applied``), None if it declares nothing.
    """

    item: str
    baseline: str
    declared: float | None
    removed: bool | None


@lru_cache(maxsize=1024)  # the bands of an item mostly have the same metadata
def s2_shift(facts: S2Facts) -> int:
    """Counts to add to the valid pixels of a Sentinel-2 reflectance band to reach the stored form.

    0 if the pixels include ESA's offset, 1000 if they do not: before baseline 04.00, or if the provider has subtracted
    it. Earth Search keeps declaring -0.1 where its flag declares that the pixels are shifted; in that case the flag
    applies (verified with the pixels of recorded items). Planetary Computer declares nothing; the baseline decides.

    Raises:
        RadiometryError: The item's metadata contradict each other, or there are none.
    """
    since_0400, declared = _since_0400(facts), _declared(facts)
    if facts.removed:
        if since_0400 is False:
            raise _contradiction(facts, "its pixels are said to have lost an offset that its baseline never had")
        return S2_OFFSET_COUNTS
    if declared is not None and since_0400 is not None and declared != since_0400:
        raise _contradiction(facts, "the declared offset and the baseline disagree")
    carries = declared if since_0400 is None else since_0400
    if carries is None:
        raise RadiometryError(
            f"item {facts.item} says neither its processing baseline nor an offset: whether its counts carry the "
            "+1000 of baseline 04.00 cannot be known"
        )
    return 0 if carries else S2_OFFSET_COUNTS


def apply_shift(counts: np.ndarray, shift: int, fill: int = 0) -> np.ndarray:
    """Convert counts to the stored form: exact for every count that fits.

    A pixel without data remains without data. A count that would exceed 65535 becomes 65535, ESA's value for
    saturation. A count that a provider has already clipped at 0 looks like no data and remains so: its value is lost.

    Args:
        counts: Any shape, uint16, counts as delivered.
        shift: Counts to add, 0 or more.
        fill: Value of pixels without data.

    Returns:
        Same shape, uint16; the input itself if the shift is 0.
    """
    if shift == 0:
        return counts
    shifted: np.ndarray = counts + np.uint16(shift)  # overflowing counts wrap around, and are corrected below
    np.putmask(shifted, counts > SATURATED - shift, SATURATED)
    np.putmask(shifted, counts == fill, fill)
    return shifted


def _since_0400(facts: S2Facts) -> bool | None:
    if not facts.baseline:
        return None
    if not re.fullmatch(r"\d{1,2}\.\d{1,2}", facts.baseline):
        raise RadiometryError(f"item {facts.item} has a processing baseline that is no number: {facts.baseline!r}")
    return float(facts.baseline) >= 4.0


def _declared(facts: S2Facts) -> bool | None:
    """Whether the band declares ESA's offset; no rule covers any other offset."""
    if facts.declared is None:
        return None
    for offset, carries in ((0.0, False), (S2_OFFSET, True)):
        if abs(facts.declared - offset) < 1e-9:
            return carries
    raise _contradiction(facts, "it declares an offset that Sentinel-2 never had")


def _contradiction(facts: S2Facts, what: str) -> RadiometryError:
    return RadiometryError(
        f"item {facts.item} contradicts itself: {what} (baseline {facts.baseline or 'unknown'}, declared offset "
        f"{facts.declared}, offset said to be removed: {facts.removed})"
    )


# Angles of sun and sensor, interpolated from the coarse grids of a product to its pixels.
#
# A Sentinel-2 granule's metadata give zenith and azimuth at nodes every 5 km, the first on the tile's upper left
# corner; for the view per band and per detector, NaN where a detector has no view (Sentinel-2 Products Specification
# Document, issue 14.9, tile metadata). Twelve detectors look alternately forward and backward, so their azimuths differ
# by tens of degrees near the nadir.


@dataclass(frozen=True)
class AngleNodes:
    """Zenith and azimuth of one direction at the nodes of a coarse grid.

    Attributes:
        crs: CRS of the positions; azimuths are relative to its grid north.
        corner: x and y of the first node.
        step: Distance of the nodes, units of the CRS.
        zenith: ``(rows, columns)`` degrees, rows running south; NaN where unknown.
        azimuth: Same shape, degrees clockwise from north.
    """

    crs: str
    corner: tuple[float, float]
    step: float
    zenith: np.ndarray
    azimuth: np.ndarray


@dataclass(frozen=True)
class TileAngles:
    """All angles of a granule.

    Attributes:
        sun: Angles of the sun.
        view: Angles of the sensor by band, detectors merged.
    """

    sun: AngleNodes
    view: Mapping[str, AngleNodes]


@dataclass(frozen=True)
class Direction:
    """Direction to the sun or sensor from many positions.

    Attributes:
        zenith: Degrees, float64, any shape; NaN where unknown.
        east: Same shape: sine of the azimuth; 0 where unknown.
        north: Same shape: cosine of the azimuth.
        exact: Same shape: the azimuth in degrees where it was given in degrees, NaN elsewhere; None for nowhere.
    """

    zenith: np.ndarray
    east: np.ndarray
    north: np.ndarray
    exact: np.ndarray | None = None

    @classmethod
    def of_degrees(cls, zenith: np.ndarray, azimuth: np.ndarray) -> Direction:
        """From two angles, NaN where either is unknown."""
        known = np.isfinite(zenith) & np.isfinite(azimuth)
        turned = np.radians(np.where(known, azimuth, 0))
        east, north = (np.where(known, part(turned), 0) for part in (np.sin, np.cos))
        return cls(np.where(known, zenith, np.nan), east, north, np.where(known, azimuth, np.nan))

    @property
    def known(self) -> np.ndarray:
        """Mask of known directions, bool."""
        known: np.ndarray = np.isfinite(self.zenith)
        return known

    @property
    def degrees(self) -> tuple[np.ndarray, np.ndarray]:
        """Zenith, and azimuth from 0 to 360 clockwise from north; NaN where unknown."""
        azimuth = np.degrees(np.arctan2(self.east, self.north)) % 360
        azimuth[~self.known] = np.nan
        if self.exact is not None:
            np.copyto(azimuth, self.exact, where=np.isfinite(self.exact))
        return self.zenith, azimuth

    @property
    def sines(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Sine and cosine of the zenith, then of the azimuth; NaN where unknown."""
        zenith = np.radians(self.zenith)
        east, north = (np.where(self.known, part, np.nan) for part in (self.east, self.north))
        return np.sin(zenith), np.cos(zenith), east, north


def merged(directions: Iterable[Direction]) -> Direction:
    """Combine several directions: a single known one is used unchanged, several are averaged.

    Args:
        directions: At least one, all of one shape; consumed one after the other.

    Returns:
        Zenith, the mean of the known ones; azimuth, that of the sum of unit vectors; unknown where none is known.
    """
    count, total = reduce(_added, ((one.known.astype("uint8"), one) for one in directions))
    with np.errstate(invalid="ignore"):
        return _of_length_one(np.where(count > 0, total.zenith / count, np.nan), total.east, total.north, total.exact)


def _added(one: tuple[np.ndarray, Direction], other: tuple[np.ndarray, Direction]) -> tuple[np.ndarray, Direction]:
    """Counts and sums; an exact azimuth remains only where a single direction is known."""
    (count, so_far), (more, added) = one, other
    exact = None
    if so_far.exact is not None or added.exact is not None:
        exact = np.full(count.shape, np.nan)
        for mine, alone in ((so_far, more == 0), (added, count == 0)):
            if mine.exact is not None:
                np.copyto(exact, mine.exact, where=alone)
    zenith = np.where(count > 0, np.where(more > 0, so_far.zenith + added.zenith, so_far.zenith), added.zenith)
    return count + more, Direction(zenith, so_far.east + added.east, so_far.north + added.north, exact)


def _of_length_one(zenith: np.ndarray, east: np.ndarray, north: np.ndarray, exact: np.ndarray | None) -> Direction:
    """A direction from a vector of any length; north if its length is 0, as for opposite directions."""
    length = np.sqrt(east * east + north * north)
    none = length == 0
    length[none] = 1
    return Direction(zenith, east / length, np.where(none & np.isfinite(zenith), 1.0, north / length), exact)


def interpolated(nodes: AngleNodes, x: np.ndarray, y: np.ndarray, crs: str) -> Direction:
    """Directions at positions: bilinear between nodes, with the azimuth as a unit vector.

    If some of the four surrounding nodes are unknown, at the edge of the swath, only the others are used. A position on
    a node gets the node's value exactly.

    Args:
        nodes: The grid.
        x: Positions in ``crs``, any shape; ``(1, columns)`` with ``y`` of ``(rows, 1)`` for a regular grid.
        y: Same shape.
        crs: CRS of the positions; returned azimuths are relative to its grid north.

    Returns:
        Same shape as the positions, ``(rows, columns)`` for a regular grid; unknown where all four nodes are unknown or
        the position is outside the grid.
    """
    from pyproj import CRS, Transformer

    same = CRS(crs) == CRS(nodes.crs)
    if same:
        east, north = x, y
    else:
        away = np.broadcast_arrays(x, y)
        east, north = Transformer.from_crs(crs, nodes.crs, always_xy=True).transform(away[0], away[1])
    rows, columns = nodes.zenith.shape
    row, lower, above = _split((nodes.corner[1] - north) / nodes.step, rows)
    column, further, aside = _split((east - nodes.corner[0]) / nodes.step, columns)
    at = Direction.of_degrees(nodes.zenith, nodes.azimuth)
    place = _Place(row, lower, column, further)
    zenith, sine, cosine = (place.between(np.nan_to_num(part)) for part in (at.zenith, at.east, at.north))
    known = above & aside
    if not at.known.all():
        weight = place.between(at.known.astype("float64"))
        known &= weight > 0
        with np.errstate(invalid="ignore", divide="ignore"):
            zenith /= weight
    if not known.all():
        for part, unknown in ((zenith, np.nan), (sine, 0), (cosine, 0)):
            np.copyto(part, unknown, where=~known)
    found = _of_length_one(zenith, sine, cosine, place.on_nodes(nodes.azimuth, known))
    return found if same else _turned(found, np.asarray(east), np.asarray(north), nodes.crs, crs)


def _split(places: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The node before each position, the distance from it, 0 to 1, and whether the position is within the grid."""
    inside = (places >= 0) & (places <= count - 1)
    places = np.where(inside, places, 0)
    before = np.clip(np.floor(places).astype(int), 0, max(count - 2, 0))
    return before, places - before, inside


@dataclass(frozen=True)
class _Place:
    """Positions among nodes; rows and columns have one shape, or ``(rows, 1)`` and ``(1, columns)``.

    Attributes:
        row: Row of the node above.
        lower: Distance below it, 0 to 1.
        column: Column of the node to the left.
        further: Distance to the right of it, 0 to 1.
    """

    row: np.ndarray
    lower: np.ndarray
    column: np.ndarray
    further: np.ndarray

    @property
    def is_lattice(self) -> bool:
        return self.row.ndim == 2 and self.row.shape[1] == 1 and self.column.shape[0] == 1

    def between(self, values: np.ndarray) -> np.ndarray:
        """Node values at the positions; for a regular grid first along its few nodes, then along its rows."""
        down, right = np.minimum(self.row + 1, values.shape[0] - 1), np.minimum(self.column + 1, values.shape[1] - 1)
        if self.is_lattice:
            lines = values[self.row[:, 0]] * (1 - self.lower) + values[down[:, 0]] * self.lower
            left, beyond = lines[:, self.column[0]], lines[:, right[0]]
        else:
            left = values[self.row, self.column] * (1 - self.lower) + values[down, self.column] * self.lower
            beyond = values[self.row, right] * (1 - self.lower) + values[down, right] * self.lower
        between: np.ndarray = left * (1 - self.further) + beyond * self.further
        return between

    def on_nodes(self, azimuth: np.ndarray, known: np.ndarray) -> np.ndarray | None:
        """The azimuth of the node for positions on a node, NaN for others; None if there is no such position."""
        level, plumb = np.isin(self.lower, (0, 1)), np.isin(self.further, (0, 1))
        on = level & plumb & known
        if not on.any():
            return None
        row = np.minimum(self.row + (self.lower == 1), azimuth.shape[0] - 1)
        column = np.minimum(self.column + (self.further == 1), azimuth.shape[1] - 1)
        return np.where(on, azimuth[row, column], np.nan)


_STRIDE = 100.0
"""Length in metres of the step by which a direction is transformed from one CRS to another."""


def _turned(found: Direction, east: np.ndarray, north: np.ndarray, crs: str, other: str) -> Direction:
    """Convert azimuths from the north of one (metric) CRS to that of another."""
    from pyproj import Transformer

    back = Transformer.from_crs(crs, other, always_xy=True)
    x0, y0 = back.transform(east, north)
    x1, y1 = back.transform(east + _STRIDE * found.east, north + _STRIDE * found.north)
    known = found.known
    return _of_length_one(found.zenith, np.where(known, x1 - x0, 0), np.where(known, y1 - y0, 0), None)


# Scaling and angles from a Sentinel-2 product's own metadata files.
#
# The file is ``MTD_MSIL1C.xml`` or ``MTD_MSIL2A.xml`` (Sentinel-2 Products Specification Document, issue 14.9, product
# metadata): ``PROCESSING_BASELINE``; ``QUANTIFICATION_VALUE`` of L1C, ``BOA_QUANTIFICATION_VALUE`` of L2A; since
# baseline 04.00 ``RADIO_ADD_OFFSET`` or ``BOA_ADD_OFFSET`` per band. Each granule has its ``MTD_TL.xml`` with the
# angles of the sun and, per band and detector, of the view every 5 km.

BANDS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12")
"""Bands in the order of their numbers (``band_id``, ``bandId``) in the metadata files."""

QUANTIFICATION = 10_000
"""Counts per unit of reflectance in all products so far; the stored form assumes it."""


@dataclass(frozen=True, slots=True)
class ProductFacts:
    """Facts of a product metadata file.

    Attributes:
        baseline: ``"05.09"``.
        offset: Counts to add before dividing, 0 or -1000, the same in all bands.
    """

    baseline: str
    offset: int


@dataclass(frozen=True, slots=True)
class ProductScaling:
    """Conversion of a product's counts to reflectance: (count + offset of the band) / quantification.

    Attributes:
        baseline: ``"05.09"``.
        quantification: Counts per unit of reflectance.
        offsets: Counts to add, by band; empty before baseline 04.00, which had none.
    """

    baseline: str
    quantification: float
    offsets: Mapping[str, float]

    def factors(self, band: str) -> tuple[float, float]:
        """Scale and offset of a band: reflectance = count * scale + offset.

        Raises:
            RadiometryError: The file has offsets, but none for this band.
        """
        if self.offsets and band not in self.offsets:
            raise RadiometryError(f"the product metadata have no offset for band {band}")
        return 1 / self.quantification, self.offsets.get(band, 0.0) / self.quantification


def parse_scaling(text: str, name: str) -> ProductScaling:
    """Read the scaling of counts to reflectance from a product metadata file, whatever its values.

    Args:
        text: Its content.
        name: Its name in messages.

    Raises:
        RadiometryError: It is not such a file.
    """
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise RadiometryError(f"{name} is not XML: {error}") from error
    found: dict[str, list[ElementTree.Element]] = {}
    for element in root.iter():
        found.setdefault(element.tag.rpartition("}")[2], []).append(element)
    texts = {key: (elements[0].text or "").strip() for key, elements in found.items()}
    baseline = texts.get("PROCESSING_BASELINE", "")
    scale = texts.get("BOA_QUANTIFICATION_VALUE") or texts.get("QUANTIFICATION_VALUE") or ""
    if not baseline or not scale:
        raise RadiometryError(f"{name} is not the metadata of a Sentinel-2 product: baseline or quantification lack")
    declared = [*found.get("RADIO_ADD_OFFSET", ()), *found.get("BOA_ADD_OFFSET", ())]
    try:
        offsets = {BANDS[int(element.get("band_id", ""))]: float(element.text or "") for element in declared}
        return ProductScaling(baseline, float(scale), offsets)
    except (ValueError, IndexError) as error:
        raise RadiometryError(f"{name} has an offset or a quantification that cannot be read: {error}") from error


def parse_product(text: str, name: str) -> ProductFacts:
    """Read a product metadata file.

    Args:
        text: Its content.
        name: Its name in messages.

    Raises:
        RadiometryError: It is not such a file, or has values that the stored form does not support.
    """
    scaling = parse_scaling(text, name)
    if scaling.quantification != QUANTIFICATION:
        raise RadiometryError(f"{name} counts {scaling.quantification:g} to reflectance 1, which no rule covers")
    offsets = set(scaling.offsets.values())
    if not offsets <= {0.0, -1000.0} or len(offsets) > 1:
        raise RadiometryError(f"{name} has offsets that no rule covers: {sorted(offsets)}")
    return ProductFacts(scaling.baseline, int(offsets.pop()) if offsets else 0)


def parse_sun(text: str, name: str) -> SunAngles:
    """Read the sun's angles from a granule's metadata file, ``MTD_TL.xml``.

    Args:
        text: Its content.
        name: Its name in messages.

    Raises:
        RadiometryError: It is not such a file.
    """
    sun = parse_angles(text, name, ()).sun
    return SunAngles(sun.crs, sun.corner, sun.step, sun.azimuth, 90 - sun.zenith)


def parse_angles(text: str, name: str, bands: Collection[str] = BANDS) -> TileAngles:
    """Read the angles of the sun and of the view from a granule's metadata file, ``MTD_TL.xml``.

    Args:
        text: Its content.
        name: Its name in messages.
        bands: Bands whose view angles are read.

    Raises:
        RadiometryError: It is not such a file, or lacks the view angles of a band.
    """
    try:
        root = ElementTree.fromstring(text)
        place, code, first = (_only(root, tag) for tag in ("Geoposition", "HORIZONTAL_CS_CODE", "Sun_Angles_Grid"))
        corner = (float(place.findtext("ULX", "")), float(place.findtext("ULY", "")))
        crs = code.text or ""
        sun = _nodes([first], crs, corner)
        grids: dict[str, list[ElementTree.Element]] = {}
        for grid in root.iter("Viewing_Incidence_Angles_Grids"):
            grids.setdefault(BANDS[int(grid.get("bandId", ""))], []).append(grid)
        view = {band: _nodes(grids[band], crs, corner) for band in bands if band in grids}
    except (ElementTree.ParseError, ValueError, IndexError) as error:
        raise RadiometryError(f"{name} is not the metadata of a Sentinel-2 granule: {error}") from error
    if lacking := [band for band in bands if band not in view]:
        raise RadiometryError(f"{name} has no angles of view of {', '.join(lacking)}")
    return TileAngles(sun, view)


def _only(root: ElementTree.Element, tag: str) -> ElementTree.Element:
    found = next(root.iter(tag), None)
    if found is None:
        raise ValueError(f"it has no {tag}")
    return found


def _nodes(grids: Sequence[ElementTree.Element], crs: str, corner: tuple[float, float]) -> AngleNodes:
    """Merge one or, per detector, several grids on the same nodes."""
    step = float(grids[0].findtext("Zenith/COL_STEP", ""))
    seen = (Direction.of_degrees(_values(grid, "Zenith"), _values(grid, "Azimuth")) for grid in grids)
    return AngleNodes(crs, corner, step, *merged(seen).degrees)


def _values(grid: ElementTree.Element, name: str) -> np.ndarray:
    return np.array([[float(value) for value in (row.text or "").split()] for row in grid.iterfind(f"{name}//VALUES")])
