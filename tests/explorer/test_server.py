"""What the page's server lets in, what it answers, and that it writes nothing but what it should, where it should."""

from __future__ import annotations

import base64
import http.client
import json
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import geopandas
import pytest
import shapely

from stac2cube.cli.recipes import check_recipe, recipe_at
from stac2cube.errors import BadInputError
from stac2cube.explorer.session import Draft, Explorer, explore, products_of
from stac2cube.model.mission import find_mission, mission_names
from tests.explorer.conftest import World

KML = """<?xml version="1.0"?><kml xmlns="http://www.opengis.net/kml/2.2"><Document><Folder><name>fields</name>
<Placemark><name>one</name><Polygon><outerBoundaryIs><LinearRing><coordinates>
11.0,48.0,500 11.1,48.0,500 11.1,48.1,500 11.0,48.1,500 11.0,48.0,500
</coordinates></LinearRing></outerBoundaryIs></Polygon></Placemark></Folder></Document></kml>"""


def request(
    page: Explorer, method: str = "GET", name: str = "", body: Any = None, **headers: str
) -> tuple[int, Any, http.client.HTTPResponse]:
    connection = http.client.HTTPConnection("127.0.0.1", page.port, timeout=300)
    given = {"Content-Type": "application/json", **{key.replace("_", "-"): value for key, value in headers.items()}}
    sent = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    path = name if name.startswith("/") else urlsplit(page.url).path + name
    connection.request(method, path, sent, given)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    kind = answer.getheader("Content-Type") or ""
    return answer.status, json.loads(content) if "json" in kind else content, answer


def ask(page: Explorer, name: str, /, **said: Any) -> Any:
    status, answer, _ = request(page, "POST", name, said)
    assert status == 200, answer
    return answer


def refused(page: Explorer, name: str, /, **said: Any) -> str:
    status, answer, _ = request(page, "POST", name, said)
    assert status == 422
    return str(answer["problem"])


def sent(*files: Path) -> list[dict[str, str]]:
    return [{"name": file.name, "data": base64.b64encode(file.read_bytes()).decode()} for file in files]


def draft(page: Explorer, world: World, **more: Any) -> dict[str, Any]:
    area = ask(page, "area", files=sent(world.area))
    said = {"area": area["id"], "mission": "sentinel-2-l2a", "catalog": str(world.catalog), "time": "2022"}
    return {**said, "name": "meadow", **more}


def test_only_the_page_is_let_in(explorer: Explorer) -> None:
    secret = urlsplit(explorer.url).path
    assert request(explorer)[0] == 200
    for path in ("/", "/index.html", f"/{'x' * 32}/", secret.rstrip("/"), secret[:-2] + "/"):
        assert request(explorer, name=path)[0] == 403, path
    for host in ("evil.example", f"evil.example:{explorer.port}", "127.0.0.1.evil.example", "", "10.0.0.1"):
        assert request(explorer, Host=host)[0] == 403, host
    for host in ("localhost:9000", "127.0.0.1:1", "[::1]:8765"):
        assert request(explorer, Host=host)[0] == 200, "through a tunnel the port is another"
    assert request(explorer, "POST", "choices", {}, Origin="https://evil.example")[0] == 403
    assert request(explorer, "POST", "choices", {}, Origin="null")[0] == 403
    assert request(explorer, "POST", "choices", {}, Origin="http://localhost:9000")[0] == 200
    assert request(explorer, "POST", "choices", b"{}", Content_Type="text/plain")[0] == 415
    assert request(explorer, "POST", "choices", b"{", Content_Type="application/json")[0] == 400
    assert request(explorer, "POST", "choices", [1])[0] == 400
    assert request(explorer, "POST", "choices", b"", Content_Length=str(2**40))[0] == 413
    assert request(explorer, "POST", "nonsense", {})[0] == 404
    for path in ("../session.py", "%2e%2e/session.py", "nothing.js", "page/app.js"):
        assert request(explorer, name=path)[0] == 404
    listening = {info[4][0] for info in socket.getaddrinfo(socket.gethostname(), explorer.port)} - {"127.0.0.1"}
    for address in listening:
        with pytest.raises(OSError, match=r"refused|unreachable"):
            socket.create_connection((address, explorer.port), timeout=2)


def test_nothing_is_loaded_from_elsewhere_unless_it_is_asked_for(explorer: Explorer, tmp_path: Path) -> None:
    page = explorer._server.page
    assert set(page) >= {"index.html", "style.css", "app.js", "map.js", "icon.svg"}
    assert {name for name in page if "/" in name} == {f"leaflet/{n}" for n in ("LICENSE", "leaflet.css", "leaflet.js")}
    statuses = {"leaflet/leaflet.css": 200, "leaflet": 404, "leaflet/../map.js": 404}
    assert {name: request(explorer, name=name)[0] for name in statuses} == statuses
    # Leaflet names its home in comments and in credits that are switched off; tests in a browser see what is loaded.
    for name, content in page.items():
        if name.startswith("leaflet/"):
            continue
        text = content.decode().replace("http://www.w3.org/2000/svg", "")
        assert "http://" not in text, name
        assert "https://" not in text, name
    policy = request(explorer)[2].getheader("Content-Security-Policy") or ""
    assert "default-src 'self'; img-src 'self' data:;" in policy
    assert request(explorer)[2].getheader("Referrer-Policy") == "no-referrer"
    with explore(tmp_path, tiles="https://tiles.example/{z}/{x}/{y}.png", behind="https://hub.example/me/") as other:
        assert other.url.startswith("https://hub.example/me/")
        path = urlsplit(other.url).path.removeprefix("/me")
        status, _, answer = request(other, name=path, Host="hub.example")
        assert status == 200
        assert "img-src 'self' data: https://tiles.example;" in (answer.getheader("Content-Security-Policy") or "")
        assert request(other, name=path, Host="tiles.example")[0] == 403


