"""What other readers are asked: the CRS, and the values of layers at some times and places.

Each is a program of its own, run by a Python (or Node) that has the reader and not this package. It gets a list of
questions ``[path, layer, [[time, x, y], ...]]`` as JSON, and prints ``[[epsg, values], ...]``, null where there is no
data.
"""

from __future__ import annotations

HEAD = """
import json, sys, warnings
warnings.simplefilter("ignore")
import numpy as np
def answer(read):
    answers = []
    for path, layer, points in json.loads(sys.argv[1]):
        epsg, values = read(path, layer, points)
        values = [float(value) for value in values]
        answers.append([int(epsg), [None if value != value else value for value in values]])
    print(json.dumps(answers))
def physical(numbers, attributes):
    numbers = np.asarray(numbers)
    values = numbers * attributes.get("scale_factor", 1.0) + attributes.get("add_offset", 0.0)
    return np.where(numbers == attributes["_FillValue"], np.nan, values) if "_FillValue" in attributes else values
def nearest(axis, at):
    # A centre of a pixel is asked for: a coordinate is there, to a millionth of a pixel.
    axis = np.asarray(axis)
    place = int(np.abs(axis - at).argmin())
    assert abs(axis[place] - at) <= 1e-6 * abs(axis[1] - axis[0]), (axis[place], at)
    return place
def middle(place):
    # The same of a place that a transform gives, in pixels from the edge of the first.
    assert abs(place % 1 - 0.5) < 1e-6, place
    return int(place)
def step(times, time):
    off = np.abs(np.asarray(times, "datetime64[us]") - np.datetime64(time, "us"))
    assert off.min() <= np.timedelta64(1, "us"), (time, times)  # xarray's nanoseconds of floats cut the last digit
    return int(off.argmin())
def pixel(data, layer, point):
    at = {"time": step(data.time.values, point[0]), "x": nearest(data.x, point[1]), "y": nearest(data.y, point[2])}
    return data[layer].isel(at).values
def place(times, x, y, point):
    time = int(np.datetime64(point[0], "us").astype("int64"))
    return int(np.flatnonzero(times == time)[0]), nearest(y, point[2]), nearest(x, point[1])
"""

XARRAY = (
    HEAD
    + """
import xarray as xr
from pyproj import CRS
PREPARE
def read(path, layer, points):
    data = OPEN
    return CRS.from_cf(data.spatial_ref.attrs).to_epsg(), [pixel(data, layer, point) for point in points]
answer(read)
"""
)
PLAIN = XARRAY.replace("OPEN", "xr.open_zarr(path, chunks=None).sortby('time')").replace("PREPARE", "")
DASK = XARRAY.replace("OPEN", "xr.open_zarr(path, chunks='auto', drop_variables='scene').sortby('time')").replace(
    "PREPARE", ""
)
NETCDF = XARRAY.replace("OPEN", "xr.open_dataset(path).sortby('time')").replace("PREPARE", "")

VIRTUALIZARR = """
import os
import icechunk, xarray as xr
from obspec_utils.registry import ObjectStoreRegistry
from obstore.store import LocalStore
from virtualizarr import open_virtual_dataset
from virtualizarr.parsers import ZarrParser


def adopt(cube, repository):
    folder = os.path.dirname(os.path.abspath(cube)) + "/"
    virtual = open_virtual_dataset(
        url="file://" + os.path.abspath(cube),
        registry=ObjectStoreRegistry({"file://": LocalStore()}),
        parser=ZarrParser(),
        loadable_variables=["time", "x", "y", "scene", "spatial_ref"],  # copied; of layers, only where their files lie
    )
    config = icechunk.RepositoryConfig.default()
    files = icechunk.local_filesystem_store(folder)
    config.set_virtual_chunk_container(icechunk.VirtualChunkContainer("file://" + folder, files))
    repo = icechunk.Repository.create(
        icechunk.local_filesystem_storage(repository),
        config=config,
        authorize_virtual_chunk_access=icechunk.containers_credentials({"file://" + folder: None}),
    )
    session = repo.writable_session("main")
    virtual.vz.to_icechunk(session.store, validate_containers=False)  # it would compare file:/ with file:///
    session.commit(f"adopt {cube}")
    return repo
"""
"""The recipe of docs/readers.md."""

