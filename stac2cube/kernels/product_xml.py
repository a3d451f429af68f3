"""What a Sentinel-2 product's own metadata files say of its numbers and of the sun.

The file is ``MTD_MSIL1C.xml`` or ``MTD_MSIL2A.xml`` (Sentinel-2 Products Specification Document, issue 14.9, product
metadata): ``PROCESSING_BASELINE``; ``QUANTIFICATION_VALUE`` of L1C, ``BOA_QUANTIFICATION_VALUE`` of L2A; since baseline
04.00 ``RADIO_ADD_OFFSET`` or ``BOA_ADD_OFFSET`` per band. Each granule has its ``MTD_TL.xml`` with the angles of the
sun and, per band and detector, of the view every 5 km.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from xml.etree import ElementTree

import numpy as np

from stac2cube.errors import RadiometryError
from stac2cube.kernels.angles import AngleNodes, Direction, TileAngles, merged
from stac2cube.kernels.sun import SunAngles

BANDS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12")
"""Bands in the order of the numbers (``band_id``, ``bandId``) by which the metadata files call them."""

QUANTIFICATION = 10_000
"""Counts per unit of reflectance in all products so far: what the stored form is made for."""


@dataclass(frozen=True, slots=True)
class ProductFacts:
    """What the file says.

    Attributes:
        baseline: ``"05.09"``.
        offset: Counts to add before dividing, 0 or -1000, the same in all bands.
    """

    baseline: str
    offset: int


@dataclass(frozen=True, slots=True)
class ProductScaling:
    """How a product's counts become reflectance: (count + offset of the band) / quantification.

    Attributes:
        baseline: ``"05.09"``.
        quantification: Counts per unit of reflectance.
        offsets: Band -> counts to add; empty before baseline 04.00, which had none.
    """

    baseline: str
    quantification: float
    offsets: Mapping[str, float]

    def factors(self, band: str) -> tuple[float, float]:
        """Scale and offset of a band: reflectance = count * scale + offset.

        Raises:
            RadiometryError: The file gives offsets, but none for this band.
        """
        if self.offsets and band not in self.offsets:
            raise RadiometryError(f"the product metadata have no offset for band {band}")
        return 1 / self.quantification, self.offsets.get(band, 0.0) / self.quantification


def parse_scaling(text: str, name: str) -> ProductScaling:
    """Read of a product metadata file how its counts become reflectance, whatever the numbers are.

    Args:
        text: Its content.
        name: What to call it in messages.

    Raises:
        RadiometryError: It is no such file.
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
        name: What to call it in messages.

    Raises:
        RadiometryError: It is no such file, or has numbers that the stored form is not made for.
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
        name: What to call it in messages.

    Raises:
        RadiometryError: It is no such file.
    """
    sun = parse_angles(text, name, ()).sun
    return SunAngles(sun.crs, sun.corner, sun.step, sun.azimuth, 90 - sun.zenith)


def parse_angles(text: str, name: str, bands: Collection[str] = BANDS) -> TileAngles:
    """Read the angles of the sun and of the view from a granule's metadata file, ``MTD_TL.xml``.

    Args:
        text: Its content.
        name: What to call it in messages.
        bands: Of which the view is wanted.

    Raises:
        RadiometryError: It is no such file, or lacks the view of a band.
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
    """One grid out of one or, per detector, several; all of them on the same nodes."""
    step = float(grids[0].findtext("Zenith/COL_STEP", ""))
    seen = (Direction.of_degrees(_values(grid, "Zenith"), _values(grid, "Azimuth")) for grid in grids)
    return AngleNodes(crs, corner, step, *merged(seen).degrees)


def _values(grid: ElementTree.Element, name: str) -> np.ndarray:
    return np.array([[float(value) for value in (row.text or "").split()] for row in grid.iterfind(f"{name}//VALUES")])
