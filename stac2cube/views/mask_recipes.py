"""What is hidden before anything is computed: recipes by name for classifications, or the masks of a clouds cube."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import xarray as xr

from stac2cube.errors import BadInputError, TableError
from stac2cube.kernels.classes import CLEAR, SAYS, WORDS
from stac2cube.table import shipped_and_own
from stac2cube.views.classes import classification, hide_all, mask_classes
from stac2cube.views.clouds import mask_clouds
from stac2cube.views.layer import names_text

TABLE = "masks.toml"


@dataclass(frozen=True)
class MaskRecipe:
    """What is kept, or what is hidden.

    Attributes:
        keep: Words of :mod:`stac2cube.kernels.classes` that are kept, all others are hidden.
        drop: Or those that are hidden, all others are kept.
        about: For people.
    """

    keep: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()
    about: str = ""


def mask_recipes() -> dict[str, MaskRecipe]:
    """All recipes by name: as shipped, then a person's own that add or override.

    Raises:
        TableError: A table is malformed.
    """
    found: dict[str, MaskRecipe] = {}
    for file in shipped_and_own(TABLE):
        for name, value in file.parse().items():
            file.check(MaskRecipe, value, f"the mask {name}")
            lists = {key: tuple(part) for key, part in value.items() if isinstance(part, list)}
            unknown = [word for part in lists.values() for word in part if word not in (*WORDS, "clear")]
            if unknown:
                raise TableError(f"{file.path}: the mask {name} has unknown words {names_text(unknown)}")
            if len(lists) != 1:
                raise TableError(f"{file.path}: the mask {name} should say either keep or drop")
            found[name] = MaskRecipe(**{**value, **lists})
    return found


def mask_by(dataset: xr.Dataset, recipe: str, *, layer: str | None = None) -> xr.Dataset:
    """Hide what a recipe says of a cube's own classification.

    Args:
        dataset: An opened cube with Sentinel-2's SCL or Landsat's QA_PIXEL, dims ``(time, y, x)``.
        recipe: A name of ``tables/masks.toml`` (``"clouds_snow"``); or, with commas, words to hide
            (``"cloud,shadow"``) or numbers of classes to hide (``"3,8,9,10,11"``).
        layer: Name of the classification if there are several.

    Returns:
        The Dataset, NaN (stored numbers: their fill) where hidden. Layers of classes are left: they say why.

    Raises:
        BadInputError: No such recipe, word or class, no classification, or two of them.
    """
    name, kind = classification(dataset, layer)
    known = mask_recipes()
    if recipe in known:
        told = (*SAYS[kind], *CLEAR, "clear")
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


@dataclass(frozen=True)
class Hiding:
    """What is hidden of a cube.

    Attributes:
        mask: See :func:`mask_by`; "" for nothing.
        clouds: Path of its clouds cube; "" for none. Steps that this lacks are left out.
    """

    mask: str = ""
    clouds: str = ""

    def __bool__(self) -> bool:
        return bool(self.mask or self.clouds)

    def apply(self, dataset: xr.Dataset) -> xr.Dataset:
        """The cube without what is hidden.

        Args:
            dataset: As :func:`stac2cube.open_cube` gives it.

        Raises:
            BadInputError: As :func:`mask_by` and :func:`stac2cube.mask_clouds`.
            CubeMismatchError: The clouds lie on another grid.
        """
        from stac2cube.cube.reader import open_cube

        if self.clouds:
            chunks = {"time": 1} if any(layer.chunks for layer in dataset.data_vars.values()) else None
            sky = open_cube(Path(self.clouds), chunks=chunks)
            inside = sky.sel(y=dataset["y"], x=dataset["x"]) if _within(dataset, sky) else sky
            dataset = mask_clouds(dataset, inside, missing="drop")
        return mask_by(dataset, self.mask) if self.mask else dataset


def _within(part: xr.Dataset, whole: xr.Dataset) -> bool:
    """Whether one is a window of the other."""
    return all(bool(part[axis].isin(whole[axis]).all()) for axis in ("y", "x"))


def _without_classes(dataset: xr.Dataset, name: str, numbers: list[int]) -> xr.Dataset:
    """Layers where a classification has none of some numbers, and is not without data itself."""
    layer = dataset[name]
    if "flag_masks" in layer.attrs:
        raise BadInputError(f"{name} holds bits, not numbers of classes: say words to hide, of {names_text(WORDS)}")
    possible = layer.attrs.get("flag_values")
    unknown = [] if possible is None else [number for number in numbers if number not in list(possible)]
    if unknown:
        raise BadInputError(f"{name} has no class {names_text(unknown)}: it has {names_text(possible or ())}")
    return hide_all(dataset, ~layer.isin([0, *numbers]) & layer.notnull())
