"""What the ledger knows of each step, as coordinates along time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from stac2cube.cube.ledger import Entry

STEP_FACTS = {
    "platform": ("satellite", ""),
    "orbit": ("relative orbit", "1"),
    "cloud_cover": ("cloud over the whole scene, as its catalog says", "percent"),
    "catalog": ("catalog from which the scene was read", ""),
    "simulated": ("whether the scene is simulated, not measured by a satellite", "1"),
    "valid_fraction": ("part of the area with data", "1"),
    "cloud_fraction": ("part of the pixels with data that is cloud", "1"),
    "shift_x": ("eastward shift that was applied", "m"),
    "shift_y": ("northward shift that was applied", "m"),
    "shift_accepted": ("whether the shift was measured reliably", "1"),
    "residual_mtf": ("difference to the measured pixels, seen through the sensor's optics", "1"),
    "residual_mean": ("difference to the measured pixels, in plain means", "1"),
    "bright_fraction": ("part of the pixels that are saturated or too bright for a network", "1"),
}
"""Facts that :func:`stac2cube.open_cube` shows where a cube has them: what each is, and its unit ("" for text)."""


def step_facts(keys: Sequence[str], rows: Mapping[str, Entry]) -> dict[str, tuple[str, np.ndarray, dict[str, str]]]:
    """Coordinates of some steps: dimension, values, CF attributes.

    Args:
        keys: Of the steps, in their order.
        rows: Of the ledger.
    """
    facts = {}
    for name, (what, units) in STEP_FACTS.items():
        values = [rows[key].properties.get(name) for key in keys]
        if any(value is not None for value in values):
            numeric = all(value is None or isinstance(value, (int, float)) for value in values)
            missing: Any = np.nan if numeric else ""
            filled = [missing if value is None else value for value in values]
            attributes = {"long_name": what} | ({"units": units} if units and numeric else {})
            facts[name] = ("time", np.array(filled) if numeric else np.array(list(map(str, filled))), attributes)
    return facts
