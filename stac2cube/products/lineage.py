"""How a cube came to be, in sentences: for those who use it without having made it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from stac2cube.catalog import catalogs
from stac2cube.cube.ledger import Entry
from stac2cube.cube.spec import CubeSpec
from stac2cube.mission import find_mission, mission_names
from stac2cube.products.terms import SOURCES, Origin, mission_of


def lineage_of(spec: CubeSpec, rows: Iterable[Entry]) -> list[str]:
    """One sentence per thing that was done, in the order in which it was done.

    Args:
        spec: Of the cube.
        rows: Of its sealed steps.
    """
    return list(_sentences(spec, list(rows)))


def sources_of(rows: Iterable[Entry]) -> list[str]:
    """Names of the catalogs that steps were read from; those that only this machine knows are "a local catalog"."""
    known = catalogs()
    names = Origin.of_rows(rows).catalogs
    return sorted({SOURCES.get(name, name if name in known else "a local catalog") for name in names})


def _sentences(spec: CubeSpec, rows: list[Entry]) -> Iterator[str]:
    recipe = spec.recipe
    mission = mission_of(spec)
    title = find_mission(mission).title if mission in mission_names() else mission
    if title:
        via = f" through {', '.join(sources)}" if (sources := sources_of(rows)) else ""
        simulated = Origin.of_rows(rows).simulated
        yield f"Scenes like {title} were simulated, and read{via}." if simulated else f"{title} was read{via}."
    if methods := recipe.get("resampling"):
        common = max(set(methods.values()), key=list(methods.values()).count)
        others = [f"{band} {method}" for band, method in methods.items() if method != common]
        besides = f" ({', '.join(others)})" if others else ""
        yield f"Pixels that lay on other lattices were resampled: {common}{besides}."
    if shifts := recipe.get("shifts"):
        yield (
            f"Scenes were co-registered by the engine {shifts['engine']}, band {shifts['band']}, against the reference "
            f"{shifts['reference']!r}, and moved by {shifts['resampling']} resampling."
        )
    if recipe.get("masked_by"):
        yield f"Pixels under {' or '.join(recipe['masked_by'])} hold no data; {_clouds(recipe['clouds'])}."
    elif "method" in recipe and "dilate_m" in recipe:
        yield f"{_clouds(recipe).capitalize()}."
    if superres := recipe.get("superres"):
        yield (
            f"Bands were put on a grid of {superres['target']:g} m by {superres['backend']} (agreement with what was "
            f"measured: {superres['consistency']}); details are not of that size."
        )
    if indices := recipe.get("indices"):
        yield f"Spectral indices were computed: {', '.join(indices)}."
    if composite := recipe.get("composite"):
        yield f"Observations of every {composite['period']} were made one by the method {composite['method']}."
    if overview := recipe.get("overview"):
        yield f"Pixels are means (classes: the most frequent) of {overview['factor']} x {overview['factor']} pixels."


def _clouds(recipe: Mapping[str, Any]) -> str:
    return f"clouds were found by {recipe['method']}, and widened by {recipe['dilate_m']:g} m"
