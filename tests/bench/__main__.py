"""``python -m tests.bench``: the same cube built by stac2cube and by other tools, side by side, in one run.

Every build is a fresh process, whose imports are timed apart; tools take turns, so that a machine whose speed drifts is
fair to all. Cold means that the system's file cache was dropped before (root only). Over HTTP the files come from a
range server in a process of its own with added latency. Prints the table of docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyproj import Transformer

from stac2cube.demo import Archive, ArchiveSpec, simulate
from tests.bench import peers
from tests.servers.range_server import serving

BANDS = {"B02": "blue", "B03": "green", "B04": "red", "B08": "nir", "B05": "rededge1", "B11": "swir16", "SCL": "scl"}
LATENCY = 0.03


@dataclass(frozen=True)
class Scenario:
    """One piece of work: where the area lies, and whether the files are local."""

    name: str
    two_zones: bool
    http: bool


SCENARIOS = (
    Scenario("same zone, local", two_zones=False, http=False),
    Scenario("two zones, local", two_zones=True, http=False),
    Scenario(f"same zone, HTTP {LATENCY * 1000:.0f} ms", two_zones=False, http=True),
    Scenario(f"two zones, HTTP {LATENCY * 1000:.0f} ms", two_zones=True, http=True),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("build/bench"))
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--tile-px", type=int, default=1800)
    parser.add_argument("--work", default="", help="only scenarios whose name contains this")
    chosen = parser.parse_args()
    spec = ArchiveSpec(years=(2023,), dates_per_year=4, tile_px=chosen.tile_px)
    archive = simulate(chosen.folder / "archive", spec)
    tools = {"stac2cube": sys.executable, "odc-stac": sys.executable, "stackstac": stackstac_python(chosen.folder)}
    print(f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, {chosen.runs} runs")
    print(
        "| work | tool | import s | cold s | warm s | process CPU s | peak MiB | requests | cold / ours | warm / ours |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for scenario in (scenario for scenario in SCENARIOS if chosen.work in scenario.name):
        with server_for(archive, scenario) as (url, counts):
            config = configure(archive, scenario, url, chosen.folder)
            report(scenario, measure(tools, config, counts, chosen.runs))


def configure(archive: Archive, scenario: Scenario, url: str | None, folder: Path) -> dict[str, Any]:
    """The work in words that all tools understand. Each scene once, so that no tool has to know about baselines."""
    items = {}
    for item in archive.items("earth-search", base_url=url):
        key = (item["properties"]["grid:code"], item["properties"]["datetime"][:10])
        items[key] = item  # the reprocessed product comes last
    path = folder / "items.json"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": list(items.values())}))
    ring = archive.area(two_zones=scenario.two_zones)["coordinates"][0]
    x, y = Transformer.from_crs(4326, 32632, always_xy=True).transform(*zip(*ring, strict=True))
    bounds = [20 * round(value / 20) for value in (min(x), min(y), max(x), max(y))]
    return {
        "items": str(path.resolve()),
        "bands": list(BANDS),
        "common_names": list(BANDS.values()),
        "epsg": 32632,
        "bounds": bounds,
        "resolution": 10,
        "out": str((folder / "out.zarr").resolve()),
        "threads": 16 if scenario.http else len(os.sched_getaffinity(0)),
    }


def measure(tools: dict[str, str], config: dict[str, Any], counts: Any, runs: int) -> dict[str, dict[str, Any]]:
    """Cold once, then warm in turns."""
    found: dict[str, dict[str, Any]] = {name: {"warm": []} for name in tools}
    for turn in range(-1, runs):
        for name, python in tools.items() if turn % 2 else reversed(tools.items()):
            if turn < 0:
                drop_caches()
            before = counts()
            result = run(name, python, config)
            result["requests"] = counts() - before
            found[name]["cold" if turn < 0 else "warm"] = result if turn < 0 else [*found[name]["warm"], result]
    return found


def run(name: str, python: str, config: dict[str, Any]) -> dict[str, Any]:
    for leftover in Path(config["out"]).parent.glob("*out.zarr*"):
        shutil.rmtree(leftover)
    path = Path(config["items"]).with_name("config.json")
    path.write_text(json.dumps(config))
    done = subprocess.run([python, peers.__file__, name, path], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{name} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def report(scenario: Scenario, found: dict[str, dict[str, Any]]) -> None:
    warm = {
        name: {key: statistics.median(run[key] for run in results["warm"]) for key in results["cold"]}
        for name, results in found.items()
    }
    for name, results in found.items():
        cold, mine = results["cold"]["wall"], warm[name]
        cells = [
            scenario.name,
            name,
            f"{mine['import']:.2f}",
            f"{cold:.2f}",
            f"{mine['wall']:.2f}",
            f"{mine['cpu']:.2f}",
            f"{mine['rss'] / 2**20:.0f}",
            f"{mine['requests']:.0f}" if scenario.http else "-",
            f"{cold / found['stac2cube']['cold']['wall']:.2f}",
            f"{mine['wall'] / warm['stac2cube']['wall']:.2f}",
        ]
        print(f"| {' | '.join(cells)} |", flush=True)


@contextmanager
def server_for(archive: Archive, scenario: Scenario) -> Iterator[tuple[str | None, Any]]:
    """A range server in a process of its own, where the scenario wants one."""
    if not scenario.http:
        yield None, lambda: 0
        return
    here, there = multiprocessing.Pipe()
    process = multiprocessing.Process(target=serve, args=(archive.root, there), daemon=True)
    process.start()
    url = here.recv()

    def counts() -> int:
        here.send("count")
        return int(here.recv())

    try:
        yield url, counts
    finally:
        process.terminate()


def serve(root: Path, pipe: Any) -> None:
    with serving(root, latency=LATENCY) as server:
        pipe.send(server.url)
        while pipe.recv():
            pipe.send(len(server.requests))


def drop_caches() -> None:
    if os.geteuid() == 0:
        os.sync()
        Path("/proc/sys/vm/drop_caches").write_text("3")


def stackstac_python(folder: Path) -> str:
    """stackstac wants an older pandas than everybody else, so it lives apart."""
    venv = folder / "stackstac"
    python = venv / "bin/python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", venv], check=True)
        wanted = ["stackstac==0.5.1", "pandas<3", "zarr>=3", "xarray", "dask", "setuptools<80"]
        subprocess.run([python, "-m", "pip", "install", "-q", *wanted], check=True)
    return str(python)


if __name__ == "__main__":
    main()
