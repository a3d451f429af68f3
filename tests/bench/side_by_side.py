"""``python -m tests.bench.side_by_side``: one table of what stac2cube and the best peer cost, in one run.

Each figure is the median of three runs, in CPU seconds of processes, tools in turn. Prints the table, and fails where a
ratio falls more than 15 % behind the one in ``ratios.json`` (``--keep`` stores those of this run there). ``--write``
puts the table into docs/benchmarks.md. Takes seven minutes on two cores.
"""

from __future__ import annotations

import argparse
import compileall
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from tests.bench import builders, readers, works
from tests.bench.data import BANDS, TEN, BenchArchive, make
from tests.bench.works import Bench, Work

KEPT = Path(__file__).with_name("ratios.json")
PAGE = Path("docs/benchmarks.md")
MARKS = "<!-- side by side: begin -->\n", "<!-- side by side: end -->\n"
BEHIND = 0.85
"""Part of a kept ratio below which the run fails: more than a busy machine makes of it."""

PACKAGES = ("odc-stac", "rasterio", "xarray", "dask", "zarr", "zarrs", "lightgbm", "arosics", "numba", "numpy")


@dataclass(frozen=True)
class Row:
    """A line of the table.

    Attributes:
        work: What is done.
        ours: CPU seconds of stac2cube.
        peer: Who does the same.
        theirs: CPU seconds of the peer.
        goal: Least ratio of theirs to ours that is aimed at.
    """

    work: str
    ours: float
    peer: str
    theirs: float
    goal: float

    @property
    def ratio(self) -> float:
        """The peer's CPU seconds for one of ours."""
        return self.theirs / self.ours

    def line(self, before: float | None) -> str:
        """As Markdown, with the kept ratio."""
        verdict = "reached" if self.ratio >= self.goal else f"missed by {100 * (1 - self.ratio / self.goal):.0f} %"
        cells = [self.work, f"{self.ours:.3g}", self.peer, f"{self.theirs:.3g}", f"{self.ratio:.2f}"]
        cells += [f"{self.goal:.3g}", verdict, "-" if before is None else f"{before:.2f}"]
        return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("build/bench"))
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", default="", help="groups, parted by commas: " + ", ".join(GROUPS))
    parser.add_argument("--keep", action="store_true", help="store the ratios of this run in ratios.json")
    parser.add_argument("--write", action="store_true", help="put the table into docs/benchmarks.md")
    chosen = parser.parse_args()
    kept = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    lines = [
        "| work | stac2cube, CPU s | peer | peer, CPU s | ratio | goal | | kept ratio |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    print("\n".join(lines), flush=True)
    rows: list[Row] = []
    for name, measure in GROUPS.items():
        if not chosen.only or name in chosen.only.split(","):
            for row in measure(chosen.folder.resolve(), chosen.runs):
                rows.append(row)
                lines.append(row.line(kept.get(row.work)))
                print(lines[-1], flush=True)
    lines += ["", machine(chosen.runs)]
    print("\n".join(lines[-2:]))
    if chosen.keep:
        told = kept | {row.work: round(row.ratio, 3) for row in rows}
        KEPT.write_text(json.dumps(told, indent=1) + "\n")
    if chosen.write:
        head, rest = PAGE.read_text().split(MARKS[0])
        PAGE.write_text(head + MARKS[0] + "\n" + "\n".join(lines) + "\n\n" + MARKS[1] + rest.split(MARKS[1])[1])
    behind = [row.work for row in rows if row.ratio < BEHIND * kept.get(row.work, 0)]
    if behind:
        sys.exit(f"more than 15 % behind the kept ratio: {'; '.join(behind)}")


def machine(runs: int) -> str:
    """What was measured on, with what."""
    found = []
    for name in PACKAGES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            found.append(f"no {name}")
    load = os.getloadavg()[0] / (os.cpu_count() or 1)
    return (
        f"{datetime.now(UTC):%d %B %Y}, {os.cpu_count()} cores ({platform.machine()}), {load:.1f} processes per core "
        f"at the end, Python {platform.python_version()}, medians of {runs} runs; {', '.join(found)}."
    )


# Pixels read, and cubes built: works of the longer benchmarks, smaller.


def measured(folder: Path, runs: int, script: Any, work: Work) -> dict[str, float]:
    """Median CPU seconds of each tool of a work."""
    archive, small = make(folder / "side", 1830, 3), make(folder / "warm", 256, 1)
    chosen = argparse.Namespace(tools="", work="", picture=None)
    bench = Bench(folder, runs, archive, small, script, chosen, statistics.median)
    return {tool: figures["cpu"] for tool, figures in bench.measure(work).items()}


def reading(folder: Path, runs: int) -> list[Row]:
    ours, pool = "stac2cube", "rasterio, threads"
    rows = []
    for work, goal in (
        (Work("small area, read", ("32TQT",), 3, TEN, (3000, 3000), 512, (ours, pool)), 2.1),
        (Work("full tile, read", ("32TQT",), 2, (*TEN, "SCL"), (0, 0), 0, (ours, pool), exact=False), 1.8),
    ):
        found = measured(folder, runs, readers, work)
        rows.append(Row(work.name, found[ours], pool, found[pool], goal))
    return rows


def building(folder: Path, runs: int) -> list[Row]:
    ours, odc = "stac2cube", "odc-stac, our codec, zarrs"
    rows = []
    for work, goal in (
        (Work("COG, full tile to Zarr", ("32TQT",), 3, (*TEN, "SCL"), (0, 0), 0, (ours, odc), exact=False), 2.2),
        (
            Work(
                "COG, mosaic across zones to Zarr",
                ("32TQT", "33TTN"),
                3,
                tuple(BANDS),
                (15_940, 3_000),
                512,
                (ours, odc),
                exact=False,
            ),
            3.5,
        ),
        (
            Work(
                "fixed cost of a build, in a process",
                ("32TQT",),
                1,
                ("B04",),
                (3000, 3000),
                300,
                (ours, odc),
                exact=False,
            ),
            1.0,
        ),
    ):
        found = measured(folder, runs, builders, work)
        rows.append(Row(work.name, found[ours], odc, found[odc], goal))
    return rows


def jpeg2000(folder: Path, runs: int) -> list[Row]:
    """Two bands of 10 m and two of 20 m of one date, 3,660 px, as Sentinel-2's files are: tiles of 1024, lossless."""
    bands = ("B02", "B04", "B05", "B11")
    made = make(folder / "jp2-side", 3660, 1)
    items = made.items(("32TQT",), 1)
    for band in bands:
        path = made.path("32TQT", made.dates[0], band)
        if not path.with_suffix(".jp2").exists():
            to_jp2(path)
    for item in items:
        item["assets"] = {
            name: asset | {"href": asset["href"].replace(".tif", ".jp2"), "type": "image/jp2"}
            for name, asset in item["assets"].items()
            if asset["eo:bands"][0]["name"] in bands
        }
    rows, once = [], "GDAL, each file decoded once"
    for resolution, peers in (
        (10, {once: 1 / 1.08, "odc-stac, our codec, zarrs": 2.3}),
        (60, {"odc-stac, our codec, zarrs": 2.5}),
    ):
        config = _config(folder, made, items, resolution)
        found = in_turn(
            runs,
            {tool: [sys.executable, str(builders.__file__), tool, str(config)] for tool in ("stac2cube", *peers)},
            told=True,
        )
        for peer, goal in peers.items():
            title = (
                f"JPEG 2000 to Zarr at {resolution} m, four bands, against {'decoding' if peer == once else 'odc-stac'}"
            )
            rows.append(Row(title, found["stac2cube"], peer, found[peer], goal))
    return rows


def to_jp2(path: Path) -> None:
    """A band as JPEG 2000 beside itself."""
    import rasterio
    from odc.geo.geobox import GeoBox

    from tests.pixels.granules import write

    options = {"compress": None, "predictor": None, "blocksize": None, "nodata": None, "BLOCKXSIZE": 1024}
    options |= {"BLOCKYSIZE": 1024, "QUALITY": 100, "REVERSIBLE": "YES", "TLM": "YES", "PLT": "YES"}
    with rasterio.open(path) as file:
        lattice = GeoBox(file.shape, file.transform, file.crs)
        write(path.with_suffix(".jp2"), file.read(1), lattice, driver="JP2OpenJPEG", **options)


def _config(folder: Path, archive: BenchArchive, items: list[dict[str, Any]], resolution: int) -> Path:
    (folder / "work").mkdir(parents=True, exist_ok=True)
    box = archive.lattice("32TQT").boundingbox
    edge = 10 * archive.tile_px
    bounds = [box.left, box.top - edge, box.left + edge, box.top]
    listed = folder / "work" / f"jp2-{resolution}-items.json"
    listed.write_text(json.dumps({"type": "FeatureCollection", "features": items}))
    config = {"items": str(listed), "bands": list(items[0]["assets"]), "epsg": 32632, "bounds": bounds, "threads": 2}
    config |= {"resolution": resolution, "block": works.CHUNK, "headers": "", "out": str(folder / "work" / "out.zarr")}
    corner = [box.left, box.top - 60 * 16, box.left + 60 * 16, box.top]
    path = folder / "work" / f"jp2-{resolution}.json"
    path.write_text(json.dumps(config | {"warm": {"bounds": corner}}))
    return path


# Whole processes, their start included.


def in_turn(
    runs: int, commands: dict[str, Sequence[str]], *, told: bool = False, before: Callable[[], None] | None = None
) -> dict[str, float]:
    """Median CPU seconds of commands.

    Args:
        runs: Of each.
        commands: By name.
        told: They print their own figure, as builders do; else that of the whole process is taken.
        before: Done before each.
    """
    spent: dict[str, list[float]] = {name: [] for name in commands}
    environment = os.environ | {"PYTHONPATH": str(Path.cwd())}
    for turn in range(runs):
        for name in list(commands)[:: 1 if turn % 2 == 0 else -1]:
            if before:
                before()
            process = subprocess.Popen(
                commands[name], env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            )
            assert process.stdout
            said = process.stdout.read()
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            if process.returncode:
                raise SystemExit(f"{name} failed: {' '.join(commands[name])}")
            spent[name].append(json.loads(said.splitlines()[-1])["cpu"] if told else usage.ru_utime + usage.ru_stime)
    return {name: statistics.median(seconds) for name, seconds in spent.items()}


ODC = """
import json, sys, odc.stac, pystac
from odc.geo.geobox import GeoBox
items = [pystac.Item.from_dict(one) for one in json.load(open(sys.argv[1]))["features"]]
bounds = tuple(map(float, sys.argv[2].split(",")))
box = GeoBox.from_bbox(bounds, "EPSG:32632", resolution=10)
cube = odc.stac.load(items, bands=["red"], geobox=box, chunks={}, groupby="solar_day")
if sys.argv[3:]:
    cube.drop_attrs().to_zarr(sys.argv[3], mode="w")
"""
OPEN = "import sys, xarray; print(xarray.open_zarr(sys.argv[1]))"


def processes(folder: Path, runs: int) -> list[Row]:
    """One step, one band, 300 px."""
    archive = make(folder / "warm", 512, 1)
    there = folder / "work" / "processes"
    there.mkdir(parents=True, exist_ok=True)
    listed, cube, out = there / "items.json", there / "small.zarr", there / "odc.zarr"
    listed.write_text(json.dumps({"type": "FeatureCollection", "features": archive.items(("32TQT",), 1)}))
    corner = archive.lattice("32TQT").boundingbox
    left, top = corner.left + 1000, corner.top - 1000
    area, bounds = there / "area.geojson", f"{left},{top - 3000},{left + 3000},{top}"
    from odc.geo.geom import box

    shape = box(left + 5, top - 2995, left + 2995, top - 5, "EPSG:32632").to_crs("EPSG:4326").json
    area.write_text(json.dumps({"type": "Feature", "properties": {}, "geometry": shape}))
    compileall.compile_dir("stac2cube", quiet=1)  # as pip does with every package that it installs
    ours, python = [sys.executable, "-m", "stac2cube"], [sys.executable, "-c"]
    words = [
        "--mission",
        "sentinel-2-l2a",
        "--bands",
        "B04",
        "--aoi",
        str(area),
        "--time",
        "2023",
        "--catalog",
        str(listed),
        "-q",
    ]

    def anew() -> None:
        for path in (cube, out):
            shutil.rmtree(path, ignore_errors=True)

    made = in_turn(
        runs,
        {"ours": [*ours, "layers", str(cube), *words], "odc": [*python, ODC, str(listed), bounds, str(out)]},
        before=anew,
    )
    subprocess.run([*ours, "layers", str(cube), *words], check=True, capture_output=True)
    nothing = in_turn(runs, {"ours": [*ours, "update", str(cube), "-q"], "odc": [*python, ODC, str(listed), bounds]})
    looked = in_turn(runs, {"ours": [*ours, "status", str(cube)], "xarray": [*python, OPEN, str(cube)]})
    base = "import distributed, numpy, rasterio"
    loaded = in_turn(
        runs,
        {"base": [*python, base], "worker": [*python, base + "; import stac2cube.build.loop, stac2cube.stages.layers"]},
    )
    found = (
        ("a small build, whole process", made["ours"], "odc-stac to Zarr", made["odc"], 0.8),
        ("an update that finds nothing, whole process", nothing["ours"], "odc-stac, lazy", nothing["odc"], 0.6),
        ("status, whole process", looked["ours"], "xarray opens the cube", looked["xarray"], 0.35),
        ("imports of a worker", loaded["worker"], "dask, NumPy, rasterio alone", loaded["base"], loaded["base"] + 0.2),
    )
    return [Row(work, ours, peer, theirs, theirs / wanted) for work, ours, peer, theirs, wanted in found]


# Work on arrays, in processes of this module: ``python -m tests.bench.side_by_side_arrays NAME``.

ARRAYS = "tests.bench.side_by_side_arrays"


def arrays(folder: Path, runs: int) -> list[Row]:
    pairs = (
        ("s2cloudless, 100,000 pixels", "forest", "LightGBM", 8.0),
        ("co-registration of four pairs, phase", "phase", "AROSICS", 0.5),
        ("overviews of four steps", "overviews", "xarray coarsens", 1.0),
        ("composite, median of 100 steps", "composite", "xarray median", 1.0),
        ("a year sealed, 73 steps", "seal-year", "xarray rechunks", 1.0),
        ("plan of 300 items x 11 bands", "plan", "odc-stac plans", 50.0),
        ("append one step to 1,000 against to 10", "append 1000", "append 10", 1 / 1.05),
    )
    found = []
    for work, ours, peer, goal in pairs:
        commands = {name: [sys.executable, "-m", ARRAYS, name, str(folder / "arrays")] for name in (ours, peer)}
        try:
            spent = in_turn(runs, commands, told=True)
        except SystemExit as error:
            print(f"left out: {error}", file=sys.stderr)
            continue
        found.append(Row(work, spent[ours], peer, spent[peer], goal))
    return found


GROUPS: dict[str, Callable[[Path, int], list[Row]]] = {
    "processes": processes,
    "reading": reading,
    "building": building,
    "jpeg2000": jpeg2000,
    "arrays": arrays,
}

if __name__ == "__main__":
    main()
