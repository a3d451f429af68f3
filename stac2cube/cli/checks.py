"""Whether the parameters of a command make sense, before anything runs: nobody should read of the last after hours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from stac2cube.cli.words import what_words


def check_layers(parameters: Mapping[str, Any]) -> None:
    """Refuse a mission, area, time, band or catalog that is not known.

    Raises:
        BadInputError: Naming the word that is wrong.
    """
    from stac2cube.stages.layers import make_request
    from stac2cube.stages.request import understand

    understand(make_request(what_words(**parameters)))


def check_clouds(parameters: Mapping[str, Any]) -> None:
    """Refuse rules for clouds that make no sense.

    Raises:
        BadInputError: Naming the word that is wrong.
    """
    from stac2cube.cli.steps import cloud_rules
    from stac2cube.stages.cloud_rules import CloudRules

    words = {name: parameters[name] for name in _fields(CloudRules)}
    cloud_rules(words | {"thresholds": parameters["thresholds"].split(",")})


def check_coregister(parameters: Mapping[str, Any]) -> None:
    """Refuse rules for shifts that make no sense.

    Raises:
        BadInputError: Naming the word that is wrong.
    """
    from stac2cube.stages.shift_rules import ShiftRules

    ShiftRules(**{name: parameters[name] for name in _fields(ShiftRules) if name in parameters})


def check_superres(parameters: Mapping[str, Any]) -> None:
    """Refuse rules for finer grids that make no sense.

    Raises:
        BadInputError: Naming the word that is wrong.
    """
    from stac2cube.stages.superres_rules import SuperresRules

    SuperresRules(**{name: parameters[name] for name in _fields(SuperresRules) if name in parameters})


def _fields(kind: type) -> list[str]:
    return [field.name for field in fields(kind)]
