"""What benchmarks have done by several tools in turns: blocks of the seeded archive, and what lies between.

Every piece is done by a fresh process; tools take turns forwards and backwards, so that a machine whose speed drifts is
fair to all.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from stac2cube.fastcog.ranges import header_of
from stac2cube.model.scene import AssetRef
from tests.bench.data import COMMON, BenchArchive, make
from tests.bench.environments import python_of
from tests.bench.servers import Between, nginx, plain

Results = dict[str, dict[str, Any]]
"""Per tool the least of each figure."""

CHUNK = 2048
"""Pixels along the edge of what tools read at a time, unless the work is smaller."""


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
        tools: Who does it.
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
    """The files behind nginx, every answer of which waits."""
    return lambda files, folder: nginx(files, folder, milliseconds)


@dataclass(frozen=True)
class Bench:
    """A run of a benchmark.

    Attributes:
        folder: Of everything.
        runs: Of each tool.
        archive: What is read.
        small: What every tool reads before it is measured, so that what it loads on first use is not counted.
        script: Does one piece of work by one tool.
        chosen: Of the command.
        pick: Which of a tool's figures counts.
    """

    folder: Path
    runs: int
    archive: BenchArchive
    small: BenchArchive
    script: ModuleType
    chosen: argparse.Namespace
    pick: Callable[[list[float]], float] = min

    @classmethod
    def of_command(cls, description: str | None, script: ModuleType) -> Bench:
        """What the words of the command say."""
        parser = argparse.ArgumentParser(description=description)
        parser.add_argument("--folder", type=Path, default=Path("build/bench"))
        parser.add_argument("--runs", type=int, default=4, help="even, so that every tool comes first as often as last")
        parser.add_argument("--tile-px", type=int, default=2440)
        parser.add_argument("--dates", type=int, default=6)
        parser.add_argument("--work", default="", help="only works whose names contain one of these, parted by ;")
        parser.add_argument("--tools", default="", help="only these, parted by ;")
        parser.add_argument("--picture", type=Path, default=None, help="draw ratios of CPU seconds into this file")
        chosen = parser.parse_args()
        archive = make(chosen.folder / "data", chosen.tile_px, chosen.dates)
        small = make(chosen.folder / "warm", 256, 1)
        print(f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, {chosen.runs} runs\n")
        return cls(chosen.folder, chosen.runs, archive, small, script, chosen)

    def run(self, works: Sequence[Work], counted: str, kept: str) -> None:
        """Measure the works that were asked for; print their table, keep figures in a file and draw them if wanted.

        Args:
            works: In the order of the table.
            counted: What is counted of each, as the table's head says it.
            kept: Name of the file.
        """
        head(counted)
        found = {}
        for work in works:
            if any(part in work.name for part in self.chosen.work.split(";")):
                found[work.name] = results = self.measure(work)
                report(work, results)
        (self.folder / kept).write_text(json.dumps(found, indent=1))
        if self.chosen.picture:
            draw(found, self.chosen.picture)

    def measure(self, work: Work) -> Results:
        """Each tool's runs, in turns."""
        tools = [tool for tool in work.tools if not self.chosen.tools or tool in self.chosen.tools.split(";")]
        folder = self.folder / "work"
        folder.mkdir(parents=True, exist_ok=True)
        runs: dict[str, list[dict[str, Any]]] = {tool: [] for tool in tools}
        with work.way(self.archive.folder, folder) as between:
            config = self._configure(work, between, folder)
            for turn in range(self.runs):
                for tool in tools if turn % 2 == 0 else reversed(tools):
                    result = self._run(tool, config, between)
                    if result is not None:
                        runs[tool].append(result)
        if work.exact:
            digests = {tool: {run["digest"] for run in mine} for tool, mine in runs.items() if mine}
            if len(set.union(*digests.values())) > 1:
                print(f"NOT THE SAME PIXELS: {digests}")
        return {tool: self._picked(mine) for tool, mine in runs.items() if mine}

    def _picked(self, runs: list[dict[str, Any]]) -> dict[str, Any]:
        numbers = [key for key, value in runs[0].items() if not isinstance(value, str)]
        return {key: self.pick([run[key] for run in runs]) for key in numbers}

    def _configure(self, work: Work, between: Between, folder: Path) -> dict[str, Any]:
        """The work in words that all tools understand."""
        corner = self.archive.lattice(work.tiles[0]).boundingbox
        left, top = corner.left + work.corner[0], corner.top - work.corner[1]
        size = 10 * (work.edge or self.archive.tile_px)
        items = self.archive.items(work.tiles, work.dates, between.url)
        names = [COMMON[band] for band in work.bands]
        config: dict[str, Any] = {
            "items": _save(folder / "items.json", items),
            "bands": names,
            "epsg": 32632,
            "bounds": [left, top - size, left + size, top],
            "threads": work.threads,
            "warm": {"items": _save(folder / "warm.json", self.small.items(("32TQT", "33TTN"), 1)), "headers": ""},
            "block": work.edge or CHUNK,
            "index": str((self.folder / "index").resolve()),
            "out": str((folder / "out.zarr").resolve()),
        }
        warm = self.small.lattice("32TQT").boundingbox
        config["warm"]["bounds"] = [warm.left + 1600, warm.top - 960, warm.left + 2560, warm.top]
        if work.indexed:
            hrefs = {item["assets"][name]["href"] for item in items for name in names}
            headers = {href: header_of(AssetRef(href), "none").to_bytes().hex() for href in sorted(hrefs)}
            (folder / "headers.json").write_text(json.dumps(headers))
            config["headers"] = str((folder / "headers.json").resolve())
        return config

    def _run(self, tool: str, config: dict[str, Any], between: Between) -> dict[str, Any] | None:
        """One process; None if the tool failed or is not to be had, which is said."""
        python = python_of(tool, self.folder)
        if not python:
            return None
        path = self.folder / "work" / "config.json"
        path.write_text(json.dumps(config))
        between.begin()
        environment = os.environ | between.environment | {"PYTHONPATH": str(Path.cwd())}
        command = [python, str(self.script.__file__), tool, str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=600)
        if done.returncode:
            print(f"{tool} failed:\n{done.stderr[-2000:]}", file=sys.stderr)
            return None
        result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        result["asked"], result["bytes"] = between.counted()
        return result


