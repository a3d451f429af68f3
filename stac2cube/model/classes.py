"""Classes of classification bands in one vocabulary, and the no-data value."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any

import numpy as np

# One small vocabulary for the classes of all classifications.
#
# Every pixel of a classification has exactly one of the classes below. Sentinel-2's scene classification gives one
# class per pixel. Several of Landsat's quality bits may be set; the first that applies, in the order of
# :data:`QA_PIXEL`, decides.
#
# Sources: Sentinel-2 Products Specification Document (ESA, S2-PDGS-TAS-DI-PSD), scene classification of Level-2A;
# Landsat 8-9 and Landsat 4-7 Collection 2 Level 2 Science Product Guides (USGS, LSDS-1619 and LSDS-1618), pixel
# quality.

WORDS = (
    "nodata",
    "saturated",
    "cloud",
    "near_cloud",
    "cirrus",
    "shadow",
    "dark",
    "snow",
    "water",
    "land",
    "unclassified",
)
"""The classes of a pixel."""

CLEAR = ("snow", "water", "land")
"""Classes that ``"clear"`` stands for: the ground is visible. Add dark and unclassified pixels by name."""

SCL = {
    0: "nodata",
    1: "saturated",
    2: "dark",
    3: "shadow",
    4: "land",
    5: "land",
    6: "water",
    7: "unclassified",
    8: "cloud",
    9: "cloud",
    10: "cirrus",
    11: "snow",
}
"""Sentinel-2's classes: 2 is dark area (terrain's cast shadow), 4 vegetation, 5 not vegetated, 8 and 9 cloud of medium
and high probability, 10 thin cirrus."""

QA_PIXEL = {0: "nodata", 3: "cloud", 1: "near_cloud", 2: "cirrus", 4: "shadow", 5: "snow", 7: "water"}
"""Landsat's bits by precedence; a pixel with none of them set is land. Bit 1 is dilated cloud. Bit 6 (clear) adds
nothing, and according to USGS it is wrong over water in Landsat 4-7. Bits 8-15 are the confidences from which the other
bits are derived."""

CLASS_VALUES = {"scl": tuple(dict.fromkeys(SCL.values())), "qa_pixel": (*QA_PIXEL.values(), "land")}
"""Common names of classifications, and the classes that each can hold."""


def pixels_of_class(kind: str, values: np.ndarray, words: Collection[str]) -> np.ndarray:
    """Mask of the pixels with one of the given classes: bool, of the shape of ``values``.

    Args:
        kind: ``"scl"`` or ``"qa_pixel"``.
        values: Classes or bits; floats are allowed, with NaN for no data.
        words: Classes, from :data:`WORDS`.
    """
    return _scl_says(values, words) if kind == "scl" else _qa_pixel_says(values, words)


def _integers(values: np.ndarray, fill: int) -> np.ndarray:
    """Classes as integers, even if a fill value turned them into floats with NaN."""
    if values.dtype.kind != "f":
        return values
    whole: np.ndarray = np.where(np.isfinite(values), values, fill).astype("int64")
    return whole


def _scl_says(values: np.ndarray, words: Collection[str]) -> np.ndarray:
    last = max(SCL)
    wanted = np.array([SCL[number] in words for number in range(last + 1)] + [False])
    classes = _integers(values, 0)
    said: np.ndarray = wanted[np.where((classes >= 0) & (classes <= last), classes, last + 1)]
    return said


def _qa_pixel_says(values: np.ndarray, words: Collection[str]) -> np.ndarray:
    bits = _integers(values, 1)
    set_bits = [(bits >> bit) & 1 == 1 for bit in QA_PIXEL]
    said: np.ndarray = np.select(set_bits, [word in words for word in QA_PIXEL.values()], default="land" in words)
    return said


# Valid pixels must not take the no-data value.


def not_nodata(fill: Any) -> Any:
    """The replacement for a computed value that equals the no-data value.

    Same rule as GDAL's warper from 3.12 on (``AvoidNoData`` in gdalwarpkernel.cpp): for integers the next lower value,
    or the next higher one at the minimum of the type; for floats the next larger one.

    Args:
        fill: The no-data value, as NumPy scalar of the pixels' type; not NaN.

    Returns:
        A NumPy scalar of the same type.
    """
    kind = fill.dtype.type
    if fill.dtype.kind in "iu":
        return kind(int(fill) + 1 if fill == np.iinfo(kind).min else int(fill) - 1)
    largest = np.finfo(kind).max
    return np.nextafter(fill, kind(0) if fill == largest else largest)


def is_nodata(pixels: np.ndarray, fill: float) -> np.ndarray:
    """True where a pixel in stored form holds no data."""
    if pixels.dtype.kind in "iu" and float(fill).is_integer():
        fill = int(fill)  # otherwise NumPy compares as float64, which takes three times as long
    missing: np.ndarray = np.isnan(pixels) if math.isnan(fill) else pixels == fill
    return missing
