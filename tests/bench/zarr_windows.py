"""A window of four bands of a Zarr store over HTTP, by this package and by xarray with zarr, tuned by hand.

``python -m tests.bench.zarr_windows`` makes one store in Zarr 2 and one in Zarr 3, in the form of ESA's EOPF (chunks of
1,830 pixels, blosc and zstd). It serves them, with two that eopf made where these are at hand, by another process,
every answer 20 ms late. Each tool reads in a process of its own: first a window of another store, so that what is
loaded on first use is not counted, then the window of three stores of the same content, each new to it. The table has
the least CPU seconds and seconds of all rounds, since whatever else the machine does only adds to them, and the
requests for one window.

What is compared gives the same counts: xarray is told not to decode.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

LATENCY = 0.02
COPIES = 3
EDGE = 512
BANDS = ("b02", "b03", "b04", "b08")
GROUP = "measurements/reflectance/r10m"
GENERATED = Path(__file__).parents[2].parent / "shared" / "data" / "eopf" / "gen"
"""Stores that eopf 2.8.1 and 3.0.0 made of one product, 1,098 pixels in one chunk; left out where they are absent."""

PRODUCT = "S2A_MSIL2A_20230625T234621_N0509_R073_T01WCP_20230626T022157.zarr"
STORES = {"v2": "", "v3": "", "eopf-v2": f"cpm281_v2_{PRODUCT}", "eopf-v3": f"cpm300_v3_{PRODUCT}"}


def place_of(url: str) -> tuple[tuple[slice, slice], tuple[float, float], str]:
    """The window of a store, of which four chunks are touched or the one that there is; its corner, and its CRS."""
    if "/eopf-" in url:
        return (slice(300, 300 + EDGE), slice(200, 200 + EDGE)), (300_000.0, 7_400_040.0), "EPSG:32601"
    return (slice(1600, 1600 + EDGE), slice(1700, 1700 + EDGE)), (300_000.0, 5_300_040.0), "EPSG:32632"


Read = Callable[[str, int], list[Any]]


def read_by_stac2cube(url: str, version: int) -> list[Any]:
    """Four bands as a block of them is read: at the same time."""
    from affine import Affine
    from odc.geo.geobox import GeoBox

    from stac2cube.model.image import BandRequest
    from stac2cube.model.scene import AssetRef
    from stac2cube.pixels.read import read_block
    from tests.pixels.granules import granule

    (rows, columns), (west, north), crs = place_of(url)
    box = GeoBox((EDGE, EDGE), Affine(10, 0, west + 10 * columns.start, 0, -10, north - 10 * rows.start), crs)
    one = replace(granule(box), assets={name: AssetRef(f"{url}/{GROUP}/{name}") for name in BANDS})
    found = read_block([one], [BandRequest(name, "uint16", 0, "continuous") for name in BANDS], box)
    return [found[name] for name in BANDS]


def read_by_xarray(url: str, version: int, **settings: Any) -> list[Any]:
    """Consolidated metadata, no probing of versions, an object store in Rust, one dask chunk per chunk."""
    import obstore
    import xarray as xr
    import zarr
    from zarr.storage import ObjectStore

    with zarr.config.set(settings):
        http = obstore.store.HTTPStore(url, client_options={"allow_http": True})
        store = ObjectStore(http, read_only=True)
        words = {"group": GROUP, "consolidated": True, "zarr_format": version, "mask_and_scale": False}
        opened = xr.open_zarr(store, chunks={}, **words)
        rows, columns = place_of(url)[0]
        part = opened[list(BANDS)].isel(y=rows, x=columns).load()
        return [part[name].values for name in BANDS]


def read_by_arrays(url: str, version: int, **settings: Any) -> list[Any]:
    """zarr alone, each array opened by its path: no positions, no CRS."""
    from concurrent.futures import ThreadPoolExecutor

    import obstore
    import zarr
    from zarr.storage import ObjectStore

    with zarr.config.set(settings):
        http = obstore.store.HTTPStore(url, client_options={"allow_http": True})
        store = ObjectStore(http, read_only=True)

        def one(name: str) -> Any:
            return zarr.open_array(store, path=f"{GROUP}/{name}", mode="r", zarr_format=version)[place_of(url)[0]]

        with ThreadPoolExecutor(len(BANDS)) as pool:
            return list(pool.map(one, BANDS))


ZARRS = {"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"}
TOOLS: dict[str, Read] = {
    "stac2cube": read_by_stac2cube,
    "xarray + zarr": read_by_xarray,
    "xarray + zarr + zarrs": lambda url, version: read_by_xarray(url, version, **ZARRS),
    "zarr, arrays by path": read_by_arrays,
    "zarr + zarrs, arrays by path": lambda url, version: read_by_arrays(url, version, **ZARRS),
}


def measure(tool: str, url: str, warm: str, version: int) -> dict[str, Any]:
    """In a process of its own."""
    import zarrs  # noqa: F401 - registers its pipeline

    read = TOOLS[tool]
    read(warm, version)
    spent, seconds, digests = [], [], set()
    for copy in range(COPIES):
        begun, before = time.perf_counter(), time.process_time()
        found = read(url.replace(".zarr", f"-{copy}.zarr"), version)
        spent.append(time.process_time() - before)
        seconds.append(time.perf_counter() - begun)
        digests.add(hashlib.sha256(b"".join(pixels.astype("<u2").tobytes() for pixels in found)).hexdigest()[:12])
    return {"cpu": min(spent), "seconds": min(seconds), "digest": ", ".join(sorted(digests))}


def serve(folder: str, pipe: Connection) -> None:
    """Another process: what it spends is not the tool's."""
    from tests.servers.range_server import serving

    with serving(Path(folder), LATENCY) as server:
        pipe.send(server.url)
        while (word := pipe.recv()) is not None:
            if word == "count":
                pipe.send(list(server.requests))
                server.requests.clear()


