"""Timelapses, sliders and quicklooks, opened with Pillow, ffprobe and a real browser."""

from __future__ import annotations

import builtins
import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page
from pyproj import Geod, Transformer

import stac2cube
from stac2cube.cli import cli, main
from stac2cube.errors import BadInputError
from stac2cube.export.animation import (
    STRIP,
    Compass,
    Film,
    frames_from,
    frames_of,
    legend_text,
    length_text,
    nice_length,
    period_text,
    write_timelapse,
)
from stac2cube.export.pictures import write_slider
from stac2cube.model.grid import Grid
from stac2cube.views.options import Hiding, Style, TimeSelection
from stac2cube.views.render import NO_DATA
from tests.views.cubes import DATES, GRID, key, make_cube

ROWS, COLUMNS = GRID.shape
FACTOR = 6
"""By which pictures of 70 columns are enlarged."""


@pytest.fixture(scope="module")
def cube(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_cube(tmp_path_factory.mktemp("pictures") / "layers.zarr")


def frames(path: Path) -> list[np.ndarray]:
    with Image.open(path) as image:
        found = []
        for number in range(image.n_frames):
            image.seek(number)
            found.append(np.asarray(image.convert("RGB")))
    return found


def test_a_gif_shows_every_step_under_one_stretch(cube: Path, tmp_path: Path) -> None:
    words = ["timelapse", str(cube), str(tmp_path / "t.gif"), "--show", "cir", "--seconds", "0.5"]
    assert cli.main(words, standalone_mode=False) is None
    found = frames(tmp_path / "t.gif")
    assert len(found) == len(DATES)
    assert found[0].shape == (ROWS * FACTOR + STRIP, COLUMNS * FACTOR, 3)
    with Image.open(tmp_path / "t.gif") as image:
        assert image.info["duration"] == 500
        assert image.info["loop"] == 0
    wanted = stac2cube.rgb(stac2cube.open_cube(cube), "cir", nodata="grey").values
    for number, frame in enumerate(found):
        pixels = frame[FACTOR // 2 : ROWS * FACTOR : FACTOR, FACTOR // 2 :: FACTOR]
        off = np.abs(pixels.astype(int) - wanted[number]).mean(axis=-1)
        assert np.median(off) < 12, "256 colours for all of them"
    for colour in ((214, 69, 65), (46, 160, 67), (65, 105, 225)):
        strip = found[0][ROWS * FACTOR :]
        assert (strip == colour).all(axis=-1).sum() > 60, "the legend's swatches"


def test_the_timeline_and_the_date_go_on(cube: Path, tmp_path: Path) -> None:
    write_timelapse(cube, tmp_path / "t.gif")
    found = frames(tmp_path / "t.gif")
    row = ROWS * FACTOR + 1
    reached = [int((frame[row].mean(axis=-1) < 60).sum()) for frame in found]
    assert reached == sorted(reached)
    first, last = (np.datetime64(DATES[place]) for place in (0, -1))
    for number, date in enumerate(DATES):
        assert reached[number] == pytest.approx(
            COLUMNS * FACTOR * (np.datetime64(date) - first) / (last - first), abs=8
        )
    dates = [frame[ROWS * FACTOR + 8 : ROWS * FACTOR + 34, :160] for frame in found]
    assert len({date.tobytes() for date in dates}) == len(DATES)


@pytest.mark.skipif(shutil.which("ffprobe") is None, reason="ffprobe is not installed (tests/setup-services does)")
def test_an_mp4_is_h264_that_every_player_shows(cube: Path, tmp_path: Path) -> None:
    pytest.importorskip("av")
    film = Film(look=Style("ndvi"), hiding=Hiding("clouds"), seconds=0.4, title="Lech")
    write_timelapse(cube, tmp_path / "t.mp4", film)
    words = ["ffprobe", "-v", "error", "-count_frames", "-show_streams", "-of", "json", str(tmp_path / "t.mp4")]
    (stream,) = json.loads(subprocess.run(words, check=True, capture_output=True).stdout)["streams"]
    assert (stream["codec_name"], stream["pix_fmt"]) == ("h264", "yuv420p")
    said = {stream[f"color_{part}"] for part in ("space", "transfer", "primaries")} | {stream["color_range"]}
    assert said == {"bt709", "tv"}, "players need not guess"
    assert (stream["width"] % 2, stream["height"] % 2) == (0, 0)
    assert (stream["width"], stream["height"]) == (COLUMNS * FACTOR, ROWS * FACTOR + STRIP)
    assert int(stream["nb_read_frames"]) == 10 * len(DATES)
    assert float(stream["duration"]) == pytest.approx(0.4 * len(DATES), abs=0.05)
    assert [path.name for path in tmp_path.iterdir()] == ["t.mp4"]
    words = ["ffmpeg", "-v", "error", "-i", str(tmp_path / "t.mp4"), "-frames:v", "1", str(tmp_path / "first.png")]
    subprocess.run(words, check=True)
    shown = np.asarray(Image.open(tmp_path / "first.png").convert("RGB")).astype(int)
    off = np.abs(shown[: ROWS * FACTOR] - np.array([209, 209, 209])).max(axis=-1)
    assert (off <= 2).sum() > 500, "and show the grey of no data as it was drawn"


def test_the_legend_names_what_is_without_data_and_every_class(cube: Path, tmp_path: Path) -> None:
    hidden = frames_of(cube, hiding=Hiding("clouds"), look=Style("ndvi")).legend
    assert hidden.swatches == (NO_DATA,)
    assert legend_text(hidden).endswith("; grey: no data")
    write_timelapse(cube, tmp_path / "t.gif", Film(look=Style("SCL"), title="the classes of a scene, " * 4))
    legend = frames_of(cube, look=Style("SCL")).legend
    strip = frames(tmp_path / "t.gif")[0][ROWS * FACTOR + 6 :].astype(int)
    assert len(strip) > STRIP, "there is room for every row, and the notice stands below"
    for colour, meaning in legend.swatches:
        assert (np.abs(strip - colour).max(axis=-1) <= 4).sum() > 60, meaning


def test_without_av_an_mp4_is_refused_before_anything_is_read(
    cube: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def without(name: str, *words: object, **more: object) -> object:
        if name in ("av", "color_operations"):
            raise ImportError(name)
        return real(name, *words, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(BadInputError, match=r"pip install 'stac2cube\[pictures\]', or write a \.gif"):
        write_timelapse(cube, tmp_path / "t.mp4")
    with pytest.raises(BadInputError, match=r"pip install 'stac2cube\[pictures\]'"):
        write_timelapse(cube, tmp_path / "t.gif", Film(look=Style(balance="saturation 1.2")))
    assert not list(tmp_path.iterdir())


def test_a_slider_moves_in_a_browser(cube: Path, tmp_path: Path, page: Page) -> None:
    words = ["slider", str(cube), "2023-03-02", "2022-12-20", str(tmp_path / "s.html"), "--show", "swir"]
    assert cli.main(words, standalone_mode=False) is None
    text = (tmp_path / "s.html").read_text()
    assert "http" not in text.replace("<!doctype html>", ""), "it needs nothing from anywhere"
    failures: list[str] = []
    page.on("pageerror", lambda error: failures.append(str(error)))
    page.on("console", lambda said: failures.append(said.text) if said.type == "error" else None)
    page.set_content(text)
    assert page.locator(".date.left").inner_text().startswith("2023-03-02")
    assert page.locator(".date.right").inner_text().startswith("2022-12-20")
    assert page.evaluate("[...document.images].every(image => image.complete && image.naturalWidth === 420)")
    line, pair = page.locator(".line"), page.locator("#pair").bounding_box()
    assert pair is not None
    for part in (0.25, 0.8):
        page.mouse.click(pair["x"] + part * pair["width"], pair["y"] + pair["height"] / 2)
        box = line.bounding_box()
        assert box is not None
        assert (box["x"] + 1 - pair["x"]) / pair["width"] == pytest.approx(part, abs=0.03)
        clip = page.locator("img.left").evaluate("image => getComputedStyle(image).clipPath")
        hidden = float(clip.split("calc(")[-1].split("%")[0].split("(")[-1].split()[1].removesuffix("%"))
        assert hidden == pytest.approx(100 * (1 - part), abs=3)
    page.set_viewport_size({"width": 360, "height": 700})
    left, right = (page.locator(f".date.{side}").bounding_box() for side in ("left", "right"))
    assert left is not None
    assert right is not None
    assert left["y"] + left["height"] <= right["y"] or left["x"] + left["width"] <= right["x"], "on a phone, too"
    page.locator("#at").focus()
    page.keyboard.press("Home")
    assert page.locator("#at").input_value() == "0"
    assert not failures
    with pytest.raises(BadInputError, match="shows two steps"):
        write_slider(cube, (key(0), key(0)), tmp_path / "n.html")
    with pytest.raises(BadInputError, match="there is no step"):
        write_slider(cube, (key(0), "2020-01-01"), tmp_path / "n.html")


def test_quicklooks_show_what_is_asked_for(cube: Path, tmp_path: Path) -> None:
    for name, show in (("true", ""), ("ndvi", "ndvi"), ("scl", "SCL"), ("band", "B08"), ("bands", "nir,B12,blue")):
        words = ["quicklook", str(cube), str(tmp_path / f"{name}.png"), "--show", show, "--time", "2023"]
        assert cli.main(words, standalone_mode=False) is None
    sheets = {path.stem: np.asarray(Image.open(path).convert("RGB")) for path in tmp_path.iterdir()}
    assert len({sheet.tobytes() for sheet in sheets.values()}) == 5
    assert not (np.ptp(sheets["band"].astype(int), axis=-1) > 0).any(), "a band by itself is grey"


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["t.avi"], r"is a \.gif or an \.mp4"),
        (["t.gif", "--show", "NDXI"], "nothing called 'NDXI' to show"),
        (["t.gif", "--ramp", "rainbows", "--show", "ndvi"], "unknown colour map 'rainbows'"),
        (["t.gif", "--time", "2019"], "no step in 2019"),
        (["t.gif", "--width", "20"], "at least 420 pixels"),
        (["t.gif", "--max-cloud", "10"], "cloud cover of the steps is unknown"),
        (["t.gif", "--stretch", "p98-p2"], "a stretch is"),
        (["t.gif", "--show", "B8A,B02"], "three bands, not 2"),
    ],
)
def test_what_is_wrong_is_said(cube: Path, tmp_path: Path, words: list[str], problem: str) -> None:
    with pytest.raises(BadInputError, match=problem):
        cli.main(["timelapse", str(cube), str(tmp_path / words[0]), *words[1:]], standalone_mode=False)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("words", [["timelapse", "t.gif"], ["quicklook", "q.png"], ["series", "point.csv"]])
def test_a_place_that_cannot_be_written_is_one_line(
    cube: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    point = ["47.85,9.002"] if words[0] == "series" else []
    monkeypatch.setattr("sys.argv", ["stac2cube", words[0], str(cube), *point, f"/proc/{words[1]}"])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr().err.splitlines()[-1]
    assert (ended.value.code, said.count("No such file or directory")) == (1, 1)
    assert said.startswith("stac2cube: /proc/")


def test_steps_by_how_cloudy_they_are(cube: Path) -> None:
    dataset = stac2cube.open_cube(cube).assign_coords(cloud_cover=("time", [0, 90, 30, 10, 50, 20, 5]))
    assert TimeSelection(max_cloud=20).of(dataset)["time"].dt.strftime("%F").values.tolist() == [
        DATES[place] for place in (0, 3, 5, 6)
    ]
    counted = dataset.assign_coords(cloud_fraction=("time", [0.9, 0, 0, 0, 0, 0, 0.1]))
    assert TimeSelection(max_cloud=5).of(counted).sizes["time"] == 5
    with pytest.raises(BadInputError, match="allow more"):
        TimeSelection(max_cloud=-1).of(dataset)


@pytest.mark.parametrize(
    ("crs", "origin", "resolution"),
    [("EPSG:32632", (720_000, 5_266_500), 10.0), ("EPSG:4326", (10.0, 60.5), 0.001), ("EPSG:3857", (1e6, 8e6), 10.0)],
)
def test_scale_and_north_are_those_on_the_ground(crs: str, origin: tuple[float, float], resolution: float) -> None:
    grid = Grid(crs, resolution, origin, (1000, 1000))
    compass = Compass.of(grid)
    globe = Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    x, y = origin[0] + 500 * resolution, origin[1] - 500 * resolution
    west, east = globe.transform(x - 300 * resolution, y), globe.transform(x + 300 * resolution, y)
    assert compass.metres == pytest.approx(Geod(ellps="WGS84").inv(*west, *east)[2] / 600, rel=1e-4)
    up = globe.transform(x, y + resolution)
    azimuth = Geod(ellps="WGS84").inv(*globe.transform(x, y), *up)[0]
    assert compass.north == pytest.approx(-azimuth, abs=0.01), "where up points to, seen from north, is how north leans"
    if crs == "EPSG:32632":
        assert compass.north == pytest.approx(-2.15, abs=0.3), "east of a zone's middle north leans to the left"


def test_smooth_pictures_of_stored_numbers_are_those_of_decoded_ones(cube: Path) -> None:
    stored, decoded = (stac2cube.open_cube(cube, decode=decode).isel(time=[1]) for decode in (False, True))
    one, other = (frames_from(some, cube, edge=40, smooth=True).pictures for some in (stored, decoded))
    np.testing.assert_array_equal(one, other)


def test_periods_of_composites_are_named(cube: Path, tmp_path: Path) -> None:
    for day, period, text in (
        ("2022-12-01", "season", "Dec-Feb 2022/23"),
        ("1999-12-01", "season", "Dec-Feb 1999/00"),
        ("2023-06-01", "season", "Jun-Aug 2023"),
        ("2023-06-01", "month", "2023-06"),
        ("2023-01-01", "year", "2023"),
        ("2023-03-06", "10D", "2023-03-06 +10D"),
    ):
        assert period_text(day, period) == text
    stac2cube.store_composites(cube, tmp_path / "c.zarr", stac2cube.Composition("season", layers=("B02", "B03", "B04")))
    assert frames_of(tmp_path / "c.zarr").titles == ("Dec-Feb 2022/23", "Mar-May 2023", "Dec-Feb 2023/24")


def test_round_lengths() -> None:
    assert [nice_length(length) for length in (1, 1.9, 7, 49, 50, 999, 2400)] == [1, 1, 5, 20, 50, 500, 2000]
    assert [length_text(length) for length in (20, 500, 2000)] == ["20 m", "500 m", "2 km"]