def test_land_is_where_land_is(explorer: Explorer) -> None:
    status, answer, _ = request(explorer, name="land.json")
    assert status == 200
    land = shapely.from_geojson(json.dumps(answer))
    inside = {
        name: int(land.contains(shapely.Point(place)))
        for name, place in {
            "Munich": (11.6, 48.1),
            "Nairobi": (36.8, -1.3),
            "Pacific": (-150, 0),
            "Atlantic": (-30, 30),
        }.items()
    }
    assert inside == {"Munich": 1, "Nairobi": 1, "Pacific": 0, "Atlantic": 0}


def test_areas_drawn_written_and_opened(explorer: Explorer, tmp_path: Path) -> None:
    ring = [[11.0, 48.0], [11.1, 48.0], [11.1, 48.1], [11.0, 48.1]]
    drawn = ask(explorer, "area", ring=ring)
    assert shapely.from_geojson(json.dumps(drawn["geometry"])).equals(shapely.Polygon(ring))
    frame = geopandas.GeoSeries([shapely.Polygon(ring)], crs=4326)
    assert drawn["km2"] == pytest.approx(float(frame.to_crs(6933).area.iloc[0]) / 1e6, rel=1e-3)
    assert drawn["crs"] == "EPSG:32632"
    assert ask(explorer, "area", text="11, 48, 11.1, 48.1")["bounds"] == drawn["bounds"]
    point = ask(explorer, "area", text="48.05, 11.05", edge=1000)
    assert point["km2"] == pytest.approx(1, rel=2e-3)
    across = ask(explorer, "area", ring=[[-181, 0], [-179, 0], [-179, 1], [-181, 1]])
    assert across["bounds"] == [179, 0, -179, 1]
    (tmp_path / "fields.kml").write_text(KML)
    opened = ask(explorer, "area", files=sent(tmp_path / "fields.kml"))
    assert (opened["name"], opened["bounds"]) == ("fields", drawn["bounds"])
    for name in ("field.gpkg", "field.shp"):
        frame.to_crs(32632).to_file(tmp_path / name)
        files = sorted(tmp_path.glob(f"{Path(name).stem}.*")) if name.endswith(".shp") else [tmp_path / name]
        files = [file for file in files if file.suffix != ".kml" and (name.endswith("gpkg") or file.suffix != ".gpkg")]
        assert ask(explorer, "area", files=sent(*files))["km2"] == pytest.approx(drawn["km2"], rel=1e-4)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({}, "there is no area"),
        ({"text": "/etc/passwd"}, "write a box"),
        ({"text": "48,11"}, "edge"),
        ({"text": "12,48,11,47"}, "empty or reversed"),
        ({"ring": [[1, 2], [3, 4]]}, "three corners"),
        ({"ring": [[0, 0], [1, 1], [1, 0], [0, 1]]}, "edges cross"),
        ({"ring": [["a", 0], [1, 1], [1, 0]]}, "longitudes and latitudes"),
        ({"files": []}, "no file"),
        ({"files": [{"name": "a.geojson", "data": "?"}]}, "no file"),
        ({"files": [{"name": "../../a.geojson", "data": base64.b64encode(b"{}").decode()}]}, "a.geojson"),
        ({"files": [{"name": "a.kml", "data": base64.b64encode(b"nonsense").decode()}]}, "cannot read area a.kml"),
    ],
)
def test_what_is_no_area(explorer: Explorer, said: dict[str, Any], words: str) -> None:
    problem = refused(explorer, "area", **said)
    assert words in problem
    assert "/tmp" not in problem


