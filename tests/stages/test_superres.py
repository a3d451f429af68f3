"""Super-resolution of a simulated series whose ground is known at 5 m."""

from __future__ import annotations

import functools
import hashlib
import http.server
import json
import shlex
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox

pytest.importorskip("torch")

import stac2cube
from stac2cube.build.derived import Parent
from stac2cube.build.plan import Block
from stac2cube.build.status import cube_status
from stac2cube.cli import cli
from stac2cube.errors import BadInputError
from stac2cube.executors.local import Local
from stac2cube.export.report import write_report
from stac2cube.model.grid import Grid
from stac2cube.store.metadata import read_root
from stac2cube.store.reader import differences
from stac2cube.superres import stage as schooling
from stac2cube.superres import weights
from stac2cube.superres.networks import COARSE, FINE
from stac2cube.superres.optics import MTF, degraded, means
from stac2cube.superres.rules import SuperresRules, own_weights, ways_back
from stac2cube.superres.stage import SuperresStep, Upscale, train_on
from stac2cube.testing.archive import write_simulated_cog
from stac2cube.testing.scenes import Sky, view_surface
from tests.items import Json, catalog, item

EDGE = 192
EPSG = 32632
ORIGIN = (720_000, 5_266_500)
LATTICE = GeoBox((EDGE, EDGE), Affine(10, 0, ORIGIN[0], 0, -10, ORIGIN[1]), f"EPSG:{EPSG}")
BANDS = (*FINE, *COARSE)
BACKPROJECT = SuperresRules(backend="backproject")


@functools.cache
def ground(day: int) -> dict[str, np.ndarray]:
    """Reflectance at 5 m, and for the bands of 20 m at 10 m what a sensor of that size would see."""
    at = 5 * (np.arange(2 * EDGE) + 0.5)
    x, y = np.meshgrid(ORIGIN[0] + at, ORIGIN[1] - at)
    seen = view_surface(x, y, day, Sky(1, 0.0, 160.0, 45.0), seed=7).clear
    return {band: seen[band].astype("float32") for band in BANDS}


def at_10_m(day: int, band: str) -> np.ndarray:
    """As a sensor of 10 m would see it."""
    return degraded(ground(day)[band][None], 2, [MTF[band]])[0]


