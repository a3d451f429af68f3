"""Programs of docs/served.md over a real cube, in an environment of their own."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pyproj import Transformer

import stac2cube
from stac2cube.maintain.care import tidy
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
