"""Recipes: a YAML file that says what is to be made, stage by stage; for jobs, and for doing it again in a year."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from stac2cube.errors import BadInputError

STAGES: Mapping[str, frozenset[str]] = {
    "layers": frozenset(
        {"mission", "aoi", "aoi_crs", "edge", "time", "bands", "resolution", "crs", "resampling"}
        | {"max_cloud_cover", "orbit", "fill", "strict", "catalog", "items"}
    ),
    "clouds": frozenset(
        {"method", "thresholds", "average_m", "dilate_m", "shadows", "resolution", "engine", "catalog"}
    ),
    "coregister": frozenset({"engine", "strategy", "reference", "band", "max_shift", "resampling", "mode", "source"}),
    "superres": frozenset({"target", "backend", "consistency", "weights", "device", "tile", "margin", "large"}),
    "quicklook": frozenset(),
    "report": frozenset(),
}
"""Stages in the order in which they run, and the words each understands: those of the command of that name."""

WITH_BLOCKS = frozenset({"layers", "clouds", "coregister", "superres"})
"""Stages that build a cube block by block, at any place."""


@dataclass(frozen=True)
class Recipe:
    """What is to be made.

    Attributes:
        path: The file, absolute.
        cubes: Folder of its cubes: one per stage, named after it.
        stages: Words per stage, in the order in which they run.
    """

    path: Path
    cubes: Path
    stages: Mapping[str, Mapping[str, Any]]

    def cube(self, stage: str) -> Path:
        """Where the cube of a stage lies."""
        return self.cubes / f"{stage}.zarr"

    def wants_gpu(self, stage: str) -> bool:
        """Whether a stage runs on the site's GPU partition."""
        return self.stages[stage].get("device") == "cuda"


def read_recipe(path: str | Path) -> Recipe:
    """Read a recipe.

    Relative paths in it are meant from the folder it lies in.

    Raises:
        BadInputError: It is not there, not YAML, or has a stage or word that is not known.
    """
    file = Path(path).resolve()
    try:
        content = yaml.safe_load(file.read_text())
    except OSError as error:
        raise BadInputError(f"the recipe {path} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadInputError(f"the recipe {path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict) or "cubes" not in content:
        raise BadInputError(f"the recipe {path} should say at least 'cubes: FOLDER' and one stage, as 'layers:'")
    unknown = set(content) - {"cubes", *STAGES}
    if unknown:
        raise BadInputError(f"the recipe {path} has {_listed(unknown)}; known are cubes, {', '.join(STAGES)}")
    stages = {stage: _words(path, stage, content[stage] or {}) for stage in STAGES if stage in content}
    if not stages:
        raise BadInputError(f"the recipe {path} names no stage; known are {', '.join(STAGES)}")
    return Recipe(file, file.parent / str(content["cubes"]), stages)


def write_recipe(recipe: Recipe) -> None:
    """Write a recipe to its file."""
    content = {"cubes": str(recipe.cubes), **{stage: dict(words) for stage, words in recipe.stages.items()}}
    recipe.path.write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True))


def _words(path: str | Path, stage: str, words: Any) -> dict[str, Any]:
    if not isinstance(words, dict):
        raise BadInputError(f"the recipe {path}: {stage} should be a table of words, not {words!r}")
    plain = {str(name).replace("-", "_"): value for name, value in words.items()}
    unknown = set(plain) - STAGES[stage]
    if unknown:
        known = ", ".join(sorted(STAGES[stage])) or "none"
        raise BadInputError(f"the recipe {path}: {stage} does not know {_listed(unknown)}; known words are {known}")
    return plain


def _listed(names: set[str]) -> str:
    return ", ".join(repr(name) for name in sorted(map(str, names)))
