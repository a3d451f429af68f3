"""The same cube written by one tool, in a process of its own: ``python builders.py TOOL CONFIG.json``.

A tool is a function that imports what it needs and gives back what builds a Zarr store from a configuration. It first
builds one of a few pixels, so that what every tool loads on first use is not counted. Prints seconds, CPU seconds, peak
memory, files and bytes as JSON.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.bench import readers

SHARD, CHUNK = 2048, 256
Build = Callable[[dict], Any]


def stac2cube() -> Build:
    import stac2cube as tool

    names = {"blue": "B02", "green": "B03", "red": "B04", "nir": "B08", "rededge1": "B05", "rededge2": "B06"}
    names |= {"rededge3": "B07", "nir08": "B8A", "swir16": "B11", "swir22": "B12", "scl": "SCL"}

    def build(config: dict) -> None:
        tool.get_stac_layers(
            config["out"],
            mission="sentinel-2-l2a",
            aoi=readers.geobox(config),
            time="2000/2030",
            bands=[names[band] for band in config["bands"]],
            catalog=config["items"],
            place=tool.Threads(config["threads"]),
        )

    return build


def odc_stac(codec: str) -> Build:
    """With dask's threads, which is how its documentation writes Zarr."""
    import dask
    import odc.stac
    import pystac
    import zarr

    if codec == "zarrs":
        import zarrs  # noqa: F401 - registers itself

    def build(config: dict) -> None:
        items = [pystac.Item.from_dict(item) for item in readers.features(config)]
        odc.stac.configure_rio(cloud_defaults=True)
        if codec == "zarrs":
            zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"})
        data = odc.stac.load(
            items,
            bands=config["bands"],
            geobox=readers.geobox(config),
            chunks={"x": SHARD, "y": SHARD, "time": 1},
            groupby="solar_day",
            resampling={"*": "bilinear", "scl": "nearest"},
        )
        with dask.config.set(scheduler="threads", num_workers=config["threads"]):
            write(data, config["out"], plain=codec == "defaults")

    return build


def stackstac() -> Build:
    import dask
    import stackstac  # noqa: F401 - before it is measured

    def build(config: dict) -> None:
        data = readers.stacked(config)
        names = [str(name) for name in data["band"].values]
        layers = data.drop_vars([name for name in data.coords if name not in data.dims]).to_dataset("band")[names]
        layers = layers.rename({dim: "time" for dim in layers.dims if dim == "floor"})
        layers = layers.chunk({dim: 1 if dim not in ("x", "y") else SHARD for dim in layers.dims})
        with dask.config.set(scheduler="threads", num_workers=config["threads"]):
            write(layers, config["out"], plain=False)

    return build


def write(data: Any, out: str, *, plain: bool) -> None:
    """As zarr-python does by itself, or with the codec, the chunks and the shards of our own cubes."""
    from zarr.codecs import BloscCodec

    data = data.drop_attrs()
    for layer in data.data_vars.values():
        layer.encoding.clear()
    encoding = {}
    if not plain:
        sizes = {dim: min(SHARD, -(-data.sizes[dim] // CHUNK) * CHUNK) for dim in ("y", "x")}
        for name, layer in data.data_vars.items():
            size = layer.dtype.itemsize
            blosc = BloscCodec(cname="zstd", clevel=1, shuffle="bitshuffle", typesize=size, blocksize=size * CHUNK**2)
            shards = (1, sizes["y"], sizes["x"])
            encoding[name] = {"chunks": (1, CHUNK, CHUNK), "shards": shards, "compressors": blosc}
    data.to_zarr(out, mode="w", encoding=encoding, consolidated=True)


def gdal_once() -> Build:
    """Every file decoded once by GDAL, two at a time, and nothing done with the pixels: what nobody can go below."""
    from concurrent.futures import ThreadPoolExecutor

    import rasterio

    def decode(href: str) -> None:
        with rasterio.open(href) as file:
            file.read(1)

    def build(config: dict) -> None:
        if config["bounds"] == config["warm"]["bounds"]:
            return
        hrefs = [item["assets"][band]["href"] for item in readers.features(config) for band in config["bands"]]
        with ThreadPoolExecutor(config["threads"]) as pool:
            list(pool.map(decode, hrefs))

    return build


TOOLS: dict[str, Callable[[], Build]] = {
    "stac2cube": stac2cube,
    "GDAL, each file decoded once": gdal_once,
    "odc-stac, zarr's defaults": lambda: odc_stac("defaults"),
    "odc-stac, our codec": lambda: odc_stac("zarr"),
    "odc-stac, our codec, zarrs": lambda: odc_stac("zarrs"),
    "stackstac, our codec": stackstac,
}


def remove(out: str) -> None:
    for leftover in Path(out).parent.glob(f"*{Path(out).name}*"):
        shutil.rmtree(leftover)


def main(tool: str, path: str) -> None:
    config = json.loads(Path(path).read_text())
    begun = time.perf_counter()
    build = TOOLS[tool]()
    remove(config["out"])
    build(config | config["warm"])
    remove(config["out"])
    ready = time.perf_counter()
    figures, _ = readers.measured(lambda: build(config))
    files = [file.stat().st_size for file in Path(config["out"]).rglob("*") if file.is_file()]
    print(json.dumps(figures | {"start": ready - begun, "files": len(files), "written": sum(files)}))


if __name__ == "__main__":
    main(*sys.argv[1:])