ICECHUNK = XARRAY.replace(
    "PREPARE",
    VIRTUALIZARR
    + """
import tempfile
def adopted(path):
    folder = tempfile.mkdtemp()
    session = adopt(path, folder).readonly_session("main")
    kept = sum(os.path.getsize(f"{at}/{name}") for at, _, names in os.walk(folder) for name in names)
    data = xr.open_zarr(session.store, consolidated=False)
    assert kept < 200_000 + 0.1 * data.nbytes, "no pixel is copied"
    return data
""",
).replace("OPEN", "adopted(path).sortby('time')")

RIOXARRAY = (
    HEAD
    + """
import rioxarray, xarray as xr
def read(path, layer, points):
    data = xr.open_dataset(path) if path.endswith(".nc") else xr.open_zarr(path, chunks=None)
    data = data[[layer]].sortby("time")
    half = data.isel(x=slice(1, None, 2), y=slice(1, None, 2))[layer]
    assert np.allclose(half.rio.resolution(), [2 * size for size in data.rio.resolution()], rtol=1e-9)
    left, bottom, right, top = data.rio.bounds()
    corner = {"type": "Polygon", "coordinates": [[(left, bottom), (right, bottom), (left, top), (left, bottom)]]}
    gone = data[layer].isel(time=0).rio.clip([corner], drop=False).values[0, -1]
    assert gone != gone or gone == data[layer].attrs["nodata"], "what is clipped away lacks data"
    values = []
    for point in points:
        column, row = map(middle, ~data.rio.transform() * point[1:])
        values.append(pixel(data, layer, point))
        at = {"time": step(data.time.values, point[0]), "x": column, "y": row}
        assert np.array_equal(data[layer].isel(at).values, values[-1], equal_nan=True)
    return data.rio.crs.to_epsg(), values
answer(read)
"""
)

ODC = (
    HEAD
    + """
import odc.geo.xr, xarray as xr
def read(path, layer, points):
    data = xr.open_zarr(path, chunks=None).sortby("time")[layer]
    box = data.odc.geobox
    values = []
    for t, x, y in points:
        column, row = map(middle, ~box.transform * (x, y))
        values.append(data.isel(time=step(data.time.values, t), x=column, y=row).values)
    return box.crs.to_epsg(), values
answer(read)
"""
)

ZARR = (
    HEAD
    + """
import zarr
PIPELINE
def read(path, layer, points):
    group = zarr.open_group(path, mode="r")
    times, x, y = group["time"][:], group["x"][:], group["y"][:]
    array, epsg = group[layer], int(group["spatial_ref"][...])
    return epsg, [physical(array[place(times, x, y, point)], dict(array.attrs)) for point in points]
answer(read)
"""
)
ZARR_PYTHON = ZARR.replace("PIPELINE", "")
ZARRS = ZARR.replace("PIPELINE", "zarr.config.set({'codec_pipeline.path': 'zarrs.ZarrsCodecPipeline'})")

TENSORSTORE = (
    HEAD
    + """
import tensorstore as ts
def read(path, layer, points):
    def opened(name):
        where = {"driver": "file", "path": f"{path}/{name}"}
        return ts.open({"driver": "zarr3", "kvstore": where}, open=True, read=True).result()
    times, x, y = (opened(name).read().result() for name in ("time", "x", "y"))
    array, attributes = opened(layer), json.load(open(f"{path}/{layer}/zarr.json"))["attributes"]
    epsg = json.load(open(f"{path}/zarr.json"))["attributes"]["proj:code"].removeprefix("EPSG:")
    return epsg, [physical(array[place(times, x, y, point)].read().result(), attributes) for point in points]
answer(read)
"""
)

RASTERIO = (
    HEAD
    + """
import os, rasterio
def measured(file, band, x, y):
    for part in ~file.transform * (x, y):
        middle(part)
    value = next(file.sample([(x, y)], band))[0]
    gone = file.nodata is not None and (value == file.nodata or value != value)
    return np.nan if gone else value * file.scales[band - 1] + file.offsets[band - 1]
"""
)

