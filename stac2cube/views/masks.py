"""Masks from classifications and from clouds cubes, and masks by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import xarray as xr

from stac2cube.errors import BadInputError, CubeMismatchError, TableError
from stac2cube.model.classes import CLASS_VALUES, CLEAR, WORDS, pixels_of_class
from stac2cube.model.tables import shipped_and_own
from stac2cube.views.units import apply, common_names, derived_attributes, hide, is_class, names_text

# Masks from classifications, with the class names of :mod:`stac2cube.model.classes`.


def class_mask(dataset: xr.Dataset, words: Sequence[str], *, layer: str | None = None) -> xr.DataArray:
    """Mask of the pixels in given classes.

    Args:
        dataset: An opened cube with Sentinel-2's SCL or Landsat's QA_PIXEL, dims ``(time, y, x)``.
        words: Class names of :data:`WORDS`, or ``"clear"``, which means :data:`CLEAR`.
        layer: Name of the layer if the cube has both.

    Returns:
        Same dims, bool, True where the pixel is in one of the classes.

    Raises:
        BadInputError: Unknown class name, a class that this classification does not have, no classification, or two.
    """
    name, kind = classification(dataset, layer)
    said = CLASS_VALUES[kind]
    asked = _spelled(words)
    never = [word for word in asked if word not in said and word not in CLEAR]
    if never:
        raise BadInputError(f"{name} has no class {names_text(never)}: it has {names_text(said)}")
    mask: xr.DataArray = apply(_says, dataset[name], dtype="bool", kind=kind, words=tuple(asked)).rename(None)
    return mask


def mask_classes(
    dataset: xr.Dataset,
    *,
    keep: Sequence[str] | None = None,
    drop: Sequence[str] | None = None,
    layer: str | None = None,
) -> xr.Dataset:
    """Hide pixels by the cube's own classification.

    ``mask_classes(cube)`` keeps clear pixels; ``mask_classes(cube, drop=["cloud", "cirrus", "shadow", "snow"])`` hides
    the classes 3, 8, 9, 10 and 11 of Sentinel-2's SCL, and pixels without data.

    Args:
        dataset: An opened cube with Sentinel-2's SCL or Landsat's QA_PIXEL, dims ``(time, y, x)``.
        keep: Classes to keep, see :func:`class_mask`; ``("clear",)`` if neither is given.
        drop: Classes to hide instead, all others are kept; ``nodata`` is always hidden.
        layer: Name of the classification if there are several.

    Returns:
        The Dataset, NaN (stored values: the fill value) where hidden. Layers of classes are unchanged, to show why.

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
    """Hide pixels of all layers except classes where ``good`` is False."""
    hidden = {name: hide(layer, good) for name, layer in dataset.data_vars.items() if not is_class(layer)}
    return dataset.assign(hidden).drop_attrs(deep=False).assign_attrs(derived_attributes(dataset))


def classification(dataset: xr.Dataset, layer: str | None) -> tuple[str, str]:
    """Name and kind of the classification layer."""
    found = {name: common for common, name in common_names(dataset).items() if common in CLASS_VALUES}
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
    """Class names, with ``clear`` replaced by its classes."""
    given = (words,) if isinstance(words, str) else tuple(words)
    unknown = [word for word in given if word not in (*WORDS, "clear")]
    if unknown:
        raise BadInputError(f"unknown class {names_text(unknown)}: known are clear, {names_text(WORDS)}")
    return {word for word in given if word != "clear"} | (set(CLEAR) if "clear" in given else set())


def _says(values: np.ndarray, kind: str, words: tuple[str, ...]) -> np.ndarray:
    return pixels_of_class(kind, values, words)


SCL_COLOURS = {
    **{0: (0, 0, 0), 1: (255, 0, 0), 2: (47, 47, 47), 3: (100, 50, 0), 4: (0, 160, 0), 5: (255, 230, 90)},
    **{6: (0, 0, 255), 7: (128, 128, 128), 8: (192, 192, 192), 9: (255, 255, 255), 10: (100, 200, 255)},
    11: (255, 150, 255),
}
"""ESA's own colours of Sentinel-2's scene classes (Sentinel-2 Level-2A algorithm overview)."""

OTHER_COLOURS = ((225, 225, 225), (31, 119, 180), (214, 39, 40), (44, 160, 44), (255, 127, 14), (148, 103, 189))
"""Colours of other classes, in their order."""


