"""Masks made of what classifications say of a pixel, in the words of :mod:`stac2cube.kernels.classes`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from stac2cube.errors import BadInputError
from stac2cube.kernels.classes import CLEAR, SAYS, WORDS, says
from stac2cube.views.layer import apply, common_names, derived_attributes, hide, is_class, names_text


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
    name, kind = classification(dataset, layer)
    said = SAYS[kind]
    asked = _spelled(words)
    never = [word for word in asked if word not in said and word not in CLEAR]
    if never:
        raise BadInputError(f"{name} never says {names_text(never)}: it says {names_text(said)}")
    mask: xr.DataArray = apply(_says, dataset[name], dtype="bool", kind=kind, words=tuple(asked)).rename(None)
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


def classification(dataset: xr.Dataset, layer: str | None) -> tuple[str, str]:
    """Name and kind of the layer that classifies."""
    found = {name: common for common, name in common_names(dataset).items() if common in SAYS}
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


def _says(values: np.ndarray, kind: str, words: tuple[str, ...]) -> np.ndarray:
    return says(kind, values, words)


SCL_COLOURS = {
    **{0: (0, 0, 0), 1: (255, 0, 0), 2: (47, 47, 47), 3: (100, 50, 0), 4: (0, 160, 0), 5: (255, 230, 90)},
    **{6: (0, 0, 255), 7: (128, 128, 128), 8: (192, 192, 192), 9: (255, 255, 255), 10: (100, 200, 255)},
    11: (255, 150, 255),
}
"""ESA's own colours of Sentinel-2's scene classes (Sentinel-2 Level-2A algorithm overview)."""

OTHER_COLOURS = ((225, 225, 225), (31, 119, 180), (214, 39, 40), (44, 160, 44), (255, 127, 14), (148, 103, 189))
"""For other classes, in their order."""


def class_colours(layer: xr.DataArray) -> tuple[dict[int, tuple[int, int, int]], dict[int, str]]:
    """Colour and meaning of each class of a layer, by its value.

    Raises:
        BadInputError: It holds bits, or does not say what its classes are.
    """
    if "flag_masks" in layer.attrs or "flag_values" not in layer.attrs:
        raise BadInputError(f"{layer.name} cannot be shown: it holds bits, or does not say what its classes are")
    values = [int(value) for value in layer.attrs["flag_values"]]
    meanings = dict(zip(values, str(layer.attrs["flag_meanings"]).split(), strict=True))
    if str(layer.name).lower() == "scl":
        return dict(SCL_COLOURS), meanings
    return {value: OTHER_COLOURS[place % len(OTHER_COLOURS)] for place, value in enumerate(values)}, meanings
