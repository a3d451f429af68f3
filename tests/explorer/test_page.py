"""The page in a real browser: draw, pick, search, read the calendar, write, and run the command it prints."""

from __future__ import annotations

import http.server
import shlex
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from stac2cube.explorer.session import Explorer
from stac2cube.stages.layers import area_words, get_stac_layers, prepare, query_of_words
from stac2cube.store.reader import differences, open_cube
from tests.explorer.conftest import World
from tests.explorer.test_server import KML


def opened(page: Page, explorer: Explorer) -> Page:
    page.goto(explorer.url)
    expect(page.locator("#mission option")).not_to_have_count(0)
    return page


def show(page: Page, box: tuple[float, float, float, float]) -> None:
    """Look at a place: write it as the area, which the map then shows."""
    page.fill("#area-text", ", ".join(map(str, box)))
    page.click("#area-set")
    expect(page.locator("#area-facts")).to_contain_text("km²")
    page.wait_for_timeout(100)


def found(page: Page) -> None:
    page.click("#search")
    expect(page.locator("#summary")).to_contain_text("scenes")


def test_draw_pick_write_and_run(page: Page, explorer: Explorer, world: World) -> None:
    outside: list[str] = []
    page.on("request", lambda sent: outside.append(sent.url) if not sent.url.startswith(explorer.url) else None)
    opened(page, explorer)
    show(page, world.box)
    written = page.input_value("#area-text")
    page.click("#rectangle")
    expect(page.locator("#hint")).to_contain_text("Drag a rectangle")
    canvas = page.locator("#map").bounding_box()
    assert canvas is not None
    middle = canvas["x"] + canvas["width"] / 2, canvas["y"] + canvas["height"] / 2
    page.mouse.move(middle[0] - 60, middle[1] - 40)
    page.mouse.down()
    page.mouse.move(middle[0] + 60, middle[1] + 40, steps=4)
    page.mouse.up()
    expect(page.locator("#area-text")).not_to_have_value(written)
    west, south, east, north = map(float, page.input_value("#area-text").split(","))
    assert (west + east) / 2 == pytest.approx((world.box[0] + world.box[2]) / 2, abs=2e-4), "it lies where it was drawn"
    assert (south + north) / 2 == pytest.approx((world.box[1] + world.box[3]) / 2, abs=2e-4)

    page.fill("#time", "2022/2023")
    page.press("#time", "Tab")
    found(page)
    cells = page.locator(".scene")
    query, options = query_of_words(
        {"mission": "sentinel-2-l2a", "time": "2022/2023", "catalog": str(world.catalog)}
        | area_words(f"{west},{south},{east},{north}")
    )
    scenes = prepare(None, query, options).scenes
    assert {cell.get_attribute("data-day") for cell in cells.all()} == {f"{s.key.day}" for s in scenes}
    clear = [scene for scene in scenes if (scene.cloud_cover or 0) <= 30]
    assert 0 < len(clear) < len(scenes)
    page.fill("#cloud", "30")
    expect(page.locator("#summary b").first).to_have_text(str(len(clear)))
    expect(page.locator(".scene.beyond")).to_have_count(len(scenes) - len(clear))
    expect(page.locator("#summary")).to_contain_text("on disk")
    day = clear[0].key.day
    page.click(f".scene[data-day='{day}']")
    expect(page.locator("#picked")).to_contain_text(f"{clear[0].time:%Y-%m-%d %H:%M:%S} UTC")
    expect(page.locator("#picked")).to_contain_text(clear[0].granules[0].tile)
    page.keyboard.press("ArrowRight")
    following = sorted({scene.key.day for scene in scenes if scene.key.day > day})[0]
    expect(page.locator("#picked")).to_contain_text(f"{following}")

    page.locator("#products label", has_text="NDVI").click()
    page.fill("#name", "meadow")
    page.click("#write")
    command = page.inner_text("#command")
    assert outside == [], "nothing came from anywhere else"
    words = shlex.split(command)
    assert words[:2] == ["stac2cube", "run"]
    done = subprocess.run(
        [sys.executable, "-m", *words, "-q"], capture_output=True, text=True, timeout=900, check=False
    )
    assert done.returncode == 0, done.stderr
    cubes = explorer.folder / "meadow"
    assert open_cube(cubes / "layers.zarr").sizes["time"] == len(clear)
    assert sorted(path.name for path in cubes.iterdir()) == [
        "indices.zarr",
        "layers.zarr",
        "report-indices.html",
        "report.html",
    ]
    get_stac_layers(
        cubes / "asked.zarr",
        mission="sentinel-2-l2a",
        aoi=str(explorer.folder / "meadow.geojson"),
        time="2022/2023",
        max_cloud_cover=30,
        catalog=str(world.catalog),
    )
    assert differences(cubes / "layers.zarr", cubes / "asked.zarr") == []