def class_colours(layer: xr.DataArray) -> tuple[dict[int, tuple[int, int, int]], dict[int, str]]:
    """Colour and meaning of each class of a layer, by value.

    Raises:
        BadInputError: The layer holds bits, or has no list of classes.
    """
    if "flag_masks" in layer.attrs or "flag_values" not in layer.attrs:
        raise BadInputError(f"{layer.name} cannot be shown: it holds bits, or does not say what its classes are")
    values = [int(value) for value in layer.attrs["flag_values"]]
    meanings = dict(zip(values, str(layer.attrs["flag_meanings"]).split(), strict=True))
    if str(layer.name).lower() == "scl":
        return dict(SCL_COLOURS), meanings
    return {value: OTHER_COLOURS[place % len(OTHER_COLOURS)] for place, value in enumerate(values)}, meanings


# Masking layers by the masks of the clouds cube that was made from them.

USUAL_MASKS = ("cloud_mask", "shadow_mask")

SHOWN = 3
"""Largest number of scene keys in a message."""


def mask_clouds(
    layers: xr.Dataset,
    clouds: xr.Dataset,
    *,
    masks: Sequence[str] | None = None,
    missing: Literal["error", "drop", "hide"] = "error",
    max_cloud: float | None = None,
) -> xr.Dataset:
    """Hide pixels that a clouds cube marks as cloud, shadow or unknown.

    Steps are matched by scene key, regardless of their order and number.

    Args:
        layers: An opened cube, dims ``(time, y, x)``, coordinate ``scene`` along time.
        clouds: An opened clouds cube on the same grid, its masks uint8: 0 good, 255 no data, anything else bad.
        masks: Names of the masks; if None ``cloud_mask``, and ``shadow_mask`` if it exists. A pixel is kept where all
            of them are 0.
        missing: Handling of steps that the clouds cube does not have: an ``"error"``; ``"drop"`` leaves them out;
            ``"hide"`` keeps them without data.
        max_cloud: Leave out steps whose ``cloud_fraction`` is higher, 0 to 1.

    Returns:
        ``layers``, NaN (stored values: the fill value) where hidden. Layers of classes are unchanged.

    Raises:
        BadInputError: No such mask, no scene keys, missing steps, an invalid value of ``missing``.
        CubeMismatchError: The cubes are on different grids.
    """
    if missing not in ("error", "drop", "hide"):
        raise BadInputError(f"steps missing from the clouds are an 'error', 'drop' or 'hide', not {missing!r}")
    if max_cloud is not None:
        layers = _clear_enough(layers, clouds, max_cloud)
    names = _masks(clouds, masks)
    _require_same_grid(layers, clouds)
    keys, known = (_keys(dataset, what) for dataset, what in ((layers, "layers"), (clouds, "clouds")))
    place_of = {key: place for place, key in enumerate(known)}
    lacking = [key for key in keys if key not in place_of]
    if lacking and missing == "error":
        more = " ..." if len(lacking) > SHOWN else ""
        raise BadInputError(
            f"the clouds cube lacks {len(lacking)} of {len(keys)} steps ({', '.join(lacking[:SHOWN])}{more}): update "
            "it, or say missing='drop' or 'hide'"
        )
    if missing == "drop":
        layers = layers.isel(time=[place for place, key in enumerate(keys) if key in place_of])
        keys = [key for key in keys if key in place_of]
    return hide_all(layers, _good(layers, clouds[names], [place_of.get(key) for key in keys]))


def _clear_enough(layers: xr.Dataset, clouds: xr.Dataset, most: float) -> xr.Dataset:
    """Leave out steps with a higher cloud fraction in the clouds cube."""
    if not 0 <= most <= 1:
        raise BadInputError(f"max_cloud is a fraction, 0 to 1, not {most}")
    if "cloud_fraction" not in clouds.coords:
        raise BadInputError("the clouds have no coordinate cloud_fraction: give what open_cube gives")
    fractions = clouds["cloud_fraction"].values
    cloudy = {key for key, fraction in zip(_keys(clouds, "clouds"), fractions, strict=True) if fraction > most}
    return layers.isel(time=[place for place, key in enumerate(_keys(layers, "layers")) if key not in cloudy])


def _good(layers: xr.Dataset, masks: xr.Dataset, places: Sequence[int | None]) -> xr.DataArray:
    """Where all masks are 0, in the order of the layers' steps; all False for a step that the clouds cube lacks."""
    there = np.array([place is not None for place in places], bool)
    # A step without masks gets those of any other step, and is hidden completely by ``there``.
    rows = np.array([0 if place is None else place for place in places], int)
    if not masks.sizes["time"]:
        masks = masks.reindex(time=layers["time"].values[:1], fill_value=255)
    ordered = masks.isel(time=rows).drop_vars([name for name in masks.coords if name not in ("y", "x")])
    good = xr.DataArray(there, dims="time")
    for mask in ordered.data_vars.values():
        good = (mask == 0) & good
    return good.transpose("time", "y", "x")