def test_a_search_says_what_the_plan_says(explorer: Explorer, world: World) -> None:
    from stac2cube.stages.layers import area_words, prepare, query_of_words

    found = ask(explorer, "search", **draft(explorer, world, time="2022/2023"))
    words = {"mission": "sentinel-2-l2a", "time": "2022/2023", "catalog": str(world.catalog)}
    job = prepare(None, *query_of_words(words | area_words(world.area)))
    plan = job.plan()
    rows, columns = job.spec.grid.shape
    assert [scene["key"] for scene in found["scenes"]] == [step.entry.key for step in plan.todo]
    assert sum(scene["blocks"] for scene in found["scenes"]) == plan.blocks
    stored = sum({"uint16": 2, "uint8": 1}[layer.dtype] for layer in job.spec.layers)
    raw = rows * columns * stored * len(plan.todo)
    assert sum(scene["write"] for scene in found["scenes"]) == pytest.approx(0.55 * raw, abs=len(plan.todo))
    assert (found["grid"]["rows"], found["grid"]["columns"]) == (rows, columns)
    clouds = {step.entry.key: step.entry.properties["cloud_cover"] for step in plan.todo}
    assert {scene["key"]: scene["cloud"] for scene in found["scenes"]} == clouds
    fewer = ask(explorer, "search", **draft(explorer, world, bands=["B04"], resolution=20, time="2022/2023"))
    assert fewer["grid"]["layers"] == ["B04"]
    assert sum(scene["write"] for scene in fewer["scenes"]) < 0.05 * sum(scene["write"] for scene in found["scenes"])


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"area": None}, "there is no area yet"),
        ({"area": 99}, "choose it again"),
        ({"time": ""}, "there is no time yet"),
        ({"time": "20x2"}, "cannot read time '20x2'"),
        ({"time": "1999"}, "no scene of sentinel-2-l2a"),
        ({"mission": "sentinel-9"}, "unknown mission"),
        ({"catalog": "nowhere"}, "unknown catalog"),
        ({"catalog": "http://127.0.0.1:9"}, "does not answer"),
        ({"bands": ["B99"]}, "has no band"),
        ({"resolution": "wide"}, "not understood"),
    ],
)
def test_what_cannot_be_searched_is_said(explorer: Explorer, world: World, said: dict[str, Any], words: str) -> None:
    assert words in refused(explorer, "search", **draft(explorer, world, **said))


def test_writing_stays_in_the_folder_and_replaces_nothing_unasked(explorer: Explorer, world: World) -> None:
    said = draft(explorer, world, max_cloud_cover="40", products=["report"])
    done = ask(explorer, "write", **said)
    path = explorer.folder / "meadow.yaml"
    assert (done["path"], done["command"]) == (str(path), f"stac2cube run {path}")
    assert sorted(file.name for file in explorer.folder.iterdir()) == ["meadow.geojson", "meadow.yaml"]
    assert (explorer.folder / "meadow.geojson").read_bytes() == world.area.read_bytes()
    assert explorer.recipe == path
    recipe = recipe_at(path)
    check_recipe(recipe)
    assert [entry.label for entry in recipe.entries] == ["layers", "report"]
    assert recipe.entries[0].words["max_cloud_cover"] == 40
    before = path.read_bytes()
    assert ask(explorer, "write", **{**said, "time": "2023"}) == {"exists": ["meadow.yaml"]}
    assert path.read_bytes() == before
    ask(explorer, "write", **{**said, "time": "2023"}, replace=True)
    assert path.read_bytes() != before
    for name in ("../meadow", "/tmp/meadow", "a b", ".hidden", "", "a\n", "x" * 65):
        if name:
            assert "a recipe's name" in refused(explorer, "write", **{**said, "name": name})
    assert len(list(explorer.folder.iterdir())) == 2


@pytest.mark.parametrize("mission", mission_names())
def test_every_mission_with_everything_offered_is_a_recipe(mission: str, tmp_path: Path) -> None:
    page = find_mission(mission)
    offered = tuple(product.name for product in products_of(page))
    bands = (next(iter(page.bands)),)
    west, south, *_ = page.coverage
    for chosen in ((), bands):
        time = "" if page.static else "2023"
        text = Draft(0, mission, "auto", time, chosen, products=offered, name="all").recipe(
            f"{west},{south},{west + 1},{south + 1}"
        )
        (tmp_path / "all.yaml").write_text(text)
        recipe = recipe_at(tmp_path / "all.yaml")
        check_recipe(recipe)
        layers = recipe.entries[0]
        if chosen and "ndvi" in offered:
            assert len(layers.words["bands"]) >= 3, "what an index needs is read too"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"folder": "nowhere"}, "is no folder"),
        ({"mission": "sentinel-9"}, "unknown mission"),
        ({"tiles": "https://tiles.example"}, "has {z}, {x} and {y} in it"),
        ({"tiles": "{z}{x}{y}"}, "is no address"),
        ({"behind": "hub"}, "is no address"),
    ],
)
def test_what_cannot_be_opened(words: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=message.replace("{", r"\{").replace("}", r"\}")):
        explore(words.pop("folder", tmp_path), **words)


def test_a_port_that_is_taken(explorer: Explorer, tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="cannot be had"):
        explore(tmp_path, port=explorer.port)


def test_the_command_prints_the_address_and_ends_on_ctrl_c(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "stac2cube", "explore", str(tmp_path), "--no-browser"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        parts = urlsplit(url)
        connection = http.client.HTTPConnection(parts.netloc, timeout=300)
        connection.request("GET", parts.path)
        assert b"stac2cube explore" in connection.getresponse().read()
        connection.close()
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=300)
    assert process.returncode == 0
    assert "the page has ended" in said
    assert parts.path.strip("/") not in said
