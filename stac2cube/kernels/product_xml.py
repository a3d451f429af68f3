"""What a Sentinel-2 product's own metadata files say of its numbers and of the sun.

The file is ``MTD_MSIL1C.xml`` or ``MTD_MSIL2A.xml`` (Sentinel-2 Products Specification Document, issue 14.9, product
metadata): ``PROCESSING_BASELINE``; ``QUANTIFICATION_VALUE`` of L1C, ``BOA_QUANTIFICATION_VALUE`` of L2A; since baseline
04.00 ``RADIO_ADD_OFFSET`` or ``BOA_ADD_OFFSET`` per band. Each granule has its ``MTD_TL.xml`` with the angles of the
sun every 5 km.
"""

from __future__ import annotations

from dataclasses import dataclass
from xml.etree import ElementTree

import numpy as np

from stac2cube.errors import RadiometryError
from stac2cube.kernels.sun import SunAngles

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


def parse_product(text: str, name: str) -> ProductFacts:
    """Read a product metadata file.

    Args:
        text: Its content.
        name: What to call it in messages.

    Raises:
        RadiometryError: It is no such file, or has numbers that the stored form is not made for.
    """
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise RadiometryError(f"{name} is not XML: {error}") from error
    found: dict[str, list[str]] = {}
    for element in root.iter():
        found.setdefault(element.tag.rpartition("}")[2], []).append((element.text or "").strip())
    baseline = found.get("PROCESSING_BASELINE", [""])[0]
    scale = (found.get("BOA_QUANTIFICATION_VALUE") or found.get("QUANTIFICATION_VALUE") or [""])[0]
    if not baseline or not scale:
        raise RadiometryError(f"{name} is not the metadata of a Sentinel-2 product: baseline or quantification lack")
    if float(scale) != QUANTIFICATION:
        raise RadiometryError(f"{name} counts {scale} to reflectance 1, which no rule covers")
    offsets = {int(float(value)) for key in ("RADIO_ADD_OFFSET", "BOA_ADD_OFFSET") for value in found.get(key, ())}
    if not offsets <= {0, -1000} or len(offsets) > 1:
        raise RadiometryError(f"{name} has offsets that no rule covers: {sorted(offsets)}")
    return ProductFacts(baseline, offsets.pop() if offsets else 0)


def parse_sun(text: str, name: str) -> SunAngles:
    """Read the sun's angles from a granule's metadata file, ``MTD_TL.xml``.

    Args:
        text: Its content.
        name: What to call it in messages.

    Raises:
        RadiometryError: It is no such file.
    """
    try:
        root = ElementTree.fromstring(text)
        grid = next(root.iter("Sun_Angles_Grid"))
        zenith, azimuth = (_values(grid, name) for name in ("Zenith", "Azimuth"))
        place = next(root.iter("Geoposition"))
        corner = (float(place.findtext("ULX", "")), float(place.findtext("ULY", "")))
        step = float(grid.findtext("Zenith/COL_STEP", ""))
        crs = next(root.iter("HORIZONTAL_CS_CODE")).text or ""
    except (ElementTree.ParseError, StopIteration, ValueError) as error:
        raise RadiometryError(f"{name} is not the metadata of a Sentinel-2 granule: {error!r}") from error
    return SunAngles(crs, corner, step, azimuth, 90 - zenith)


def _values(grid: ElementTree.Element, name: str) -> np.ndarray:
    return np.array([[float(value) for value in (row.text or "").split()] for row in grid.iterfind(f"{name}//VALUES")])
