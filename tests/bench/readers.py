"""The same block of pixels read by one tool, in a process of its own: ``python readers.py TOOL CONFIG.json``.

A tool is a function that imports what it needs and gives back what reads a configuration into arrays ``(dates, rows,
columns)`` per band. It first reads a block of a few pixels, so that what every tool loads on first use is not counted.
Prints seconds, CPU seconds, peak memory and a checksum as JSON.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import resource
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

CHUNK = 2048
Read = Callable[[dict], dict[str, Any]]


def features(config: dict) -> list[dict]:
    return json.loads(Path(config["items"]).read_text())["features"]


def by_date(config: dict) -> list[list[dict]]:
    dates: dict[str, list[dict]] = {}
    for item in features(config):
        dates.setdefault(item["properties"]["datetime"][:10], []).append(item)
    return [dates[day] for day in sorted(dates)]


def geobox(config: dict) -> Any:
    from odc.geo.geobox import GeoBox

    return GeoBox.from_bbox(config["bounds"], f"EPSG:{config['epsg']}", resolution=config.get("resolution", 10))


def stac2cube(engine: str = "auto") -> Read:
    """The reader of the package's own builds: one task per date and block."""
    import numpy as np

    from stac2cube.fastcog.header import CogHeader
    from stac2cube.model.image import BandRequest
    from stac2cube.model.scene import AssetRef, Granule
    from stac2cube.pixels.open import Engine
    from stac2cube.pixels.read import read_block

    def granule(item: dict) -> Granule:
        from datetime import datetime

        code = f"EPSG:{item['properties']['proj:epsg']}"
        when = datetime.fromisoformat(item["properties"]["datetime"])
        assets = {name: AssetRef(asset["href"]) for name, asset in item["assets"].items()}
        return Granule(item["id"], "", "", "none", when, "", "", "", None, item["geometry"], code, None, assets, "")

    def request(name: str) -> BandRequest:
        if name == "scl":
            return BandRequest(name, "uint8", 0, "class", "nearest")
        return BandRequest(name, "uint16", 0, "continuous", "bilinear")

    def read(config: dict) -> dict[str, Any]:
        known: dict[str, CogHeader] = {}
        if config.get("headers"):
            lines = json.loads(Path(config["headers"]).read_text())
            known = {href: CogHeader.from_bytes(bytes.fromhex(line)) for href, line in lines.items()}
        how = Engine(engine, known.get if known else None)
        bands, box = [request(name) for name in config["bands"]], geobox(config)
        dates = [[granule(item) for item in items] for items in by_date(config)]
        rows, columns = box.shape
        edge = config.get("block", 1024)
        tiles = [
            (slice(r, min(r + edge, rows)), slice(c, min(c + edge, columns)))
            for r in range(0, rows, edge)
            for c in range(0, columns, edge)
        ]
        out = {band.name: np.empty((len(dates), rows, columns), band.dtype) for band in bands}

        def one(job: tuple[int, tuple[slice, slice]]) -> None:
            date, (r, c) = job
            for name, pixels in read_block(dates[date], bands, box[r, c], engine=how).items():
                out[name][date, r, c] = pixels

        with ThreadPoolExecutor(config["threads"]) as pool:
            list(pool.map(one, [(date, tile) for date in range(len(dates)) for tile in tiles]))
        return out

    return read


