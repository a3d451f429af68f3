"""The JSON Schema of recipes, for editors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stac2cube.recipe.kind import Kind

ADDRESS = "https://json-schema.org/draft/2020-12/schema"


def schema_of(kinds: Mapping[str, Kind]) -> dict[str, Any]:
    """What a recipe may hold, entry by entry and word by word.

    Args:
        kinds: All there are, by name.
    """
    cubes = {"type": "string", "description": "Folder of everything that is made, meant from the recipe's own folder."}
    return {
        "$schema": ADDRESS,
        "title": "Recipe of stac2cube",
        "description": "What is to be made of an archive: `stac2cube run RECIPE` or `stac2cube submit RECIPE`.",
        "type": "object",
        "required": ["cubes"],
        "additionalProperties": False,
        "properties": {"cubes": cubes, **{name: _entries(kind) for name, kind in kinds.items()}},
    }


def _entries(kind: Kind) -> dict[str, Any]:
    """One entry, or several by name."""
    words = kind.every_word()
    one: dict[str, Any] = {
        "type": "object",
        "additionalProperties": False,
        # A word of several parts may be written as on the command line.
        "properties": {name: word.schema() for name, word in words.items()}
        | {name.replace("_", "-"): word.schema() for name, word in words.items() if "_" in name},
    }
    if needed := [name for name, word in words.items() if word.needed]:
        one["required"] = needed
    several = {
        "type": "object",
        "minProperties": 1,
        "propertyNames": {"not": {"enum": sorted(one["properties"])}},
        "additionalProperties": one,
    }
    return {"description": kind.help, "anyOf": [*([] if needed else [{"type": "null"}]), one, several]}
