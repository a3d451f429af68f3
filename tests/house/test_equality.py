"""Values that may hold NaN are equal where their numbers mean the same, on every Python."""

from __future__ import annotations

import dataclasses
import importlib
import json
import math
import pickle
import pkgutil
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

import stac2cube
from stac2cube.datasets.rules import SampleRules
from stac2cube.errors import BadInputError
from stac2cube.model.cube_spec import Layer
from stac2cube.model.fields import equal_nan

MARKS = {"fill", "nodata", "sea", "source_nodata"}
"""Fields that mark missing pixels: the usual places for NaN."""


def dataclasses_of_the_package() -> list[type]:
    found = set()
    for module in pkgutil.walk_packages(stac2cube.__path__, "stac2cube."):
        if module.name.endswith("__main__"):
            continue
        try:
            names = vars(importlib.import_module(module.name))
        except (ImportError, BadInputError) as error:  # a library of an extra that is not installed
            missing = error if isinstance(error, ImportError) else error.__cause__
            if not isinstance(missing, ImportError) or (missing.name or "").startswith("stac2cube"):
                raise
            continue
        found |= {value for value in names.values() if isinstance(value, type) and dataclasses.is_dataclass(value)}
    return sorted((c for c in found if c.__module__.startswith("stac2cube.")), key=lambda c: c.__qualname__)


def may_hold_nan(cls: type) -> bool:
    return any(
        part.compare
        and "float" in str(part.type)
        and (part.name in MARKS or (isinstance(part.default, float) and math.isnan(part.default)))
        for part in dataclasses.fields(cls)
    )


def test_dataclasses_that_may_hold_nan_say_that_it_is_equal() -> None:
    pytest.importorskip("torch", reason="every module is imported, and some need PyTorch")
    compared = [c for c in dataclasses_of_the_package() if c.__eq__ is not object.__eq__ and may_hold_nan(c)]
    assert {"Layer", "Quantity", "Mission", "BandRequest", "SampleIndex", "SampleRules"} <= {
        c.__name__ for c in compared
    }
    assert not [c.__qualname__ for c in compared if c.__eq__.__module__ != equal_nan.__module__]


@equal_nan
@dataclass(frozen=True)
class Value:
    number: Any = math.nan
    parts: tuple[Any, ...] = ()
    table: Any = field(default=None, hash=False)
    seen: float = field(default=0.0, compare=False)


def another_nan() -> float:
    return float("nan")


@pytest.mark.parametrize("nan", [another_nan, lambda: np.float32("nan"), lambda: json.loads("NaN")])
def test_nan_is_equal_to_nan_in_fields_and_within_them(nan: Any) -> None:
    one = Value(nan(), (1, nan(), [nan()]), {"a": nan()}, 1.0)
    other = Value(math.nan, (1, math.nan, [math.nan]), {"a": math.nan}, 2.0)
    assert one == other
    assert hash(replace(one, parts=(1, nan()))) == hash(replace(other, parts=(1, math.nan)))
    assert pickle.loads(pickle.dumps(one)) == one


def test_everything_else_differs_as_ever() -> None:
    assert Value(1.0) == Value(1)
    assert Value(0.0) != Value()
    assert Value(1.0, (1, 2)) != Value(1.0, (2, 1))
    assert Value(table={"a": 1}) != Value(table={"a": math.nan})
    assert Value("NaN as a value") != Value()
    assert Value() != SampleRules()
    assert len({Value(another_nan()), Value(another_nan()), Value(1.0)}) == 2


def test_specs_and_rules_with_nan_are_equal_after_a_round_trip() -> None:
    assert Layer("B02", "float32", another_nan()) == Layer("B02", "float32", another_nan())
    assert SampleRules(nodata=another_nan()) == SampleRules() == pickle.loads(pickle.dumps(SampleRules()))
    assert {SampleRules(nodata=another_nan()): 1}[SampleRules()] == 1
