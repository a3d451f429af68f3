"""What a cube holds, day by day over its years: marks to be set on a strip per year."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

SHADES = 5
"""Steps of colour from clear to covered."""


def calendar_of(scenes: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A strip per year, all years from the first to the last.

    Args:
        scenes: Of :func:`stac2cube.products.figures.figures_of`.

    Returns:
        Per year its number, how many scenes were sealed in it, and marks: where on the strip (percent), of which kind
        (``"clear0"`` to ``"clear4"`` by cloud, ``"failed"``, ``"empty"``, ``"unknown"``), and what to say of it.
    """
    years: dict[int, list[dict[str, Any]]] = {}
    for scene in scenes:
        moment = datetime.fromisoformat(scene["time"])
        whole = datetime(moment.year + 1, 1, 1) - datetime(moment.year, 1, 1)
        place = 100 * (moment - datetime(moment.year, 1, 1)) / whole
        years.setdefault(moment.year, []).append(
            {"place": round(place, 2), "kind": _kind(scene), "words": _words(scene), "sealed": _sealed(scene)}
        )
    if not years:
        return []
    return [
        {
            "year": year,
            "sealed": sum(mark["sealed"] for mark in years.get(year, ())),
            "marks": years.get(year, []),
        }
        for year in range(min(years), max(years) + 1)
    ]


def _sealed(scene: Mapping[str, Any]) -> bool:
    return bool(scene["status"] == "sealed")


def _kind(scene: Mapping[str, Any]) -> str:
    if not _sealed(scene):
        return str(scene["status"])
    if scene["cloud"] is None:
        return "unknown"
    return f"clear{min(int(scene['cloud'] / 100 * SHADES), SHADES - 1)}"


def _words(scene: Mapping[str, Any]) -> str:
    day = scene["time"][:10]
    if not _sealed(scene):
        return f"{day} {scene['status']}: {scene['reason'] or 'nothing over the area'}"
    cloud = "cloud unknown" if scene["cloud"] is None else f"{scene['cloud']:g} % cloud"
    return f"{day} {scene['platform']}, {cloud}"
