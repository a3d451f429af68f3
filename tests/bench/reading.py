"""``python -m tests.bench.reading``: blocks of pixels read by stac2cube and by other tools, side by side.

Every reading is a fresh process; tools take turns forwards and backwards, so that a machine whose speed drifts is fair
to all. Told are the least CPU seconds and wall seconds of the runs, after imports and a first small block; requests and
bytes over HTTP as nginx counts them; opens and reads of files as a preloaded library counts them. Where no tool has to
resample, all must give the same bytes. Prints the table of docs/benchmarks.md and draws its picture.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stac2cube.scene import AssetRef
from stac2cube.source.cog.known import header_of
from tests.bench import readers
from tests.bench.data import BANDS, COMMON, TEN, BenchArchive, make
from tests.bench.environments import stackstac_python
from tests.bench.servers import Between, nginx, plain, slow_files

EVERY = ("stac2cube", "stac2cube, GDAL only", "rasterio, threads", "odc-stac, pool", "odc-stac, dask", "stackstac")
SAME_GRID = (*EVERY, "async-geotiff")


@dataclass(frozen=True)
class Work:
    """What is read, through what.

    Attributes:
        name: In the table.
        tiles: Of the archive.
        dates: How many.
        bands: Of the archive.
        corner: Metres east and south of the first tile's corner.
        edge: Pixels along each side; 0 for the whole first tile.
        tools: Who reads.
        way: What stands between, given the folder of the files and one for itself.
        threads: Given to every tool.
        indexed: Whether stac2cube has the headers from an index.
        exact: Whether nothing is resampled.
    """

    name: str
    tiles: tuple[str, ...]
    dates: int
    bands: tuple[str, ...]
    corner: tuple[int, int]
    edge: int
    tools: tuple[str, ...]
    way: Callable[[Path, Path], AbstractContextManager[Between]] = lambda files, folder: plain()
    threads: int = 2
    indexed: bool = True
    exact: bool = True


def over_http(milliseconds: int) -> Callable[[Path, Path], AbstractContextManager[Between]]:
    return lambda files, folder: nginx(files, folder, milliseconds)


SMALL: dict[str, Any] = {"tiles": ("32TQT",), "dates": 6, "bands": TEN, "corner": (6_000, 5_000), "edge": 512}
ALL = tuple(BANDS)
WORKS = (
    Work("small area", **SMALL, tools=SAME_GRID),
    Work("small area, 11 bands", **SMALL | {"bands": ALL}, tools=EVERY, exact=False),
    Work("cross-zone mosaic", ("32TQT", "33TTN"), 6, ALL, (22_040, 3_000), 512, EVERY, exact=False),
    Work("full tile", ("32TQT",), 3, (*TEN, "SCL"), (0, 0), 0, EVERY, exact=False),
    Work("full tile mosaic", ("32TQT", "32TPT", "33TTN"), 2, TEN, (0, 0), 0, EVERY, exact=False),
    Work("HTTP 0 ms", **SMALL, tools=SAME_GRID, way=over_http(0), threads=24),
    Work("HTTP 20 ms", **SMALL, tools=SAME_GRID, way=over_http(20), threads=24),
    Work("HTTP 50 ms", **SMALL, tools=SAME_GRID, way=over_http(50), threads=24),
    Work(
        "HTTP 50 ms, no index",
        **SMALL,
        tools=("stac2cube", "rasterio, threads"),
        way=over_http(50),
        threads=24,
        indexed=False,
    ),
    Work(
        "slow files, 2 ms", **SMALL, tools=SAME_GRID, way=lambda files, folder: slow_files(files, folder, 2), threads=16
    ),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("build/bench"))
    parser.add_argument("--runs", type=int, default=4, help="even, so that every tool comes first as often as last")
    parser.add_argument("--tile-px", type=int, default=2440)
    parser.add_argument("--dates", type=int, default=6)
    parser.add_argument(
        "--work", default="", help="only works whose names contain one of these, separated by semicolons"
    )
    parser.add_argument("--tools", default="", help="only these, separated by semicolons")
    parser.add_argument("--picture", type=Path, default=None, help="draw ratios of CPU seconds into this file")
    chosen = parser.parse_args()
    archive = make(chosen.folder / "data", chosen.tile_px, chosen.dates)
    small = make(chosen.folder / "warm", 256, 1)
    print(f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, {chosen.runs} runs\n")
    print(
        "| work | tool | CPU s | wall s | CPU / ours | wall / ours | requests, or opens + reads | MB | MiB | start s |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |", flush=True)
    found = {}
    for work in WORKS:
        if not any(part in work.name for part in chosen.work.split(";")):
            continue
        tools = [tool for tool in work.tools if not chosen.tools or tool in chosen.tools.split(";")]
        found[work.name] = results = measure(work, tools, archive, small, chosen)
        report(work, results)
    (chosen.folder / "reading.json").write_text(json.dumps(found, indent=1))
    if chosen.picture:
        draw(found, chosen.picture)


def measure(
    work: Work, tools: list[str], archive: BenchArchive, small: BenchArchive, chosen: argparse.Namespace
) -> dict[str, dict[str, Any]]:
    """Each tool's runs, in turns."""
    folder = chosen.folder / "work"
    folder.mkdir(parents=True, exist_ok=True)
    results: dict[str, list[dict[str, Any]]] = {tool: [] for tool in tools}
    with work.way(archive.folder, folder) as between:
        config = configure(work, archive, small, between, folder)
        for turn in range(chosen.runs):
            for tool in tools if turn % 2 == 0 else reversed(tools):
                result = run(tool, config, between, chosen.folder)
                if result is not None:
                    results[tool].append(result)
    if work.exact:
        digests = {tool: {run["digest"] for run in runs} for tool, runs in results.items() if runs}
        if len(set.union(*digests.values())) > 1:
            print(f"NOT THE SAME PIXELS: {digests}")
    return {tool: {key: min(run[key] for run in runs) for key in runs[0]} for tool, runs in results.items() if runs}


