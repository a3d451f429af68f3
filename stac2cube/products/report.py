"""One self-contained HTML page about one or several cubes: what they are, what they hold, what failed, what it took."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stac2cube.cube.files import write_whole
from stac2cube.cube.root import now_text, read_root
from stac2cube.cube.spec import CubeSpec
from stac2cube.errors import BadInputError
from stac2cube.mission import find_mission, mission_names
from stac2cube.products.calendar import MONTHS, calendar_of
from stac2cube.products.figures import Account, figures_of
from stac2cube.products.frames import is_mask
from stac2cube.products.locator import globe, plan, rings_of
from stac2cube.products.pages import environment
from stac2cube.products.pictures import data_url, drawn, thumbnails
from stac2cube.products.shifts import draw_before_after, shift_field, shift_series
from stac2cube.products.superres import pairs_of
from stac2cube.products.terms import mission_of
from stac2cube.status import cube_status
from stac2cube.version import __version__


def write_report(cubes: str | Path | Sequence[str | Path], out: str | Path, *, account: Account | None = None) -> Path:
    """Write the page.

    Args:
        cubes: The cube, or several, which follow each other on the page.
        out: The HTML file; replaced whole if it exists.
        account: What SLURM jobs used, by their ids; SLURM's accounting if None.

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
    """All that the page shows of a cube: its figures, and what is drawn from them and from its pixels."""
    figures, spec = figures_of(cube, account), read_root(cube).spec
    west, south, east, north = figures["grid"]["bbox"]
    asked = rings_of(spec)
    return {
        "figures": figures,
        "anchor": f"cube-{number + 1}",
        "sentence": _sentence(figures),
        "place": _place(figures["grid"]),
        "globe": globe((west + east) / 2, (south + north) / 2, figures["grid"]["bbox"]),
        "plan": plan(spec.grid, asked),
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
    mission, names = mission_of(spec), {layer.name for layer in spec.layers}
    bands = find_mission(mission).bands.values() if mission in mission_names() else ()
    if {"red", "green", "blue"} <= {band.common_name for band in bands if band.name in names}:
        return "True colour, the same stretch for all dates; grey is without data."
    return f"The layer {spec.layers[0].name}, the same stretch for all dates; grey is without data."


def _columns(clouds: dict[str, Any] | None) -> list[dict[str, Any]]:
    """A column per calendar month: its height of the highest, and its clear, middling and cloudy parts."""
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
    except BadInputError:  # its layers are gone
        return []
    return [
        {"day": pair.day, "pixel": pair.pixel, "coarse": data_url(pair.coarse), "fine": data_url(pair.fine)}
        for pair in pairs
    ]