GDAL_NETCDF = (
    RASTERIO
    + """
def read(path, layer, points):
    with rasterio.open(f"netcdf:{path}:{layer}") as file:
        days = [file.tags(band) for band in file.indexes]
        unit, since = file.tags()["time#units"].split(" since ")
        start = np.datetime64(since.replace(" ", "T"), "us").astype("int64")
        times = np.array([start + round(1e6 * float(tags["NETCDF_DIM_time"])) for tags in days])
        values = []
        for t, x, y in points:
            off = np.abs(times - int(np.datetime64(t, "us").astype("int64")))
            assert off.min() <= 1000, "GDAL writes times with few digits"
            values.append(measured(file, int(off.argmin()) + 1, x, y))
        return file.crs.to_epsg(), values
answer(read)
"""
)

COG = (
    RASTERIO
    + """
def read(path, layer, points):
    files = {}
    for name in os.listdir(path):
        file = rasterio.open(os.path.join(path, name))
        files[np.datetime64(file.tags()["time"].rstrip("Z"), "us")] = file
    values = []
    for t, x, y in points:
        file = files[np.datetime64(t, "us")]
        values.append(measured(file, file.descriptions.index(layer) + 1, x, y))
    return file.crs.to_epsg(), values
answer(read)
"""
)

RIOXARRAY_COG = (
    HEAD
    + """
import os, rioxarray
def read(path, layer, points):
    files = {}
    for name in os.listdir(path):
        data = rioxarray.open_rasterio(os.path.join(path, name), mask_and_scale=True)
        files[np.datetime64(data.attrs["time"].rstrip("Z"), "us")] = data
    band = list(data.attrs["long_name"]).index(layer) if data.sizes["band"] > 1 else 0
    values = []
    for t, x, y in points:
        data = files[np.datetime64(t, "us")].isel(band=band)
        for part in ~data.rio.transform() * (x, y):
            middle(part)
        values.append(data.isel(x=nearest(data.x, x), y=nearest(data.y, y)).values)
    return data.rio.crs.to_epsg(), values
answer(read)
"""
)

TERRA = """
suppressPackageStartupMessages({library(terra); library(jsonlite)})
read <- function(job) {
  layer <- rast(job[[1]], subds = job[[2]])
  times <- as.numeric(time(layer))
  value <- function(point) {
    moment <- as.numeric(as.POSIXct(point[[1]], format = "%Y-%m-%dT%H:%M:%OS", tz = "UTC"))
    step <- which.min(abs(times - moment))
    stopifnot(abs(times[step] - moment) < 1)  # terra keeps whole seconds
    asked <- cbind(point[[2]], point[[3]])
    stopifnot(abs(xyFromCell(layer, cellFromXY(layer, asked)) - asked) < 1e-6 * res(layer))
    extract(layer[[step]], asked)[1, 1]
  }
  list(as.integer(crs(layer, describe = TRUE)$code), vapply(job[[3]], value, 0))
}
jobs <- fromJSON(commandArgs(TRUE)[1], simplifyVector = FALSE)
cat(toJSON(lapply(jobs, read), digits = NA, na = "null", auto_unbox = TRUE), "\\n")
"""

