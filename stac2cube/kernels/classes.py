"""One small vocabulary for what classifications say of a pixel.

Every pixel of a classification is exactly one of the words below. Sentinel-2's scene classification says so by itself;
of Landsat's quality bits several may be set, and the first that applies, in the order of :data:`QA_PIXEL`, decides.

Sources: Sentinel-2 Products Specification Document (ESA, S2-PDGS-TAS-DI-PSD), scene classification of Level-2A; Landsat
8-9 and Landsat 4-7 Collection 2 Level 2 Science Product Guides (USGS, LSDS-1619 and LSDS-1618), pixel quality.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

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
"""What a pixel can be."""

CLEAR = ("snow", "water", "land")
"""What ``"clear"`` stands for: the ground was seen. Add dark and unclassified pixels by name."""

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
"""Landsat's bits, in order of which decides; a pixel of which none is set is land. Bit 1 is dilated cloud. Bit 6
(clear) adds nothing, and USGS knows it to be wrong over water in Landsat 4-7; bits 8-15 are the confidences from which
the others are made."""

SAYS = {"scl": tuple(dict.fromkeys(SCL.values())), "qa_pixel": (*QA_PIXEL.values(), "land")}
"""Common names of classifications, and the words that each can say."""


def says(kind: str, values: np.ndarray, words: Collection[str]) -> np.ndarray:
    """Where a classification says one of some words: bool, of the shape of ``values``.

    Args:
        kind: ``"scl"`` or ``"qa_pixel"``.
        values: Classes or bits; floats too, NaN without data.
        words: Of :data:`WORDS`.
    """
    return _scl_says(values, words) if kind == "scl" else _qa_pixel_says(values, words)


def _integers(values: np.ndarray, fill: int) -> np.ndarray:
    """Classes as integers, also where a fill value has made them floats with NaN."""
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