def scene(folder: Path, day: int, hole: bool = False) -> Json:
    assets = {}
    for band in BANDS:
        seen = at_10_m(day, band)
        gsd = 10
        if band in COARSE:
            seen, gsd = degraded(ground(day)[band][None], 4, [MTF[band]])[0], 20
        counts = np.round(seen * 1e4).astype("uint16")
        if hole:
            counts[: counts.shape[0] // 4, : counts.shape[1] // 3] = 0
        assets[band] = folder / f"{day}-{band}.tif"
        write_simulated_cog(assets[band], counts, EPSG, Affine(gsd, 0, ORIGIN[0], 0, -gsd, ORIGIN[1]))
    classes = np.full((EDGE // 2, EDGE // 2), 4, dtype="uint8")
    classes[100:, :20] = 9
    assets["SCL"] = folder / f"{day}-SCL.tif"
    write_simulated_cog(assets["SCL"], classes, EPSG, Affine(20, 0, ORIGIN[0], 0, -20, ORIGIN[1]))
    about = {"platform": "sentinel-2a", "sat:relative_orbit": 65, "s2:processing_baseline": "03.01"}
    date = np.datetime64("2022-01-01") + np.timedelta64(day - 1, "D")
    return item(f"d{day}", "sentinel-2-l2a", assets, datetime=f"{date}T10:20:00Z", **about)


def cube(folder: Path, days: tuple[int, ...], hole: int = 0) -> Path:
    folder.mkdir(exist_ok=True)
    items = catalog(folder / "items.json", [scene(folder, day, day == hole) for day in days])
    words = {"mission": "sentinel-2-l2a", "aoi": LATTICE, "time": "2022", "bands": [*BANDS, "SCL"]}
    stac2cube.get_stac_layers(folder / "layers.zarr", catalog=items, **words)
    return folder / "layers.zarr"


@pytest.fixture(scope="module")
def layers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cube(tmp_path_factory.mktemp("sharp"), (150, 200), hole=200)


def decibel(picture: np.ndarray, truth: np.ndarray) -> float:
    inner = (slice(16, -16), slice(16, -16))
    return float(-10 * np.log10(np.nanmean((picture - truth)[inner] ** 2)))


def test_bands_of_20_m_at_10_m_are_what_a_sensor_would_see(layers: Path, tmp_path: Path) -> None:
    made = stac2cube.super_resolution(layers, tmp_path / "fused.zarr", rules=SuperresRules(target=10))
    before = stac2cube.open_cube(layers)
    assert made.sizes == before.sizes
    for band in FINE:
        np.testing.assert_array_equal(made[band].values[0], before[band].values[0])
    gains = [
        decibel(made[band].values[0], at_10_m(150, band)) - decibel(before[band].values[0], at_10_m(150, band))
        for band in COARSE
    ]
    assert min(gains) > 4, gains
    assert made.residual_mtf.values[0] < 5e-4


@pytest.mark.parametrize("backend", ["native", "backproject", "bicubic"])
def test_every_band_on_a_grid_of_2_5_m(layers: Path, tmp_path: Path, backend: str) -> None:
    made = stac2cube.super_resolution(layers, tmp_path / "out.zarr", rules=SuperresRules(backend=backend))
    before = stac2cube.open_cube(layers)
    assert dict(made.sizes) == {"time": 2, "y": 4 * EDGE, "x": 4 * EDGE}
    assert made.x.values[0] == ORIGIN[0] + 1.25
    assert set(made.data_vars) >= {*BANDS, "SCL"}
    np.testing.assert_array_equal(made.SCL.values, before.SCL.values.repeat(4, axis=1).repeat(4, axis=2))
    hole = np.isnan(before.B04.values[1])
    assert hole.any()
    gone = np.isnan(made.B04.values[1])
    assert gone[hole.repeat(4, axis=0).repeat(4, axis=1)].all(), "what was not seen stays unseen"
    assert gone.mean() < hole.mean() + 0.02
    assert not np.isnan(made.B04.values[0]).any()
    # At 5 m the ground is known: whoever learned or agrees is nearer to it than bicubic.
    at_5_m = means(made.B04.values[0].astype("float32")[None], 2)[0]
    wrong = decibel(at_5_m, ground(150)["B04"])
    plain = stac2cube.super_resolution(layers, tmp_path / "plain.zarr", rules=SuperresRules(backend="bicubic"))
    least = decibel(means(plain.B04.values[0].astype("float32")[None], 2)[0], ground(150)["B04"])
    assert wrong >= least + {"native": 0.8, "backproject": 0.8, "bicubic": 0}[backend]
    if backend != "bicubic":
        assert made.residual_mtf.values[0] < plain.residual_mtf.values[0] / 3


def test_means_are_met_where_that_is_asked_for(layers: Path, tmp_path: Path) -> None:
    made = stac2cube.super_resolution(layers, tmp_path / "out.zarr", rules=SuperresRules(consistency="mean"))
    assert made.residual_mean.values.max() <= 1e-5, "before quantising"
    before = stac2cube.open_cube(layers)
    apart = means(made.B08.values[0].astype("float32")[None], 4)[0] - before.B08.values[0]
    assert np.abs(apart).max() < 6e-5, "a count is 1e-4, means of sixteen rounded ones differ by less than half of it"


def test_tiles_and_places_make_no_seam(tmp_path: Path) -> None:
    layers = cube(tmp_path / "one", (200,), hole=200)
    stac2cube.super_resolution(layers, tmp_path / "a.zarr", rules=SuperresRules(tile=256))
    stac2cube.super_resolution(layers, tmp_path / "b.zarr", rules=SuperresRules(tile=256), place=Local(workers=2))
    assert differences(tmp_path / "a.zarr", tmp_path / "b.zarr") == []
    spec, parent = read_root(tmp_path / "a.zarr").spec, Parent.read(layers)
    rules = SuperresRules(tile=100)
    task = Upscale(spec.layers, rules, rules.weights_of(tmp_path / "a.zarr"))
    (row,) = parent.rows.values()
    made = task(SuperresStep(parent.stored(row), ways_back(parent.spec, spec.layers, row)), Block(spec.grid, (0, 0)))
    stored = stac2cube.open_cube(tmp_path / "a.zarr", decode=False)
    for band in BANDS:
        apart = np.abs(made[band].astype(int) - stored[band].values[0].astype(int))
        assert apart.max() <= 1, band
        assert (apart > 0).mean() < 1e-3, "a count at most, where one was about to be rounded either way"


def test_it_is_extended_and_follows(tmp_path: Path) -> None:
    layers = cube(tmp_path / "c", (150,))
    out = tmp_path / "out.zarr"
    words = ["superres", str(layers), str(out), "--backend", "backproject", "-q"]
    assert cli.main(words, standalone_mode=False) == 0
    cube(tmp_path / "c", (150, 160))
    assert cube_status(out).lacking == 1
    assert cli.main(["update", str(out), "-q"], standalone_mode=False) == 0
    assert cube_status(out).steps == 2
    commit = read_root(out).commit
    assert cli.main(words, standalone_mode=False) == 0
    assert read_root(out).commit == commit
    stac2cube.super_resolution(layers, tmp_path / "whole.zarr", rules=BACKPROJECT)
    assert differences(out, tmp_path / "whole.zarr") == []
    assert "pixels of 2.5 m, not details of 2.5 m" in write_report(out, tmp_path / "r.html").read_text()


@pytest.mark.parametrize("age", [1, 2])
def test_an_older_cube_is_extended_with_the_weights_it_was_made_with(
    age: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    newest, older = weights.all_shipped()[0], weights.all_shipped()[age]
    layers, out = cube(tmp_path / "c", (150,)), tmp_path / "old one.zarr"
    with monkeypatch.context() as then:
        then.setattr(weights, "all_shipped", lambda: [older])
        stac2cube.super_resolution(layers, out, rules=SuperresRules(target=10))
    cube(tmp_path / "c", (150, 160))
    caplog.clear()
    with caplog.at_level("WARNING", "stac2cube"):
        assert cli.main(["update", str(out), "-q"], standalone_mode=False) == 0
    assert read_root(out).spec.recipe["superres"]["weights_sha256"] == older.sha256
    assert cube_status(out).steps == 2
    (said,) = [
        record.getMessage() for record in caplog.records if f"weights that were {older.about};" in record.message
    ]
    command = shlex.split(said.partition("stac2cube ")[2])
    caplog.clear()
    assert cli.main([*command, "-q"], standalone_mode=False) == 0
    again = out.with_name("old one-2.zarr")
    assert read_root(again).spec.recipe["superres"]["weights_sha256"] == newest.sha256
    assert not caplog.records
    given = SuperresRules(target=10, weights=str(older.path))
    stac2cube.super_resolution(layers, tmp_path / "given.zarr", rules=given)
    assert differences(out, tmp_path / "given.zarr") == []


def test_a_cube_teaches_its_own_networks(layers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schooling, "EDGE", 64)  # as if the area were larger
    file = train_on([layers], tmp_path / "own.safetensors", steps={"sharpen": 6, "fuse": 6})
    card = json.loads(file.with_suffix(".json").read_text())
    figures = {(row["step"], row["method"]): row["psnr"] for row in card["figures"]}
    assert figures["10 to 2.5 m", "network, mtf"] > figures["10 to 2.5 m", "bicubic"]
    assert card["parts"]["judged"] >= 1
    again = train_on([layers], tmp_path / "again.safetensors", steps={"sharpen": 6, "fuse": 6})
    assert again.read_bytes() == file.read_bytes(), "the same seed, the same weights"
    out = tmp_path / "out.zarr"
    file.rename(own_weights(out))
    made = stac2cube.super_resolution(layers, out, rules=SuperresRules(backend="selftrain", target=10))
    assert made.sizes["time"] == 2
    hashed = read_root(out).spec.recipe["superres"]["weights_sha256"]
    assert hashed == hashlib.sha256(own_weights(out).read_bytes()).hexdigest()


def test_input_that_makes_no_sense_is_refused(layers: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.zarr"
    for words, message in (
        ({"target": 5}, "target should be one of 2.5, 10, not 5"),
        (
            {"backend": "magic"},
            "backend should be one of native, backproject, .*, onnx, not 'magic'",
        ),
        ({"consistency": "yes"}, "consistency should be one of mtf, mean, none, not 'yes'"),
        ({"tile": 31}, "tile should be a whole number of pixels of 10 m, at least 32, not 31"),
        ({"tile": 33}, "tile should be an even number of pixels, not 33"),
        ({"margin": 10}, "margin should be a whole number of pixels of 10 m, at least 32, not 10"),
        ({"weights": "/nowhere.safetensors"}, "no weights"),
        ({"backend": "sen2sr"}, "stac2cube weights fetch sen2sr"),
    ):
        with pytest.raises(BadInputError, match=message):
            stac2cube.super_resolution(layers, out, rules=SuperresRules(**words))
        assert not out.exists()
    spec = read_root(layers).spec
    few = replace(spec, layers=tuple(layer for layer in spec.layers if layer.name not in ("B05", "B11")))
    with pytest.raises(BadInputError, match="lacks B05, B11"):
        SuperresRules().spec(few, layers, "")
    composed = [replace(layer, dtype="float32", fill=float("nan"), scale=1.0, offset=0.0) for layer in spec.layers]
    with pytest.raises(BadInputError, match="then compose them"):
        SuperresRules().spec(replace(spec, layers=tuple(composed)), layers, "")
    with pytest.raises(BadInputError, match="pixels of 10 m"):
        SuperresRules().spec(replace(spec, grid=replace(spec.grid, resolution=20)), layers, "")
    tile = Grid(spec.grid.crs, 10, spec.grid.origin, (10980, 10980))
    with pytest.raises(BadInputError, match=r"42\.4 GB a date"):
        SuperresRules().spec(replace(spec, grid=tile), layers, "")
    assert SuperresRules(large=True).spec(replace(spec, grid=tile), layers, "").grid.shape == (43920, 43920)


def test_weights_are_fetched_checked_and_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    served, own = tmp_path / "served", tmp_path / "own"
    served.mkdir()
    (served / "a.safetensor").write_bytes(b"weights")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(served))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    table = tmp_path / "config/weights/known.toml"
    table.parent.mkdir(parents=True)
    text = (
        f'[thing]\nurl = "http://127.0.0.1:{server.server_address[1]}"\nlicence = "CC0-1.0"\n'
        'files = [{{ name = "a.safetensor", sha256 = "{}" }}]\n'
    )
    table.write_text(text.format(hashlib.sha256(b"weights").hexdigest()))
    monkeypatch.setenv("STAC2CUBE_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.setenv("STAC2CUBE_WEIGHTS", str(own))
    with pytest.raises(BadInputError, match="weights fetch thing"):
        cli.main(["weights", "verify", "thing"], standalone_mode=False)
    assert cli.main(["weights", "fetch", "thing"], standalone_mode=False) == 0
    assert cli.main(["weights", "verify", "thing"], standalone_mode=False) == 0
    assert cli.main(["weights", "list"], standalone_mode=False) == 0
    (own / "thing/a.safetensor").write_bytes(b"other")
    with pytest.raises(BadInputError, match="damaged or another"):
        cli.main(["weights", "verify", "thing"], standalone_mode=False)
    (own / "thing/a.safetensor").unlink()
    table.write_text(text.format("0" * 64))
    with pytest.raises(BadInputError, match="damaged or another"):
        cli.main(["weights", "fetch", "thing"], standalone_mode=False)
    assert list((own / "thing").iterdir()) == [], "nothing wrong is kept"
    server.shutdown()