GDAL_ZARR = (
    HEAD
    + """
import importlib.util, os
root = importlib.util.find_spec("pyramids").submodule_search_locations[0]
sys.path.append(os.path.join(root, "_vendor"))
from osgeo import gdal, osr
osr.SetPROJSearchPaths([os.path.join(root, "_data", "proj_data")])
gdal.SetConfigOption("GDAL_DATA", os.path.join(root, "_data", "gdal_data"))
gdal.UseExceptions()
said = []
gdal.PushErrorHandler(lambda kind, number, text: said.append(text))
def read(path, layer, points):
    group = gdal.OpenEx(path, gdal.OF_MULTIDIM_RASTER).GetRootGroup()
    assert not group.GetGroupNames(), group.GetGroupNames()
    times = np.frombuffer(group.OpenMDArray("time").Read(), "int64")
    flat = gdal.Open(f'ZARR:"{path}":/{layer}')
    left, width, _, top, _, height = flat.GetGeoTransform()
    values = []
    for t, x, y in points:
        band = flat.GetRasterBand(int(np.flatnonzero(times == np.datetime64(t, "us").astype("int64"))[0]) + 1)
        number = band.ReadAsArray(middle((x - left) / width), middle((y - top) / height), 1, 1)[0, 0]
        fill = band.GetNoDataValue()
        gone = fill is not None and (number == fill or number != number)
        values.append(np.nan if gone else number * (band.GetScale() or 1) + (band.GetOffset() or 0))
    assert not said, said
    return flat.GetSpatialRef().GetAuthorityCode(None), values
answer(read)
"""
)

RIO_TILER = (
    HEAD
    + """
import rioxarray, xarray as xr
from rio_tiler.io.xarray import XarrayReader
def read(path, layer, points):
    data, values = xr.open_zarr(path, chunks=None).sortby("time"), []
    for t, x, y in points:
        with XarrayReader(data[layer].isel(time=[step(data.time.values, t)])) as reader:
            west, _, east, north = reader.bounds
            middle((x - west) / (east - west) * data.sizes["x"]), middle((north - y) / reader.transform[0])
            values.append(reader.point(x, y, coord_crs=reader.crs).array.astype("float64").filled(np.nan)[0])
            epsg = reader.crs.to_epsg()
    return epsg, values
answer(read)
"""
)

ZARRITA = """
import * as zarr from "zarrita";
import { FileSystemStore } from "@zarrita/storage";
const answers = [];
for (const [path, layer, points] of JSON.parse(process.argv[2])) {
  const group = await zarr.open.v3(new FileSystemStore(path), { kind: "group" });
  const opened = (name) => zarr.open.v3(group.resolve(name), { kind: "array" });
  const whole = async (name) => (await zarr.get(await opened(name))).data;
  const [times, x, y, array] = [await whole("time"), await whole("x"), await whole("y"), await opened(layer)];
  const nearer = (at) => (axis, best, i) => (Math.abs(axis[i] - at) < Math.abs(axis[best] - at) ? i : best);
  const nearest = (axis, at) => {
    const found = [...axis.keys()].reduce((best, i) => nearer(at)(axis, best, i), 0);
    if (Math.abs(axis[found] - at) > 1e-6 * Math.abs(axis[1] - axis[0])) throw new Error(`${axis[found]} is not ${at}`);
    return found;
  };
  const { _FillValue: fill, scale_factor: scale = 1, add_offset: offset = 0 } = array.attrs;
  const values = [];
  for (const [t, px, py] of points) {
    const [seconds, fraction = ""] = t.split(".");
    const moment = BigInt(Date.parse(seconds + "Z")) * 1000n + BigInt(fraction.padEnd(6, "0").slice(0, 6));
    const step = times.indexOf(moment);
    const number = await zarr.get(array, [step, nearest(y, py), nearest(x, px)]);
    const gone = number === fill || Number.isNaN(number);
    values.push(gone ? null : Number(number) * scale + offset);
  }
  answers.push([Number(group.attrs["proj:code"].split(":")[1]), values]);
}
console.log(JSON.stringify(answers));
"""

