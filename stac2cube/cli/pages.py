"""Mission pages to read elsewhere: the tables of docs/missions.md, and facts for programs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from stac2cube.catalog import catalogs
from stac2cube.mission import LOCAL, Mission, find_mission, mission_names


def mission_tables() -> str:
    """Which catalog carries which mission and how that is known; then each mission's bands. Markdown."""
    missions = [find_mission(name) for name in mission_names()]
    return "\n".join([*_matrix(missions), *(line for mission in missions for line in _bands(mission))]) + "\n"


def mission_facts(mission: Mission) -> dict[str, Any]:
    """A mission, its bands in their stored form, and its collection in each catalog. JSON."""
    bands = [
        {
            "name": band.name,
            "common_name": band.common_name,
            "gsd": band.gsd,
            "dtype": band.quantity.dtype,
            "fill": None if math.isnan(band.quantity.fill) else band.quantity.fill,
            "scale": band.quantity.scale,
            "offset": band.quantity.offset,
            "units": band.quantity.units,
            "long_name": band.long_name,
            "default": band.name in mission.default_bands,
        }
        for band in mission.bands.values()
    ]
    collections = [{"catalog": page.catalog, "collection": page.collection} for page in mission.pages]
    return {"name": mission.name, "title": mission.title, "bands": bands, "collections": collections}


def _matrix(missions: list[Mission]) -> Iterator[str]:
    names = list(catalogs())
    yield f"| mission | {' | '.join(names)} |"
    yield "| --- |" + " --- |" * len(names)
    counts: dict[str, int] = {}
    for mission in missions:
        cells = []
        for name in names:
            known = {page.evidence for page in mission.pages if page.catalog == name}
            cell = "recorded" if "recorded" in known else "from documentation" if known else "absent"
            counts[cell] = counts.get(cell, 0) + 1
            cells.append(cell)
        yield f"| `{mission.name}` | {' | '.join(cells)} |"
    yield ""
    yield ", ".join(f"{count} {what}" for what, count in sorted(counts.items(), reverse=True)) + "."


def _bands(mission: Mission) -> Iterator[str]:
    yield ""
    yield f"### {mission.name}"
    yield ""
    yield f"{mission.title}. Default bands: {', '.join(mission.default_bands)}."
    yield ""
    yield "| band | common name | metres | stored as | no data | scale | offset | unit | what |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- | --- |"
    for band in mission.bands.values():
        form = band.quantity
        numbers = f"{form.fill:g} | {form.scale:g} | {form.offset:g} | {form.units}"
        what = band.long_name + (" (may be absent)" if band.optional else "")
        yield f"| {band.name} | {band.common_name} | {band.gsd} | {form.dtype} | {numbers} | {what} |"
    yield ""
    for page in mission.pages:
        where = "local copies" if page.catalog == LOCAL else page.catalog
        assets = ", ".join(f"`{name}`" for name in page.assets)
        yield f"* {where}: collection `{page.collection}`, assets {assets} ({page.evidence})"