def _masks(clouds: xr.Dataset, masks: Sequence[str] | None) -> list[str]:
    wanted = [name for name in USUAL_MASKS if name in clouds.data_vars] if masks is None else list(masks)
    lacking = [name for name in wanted if name not in clouds.data_vars]
    if lacking or not wanted or (masks is None and USUAL_MASKS[0] not in wanted):
        raise BadInputError(
            f"the clouds have no {names_text(lacking) if lacking else USUAL_MASKS[0]}: there are "
            f"{names_text(clouds.data_vars)}; name the masks with masks="
        )
    return wanted


def _keys(dataset: xr.Dataset, what: str) -> list[str]:
    if "scene" not in dataset.coords or dataset["scene"].dims != ("time",):
        raise BadInputError(f"the {what} have no scene keys along time: give what open_cube gives")
    keys = [str(key) for key in dataset["scene"].values]
    if len(set(keys)) < len(keys):
        raise BadInputError(f"the {what} hold the same scene twice")
    return keys


def _require_same_grid(layers: xr.Dataset, clouds: xr.Dataset) -> None:
    for axis in ("y", "x"):
        if layers.sizes[axis] != clouds.sizes[axis] or not np.array_equal(layers[axis].values, clouds[axis].values):
            raise CubeMismatchError(
                f"layers and clouds lie on different grids ({axis} differs): cut both alike, or make the clouds from "
                "this cube"
            )


# Mask recipes by name, for classifications.

TABLE = "masks.toml"


@dataclass(frozen=True)
class MaskRecipe:
    """Classes to keep, or classes to hide.

    Attributes:
        keep: Class names of :mod:`stac2cube.model.classes` to keep, all others are hidden.
        drop: Class names to hide, all others are kept.
        about: Description.
    """

    keep: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()
    about: str = ""


def mask_recipes() -> dict[str, MaskRecipe]:
    """All recipes by name: the shipped ones, and the user's own, which add or override.

    Raises:
        TableError: A table is malformed.
    """
    found: dict[str, MaskRecipe] = {}
    for file in shipped_and_own(TABLE):
        for name, value in file.parse().items():
            recipe = file.make(MaskRecipe, value, f"the mask {name}")
            unknown = [word for word in (*recipe.keep, *recipe.drop) if word not in (*WORDS, "clear")]
            if unknown:
                raise TableError(f"{file.path}: the mask {name} has unknown words {names_text(unknown)}")
            if ("keep" in value) == ("drop" in value):
                raise TableError(f"{file.path}: the mask {name} should say either keep or drop")
            found[name] = recipe
    return found


def mask_by(dataset: xr.Dataset, recipe: str, *, layer: str | None = None) -> xr.Dataset:
    """Hide pixels by a mask recipe and the cube's own classification.

    Args:
        dataset: An opened cube with Sentinel-2's SCL or Landsat's QA_PIXEL, dims ``(time, y, x)``.
        recipe: A name of ``tables/masks.toml`` (``"clouds_snow"``); or, with commas, names of classes to hide
            (``"cloud,shadow"``) or numbers of classes to hide (``"3,8,9,10,11"``).
        layer: Name of the classification if there are several.

    Returns:
        The Dataset, NaN (stored values: the fill value) where hidden. Layers of classes are unchanged, to show why.

    Raises:
        BadInputError: No such recipe or class, no classification, or two of them.
    """
    name, kind = classification(dataset, layer)
    known = mask_recipes()
    if recipe in known:
        told = (*CLASS_VALUES[kind], *CLEAR, "clear")
        keep, drop = ([word for word in part if word in told] for part in (known[recipe].keep, known[recipe].drop))
        return mask_classes(dataset, keep=keep or None, drop=drop if not keep else None, layer=name)
    words = [word.strip() for word in recipe.split(",") if word.strip()]
    if words and all(word.isdigit() for word in words):
        return _without_classes(dataset, name, [int(word) for word in words])
    if len(words) == 1 and words[0] not in WORDS:
        raise BadInputError(
            f"unknown mask {recipe!r}: known are {names_text(known)}; or say what to hide, of {names_text(WORDS)}, or "
            "numbers of classes, with commas"
        )
    return mask_classes(dataset, drop=words, layer=name)


def _without_classes(dataset: xr.Dataset, name: str, numbers: list[int]) -> xr.Dataset:
    """Hide pixels with given class numbers, and pixels without a class."""
    layer = dataset[name]
    if "flag_masks" in layer.attrs:
        raise BadInputError(f"{name} holds bits, not numbers of classes: say words to hide, of {names_text(WORDS)}")
    possible = [int(value) for value in layer.attrs.get("flag_values", numbers)]
    unknown = [number for number in numbers if number not in possible]
    if unknown:
        raise BadInputError(f"{name} has no class {names_text(unknown)}: it has {names_text(possible)}")
    return hide_all(dataset, ~layer.isin([0, *numbers]) & layer.notnull())