def _save(path: Path, items: list[dict[str, Any]]) -> str:
    path.write_text(json.dumps({"type": "FeatureCollection", "features": items}))
    return str(path.resolve())


def report(work: Work, results: Results) -> None:
    """Lines of the table."""
    ours = results.get("stac2cube")
    for tool, mine in results.items():
        ratios = [f"{mine[key] / ours[key]:.2f}" if ours else "-" for key in ("cpu", "wall")]
        counted, size = "-", "-"
        if "HTTP" in work.name:
            counted, size = str(mine["asked"]), f"{mine['bytes'] / 1e6:.1f}"
        elif "slow" in work.name:
            counted = f"{mine['asked']} + {mine['bytes']}"
        elif "written" in mine:
            counted, size = f"{mine['files']} files", f"{mine['written'] / 1e6:.1f}"
        cells = [work.name, tool, f"{mine['cpu']:.2f}", f"{mine['wall']:.2f}", *ratios, counted, size]
        cells += [f"{mine['rss'] / 2**20:.0f}", f"{mine['start']:.1f}"]
        print(f"| {' | '.join(cells)} |", flush=True)


def head(counted: str) -> None:
    """Head of the table."""
    names = ["work", "tool", "CPU s", "wall s", "CPU / ours", "wall / ours", counted, "MB", "MiB", "start s"]
    print(f"| {' | '.join(names)} |")
    print(f"|{' --- |' * len(names)}", flush=True)


def draw(found: dict[str, Results], path: Path) -> None:
    """Bars: CPU seconds of each tool for one of ours."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot

    works = [name for name in found if "stac2cube" in found[name]]
    tools: Sequence[str] = list(dict.fromkeys(tool for name in works for tool in found[name] if tool != "stac2cube"))
    lines = sum(len(found[name]) for name in works)
    figure, axes = pyplot.subplots(figsize=(9, 0.32 * lines + 1), layout="constrained")
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
