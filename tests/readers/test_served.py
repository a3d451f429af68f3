"""Programs of docs/served.md over a real cube, and a reader of Items, in environments of their own."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pystac
import pytest
import rasterio
from pyproj import Transformer

import stac2cube
from stac2cube.cli import cli
from stac2cube.export.stac import items_of
from stac2cube.maintain.care import tidy
from stac2cube.testing.archive import ArchiveSpec, simulate
from tests.servers.stac_api import StacApi
from tests.stages.test_superres import cube as series

PAGE = Path(__file__).parents[2] / "docs" / "served.md"

PACKAGES = (
    *("titiler.xarray==2.4.0", "xpublish==0.5.2", "lonboard==0.17.0", "rioxarray==0.19.0", "zarr==3.1.6"),
    *("httpx", "pillow"),
)

ASK = """
import json, sys
from fastapi.testclient import TestClient
import lonely, rest, tiles
lon, lat = json.loads(sys.argv[1])
client, words = TestClient(tiles.app), {"cube": "alps", "variable": "B04"}
point = client.get(f"/cubes/point/{lon},{lat}", params=words).json()["values"]
one = client.get(f"/cubes/point/{lon},{lat}", params=words | {"sel": "time=nearest::2022-06-01"}).json()["values"]
import morecantile
tile = morecantile.tms.get("WebMercatorQuad").tile(lon, lat, 13)
path = f"/cubes/tiles/WebMercatorQuad/13/{tile.x}/{tile.y}.png"
picture = client.get(path, params=words | {"sel": "time=nearest::2022-06-01", "rescale": "0,0.4"})
strange = client.get("/cubes/info", params={"url": "/etc/passwd", "variable": "B04"})
told = TestClient(rest.rest.app).get("/datasets/alps/info").json()
print(json.dumps({
    "point": point, "one": one, "tile": [picture.status_code, picture.headers["content-type"], len(picture.content)],
    "strange": strange.status_code, "sizes": told["dimensions"], "bounds": list(lonely.layer.bounds),
}))
"""


@pytest.mark.soak
def test_servers_of_others_show_what_is_in_the_cube(tmp_path: Path) -> None:
    (tmp_path / "alps").mkdir()
    shutil.move(series(tmp_path / "made", (150, 200)), tmp_path / "alps" / "layers.zarr")
    tidy(tmp_path / "alps" / "layers.zarr")
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    for name, block in zip(("tiles", "rest", "lonely"), blocks, strict=True):
        (tmp_path / f"{name}.py").write_text(block)
    (tmp_path / "ask.py").write_text(ASK)
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    subprocess.run([tmp_path / "venv/bin/pip", "install", "-q", *PACKAGES], check=True)
    opened = stac2cube.open_cube(tmp_path / "alps" / "layers.zarr", chunks=None)
    x, y = float(opened.x[50]), float(opened.y[60])
    place = Transformer.from_crs("EPSG:32632", "EPSG:4326", always_xy=True).transform(x, y)
    words = [tmp_path / "venv/bin/python", "ask.py", json.dumps(place)]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    said = json.loads(done.stdout.splitlines()[-1])
    wanted = opened["B04"].values[:, 60, 50]
    np.testing.assert_allclose(said["point"], wanted, rtol=1e-6)
    np.testing.assert_allclose(said["one"], wanted[:1], rtol=1e-6)
    assert said["tile"][:2] == [200, "image/png"]
    assert said["strange"] == 422, "it opens what it was told to serve only"
    assert said["sizes"] == {"time": 2, "y": opened.sizes["y"], "x": opened.sizes["x"]}
    west, south, east, north = said["bounds"]
    assert west < place[0] < east
    assert south < place[1] < north


STACKSTAC = """
import json, sys
import numpy as np, stackstac
item, crs = json.load(open(sys.argv[1])), int(sys.argv[2])
grid = {"epsg": crs, "resolution": 10, "xy_coords": "center"}
stack = stackstac.stack([item], assets=["ndvi"], dtype="float64", fill_value=np.nan, rescale=False, **grid)
x, y = json.loads(sys.argv[3])
values = stack.isel(time=0, band=0).sel(x=x, y=y).values
print(json.dumps([None if value != value else value for value in values.ravel().tolist()]))
"""


@pytest.mark.soak
def test_stackstac_reads_products_of_an_item(tmp_path: Path) -> None:
    archive = simulate(tmp_path / "archive", ArchiveSpec(years=(2024,), dates_per_year=4, tile_px=96))
    (tmp_path / "one.json").write_text(json.dumps(archive.items("earth-search")[-2]))
    words = ["item", str(tmp_path / "one.json"), str(tmp_path / "out"), "--index", "ndvi", "--clear", "-q"]
    assert cli.main(words, standalone_mode=False) == 0
    (item,) = pystac.Catalog.from_file(tmp_path / "out" / "catalog.json").get_items(recursive=True)
    item.make_asset_hrefs_absolute()
    (tmp_path / "item.json").write_text(json.dumps(item.to_dict()))
    with rasterio.open(item.assets["ndvi"].href) as file:
        truth, crs = file.read(1), file.crs.to_epsg()
        x = [file.transform.c + 10 * (column + 0.5) for column in range(file.width)]
        y = [file.transform.f - 10 * (row + 0.5) for row in range(file.height)]
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    subprocess.run([tmp_path / "venv/bin/pip", "install", "-q", "stackstac==0.5.1", "rasterio==1.4.4"], check=True)
    command = [tmp_path / "venv/bin/python", "-c", STACKSTAC, tmp_path / "item.json", str(crs), json.dumps([x, y])]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    values = np.array([np.nan if value is None else value for value in json.loads(done.stdout)]).reshape(truth.shape)
    assert np.isfinite(truth).any()
    np.testing.assert_array_equal(values, truth)


STACAPI = """
import json, sys
from io import BytesIO
import morecantile, numpy as np
from fastapi.testclient import TestClient
from titiler.stacapi.main import app