def rasterio_pool() -> Read:
    """What a careful user writes: a pool of threads, windows where the grid fits, else GDAL's warper at true size."""
    import numpy as np
    import rasterio
    from rasterio.enums import Resampling
    from rasterio.warp import reproject
    from rasterio.windows import Window

    def part(href: str, box: Any, method: Resampling, out: Any) -> None:
        with rasterio.open(href) as file:
            column, row = ~file.transform * (box.transform.c, box.transform.f)
            if str(box.crs).endswith(str(file.crs.to_epsg())) and file.transform.a == 10:
                column, row = round(column), round(row)
                rows = slice(max(row, 0), min(row + box.shape[0], file.height))
                columns = slice(max(column, 0), min(column + box.shape[1], file.width))
                if rows.start < rows.stop and columns.start < columns.stop:
                    there = np.s_[rows.start - row : rows.stop - row, columns.start - column : columns.stop - column]
                    out[there] = file.read(1, window=Window.from_slices(rows, columns))
                return
            lattice = {"dst_transform": box.transform, "dst_crs": str(box.crs), "dst_nodata": 0, "src_nodata": 0}
            reproject(rasterio.band(file, 1), out, resampling=method, XSCALE=1, YSCALE=1, num_threads=1, **lattice)

    def read(config: dict) -> dict[str, Any]:
        box, dates = geobox(config), by_date(config)
        out = {
            band: np.zeros((len(dates), *box.shape), "uint8" if band == "scl" else "uint16") for band in config["bands"]
        }

        def one(job: tuple[int, str]) -> None:
            date, band = job
            method = Resampling.nearest if band == "scl" else Resampling.bilinear
            with rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR", GDAL_NUM_THREADS=1):
                for place, item in enumerate(dates[date]):
                    target = out[band][date]
                    layer = target if place == 0 else np.zeros_like(target)
                    part(item["assets"][band]["href"], box, method, layer)
                    if place:
                        np.copyto(target, layer, where=target == 0)

        with ThreadPoolExecutor(config["threads"]) as pool:
            list(pool.map(one, [(date, band) for date in range(len(dates)) for band in config["bands"]]))
        return out

    return read


def odc_stac(*, dask: bool) -> Read:
    import odc.stac
    import pystac

    if dask:
        import dask.config

    def read(config: dict) -> dict[str, Any]:
        items = [pystac.Item.from_dict(item) for item in features(config)]
        odc.stac.configure_rio(cloud_defaults=True)
        words = {"bands": config["bands"], "geobox": geobox(config), "groupby": "solar_day"}
        words["resampling"] = {"*": "bilinear", "scl": "nearest"}
        if not dask:
            data = odc.stac.load(items, pool=config["threads"], **words)
        else:
            data = odc.stac.load(items, chunks={"x": CHUNK, "y": CHUNK, "time": 1}, **words)
            with dask.config.set(scheduler="threads", num_workers=config["threads"]):
                data = data.compute()
        return {band: data[band].values for band in config["bands"]}

    return read


def stackstac() -> Read:
    import dask
    import stackstac  # noqa: F401 - before it is measured

    def read(config: dict) -> dict[str, Any]:
        data = stacked(config)
        with dask.config.set(scheduler="threads", num_workers=config["threads"]):
            values = data.compute().values
        return {band: values[:, place] for place, band in enumerate(config["bands"])}

    return read


def stacked(config: dict) -> Any:
    """Of stackstac, lazily: ``(dates, bands, rows, columns)``."""
    import numpy as np
    import rasterio.enums
    import stackstac as tool

    data = tool.stack(
        features(config),
        assets=config["bands"],
        epsg=config["epsg"],
        bounds=config["bounds"],
        resolution=10,
        resampling=rasterio.enums.Resampling.bilinear,
        dtype="uint16",
        fill_value=np.uint16(0),
        rescale=False,
        chunksize=CHUNK,
    )
    days = data["time"].dt.floor("D")
    if len(set(days.values)) < len(days):
        data = data.groupby(days).map(tool.mosaic, dim="time", nodata=0)
    return data


