"""What other readers are asked: the CRS, and the value of a layer at some times and places.

Each is a program of its own, run by a Python that has the reader and not this package. It gets a path, a layer and
points ``[[time, x, y], ...]`` as JSON, and prints ``{"epsg": ..., "values": [...]}``, null where there is no data.
"""

from __future__ import annotations

HEAD = """
import json, sys, warnings
warnings.simplefilter("ignore")
import numpy as np
path, layer, points = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
def answer(epsg, values):
    values = [float(value) for value in values]
    print(json.dumps({"epsg": int(epsg), "values": [None if value != value else value for value in values]}))
def physical(numbers, attributes):
    numbers = np.asarray(numbers)
    values = numbers * attributes.get("scale_factor", 1.0) + attributes.get("add_offset", 0.0)
    return np.where(numbers == attributes["_FillValue"], np.nan, values) if "_FillValue" in attributes else values
def place(times, x, y, point):
    time = int(np.datetime64(point[0], "us").astype("int64"))
    return int(np.flatnonzero(times == time)[0]), int(np.abs(y - point[2]).argmin()), int(np.abs(x - point[1]).argmin())
"""

XARRAY = (
    HEAD
    + """
import xarray as xr
from pyproj import CRS
data = OPEN
found = [data[layer].sel(time=np.datetime64(t), x=x, y=y, method="nearest") for t, x, y in points]
assert all(abs(one.time.values - np.datetime64(t)) < np.timedelta64(2, "us") for one, (t, _, _) in zip(found, points))
answer(CRS.from_cf(data.spatial_ref.attrs).to_epsg(), [one.values for one in found])
"""
)
PLAIN = XARRAY.replace("OPEN", "xr.open_zarr(path, chunks=None).sortby('time')")
NETCDF = XARRAY.replace("OPEN", "xr.open_dataset(path).sortby('time')")

RIOXARRAY = (
    HEAD
    + """
import rioxarray, xarray as xr
data = xr.open_dataset(path) if path.endswith(".nc") else xr.open_zarr(path, chunks=None)
data = data[[layer]].sortby("time")
half = data.isel(x=slice(1, None, 2), y=slice(1, None, 2))[layer]
assert half.rio.resolution() == tuple(2 * size for size in data.rio.resolution())
found = [data[layer].sel(time=np.datetime64(t), method="nearest").sel(x=x, y=y, method="nearest") for t, x, y in points]
answer(data.rio.crs.to_epsg(), [one.values for one in found])
"""
)

ZARR = (
    HEAD
    + """
import zarr
PIPELINE
group = zarr.open_group(path, mode="r")
times, x, y = group["time"][:], group["x"][:], group["y"][:]
array, epsg = group[layer], int(group["spatial_ref"][...])
answer(epsg, [physical(array[place(times, x, y, point)], dict(array.attrs)) for point in points])
"""
)
ZARR_PYTHON = ZARR.replace("PIPELINE", "")
ZARRS = ZARR.replace("PIPELINE", "zarr.config.set({'codec_pipeline.path': 'zarrs.ZarrsCodecPipeline'})")

TENSORSTORE = (
    HEAD
    + """
import tensorstore as ts
def opened(name):
    where = {"driver": "file", "path": f"{path}/{name}"}
    return ts.open({"driver": "zarr3", "kvstore": where}, open=True, read=True).result()
times, x, y = (opened(name).read().result() for name in ("time", "x", "y"))
array, attributes = opened(layer), json.load(open(f"{path}/{layer}/zarr.json"))["attributes"]
epsg = json.load(open(f"{path}/zarr.json"))["attributes"]["proj:code"].removeprefix("EPSG:")
answer(epsg, [physical(array[place(times, x, y, point)].read().result(), attributes) for point in points])
"""
)

GDAL_NETCDF = (
    HEAD
    + """
import rasterio
with rasterio.open(f"netcdf:{path}:{layer}") as file:
    days = [file.tags(band) for band in file.indexes]
    unit, since = file.tags()["time#units"].split(" since ")
    start = np.datetime64(since.replace(" ", "T"), "us").astype("int64")
    times = np.array([start + round(1e6 * float(tags["NETCDF_DIM_time"])) for tags in days])
    values = []
    for t, x, y in points:
        off = np.abs(times - int(np.datetime64(t, "us").astype("int64")))
        assert off.min() <= 1000, "GDAL writes times with few digits"
        band = int(off.argmin()) + 1
        value = next(file.sample([(x, y)], band))[0]
        gone = file.nodata is not None and (value == file.nodata or value != value)
        values.append(np.nan if gone else value * file.scales[band - 1] + file.offsets[band - 1])
    answer(file.crs.to_epsg(), values)
"""
)