def write(folder: Path, version: int, name: str, edge: int) -> None:
    """A store of four bands of 10 m, of which neighbours are alike."""
    import numpy as np
    import zarr
    from scipy.ndimage import uniform_filter

    from tests.pixels import zarr_stores
    from tests.pixels.zarr_stores import StoreForm, write_store

    form = StoreForm(version, chunk=1830, extent=edge * 10, bands=dict.fromkeys(BANDS, 10))
    path = write_store(folder, form, name)
    rng = np.random.default_rng(1)
    for number, band in enumerate(BANDS):
        rough = uniform_filter(rng.normal(0, 4000, (edge, edge)), 25) + rng.normal(0, 20, (edge, edge))
        array = zarr.open_array(path / zarr_stores.path_of(band, 10), mode="r+")
        array[...] = np.clip(rough + 2000 + 300 * number, 1, 65535).astype("uint16")
    # As converters do, the consolidated metadata come last.
    for document in (path / ".zmetadata", path / "zarr.json"):
        if document.exists():
            document.touch()


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--edge", type=int, default=5490, help="pixels of 10 m along the edge of the store")
    parser.add_argument("--one", nargs=4, metavar=("TOOL", "URL", "WARM", "VERSION"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        tool, url, warm, version = asked.one
        print(json.dumps(measure(tool, url, warm, int(version))))
        return
    with tempfile.TemporaryDirectory() as folder:
        names = [name for name, made in STORES.items() if not made or (GENERATED / made).is_dir()]
        for name in names:
            if not STORES[name]:
                write(Path(folder), int(name[-1]), name, asked.edge)
                write(Path(folder), int(name[-1]), f"warm{name[-1]}", 2440)
            source = GENERATED / STORES[name] if STORES[name] else Path(folder) / f"{name}.zarr"
            for copy in range(COPIES):
                (Path(folder) / f"{name}-{copy}.zarr").symlink_to(source)
        ours, theirs = get_context("spawn").Pipe()
        server = get_context("spawn").Process(target=serve, args=(folder, theirs), daemon=True)
        server.start()
        url = ours.recv()
        print("| store | tool | requests | CPU s | s | counts |\n| --- | --- | --- | --- | --- | --- |")
        for name in names:
            for tool in TOOLS:
                rounds = [_round(ours, tool, url, name) for _ in range(asked.rounds)]
                asks = {found["requests"] for found in rounds}
                cells = (f"{min(found[key] for found in rounds):.3f}" for key in ("cpu", "seconds"))
                digests = ", ".join(sorted({found["digest"] for found in rounds}))
                asked_for = ", ".join(f"{count:g}" for count in sorted(asks))
                print(f"| {name} | {tool} | {asked_for} | {' | '.join(cells)} | {digests} |")
        ours.send(None)


def _round(pipe: Connection, tool: str, url: str, name: str) -> dict[str, Any]:
    pipe.send("count")
    pipe.recv()
    command = [sys.executable, "-m", "tests.bench.zarr_windows", "--one", tool, f"{url}/{name}.zarr"]
    command += [f"{url}/warm{name[-1]}.zarr", name[-1]]
    said = subprocess.run(command, check=False, capture_output=True, text=True)
    if said.returncode:
        raise SystemExit(f"{tool}: {said.stderr[-2000:]}")
    pipe.send("count")
    asked = [path for path in pipe.recv() if f" /{name}-" in path]
    return {**json.loads(said.stdout.splitlines()[-1]), "requests": len(asked) / COPIES}


if __name__ == "__main__":
    main()
