"""One small vocabulary for what classifications say of a pixel, and masks made of its words.

Every pixel of a classification is exactly one of the words below. Sentinel-2's scene classification says so by itself;
of Landsat's quality bits several may be set, and the first that applies, in the order of :data:`QA_PIXEL`, decides.

Sources: Sentinel-2 Products Specification Document (ESA, S2-PDGS-TAS-DI-PSD), scene classification of Level-2A; Landsat
8-9 and Landsat 4-7 Collection 2 Level 2 Science Product Guides (USGS, LSDS-1619 and LSDS-1618), pixel quality.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import xarray as xr

from stac2cube.errors import BadInputError
from stac2cube.views.layer import apply, common_names, derived_attributes, hide, is_class, names_text

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


def class_mask(dataset: xr.Dataset, words: Sequence[str], *, layer: str | None = None) -> xr.DataArray:
    """Where a classification says one of some words.

    Args:
        dataset: An opened cube with Sentinel-2's SCL or Landsat's QA_PIXEL, dims ``(time, y, x)``.
        words: Of :data:`WORDS`, or ``"clear"``, which stands for :data:`CLEAR`.
        layer: Name of the layer if it has both.

    Returns:
        Same dims, bool, True where the pixel is one of the words.

    Raises:
        BadInputError: Unknown word, a word that this classification never says, no classification, or two of them.
    """
    name, kind = _classification(dataset, layer)
    said = _KINDS[kind]
    asked = _spelled(words)
    never = [word for word in asked if word not in said and word not in CLEAR]
    if never:
        raise BadInputError(f"{name} never says {names_text(never)}: it says {names_text(said)}")
    table = np.array([word in asked for word in WORDS])
    mask: xr.DataArray = apply(_FUNCTIONS[kind], dataset[name], dtype="bool", table=table).rename(None)
    return mask


def mask_classes(
    dataset: xr.Dataset,
    *,
    keep: Sequence[str] | None = None,
    drop: Sequence[str] | None = None,
    layer: str | None = None,
) -> xr.Dataset:
    """Hide the pixels that a classification does not call good.

    ``mask_classes(cube)`` keeps what is clear; ``mask_classes(cube, drop=["cloud", "cirrus", "shadow", "snow"])`` hides
    the classes 3, 8, 9, 10 and 11 of Sentinel-2's SCL, and pixels without data.

    Args:
        dataset: An opened cube with Sentinel-2's SCL or Landsat's QA_PIXEL, dims ``(time, y, x)``.
        keep: Words to keep, see :func:`class_mask`; ``("clear",)`` if neither is given.
        drop: Words to hide instead, all others are kept; ``nodata`` is always hidden.
        layer: Name of the classification if there are several.

    Returns:
        The Dataset, NaN (stored numbers: their fill) where hidden. Layers of classes are left: they say why.

    Raises:
        BadInputError: Both keep and drop, or as :func:`class_mask`.
    """
    if keep is not None and drop is not None:
        raise BadInputError("give the classes to keep or the classes to drop, not both")
    if drop is None:
        good = class_mask(dataset, ("clear",) if keep is None else keep, layer=layer)
    else:
        good = ~class_mask(dataset, ("nodata", *drop), layer=layer)
    return hide_all(dataset, good)


def hide_all(dataset: xr.Dataset, good: xr.DataArray) -> xr.Dataset:
    """Every layer but classes without data where ``good`` is False."""
    hidden = {name: hide(layer, good) for name, layer in dataset.data_vars.items() if not is_class(layer)}
    return dataset.assign(hidden).drop_attrs(deep=False).assign_attrs(derived_attributes(dataset))


def _classification(dataset: xr.Dataset, layer: str | None) -> tuple[str, str]:
    """Name and kind of the layer that classifies."""
    found = {name: common for common, name in common_names(dataset).items() if common in _KINDS}
    if layer is not None:
        found = {name: kind for name, kind in found.items() if name == layer}
    if len(found) == 1:
        return next(iter(found.items()))
    if found:
        raise BadInputError(f"there are several classifications, {names_text(found)}: choose one with layer=")
    raise BadInputError(
        f"there is no classification {layer or ''} among {names_text(dataset.data_vars)}: the cube needs Sentinel-2's "
        "SCL or Landsat's QA_PIXEL"
    )


def _spelled(words: Sequence[str]) -> set[str]:
    """Words, with those that stand for several spelled out."""
    given = (words,) if isinstance(words, str) else tuple(words)
    unknown = [word for word in given if word not in (*WORDS, "clear")]
    if unknown:
        raise BadInputError(f"unknown class {names_text(unknown)}: known are clear, {names_text(WORDS)}")
    return {word for word in given if word != "clear"} | (set(CLEAR) if "clear" in given else set())


def _integers(values: np.ndarray, fill: int) -> np.ndarray:
    """Classes as integers, also where a fill value has made them floats with NaN."""
    if values.dtype.kind != "f":
        return values
    whole: np.ndarray = np.where(np.isfinite(values), values, fill).astype("int64")
    return whole


def _scl_says(values: np.ndarray, table: np.ndarray) -> np.ndarray:
    number_of = {number: WORDS.index(word) for number, word in SCL.items()}
    last = max(number_of)
    wanted = np.array([table[number_of[number]] for number in range(last + 1)] + [False])
    classes = _integers(values, 0)
    says: np.ndarray = wanted[np.where((classes >= 0) & (classes <= last), classes, last + 1)]
    return says


def _qa_pixel_says(values: np.ndarray, table: np.ndarray) -> np.ndarray:
    bits = _integers(values, 1)
    set_bits = [(bits >> bit) & 1 == 1 for bit in QA_PIXEL]
    wanted = [table[WORDS.index(word)] for word in QA_PIXEL.values()]
    says: np.ndarray = np.select(set_bits, wanted, default=table[WORDS.index("land")])
    return says


_KINDS = {"scl": tuple(dict.fromkeys(SCL.values())), "qa_pixel": (*QA_PIXEL.values(), "land")}
"""Common names of classifications, and the words that each can say."""

_FUNCTIONS: dict[str, Callable[..., np.ndarray]] = {"scl": _scl_says, "qa_pixel": _qa_pixel_says}
