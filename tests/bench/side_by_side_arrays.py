"""``python -m tests.bench.side_by_side_arrays NAME FOLDER``: work on arrays by stac2cube or a peer, one in a process.

Prints ``{"cpu": seconds}`` of the work alone, without imports and without what is made for it.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

STEPS, EDGE = 100, 1024
"""Of the cube that is sealed, composed and coarsened."""


def spectra() -> np.ndarray:
    """``(pixels, 10)`` reflectance of all brightnesses, neighbours unlike each other: the hardest case for caches."""
    rng = np.random.default_rng(0)
    return np.clip(rng.uniform(0.01, 1.1, (100_000, 1)) ** 2 * rng.uniform(0.5, 1.4, (100_000, 10)), 0, 1.6)


def clouds(engine: Any) -> Callable[[], object]:
    from stac2cube.clouds.model import cloud_probability

    pixels = spectra()
    cloud_probability(pixels[:8], engine)
    return lambda: cloud_probability(pixels, engine)


def pair(tool: str) -> Callable[[], object]:
    """A pair of 600 x 600 pixels, 20 % under clouds."""
    from tests.bench.data import texture
    from tests.bench.shifts import measured, plain_arosics, taken

    picture = texture(np.random.default_rng(3), 600).astype("float64")
    reference, target = taken(picture, (0, 0), 0, 10_000), taken(picture, (0.8, -1.3), 0.2, 1)
    compare = (
        (lambda: measured(reference, target, "phase")) if tool == "phase" else lambda: plain_arosics(reference, target)
    )
    compare()

    def several() -> None:
        for _ in range(4):
            compare()

    return several


def cube(folder: Path) -> Path:
    """A cube of one layer, made once."""
    from stac2cube.build.loop import build
    from stac2cube.executors.base import Threads
    from tests.bench.keeping import Rolled, scene, spec

    path = folder / "cube.zarr"
    if not path.exists():
        wanted = spec(EDGE, EDGE)
        build(path, wanted, [scene(number, wanted) for number in range(STEPS)], Rolled(EDGE), Threads(2))
    return path


def fresh(folder: Path, steps: int) -> Path:
    """A copy without overviews and sealed years; of some steps only."""
    from stac2cube.build.loop import build
    from stac2cube.executors.base import Threads
    from tests.bench.keeping import Rolled, scene, spec

    path = folder / f"cube-{steps}.zarr"
    for leftover in folder.glob(f"*cube-{steps}.*"):
        shutil.rmtree(leftover)
    wanted = spec(EDGE, EDGE)
    build(path, wanted, [scene(number, wanted) for number in range(steps)], Rolled(EDGE), Threads(2))
    return path


def overviews(folder: Path) -> Callable[[], object]:
    from stac2cube.stages.overviews import store_overviews

    path = fresh(folder, 4)
    return lambda: store_overviews(path)


def coarsened(folder: Path) -> Callable[[], object]:
    """The same levels by xarray and dask, from the cube itself as people do."""
    import dask

    from stac2cube.store.metadata import level_path, levels_of
    from stac2cube.store.reader import open_cube

    path = fresh(folder, 4)
    overviews(folder)()
    levels = levels_of(path)
    assert levels
    assert level_path(path, levels[0]).exists()

    def work() -> None:
        data = open_cube(path)[["B04"]]
        with dask.config.set(scheduler="threads", num_workers=2):
            for level in levels:
                part = data.coarsen(y=level, x=level, boundary="pad").mean().drop_attrs()
                part["B04"].encoding.clear()
                part.drop_vars([name for name in part.coords if name not in part.dims]).to_zarr(
                    folder / "coarse.zarr", mode="w"
                )

    return work


def composite(folder: Path) -> Callable[[], object]:
    from stac2cube.stages.stored_views import Composition, store_composites

    path, out = cube(folder), folder / "median.zarr"
    shutil.rmtree(out, ignore_errors=True)
    return lambda: store_composites(path, out, Composition(period="year", layers=("B04",)))


def median(folder: Path) -> Callable[[], object]:
    import dask

    from stac2cube.store.reader import open_cube

    path = cube(folder)

    def work() -> None:
        data = open_cube(path)[["B04"]].chunk({"time": -1, "y": 256, "x": 256})
        with dask.config.set(scheduler="threads", num_workers=2):
            part = data.groupby("time.year").median().drop_attrs()
            part["B04"].encoding.clear()
            part.drop_vars([name for name in part.coords if name not in part.dims]).to_zarr(
                folder / "xr.zarr", mode="w"
            )

    return work


def sealed(folder: Path) -> Callable[[], object]:
    from stac2cube.maintain.seal_year import seal_year
    from tests.bench.keeping import YEAR

    path = fresh(folder, 73)
    return lambda: seal_year(path, YEAR)


def rechunked(folder: Path) -> Callable[[], object]:
    """The same chunks and shards of the year, by xarray and dask."""
    import dask
    from zarr.codecs import BloscCodec

    from stac2cube.store.reader import open_cube

    path = fresh(folder, 73)

    def work() -> None:
        data = open_cube(path, decode=False)[["B04"]].chunk({"time": -1, "y": 1024, "x": 1024}).drop_attrs()
        data["B04"].encoding.clear()
        codec = BloscCodec(cname="zstd", clevel=1, shuffle="bitshuffle", typesize=2, blocksize=2**17)
        how = {"B04": {"chunks": (73, 64, 64), "shards": (73, 1024, 1024), "compressors": codec}}
        with dask.config.set(scheduler="threads", num_workers=2):
            data.drop_vars([name for name in data.coords if name not in data.dims]).to_zarr(
                folder / "y.zarr", mode="w", encoding=how
            )

    return work


def many(folder: Path) -> tuple[list[dict[str, Any]], Any]:
    """300 items of eleven bands over one tile, none of whose files is opened."""
    from tests.bench.data import BenchArchive

    archive = BenchArchive(
        folder, 10_980, tuple(f"{2000 + n // 336}-{1 + n // 28 % 12:02d}-{1 + n % 28:02d}" for n in range(300))
    )
    return archive.items(("32TQT",), 300), archive.lattice("32TQT")


def planned(folder: Path) -> Callable[[], object]:
    from click.testing import CliRunner

    from stac2cube.cli import cli

    items, lattice = many(folder)
    listed, area = folder / "many.json", folder / "many.geojson"
    listed.write_text(json.dumps({"type": "FeatureCollection", "features": items}))
    shape = lattice.extent.to_crs("EPSG:4326").json
    area.write_text(json.dumps({"type": "Feature", "properties": {}, "geometry": shape}))
    words = [
        "plan",
        str(folder / "none.zarr"),
        "--mission",
        "sentinel-2-l2a",
        "--aoi",
        str(area),
        "--time",
        "2000/2030",
    ]
    words += ["--bands", "blue,green,red,nir,rededge1,rededge2,rededge3,nir08,swir16,swir22,scl", "--crs", "EPSG:32632"]

    def work() -> None:
        found = CliRunner().invoke(cli, [*words, "--catalog", str(listed), "-q"], catch_exceptions=False)
        assert found.exit_code == 0, found.output

    return work


def odc_planned(folder: Path) -> Callable[[], object]:
    import odc.stac
    import pystac

    items, lattice = many(folder)

    def work() -> None:
        parsed = [pystac.Item.from_dict(item) for item in items]
        bands = list(items[0]["assets"])
        odc.stac.load(parsed, bands=bands, geobox=lattice, chunks={"x": 1024, "y": 1024}, groupby="solar_day")

    return work


def append(folder: Path, steps: int) -> Callable[[], object]:
    """Ten commits of one step to a cube of so many."""
    from stac2cube.store.writer import open_writer
    from tests.bench.commits import SPEC, staged

    path = folder / f"append-{steps}.zarr"
    for leftover in folder.glob(f"*append-{steps}.*"):
        shutil.rmtree(leftover)
    with open_writer(path, SPEC) as writer:
        for first in range(0, steps, 50):
            writer.commit([staged(writer, SPEC, number) for number in range(first, min(first + 50, steps))])

    def work() -> None:
        with open_writer(path, SPEC) as writer:
            for number in range(steps, steps + 10):
                writer.commit([staged(writer, SPEC, number)])

    return work


WORK: dict[str, Callable[[Path], Callable[[], object]]] = {
    "forest": lambda folder: clouds("forest"),
    "LightGBM": lambda folder: clouds("library"),
    "phase": lambda folder: pair("phase"),
    "AROSICS": lambda folder: pair("AROSICS"),
    "overviews": overviews,
    "xarray coarsens": coarsened,
    "composite": composite,
    "xarray median": median,
    "seal-year": sealed,
    "xarray rechunks": rechunked,
    "plan": planned,
    "odc-stac plans": odc_planned,
    "append 1000": lambda folder: append(folder, 1000),
    "append 10": lambda folder: append(folder, 10),
}


def main(name: str, folder: str) -> None:
    Path(folder).mkdir(parents=True, exist_ok=True)
    work = WORK[name](Path(folder))
    begun = time.process_time()
    work()
    print(json.dumps({"cpu": time.process_time() - begun}))


if __name__ == "__main__":
    main(*sys.argv[1:])