QGIS = """
import json
import re
import sys
from datetime import datetime, timedelta

from osgeo import gdal
from qgis.core import QgsApplication, QgsPointXY, QgsRasterLayer, QgsStacController

gdal.UseExceptions()


def opened(uri):
    layer = QgsRasterLayer(uri, "asked", "gdal")
    assert layer.isValid(), f"{uri}: {layer.error().summary()}"
    return layer


def values(layer, points, bands):
    found, box = [], layer.extent()
    width, height = box.width() / layer.width(), box.height() / layer.height()
    for (_, x, y), band in zip(points, bands):
        # The centre of a pixel was asked for.
        for part in ((x - box.xMinimum()) / width, (box.yMaximum() - y) / height):
            assert abs(part % 1 - 0.5) < 1e-6, part
        value, there = layer.dataProvider().sample(QgsPointXY(x, y), band)
        found.append(value if there else None)
    return [layer.crs().authid(), found]


def moments_of_cube(path):
    # GDAL's classic raster does not say them, its arrays do.
    group = gdal.OpenEx(path, gdal.OF_MULTIDIM_RASTER).GetRootGroup()
    count = memoryview(group.OpenMDArray("time").Read()).cast("q").tolist()
    return [datetime(1970, 1, 1) + timedelta(microseconds=number) for number in count]


def moments_of_bands(layer):
    # QGIS names the bands of a NetCDF "Band 1: time=37200 (seconds since 2022-05-30 00:00:00)".
    names = [layer.bandName(band) for band in range(1, layer.bandCount() + 1)]
    told = [re.search(r"time=([-+\\d.e]+) \\(seconds since ([\\d-]+ [\\d:]+)\\)", name) for name in names]
    return [datetime.fromisoformat(one[2]) + timedelta(seconds=float(one[1])) for one in told]


def nearest(moments, time):
    asked = datetime.fromisoformat(time[:26])
    band = min(range(len(moments)), key=lambda place: abs(moments[place] - asked))
    assert abs(moments[band] - asked) < timedelta(milliseconds=1), (time, moments)
    return band + 1


def of_zarr(path, layer, points):
    moments = moments_of_cube(path)
    return values(opened(f'ZARR:"{path}":/{layer}'), points, [nearest(moments, time) for time, _, _ in points])


def of_netcdf(path, layer, points):
    shown = opened(f'NETCDF:"{path}":{layer}')
    moments = moments_of_bands(shown)
    return values(shown, points, [nearest(moments, time) for time, _, _ in points])


def of_cog(path, layer, points):
    shown, time = opened(path), gdal.Open(path).GetMetadataItem("time")
    assert all(nearest([datetime.fromisoformat(time.rstrip("Z"))], asked) for asked, _, _ in points)
    names = [shown.bandName(band).split(": ")[-1] for band in range(1, shown.bandCount() + 1)]
    return values(shown, points, [names.index(layer) + 1] * len(points))


def of_item(path, asset, points):
    item = QgsStacController().openLocalItem(path)
    box = item.boundingBox().toRectangle()
    told = [item.id(), item.properties()["datetime"]]
    told.append([box.xMinimum(), box.yMinimum(), box.xMaximum(), box.yMaximum()])
    if not asset:
        return told
    uri = item.assets()[asset].uri()
    assert (uri.layerType, uri.providerKey) == ("raster", "gdal"), uri
    return [*told, *values(opened(uri.uri), points, [1] * len(points))]


KINDS = {"zarr": of_zarr, "netcdf": of_netcdf, "cog": of_cog, "item": of_item}

if __name__ == "__main__":
    application = QgsApplication([], False)
    application.initQgis()
    with open(sys.argv[1]) as file:
        jobs = json.load(file)
    print(json.dumps([KINDS[kind](*words) for kind, *words in jobs]), flush=True)
    application.exitQgis()
"""
"""For the Python of QGIS, which opens cubes, exports and STAC Items as QGIS does.

It gets a file of jobs as JSON: ``[kind, path, layer, [[time, x, y], ...]]`` with the kinds ``zarr``, ``netcdf``,
``cog`` and ``item``. It prints one line: for each job the CRS and the value of each point, null where there is no data;
for ``item`` before them the id, the time and the box.
"""

TABLES_OF_GDAL = """
import json
import sys
from osgeo import gdal

gdal.UseExceptions()
answers = []
for path, column in json.load(open(sys.argv[1])):
    opened = gdal.OpenEx(path, gdal.OF_VECTOR)
    layer, rows = opened.GetLayer(0), []
    names = [field.GetName() for field in layer.schema]
    for feature in layer:
        moment = feature.GetFieldAsISO8601DateTime("time" if "time" in names else "datetime")
        middle = feature.GetGeometryRef().Centroid()
        rows.append([moment, middle.GetX(), middle.GetY(), feature.GetField(column) if column else None])
    answers.append([layer.GetSpatialRef().ExportToWkt(), rows])
print(json.dumps(answers))
"""
"""For GDAL's Python: of each ``[path, column]`` the CRS, and of each row the time, the place and the value."""