def test_a_polygon_is_drawn_by_clicks_and_by_keys(page: Page, explorer: Explorer, world: World) -> None:
    opened(page, explorer)
    show(page, world.box)
    first = page.inner_text("#area-facts")
    page.click("#polygon")
    for x, y in ((300, 200), (500, 220), (450, 400)):
        page.mouse.click(x, y)
    expect(page.locator("#hint")).to_contain_text("closes it")
    page.mouse.click(300, 200)
    expect(page.locator("#area-facts")).not_to_have_text(first)
    expect(page.locator("#polygon")).to_have_attribute("aria-pressed", "false")
    second = page.inner_text("#area-facts")
    page.focus("#map")
    for key in ("r", "ArrowLeft", " ", *["ArrowRight"] * 2, *["ArrowDown"] * 2, " "):
        page.keyboard.press(key)
    expect(page.locator("#area-facts")).not_to_have_text(second)
    page.keyboard.press("p")
    expect(page.locator("#polygon")).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("Escape")
    expect(page.locator("#hint")).to_be_empty()


def test_a_kml_is_opened_and_lies_beside_the_recipe(page: Page, explorer: Explorer, tmp_path: Path) -> None:
    file = tmp_path / "fields.kml"
    file.write_text(KML)
    opened(page, explorer)
    with page.expect_file_chooser() as chooser:
        page.click("#open")
    chooser.value.set_files(file)
    expect(page.locator("#area-facts")).to_contain_text("fields")
    assert page.input_value("#area-text") == "11.0000, 48.0000, 11.1000, 48.1000"
    assert page.input_value("#name") == "fields"
    page.click("#write")
    expect(page.locator("#command")).to_contain_text("fields.yaml")
    assert (explorer.folder / "fields.kml").read_text() == KML
    assert "aoi: fields.kml" in (explorer.folder / "fields.yaml").read_text()
    page.click("#write")
    expect(page.locator("#written")).to_contain_text("fields.yaml is there already")
    page.get_by_role("button", name="Replace").click()
    expect(page.locator("#command")).to_contain_text("fields.yaml")


def test_what_is_wrong_is_said_clearly(page: Page, explorer: Explorer, tmp_path: Path) -> None:
    opened(page, explorer)
    problem = page.locator("#problem")
    expect(problem).to_be_hidden()
    page.click("#search")
    expect(problem).to_contain_text("there is no area yet")
    (tmp_path / "a.kml").write_text("nonsense")
    page.set_input_files("#files", tmp_path / "a.kml")
    expect(problem).to_contain_text("cannot read area a.kml")
    show(page, (0, 0, 1, 1))
    expect(problem).to_be_hidden()
    page.fill("#time", "1999")
    page.click("#search")
    expect(problem).to_contain_text("no scene of sentinel-2-l2a")
    explorer.stop()
    page.click("#search")
    expect(problem).to_contain_text("stac2cube does not answer")
    explorer._thread.join()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_phone_everything_fits(page: Page, explorer: Explorer, world: World, scheme: str) -> None:
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    page.set_viewport_size({"width": 390, "height": 844})
    opened(page, explorer)
    show(page, world.box)
    page.fill("#time", "2022")
    found(page)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    widths = page.locator("button:visible, input[type=text], select").evaluate_all(
        "all => all.map(one => one.getBoundingClientRect()).map(({left, right}) => [left, right])"
    )
    assert all(left >= 0 and right <= 390 for left, right in widths)
    tall = [page.locator(place).bounding_box() for place in ("#search", "#calendar", "#write")]
    assert [box["y"] for box in tall if box] == sorted(box["y"] for box in tall if box), "in the order of the work"
    cell = page.locator(".scene").first.bounding_box()
    assert cell is not None
    assert cell["width"] > 8


def test_every_control_has_a_name_and_is_reached_by_the_keyboard(page: Page, explorer: Explorer, world: World) -> None:
    opened(page, explorer)
    show(page, world.box)
    page.fill("#time", "2022")
    found(page)
    nameless = page.evaluate("""() => [...document.querySelectorAll("button, input, select, canvas, [role=button]")]
      .filter(one => !(one.ariaLabel || one.textContent.trim() || one.labels?.length)).map(one => one.outerHTML)""")
    assert nameless == []
    page.focus("#map")
    reached = []
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.getAttribute('class')"))
    wanted = {
        "rectangle",
        "polygon",
        "open",
        "area-text",
        "mission",
        "catalog",
        "time",
        "cloud",
        "search",
        "name",
        "write",
    }
    assert wanted <= set(reached)
    assert any(name and name.startswith("scene") for name in reached)


def test_it_shows_itself_in_a_notebook(page: Page, explorer: Explorer) -> None:
    html = f"<!doctype html><h1>Notebook</h1>{explorer._repr_html_()}".encode()

    class Notebook(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(html)

        def log_message(self, *_args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Notebook) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        page.goto(f"http://127.0.0.1:{server.server_address[1]}/")
        frame = page.frame_locator("iframe")
        expect(frame.locator("#mission option")).not_to_have_count(0)
        expect(frame.locator("h1")).to_contain_text("stac2cube")
        server.shutdown()
