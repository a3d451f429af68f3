"""The reference picture against which scenes are measured: made once, and stored beside the cube."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from rasterio.errors import RasterioError

from stac2cube.build.clear_pixels import MatchBand, Picture, per_cell, texture
from stac2cube.build.derived import Parent
from stac2cube.build.loop import build
from stac2cube.build.plan import Block, BuildOptions, Step
from stac2cube.coregister.rules import REFERENCES, ShiftRules, reference_spec
from stac2cube.errors import BadInputError, IncompleteError, ReadError
from stac2cube.executors.base import Place
from stac2cube.model.image import BandRequest
from stac2cube.pixels.open import read_file
from stac2cube.progress import Progress
from stac2cube.store.ledger import SEALED, Entry
from stac2cube.store.metadata import read_root

MEDIAN_OF = 5
"""Most scenes used for a median."""

LEAST_OF_MEDIAN = 3
"""Fewest scenes for a median: that of two is their mean, a double image."""

SEASONS = ("DJF", "MAM", "JJA", "SON")

ONLY = "all year"
"""Name of a reference that does not belong to a season."""


@dataclass(frozen=True)
class ImageReference:
    """An image of the user as reference."""

    path: str


@dataclass(frozen=True)
class MakeReference:
    """The task that makes a reference from pictures.

    Attributes:
        look: How pictures of scenes are read.
    """

    look: MatchBand

    def __call__(self, made_of: tuple[Picture, ...] | ImageReference, block: Block) -> dict[str, np.ndarray]:
        """The reference in one block, float32, NaN without ground; a median needs three values per pixel.

        Raises:
            ReadError: A cube or the image cannot be read.
        """
        if isinstance(made_of, ImageReference):
            band = BandRequest("picture", "float32", float("nan"), "continuous", "cubic")
            try:
                return {"picture": read_file(made_of.path, band, block.geobox)}
            except (RasterioError, OSError) as error:
                raise ReadError(f"the reference {made_of.path} cannot be read: {error}") from error
        window = block.grid.window(block.tile)
        seen = [np.where(good, values, np.nan) for values, good in (self.look.read(one, window) for one in made_of)]
        if len(seen) == 1:
            return {"picture": seen[0].astype("float32")}
        with np.errstate(all="ignore"):
            stack = np.sort(np.stack(seen), axis=0)  # NaN last: the median of what is there
        count = np.count_nonzero(np.isfinite(stack), axis=0)
        count[count < LEAST_OF_MEDIAN] = 0
        low, high = np.maximum(count - 1, 0) // 2, count // 2
        some = np.take_along_axis(stack, np.stack([low, np.minimum(high, len(seen) - 1)]), axis=0)
        return {"picture": np.where(count > 0, some.mean(axis=0), np.nan).astype("float32")}


@dataclass(frozen=True)
class Reference:
    """An existing reference.

    Attributes:
        cube: The cube that stores it.
        scenes: Keys, per season (or :data:`ONLY`), of the scenes that it was made from; empty for an image of the user.
    """

    cube: Parent
    scenes: Mapping[str, tuple[str, ...]]

    def season(self, time: datetime) -> str:
        """The reference for a time: that of its season, or the only one."""
        if ONLY in self.scenes:
            return ONLY
        season = SEASONS[time.month % 12 // 3]
        return season if season in self.scenes else self.main

    @property
    def main(self) -> str:
        """The season whose reference defines the position: the first made."""
        return next(iter(self.scenes))

    def look(self) -> MatchBand:
        """How it is read: pixels that show no ground have no data."""
        return MatchBand(self.cube.spec.layers[0], ())

    def picture(self, season: str) -> Picture:
        """The picture of a season."""
        return Picture(self.cube.stored(self.cube.rows[season]), None)

    def cells(self, season: str, edge: int) -> tuple[np.ndarray, np.ndarray]:
        """Per cell of ``edge`` pixels the fraction that shows ground, and the amount of texture."""
        look, picture, grid = self.look(), self.picture(season), self.cube.spec.grid
        clear, rough = [], []
        for top in range(0, grid.shape[0] - edge + 1, edge):
            values, good = look.read(picture, (slice(top, top + edge), slice(0, grid.shape[1])))
            clear.append(per_cell(good, edge))
            rough.append(per_cell(texture(values, good), edge))
        return np.concatenate(clear), np.concatenate(rough)


def reference_for(
    path: Path, parent: Parent, pictures: Mapping[str, Picture], look: MatchBand, rules: ShiftRules, place: Place
) -> Reference:
    """The stored reference, or else a new one.

    Args:
        path: Path of the reference cube.
        parent: The cube of the scenes.
        pictures: The candidate scenes.
        look: How they are read.
        rules: The rules, which name the reference.
        place: Where it is made.

    Raises:
        BadInputError: There is no such scene or image, or it shows no ground.
        CubeMismatchError: The stored reference was made with other rules.
        IncompleteError: It could not be made.
    """
    chosen = _kept(path) or _choose(parent, pictures, rules)
    image = rules.reference if not any(chosen.values()) else ""
    spec = reference_spec(
        parent.spec, look.band, rules, {"scenes": {name: list(keys) for name, keys in chosen.items()}}
    )
    steps = []
    for place_in_time, (season, keys) in enumerate(chosen.items()):
        rows = [parent.rows[key] for key in keys if key in parent.rows]
        made_of = ImageReference(image) if image else tuple(pictures[key] for key in keys if key in pictures)
        # The times only define the order of the steps.
        time = rows[0].time if rows else datetime(2000, 1, 1 + place_in_time, tzinfo=UTC)
        entry = Entry(season, time, SEALED, tuple(keys), {season: image or ",".join(keys)}, properties={"image": image})
        steps.append(Step(entry, made_of, tuple(parent.spec.grid.tiles())))
    summary = build(path, spec, steps, MakeReference(look), place, options=BuildOptions(), progress=Progress())
    if summary.failed:
        raise IncompleteError(f"the reference could not be made: {'; '.join(summary.failed.values())}")
    if summary.empty:
        why = (
            f": it needs {LEAST_OF_MEDIAN} scenes that are clear at the same place"
            if rules.reference == "median"
            else ""
        )
        raise BadInputError(f"the reference {rules.reference} shows no ground over this area{why}")
    return Reference(Parent.read(path), chosen)


def _kept(path: Path) -> dict[str, tuple[str, ...]]:
    if not path.exists():
        return {}
    scenes = read_root(path).spec.request["scenes"]
    return {season: tuple(keys) for season, keys in scenes.items()}


def _choose(parent: Parent, pictures: Mapping[str, Picture], rules: ShiftRules) -> dict[str, tuple[str, ...]]:
    """Scenes that a reference is made from; an image of the user is made from none."""
    if rules.reference not in REFERENCES:
        if rules.reference in pictures:
            return {ONLY: (rules.reference,)}
        if not Path(rules.reference).exists() and "://" not in rules.reference:
            raise BadInputError(
                f"reference {rules.reference!r} is neither {', '.join(REFERENCES)}, nor a scene of {parent.path}, "
                "nor the path of an image"
            )
        return {ONLY: ()}
    ranked = sorted(pictures, key=lambda key: (-_clear(parent.rows[key]), key))
    if rules.reference == "median":
        if len(ranked) < LEAST_OF_MEDIAN:
            raise BadInputError(
                f"the reference median needs {LEAST_OF_MEDIAN} scenes or more, and {parent.path} has {len(ranked)}: "
                "of two it would be a double image. Say reference 'clearest', a scene by its key, or an image"
            )
        return {ONLY: tuple(ranked[:MEDIAN_OF])}
    if rules.reference == "clearest":
        return {ONLY: (ranked[0],)}
    seasons: dict[str, tuple[str, ...]] = {}
    for key in ranked:
        seasons.setdefault(SEASONS[parent.rows[key].time.month % 12 // 3], (key,))
    return seasons


def _clear(row: Entry) -> float:
    """The fraction of the area that a scene shows, according to its ledger row."""
    valid = float(row.properties.get("valid_fraction", 1.0))
    return round(valid * (1 - (row.cloud_percent or 0.0) / 100), 6)