def async_geotiff() -> Read:
    """It warps nothing: for one grid only."""
    import numpy as np
    from async_geotiff import GeoTIFF, Window
    from obstore.store import HTTPStore, LocalStore

    def read(config: dict) -> dict[str, Any]:
        box, dates = geobox(config), by_date(config)
        out = {band: np.zeros((len(dates), *box.shape), "uint16") for band in config["bands"]}

        async def one(date: int, band: str, href: str, stores: dict) -> None:
            head, _, name = href.rpartition("/")
            if head not in stores:
                http = {"client_options": {"allow_http": True}}
                stores[head] = HTTPStore(head, **http) if "://" in head else LocalStore(head)
            file = await GeoTIFF.open(name, store=stores[head])
            column, row = ~file.transform * (box.transform.c, box.transform.f)
            window = Window(col_off=round(column), row_off=round(row), width=box.shape[1], height=box.shape[0])
            out[band][date] = np.asarray((await file.read(window=window)).data)[0]

        async def everything() -> None:
            stores: dict = {}
            jobs = [
                one(date, band, items[0]["assets"][band]["href"], stores)
                for date, items in enumerate(dates)
                for band in config["bands"]
            ]
            await asyncio.gather(*jobs)

        asyncio.run(everything())
        return out

    return read


def rasteret() -> Read:
    """It warps nothing, and keeps headers in an index, which is made before it is measured."""
    import rasteret as tool
    import shapely

    def read(config: dict) -> dict[str, Any]:
        items = features(config)
        folder = Path(config["index"]) / hashlib.md5(repr(items).encode(), usedforsecurity=False).hexdigest()
        if not folder.exists():
            make_index(items, config["bands"], folder)
        area = shapely.box(*config["bounds"])
        found = tool.load(folder).get_xarray(area, config["bands"], geometry_crs=config["epsg"], progress=False)
        return {band: found[band].values[:, 0] for band in config["bands"]}

    def make_index(items: list[dict], bands: list[str], folder: Path) -> None:
        from datetime import datetime

        import pyarrow

        shapes = [shapely.geometry.shape(item["geometry"]) for item in items]
        table = {
            "id": [item["id"] for item in items],
            "datetime": [datetime.fromisoformat(item["properties"]["datetime"]) for item in items],
            "geometry": [shapely.to_wkb(shape) for shape in shapes],
            "bbox": [dict(zip(("xmin", "ymin", "xmax", "ymax"), shape.bounds, strict=True)) for shape in shapes],
            "proj:epsg": [item["properties"]["proj:epsg"] for item in items],
            "assets": [{band: {"href": item["assets"][band]["href"]} for band in bands} for item in items],
        }
        words = {"name": "bench", "data_source": "bench", "workspace_dir": folder}
        tool.build_from_table(pyarrow.table(table), enrich_cog=True, band_codes=bands, **words)

    return read


TOOLS: dict[str, Callable[[], Read]] = {
    "stac2cube": stac2cube,
    "stac2cube, GDAL only": lambda: stac2cube("rasterio"),
    "rasterio, threads": rasterio_pool,
    "odc-stac, pool": lambda: odc_stac(dask=False),
    "odc-stac, dask": lambda: odc_stac(dask=True),
    "stackstac": stackstac,
    "async-geotiff": async_geotiff,
    "rasteret": rasteret,
}


def measured(work: Callable[[], Any]) -> tuple[dict[str, float], Any]:
    """Seconds, CPU seconds and peak memory of this process, and what the work gave."""
    begun, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)
    made = work()
    wall, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_SELF)
    # Not ru_maxrss, which remembers the process that this one was forked from.
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"wall": wall, "cpu": cpu, "rss": int(peak.split()[1]) * 1024}, made


def main(tool: str, path: str) -> None:
    config = json.loads(Path(path).read_text())
    begun = time.perf_counter()
    read = TOOLS[tool]()
    if "warm" in config:
        read(config | config["warm"])
    if tool == "rasteret":
        read(config)
    ready = time.perf_counter()
    figures, pixels = measured(lambda: read(config))
    digest = hashlib.md5(usedforsecurity=False)
    for band in config["bands"]:
        digest.update(pixels[band].astype("uint16").tobytes())
    print(json.dumps(figures | {"start": ready - begun, "digest": digest.hexdigest()}))
    if config.get("save"):
        import numpy as np

        np.savez(config["save"], **pixels)


if __name__ == "__main__":
    main(*sys.argv[1:])
