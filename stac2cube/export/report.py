"""The report page of a cube and its derived cubes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from shapely.geometry import shape

from stac2cube.build.status import Account, CubeStatus, cube_history, cube_status, resources_of
from stac2cube.errors import BadInputError
from stac2cube.export.animation import is_mask
from stac2cube.export.pictures import data_url, drawn, environment, thumbnails
from stac2cube.export.report_figures import (
    draw_before_after,
    draw_plan,
    globe,
    pairs_of,
    rings_of,
    shift_field,
    shift_series,
)
from stac2cube.export.stac import Origin, attribution_of, lineage_of, mission_of_cubes, sources_of, terms_of
from stac2cube.model.cube_spec import CubeSpec
from stac2cube.model.grid import Grid
from stac2cube.model.mission import find_mission, mission_names
from stac2cube.store.files import write_whole
from stac2cube.store.ledger import EMPTY, FAILED, SEALED, Entry, Ledger
from stac2cube.store.metadata import levels_of, now_text, read_root
from stac2cube.store.repair import slots_in_order
from stac2cube.version import __version__

# Calendar of a cube: a strip per year, with a mark per scene.

MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

SHADES = 5
"""Number of colours from clear to covered."""


def calendar_of(scenes: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A strip per year, all years from the first to the last.

    Args:
        scenes: ``scenes`` of :func:`stac2cube.export.report.figures_of`.

    Returns:
        Per year its number, the number of sealed scenes, and marks: position on the strip (percent), kind
        (``"clear0"`` to ``"clear4"`` by cloud, ``"failed"``, ``"empty"``, ``"unknown"``), and text.
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


# All figures of a report, as plain JSON values: used by the page and by ``report --json``.

CLEAR, CLOUDY = 20.0, 80.0
"""Cloud cover in percent below which a scene counts as clear, and above which as cloudy."""


def figures_of(cube: Path, account: Account | None = None) -> dict[str, Any]:
    """Collect the figures of a cube.

    Args:
        cube: The cube.
        account: Resources used by jobs, by their ids; SLURM's accounting if None.

    Raises:
        CubeError: Not a cube.
    """
    root, status = read_root(cube), cube_status(cube)
    rows = list(Ledger(cube, root.ledger).entries().values())
    sealed = [row for row in rows if row.status == SEALED]
    origin = Origin.of_rows(sealed)
    terms = terms_of(root.spec, origin)
    return {
        "name": cube.stem,
        "path": str(cube),
        "title": str(root.spec.recipe.get("title", root.spec.stage)),
        "stage": root.spec.stage,
        "made": now_text(),
        "version": __version__,
        "steps": len(sealed),
        "first": _day(sealed[0]) if sealed else None,
        "last": _day(sealed[-1]) if sealed else None,
        "grid": _grid(root.spec.grid),
        "layers": [
            {"name": layer.name, "what": layer.long_name, "dtype": layer.dtype, "units": layer.units}
            for layer in root.spec.layers
        ],
        "size": status.size,
        "files": status.files,
        "in_order": slots_in_order(rows),
        "overviews": list(levels_of(cube)),
        "by_year": {str(year): asdict(load) for year, load in status.by_year.items()},
        "year_more": asdict(status.year_more),
        "deep": asdict(status.deep),
        "sealed_years": [state.year for state in status.sealed_years],
        "commit": status.commit,
        "generation": status.generation,
        "lineage": lineage_of(root.spec, sealed),
        "attribution": attribution_of(root.spec, [row.time for row in sealed], origin),
        "terms": terms.url if terms else "",
        "sources": sources_of(sealed),
        "lacking": _lacking(rows, status),
        "scenes": [_scene(row, root.spec.grid) for row in rows],
        "clouds": _clouds(sealed),
        "mix": _mix(sealed),
        "shifts": _shifts(root.spec, sealed),
        "superres": _superres(root.spec, sealed),
        "resources": resources_of(sealed, account),
        "history": [
            {"number": one.number, "made": one.made, "by": one.by, "steps": one.steps, "changed": one.changed}
            for one in reversed(cube_history(cube))
        ],
    }


def _day(row: Entry) -> str:
    return f"{row.time:%Y-%m-%d}"


def _grid(grid: Grid) -> dict[str, Any]:
    west, south, east, north = shape(grid.geobox.footprint("EPSG:4326").json).bounds
    rows, columns = grid.shape
    metres = grid.resolution if grid.geobox.crs and grid.geobox.crs.projected else None
    return {
        "crs": grid.crs if grid.crs.startswith("EPSG:") else "a CRS without a code",
        "resolution": grid.resolution,
        "rows": rows,
        "columns": columns,
        "width_km": None if metres is None else columns * metres / 1000,
        "height_km": None if metres is None else rows * metres / 1000,
        "bbox": [round(side, 5) for side in (west, south, east, north)],
        "files": list(grid.tiles_shape),
    }


def _scene(row: Entry, grid: Grid) -> dict[str, Any]:
    shards = [shard for receipt in row.receipts for shard in receipt.shards]
    layers, facts = {shard.layer for shard in shards}, row.properties
    valid = sum(shard.valid for shard in shards) / max(len(layers), 1) / (grid.shape[0] * grid.shape[1])
    return {
        "key": row.key,
        "time": f"{row.time:%Y-%m-%d %H:%M:%S}",
        "status": row.status,
        "reason": row.reason,
        "doubt": str(facts.get("doubt") or ""),
        "cloud": None if row.cloud_percent is None else round(float(row.cloud_percent), 1),
        "valid": round(100 * valid, 1) if row.status == SEALED else None,
        "platform": facts.get("platform", ""),
        "orbit": facts.get("orbit"),
        "baselines": list(facts.get("baselines") or ()),
        "catalog": facts.get("catalog", ""),
        "items": list(row.items),
        "size": sum(shard.size for shard in shards),
        "seconds": round(sum(receipt.seconds for receipt in row.receipts), 2),
        "commit": row.commit,
    }


def _lacking(rows: list[Entry], status: CubeStatus) -> list[dict[str, Any]]:
    """Missing or doubtful content, worst first: kind, sentence, and details."""
    found: list[dict[str, Any]] = []

    def say(kind: str, what: str, details: Iterable[str] = ()) -> None:
        found.append({"kind": kind, "what": what, "details": list(details)})

    failed = [row for row in rows if row.status == FAILED]
    if failed:
        details = [f"{row.key}: {row.reason}" for row in failed]
        say("failed", f"{_count(len(failed), 'scene')} failed; the next update tries again", details)
    if status.lacking:
        say("behind", f"{_count(status.lacking, 'step')} of {status.made_from} are missing: stac2cube update")
    if status.stale:
        say("stale", f"{_count(len(status.stale), 'step')} were rebuilt in {status.made_from} since", status.stale)
    if status.made_from.endswith("(not there any more)"):
        say("orphan", f"It cannot follow the cube it was made from: {status.made_from}")
    doubtful = [f"{row.key}: {row.properties['doubt']}" for row in rows if row.properties.get("doubt")]
    if doubtful:
        say("doubt", f"{_count(len(doubtful), 'scene')} whose pixels and metadata do not quite agree", doubtful)
    empty = {row.key: row.reason for row in rows if row.status == EMPTY}
    for why in dict.fromkeys(empty.values()):
        keys = [key for key, reason in empty.items() if reason == why]
        say("empty", f"{_count(len(keys), 'scene')} took no step: {why}", keys)
    behind = [str(state.year) for state in status.sealed_years if state.stale]
    if behind:
        say("stale", f"The deep files of {', '.join(behind)} do not hold all that the years do by now: seal-year")
    if status.writer:
        say("writing", f"It is being written by {status.writer}")
    return found


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _clouds(rows: list[Entry]) -> dict[str, Any] | None:
    """Cloud cover by calendar month, and the longest gaps between scenes and between clear scenes."""
    known = [(row, float(row.cloud_percent)) for row in rows if row.cloud_percent is not None]
    if not known:
        return None
    months = []
    for month in range(1, 13):
        covers = [cover for row, cover in known if row.time.month == month]
        months.append(
            {
                "scenes": len(covers),
                "clear": sum(cover < CLEAR for cover in covers),
                "cloudy": sum(cover > CLOUDY for cover in covers),
                "mean": round(float(np.mean(covers)), 1) if covers else None,
            }
        )
    clear = [row for row, cover in known if cover < CLEAR]
    counted = sum(row.properties.get("cloud_fraction") is not None for row, _ in known)
    return {
        "mean": round(float(np.mean([cover for _, cover in known])), 1),
        "clear": len(clear),
        "of": len(known),
        "counted": counted,
        "months": months,
        "longest_wait": _longest(rows),
        "longest_clear_wait": _longest(clear),
    }


def _longest(rows: Sequence[Entry]) -> dict[str, Any] | None:
    """The longest gap between consecutive steps."""
    waits = [((after.time - before.time).days, before, after) for before, after in pairwise(rows)]
    if not waits:
        return None
    days, before, after = max(waits, key=lambda wait: wait[0])
    return {"days": days, "from": _day(before), "to": _day(after)}


def _mix(rows: list[Entry]) -> dict[str, dict[str, int]]:
    """Number of steps per baseline, satellite and relative orbit."""
    count: dict[str, Counter[str]] = {name: Counter() for name in ("baseline", "satellite", "orbit")}
    for row in rows:
        count["baseline"]["+".join(sorted(set(row.properties.get("baselines") or ()))) or "not said"] += 1
        count["satellite"][str(row.properties.get("platform") or "not said")] += 1
        count["orbit"][str(row.properties.get("orbit") or "not said")] += 1
    return {name: dict(sorted(found.items())) for name, found in count.items() if found.keys() != {"not said"}}


def _shifts(spec: CubeSpec, rows: list[Entry]) -> dict[str, Any] | None:
    if spec.stage != "coregistered" or not rows:
        return None
    scenes: list[dict[str, Any]] = []
    for row in rows:
        facts = row.properties
        pair: Mapping[str, Any] = next(iter(facts.get("pairs") or ()), {})
        scenes.append(
            {
                "key": row.key,
                "time": f"{row.time:%Y-%m-%d %H:%M:%S}",
                "found": [facts["found_x"], facts["found_y"]],
                "applied": [facts["shift_x"], facts["shift_y"]],
                "accepted": bool(facts["shift_accepted"]),
                "became": facts.get("shift_reason") or "moved",
                "clear": facts.get("clear_fraction"),
                "refined": facts.get("geometry_refined"),
                **{name: pair.get(name) for name in ("windows", "tried", "spread", "residual", "reliability")},
            }
        )
    measured = [np.hypot(*scene["found"]) for scene in scenes if None not in scene["found"]]
    left = [scene["residual"] for scene in scenes if scene["accepted"] and scene["residual"] is not None]
    return {
        "rules": dict(spec.recipe["shifts"]),
        "measured": len(measured),
        "median_m": round(float(np.median(measured)), 2) if measured else None,
        "largest_m": round(float(np.max(measured)), 2) if measured else None,
        "median_left_px": round(float(np.median(left)), 3) if left else None,
        "scenes": scenes,
    }


def _superres(spec: CubeSpec, rows: list[Entry]) -> dict[str, Any] | None:
    if spec.stage != "superres" or not rows:
        return None
    about: Mapping[str, Any] = spec.recipe["superres"]
    steps = [
        {"day": _day(row), "mtf": row.properties.get("residual_mtf"), "mean": row.properties.get("residual_mean")}
        for row in rows
    ]
    return {**about, "steps": steps}


# One self-contained HTML page about one or several cubes: their contents, failures and resources.


def write_report(cubes: str | Path | Sequence[str | Path], out: str | Path, *, account: Account | None = None) -> Path:
    """Write the page.

    Args:
        cubes: The cube, or several, one after another on the page.
        out: The HTML file; replaced atomically if it exists.
        account: Resources used by SLURM jobs, by their ids; SLURM's accounting if None.

    Returns:
        The file.

    Raises:
        CubeError: Not a cube.
        BadInputError: No cube was named.
    """
    paths = [Path(cubes)] if isinstance(cubes, (str, Path)) else [Path(cube) for cube in cubes]
    if not paths:
        raise BadInputError("a report is about a cube: name one")
    target = Path(out)
    shown = [_shown(path, number, account) for number, path in enumerate(paths)]
    page = (
        environment()
        .get_template("report.html.j2")
        .render(
            cubes=shown,
            title=shown[0]["figures"]["name"] if len(shown) == 1 else f"{len(shown)} cubes of {_folder(paths)}",
            months=MONTHS,
            made=now_text().replace("T", " ").rstrip("Z") + " UTC",
            version=__version__,
        )
    )
    target.parent.mkdir(parents=True, exist_ok=True)
    write_whole(target, page.encode())
    return target


def _folder(paths: Sequence[Path]) -> str:
    folders = {path.resolve().parent.name for path in paths}
    return folders.pop() if len(folders) == 1 else f"{len(folders)} folders"


def _shown(cube: Path, number: int, account: Account | None) -> dict[str, Any]:
    """Content of the page for a cube: its figures, and drawings of them and of its pixels."""
    figures, spec = figures_of(cube, account), read_root(cube).spec
    west, south, east, north = figures["grid"]["bbox"]
    asked = rings_of(spec)
    return {
        "figures": figures,
        "anchor": f"cube-{number + 1}",
        "sentence": _sentence(figures),
        "place": _place(figures["grid"]),
        "globe": globe((west + east) / 2, (south + north) / 2, figures["grid"]["bbox"]),
        "plan": draw_plan(spec.grid, asked),
        "asked": bool(asked),
        "parent": cube_status(cube).made_from,
        "calendar": calendar_of(figures["scenes"]),
        "failed": any(scene["status"] == "failed" for scene in figures["scenes"]),
        "empty": any(scene["status"] == "empty" for scene in figures["scenes"]),
        "pictures": _pictures(cube, figures),
        "shown": _legend(cube, spec),
        "columns": _columns(figures["clouds"]),
        "series": shift_series(figures["shifts"]["scenes"]) if figures["shifts"] else None,
        "field": shift_field(cube) if figures["shifts"] else None,
        "before_after": drawn(cube, draw_before_after, "gif") if figures["shifts"] else "",
        "pairs": _pairs(cube) if figures["superres"] else [],
    }


def _sentence(figures: dict[str, Any]) -> str:
    grid, steps = figures["grid"], figures["steps"]
    size = f"{grid['width_km']:.3g} by {grid['height_km']:.3g} km" if grid["width_km"] else "an area in degrees"
    pixel = f"{grid['resolution']:g} {'m' if grid['width_km'] else '°'}"
    when = (
        ""
        if not steps
        else f" on {figures['first']}"
        if steps == 1
        else f" from {figures['first']} to {figures['last']}"
    )
    scenes = f"{steps} time step{'' if steps == 1 else 's'}"
    when = when.replace("-", "\N{NON-BREAKING HYPHEN}")
    return f"{figures['title']}: {scenes}{when}, {size} in pixels of {pixel}."


def _place(grid: dict[str, Any]) -> str:
    west, south, east, north = grid["bbox"]
    ns, ew = ("N" if north >= 0 else "S"), ("E" if east >= 0 else "W")
    low, high = sorted((abs(south), abs(north)))
    left, right = sorted((abs(west), abs(east)))
    one_side = (south < 0) == (north < 0) and (west < 0) == (east < 0)
    words = (
        f"{low:.3f} to {high:.3f}° {ns}, {left:.3f} to {right:.3f}° {ew}"
        if one_side
        else f"latitude {south:.3f} to {north:.3f}°, longitude {west:.3f} to {east:.3f}°"
    )
    return f"{words}; {grid['crs']}"


def _pictures(cube: Path, figures: dict[str, Any]) -> list[dict[str, Any]]:
    known = {scene["key"]: scene for scene in figures["scenes"]}
    pictures = []
    for picture in thumbnails(cube):
        scene = known[picture["key"]]
        cloud = "" if scene["cloud"] is None else f"{scene['cloud']:g} % cloud"
        alt = f"{figures['name']} on {scene['time'][:10]}" + (f", {cloud}" if cloud else "")
        pictures.append(picture | {"day": scene["time"][:10], "cloud": cloud, "alt": alt})
    return pictures


def _legend(cube: Path, spec: CubeSpec) -> str:
    if is_mask(cube):
        return "White is cloud, dark its shadow, green clear, grey without data."
    mission, names = mission_of_cubes(spec), {layer.name for layer in spec.layers}
    bands = find_mission(mission).bands.values() if mission in mission_names() else ()
    if {"red", "green", "blue"} <= {band.common_name for band in bands if band.name in names}:
        return "True colour, the same stretch for all dates; grey is without data."
    return f"The layer {spec.layers[0].name}, the same stretch for all dates; grey is without data."


def _columns(clouds: dict[str, Any] | None) -> list[dict[str, Any]]:
    """A column per calendar month: its height relative to the highest, and its clear, middle and cloudy parts."""
    if clouds is None:
        return []
    most = max(month["scenes"] for month in clouds["months"])
    columns = []
    for name, month in zip(MONTHS, clouds["months"], strict=True):
        between = month["scenes"] - month["clear"] - month["cloudy"]
        parts = (("clear0", month["clear"]), ("clear2", between), ("clear4", month["cloudy"]))
        mean = f", {month['mean']:g} % cloud on average" if month["scenes"] else ""
        columns.append(
            {
                "scenes": month["scenes"],
                "height": round(78 * month["scenes"] / most, 1),
                "parts": [{"kind": kind, "count": count} for kind, count in parts if count],
                "words": f"{name}: {month['scenes']} scenes{mean}",
            }
        )
    return columns


def _pairs(cube: Path) -> list[dict[str, Any]]:
    try:
        pairs = pairs_of(cube)
    except BadInputError:  # its cube of layers was removed
        return []
    return [
        {"day": pair.day, "pixel": pair.pixel, "coarse": data_url(pair.coarse), "fine": data_url(pair.fine)}
        for pair in pairs
    ]