TABLES_OF_QGIS = """
import json
import sys

from qgis.core import QgsApplication, QgsVectorLayer


def told(path, column):
    layer = QgsVectorLayer(path, "asked", "ogr")  # what adding the file does
    assert layer.isValid(), f"{path}: {layer.error().summary()}"
    name, rows = "time" if "time" in layer.fields().names() else "datetime", []
    for feature in layer.getFeatures():
        moment = feature[name].toUTC().toString("yyyy-MM-ddTHH:mm:ss.zzz") + "Z"
        middle = feature.geometry().centroid().asPoint()
        value = feature[column] if column else None
        rows.append([moment, middle.x(), middle.y(), value if isinstance(value, (int, float)) else None])
    return [layer.crs().toWkt(), rows]


if __name__ == "__main__":
    application = QgsApplication([], False)
    application.initQgis()
    with open(sys.argv[1]) as file:
        jobs = json.load(file)
    print(json.dumps([told(*job) for job in jobs]), flush=True)
    application.exitQgis()
"""
"""The same for the Python of QGIS."""

ARROW_OF_R = """
suppressPackageStartupMessages({library(arrow); library(jsonlite)})
read <- function(job) {
  table <- read_parquet(job[[1]], as_data_frame = FALSE)
  name <- if ("time" %in% names(table)) "time" else "datetime"
  stopifnot(table$schema$GetFieldByName(name)$type$timezone() == "UTC")
  values <- if (nchar(job[[2]])) as.vector(table[[job[[2]]]]) else NULL
  list(sprintf("%.6f", as.numeric(as.vector(table[[name]]))), values)
}
jobs <- fromJSON(readLines(commandArgs(TRUE)[1]), simplifyVector = FALSE)
cat(toJSON(lapply(jobs, read), digits = NA, na = "null"), "\\n")
"""
"""For R: of each ``[path, column]`` the seconds since 1970 of its rows, and the values of the column ("" for none)."""

STAC = (
    HEAD
    + """
import odc.stac, pystac, rustac, stac_geoparquet.arrow, xarray as xr, xpystac

folders, products, table = json.loads(sys.argv[1])
told = []
for folder, layer, points in folders:
    collection = pystac.Collection.from_file(folder + "/collection.json")
    items = list(collection.get_items())
    assert all(item.get_collection().id == collection.id and item.get_root() is not None for item in items)
    documents = [item.to_dict() for item in items]
    rows = stac_geoparquet.arrow.parse_stac_items_to_arrow(documents).read_all()
    assert rows.num_rows == len(items) and sorted(rows["id"].to_pylist()) == sorted(item.id for item in items)
    assert {str(time) for time in rows["datetime"].to_pylist()} == {str(item.datetime) for item in items}
    rustac.write_sync(table, documents)
    assert sorted(item["id"] for item in rustac.read_sync(table)["features"]) == sorted(item.id for item in items)
    values = []
    for owner in (collection, items[0]):
        asset = owner.assets["cube"]
        plain = xr.open_dataset(asset.href, **asset.extra_fields["xarray:open_kwargs"])
        for data in (xr.open_dataset(asset, engine="stac").sortby("time"), plain.sortby("time")):
            values.append([float(pixel(data, layer, point)) for point in points])
    crs = items[0].properties["proj:code"].removeprefix("EPSG:")
    told.append([int(crs), [[None if value != value else value for value in row] for row in values]])
(item,) = pystac.Catalog.from_file(products).get_items(recursive=True)
loaded = odc.stac.load([item], bands=["ndvi"])
print(json.dumps([told, str(loaded.odc.crs), [loaded.x.values.tolist(), loaded.y.values.tolist()],
                  np.where(np.isnan(loaded.ndvi[0]), None, loaded.ndvi[0]).tolist()]))
"""
)
"""Published STAC of every product in readers of STAC, and of ``stac2cube item`` in odc-stac."""
