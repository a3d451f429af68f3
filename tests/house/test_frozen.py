"""What users rely on changes only where somebody says so: see ``tests/house/frozen.py``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.house import frozen

REMEDY = "if this is intended, run `python -m tests.house.frozen` and name the change in CHANGELOG.md"


@pytest.fixture(scope="module")
def told() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(frozen.FILE.read_text())
    return content


@pytest.mark.parametrize("part", ["commands", "python", "exit codes"])
def test_the_interface_is_the_frozen_one(told: dict[str, Any], part: str) -> None:
    now = json.loads(json.dumps(frozen.interface()[part]))
    assert _differences(told[part], now) == [], REMEDY


def test_cubes_of_every_product_are_laid_out_as_frozen(told: dict[str, Any], tmp_path: Path) -> None:
    now = json.loads(json.dumps(frozen.products(tmp_path)))
    assert _differences(told["products"], now) == [], REMEDY


def _differences(told: Any, now: Any, where: str = "") -> list[str]:
    """Where two JSON values differ, and how."""
    if isinstance(told, dict) and isinstance(now, dict):
        return [
            line
            for key in sorted({*told, *now})
            for line in _differences(told.get(key), now.get(key), f"{where}/{key}")
        ]
    return [] if told == now else [f"{where}: {told!r} -> {now!r}"]
