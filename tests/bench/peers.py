"""One tool doing the benchmark's work in a process of its own: ``python peers.py NAME CONFIG.json``.

Imports nothing of stac2cube but for the tool of that name, so that other tools can run it in environments of their own.
Each tool is a generator: it imports what it needs, yields, and does the work, so that both can be timed apart.
The configuration: items (ItemCollection path), bands, EPSG code, bounds, resolution, output path, threads.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path

SHARD, CHUNK = 2048, 256


def stac2cube(config: dict) -> Iterator[None]:
    from odc.geo.geobox import GeoBox

    import stac2cube as tool
    from stac2cube.cube import reader  # noqa: F401 - what the first call would import
    from stac2cube.stages import layers  # noqa: F401

    yield
    box = GeoBox.from_bbox(config["bounds"], f"EPSG:{config['epsg']}", resolution=config["resolution"])
    tool.get_stac_layers(
        config["out"],
        mission="sentinel-2-l2a",
        aoi=box,
        time="2000/2030",
        bands=config["bands"],
        catalog=config["items"],
        place=tool.Threads(config["threads"]),
    )


def odc_stac(config: dict) -> Iterator[None]:
    import dask
    import odc.stac
    import pystac
    from odc.geo.geobox import GeoBox

    yield
    items = [pystac.Item.from_dict(item) for item in json.loads(Path(config["items"]).read_text())["features"]]
    box = GeoBox.from_bbox(config["bounds"], f"EPSG:{config['epsg']}", resolution=config["resolution"])
    odc.stac.configure_rio(cloud_defaults=True)
    data = odc.stac.load(
        items,
        bands=config["common_names"],
        geobox=box,
        chunks={"x": SHARD, "y": SHARD, "time": 1},
        groupby="solar_day",
        resampling={"*": "bilinear", "scl": "nearest"},
    )
    with dask.config.set(scheduler="threads", num_workers=config["threads"]):
        write(data, config["out"])


def stackstac(config: dict) -> Iterator[None]:
    import dask
    import numpy as np
    import rasterio.enums
    import stackstac as tool

    yield
    items = json.loads(Path(config["items"]).read_text())["features"]
    data = tool.stack(
        items,
        assets=config["common_names"],
        epsg=config["epsg"],
        bounds=config["bounds"],
        resolution=config["resolution"],
        resampling=rasterio.enums.Resampling.bilinear,
        dtype="uint16",
        fill_value=np.uint16(0),
        rescale=False,
        chunksize=SHARD,
    )
    days = data["time"].dt.floor("D")
    mosaic = data.groupby(days).map(tool.mosaic, dim="time", nodata=0) if len(set(days.values)) < len(days) else data
    names = [str(name) for name in mosaic["band"].values]
    layers = mosaic.drop_vars([name for name in mosaic.coords if name not in mosaic.dims]).to_dataset("band")[names]
    layers = layers.rename({dim: "time" for dim in layers.dims if dim == "floor"})
    with dask.config.set(scheduler="threads", num_workers=config["threads"]):
        write(layers.chunk({dim: 1 if dim not in ("x", "y") else SHARD for dim in layers.dims}), config["out"])


def write(data, out: str) -> None:
    """With the codec, the chunks and, where they fit, the shards of our own cubes."""
    from zarr.codecs import BloscCodec

    data = data.drop_attrs()
    sizes = {dim: min(SHARD, -(-data.sizes[dim] // CHUNK) * CHUNK) for dim in ("y", "x")}
    encoding = {
        name: {
            "chunks": (1, CHUNK, CHUNK),
            "shards": (1, sizes["y"], sizes["x"]),
            "compressors": BloscCodec(cname="zstd", clevel=1, shuffle="bitshuffle", typesize=2, blocksize=2 * CHUNK**2),
        }
        for name in data.data_vars
    }
    for layer in data.data_vars.values():
        layer.encoding.clear()
    data.to_zarr(out, mode="w", encoding=encoding, consolidated=True)


def main(name: str, config_path: str) -> None:
    config = json.loads(Path(config_path).read_text())
    begun = time.perf_counter()
    work = {"stac2cube": stac2cube, "odc-stac": odc_stac, "stackstac": stackstac}[name](config)
    next(work)
    ready = time.perf_counter()
    next(work, None)
    wall = time.perf_counter() - ready
    usage = resource.getrusage(resource.RUSAGE_SELF)
    # Not ru_maxrss, which remembers the process that this one was forked from.
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    print(
        json.dumps(
            {
                "import": ready - begun,
                "wall": wall,
                "cpu": usage.ru_utime + usage.ru_stime,
                "rss": int(peak.split()[1]) * 1024,
            }
        )
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