def configure(work: Work, archive: BenchArchive, small: BenchArchive, between: Between, folder: Path) -> dict[str, Any]:
    """The work in words that all tools understand."""
    corner = archive.lattice(work.tiles[0]).boundingbox
    left, top = corner.left + work.corner[0], corner.top - work.corner[1]
    size = 10 * (work.edge or archive.tile_px)
    items = archive.items(work.tiles, work.dates, between.url)
    names = [COMMON[band] for band in work.bands]
    config: dict[str, Any] = {
        "items": save(folder / "items.json", items),
        "bands": names,
        "epsg": 32632,
        "bounds": [left, top - size, left + size, top],
        "threads": work.threads,
        "warm": {"items": save(folder / "warm.json", small.items(("32TQT", "33TTN"), 1)), "headers": ""},
        "block": 1220 if not work.edge else work.edge,
    }
    warm = small.lattice("32TQT").boundingbox
    config["warm"]["bounds"] = [warm.left + 1600, warm.top - 960, warm.left + 2560, warm.top]
    if work.indexed:
        hrefs = {item["assets"][name]["href"] for item in items for name in names}
        headers = {href: header_of(AssetRef(href), "none").to_bytes().hex() for href in sorted(hrefs)}
        (folder / "headers.json").write_text(json.dumps(headers))
        config["headers"] = str((folder / "headers.json").resolve())
    return config


def save(path: Path, items: list[dict[str, Any]]) -> str:
    path.write_text(json.dumps({"type": "FeatureCollection", "features": items}))
    return str(path.resolve())


def run(tool: str, config: dict[str, Any], between: Between, folder: Path) -> dict[str, Any] | None:
    """One process; None if the tool failed, which is said."""
    python = stackstac_python(folder) if tool == "stackstac" else sys.executable
    path = folder / "work" / "config.json"
    path.write_text(json.dumps(config))
    between.begin()
    environment = os.environ | between.environment | {"PYTHONPATH": str(Path.cwd())}
    command = [python, readers.__file__, tool, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=600)
    if done.returncode:
        print(f"{tool} failed:\n{done.stderr[-2000:]}", file=sys.stderr)
        return None
    result = json.loads(done.stdout.splitlines()[-1])
    result["asked"], result["bytes"] = between.counted()
    return result


def report(work: Work, results: dict[str, dict[str, Any]]) -> None:
    ours = results.get("stac2cube")
    for tool, mine in results.items():
        ratios = [f"{mine[key] / ours[key]:.2f}" if ours else "-" for key in ("cpu", "wall")]
        counted, size = "-", "-"
        if "HTTP" in work.name:
            counted, size = str(mine["asked"]), f"{mine['bytes'] / 1e6:.1f}"
        elif "slow" in work.name:
            counted = f"{mine['asked']} + {mine['bytes']}"
        cells = [work.name, tool, f"{mine['cpu']:.2f}", f"{mine['wall']:.2f}", *ratios, counted, size]
        cells += [f"{mine['rss'] / 2**20:.0f}", f"{mine['start']:.1f}"]
        print(f"| {' | '.join(cells)} |", flush=True)


def draw(found: dict[str, dict[str, dict[str, Any]]], path: Path) -> None:
    """Bars: CPU seconds of each tool for one of ours."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot

    works = [name for name in found if "stac2cube" in found[name]]
    tools = list(dict.fromkeys(tool for name in works for tool in found[name] if tool != "stac2cube"))
    figure, axes = pyplot.subplots(
        figsize=(9, 0.32 * sum(len(found[name]) for name in works) + 1), layout="constrained"
    )
    place, ticks = 0, []
    for name in works:
        axes.text(-0.05, place, name, ha="right", va="center", fontweight="bold", transform=axes.get_yaxis_transform())
        for tool, result in found[name].items():
            if tool == "stac2cube":
                continue
            place += 1
            ratio = result["cpu"] / found[name]["stac2cube"]["cpu"]
            axes.barh(place, ratio, color=f"C{tools.index(tool)}")
            axes.text(ratio, place, f" {ratio:.1f}", va="center", fontsize=8)
            ticks.append((place, tool))
        place += 2
    axes.set_yticks([tick for tick, _ in ticks], [label for _, label in ticks], fontsize=8)
    axes.axvline(1, color="black", linewidth=0.8)
    axes.invert_yaxis()
    axes.set_xlabel("CPU seconds for one of stac2cube's")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=90)


if __name__ == "__main__":
    main()