lon, lat, item, cube_item = json.loads(sys.argv[1])
client, tms = TestClient(app), morecantile.tms.get("WebMercatorQuad")
tile = tms.tile(lon, lat, 14)
at = f"tiles/WebMercatorQuad/14/{tile.x}/{tile.y}.npy"
path, words = f"/collections/products/items/{item}", {"assets": "ndvi"}
point = client.get(f"{path}/point/{lon},{lat}", params=words)
of_item = client.get(f"{path}/{at}", params=words)
of_all = client.get(f"/collections/products/{at}", params=words)
west, south, east, north = tms.xy_bounds(tile)
x, y = tms.xy(lon, lat)
row, column = int((north - y) / (north - south) * 256), int((x - west) / (east - west) * 256)
seen = [np.load(BytesIO(answer.content))[0, row, column].item() for answer in (of_item, of_all)]
zarr = client.get(f"/collections/layers/items/{cube_item}/point/{lon},{lat}", params={"assets": "cube"})
print(json.dumps([point.json(), seen, zarr.status_code, zarr.text]))
"""


@pytest.mark.soak
@pytest.mark.postgres
def test_titiler_serves_items_of_an_api(tmp_path: Path, stac_api: StacApi) -> None:
    archive = simulate(tmp_path / "archive", ArchiveSpec(years=(2024,), dates_per_year=4, tile_px=96))
    (tmp_path / "one.json").write_text(json.dumps(archive.items("earth-search")[-2]))
    words = ["item", str(tmp_path / "one.json"), str(tmp_path / "out"), "--index", "ndvi", "--clear", "-q"]
    assert cli.main(words, standalone_mode=False) == 0
    (item,) = pystac.Catalog.from_file(tmp_path / "out" / "catalog.json").get_items(recursive=True)
    item.make_asset_hrefs_absolute()
    extent = pystac.Extent(pystac.SpatialExtent([item.bbox]), pystac.TemporalExtent([[item.datetime, None]]))
    products = pystac.Collection("products", "Indices", extent)
    item.clear_links()
    item.assets["ndvi"].href = Path(item.assets["ndvi"].href).as_uri()  # a bare path would be one of the API's server
    stac_api.load([products.to_dict()], [item.to_dict() | {"collection": "products"}])
    layers = series(tmp_path / "made", (150,))
    assert cli.main(["publish", str(layers), "--api", stac_api.url], standalone_mode=False) is None
    (published,) = items_of(layers)
    with rasterio.open(item.assets["ndvi"].href) as file:
        truth = file.read(1)
        row, column = np.argwhere(np.isfinite(truth))[len(truth) // 2]
        x, y = file.xy(row, column)
        lon, lat = Transformer.from_crs(file.crs, "EPSG:4326", always_xy=True).transform(x, y)
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    packages = ["titiler.stacapi==2.1.1", "httpx", "pillow"]
    subprocess.run([tmp_path / "venv/bin/pip", "install", "-q", *packages], check=True)
    command = [tmp_path / "venv/bin/python", "-c", STACAPI, json.dumps([lon, lat, item.id, published["id"]])]
    told = os.environ | {"TITILER_STACAPI_STAC_API_URL": stac_api.url}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=told)
    assert done.returncode == 0, done.stderr[-2000:]
    point, seen, code, text = json.loads(done.stdout.splitlines()[-1])
    np.testing.assert_allclose([point["values"][0], *seen], truth[row, column], rtol=1e-6)
    assert code >= 400, text  # it serves images, no Zarr
