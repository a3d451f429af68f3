"""Exports, opened by other tools: GDAL, rio-cogeo, xarray with h5netcdf, IOOS's compliance checker."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import rasterio
import xarray as xr
from rasterio.features import geometry_mask
from rio_cogeo.cogeo import cog_validate
from shapely.geometry import Polygon, mapping

import stac2cube
from stac2cube.build.loop import build
from stac2cube.build.plan import Step
from stac2cube.cli import cli
from stac2cube.errors import BadInputError, CubeMismatchError
from stac2cube.executors.base import Threads
from stac2cube.export import export as exporting
from stac2cube.export.export import Export, export
from stac2cube.export.netcdf import export_netcdf
from stac2cube.model.cube_spec import CubeSpec, Layer
from stac2cube.model.grid import Grid
from stac2cube.store.ledger import SEALED, Entry
from stac2cube.views.options import Style, TimeSelection
from tests.build import toy
from tests.views.cubes import BANDS, DATES, GRID, classes, counts, key, make_cube

TRIANGLE = Polygon([(500_055, 5_299_950), (500_605, 5_299_800), (500_205, 5_299_350)])


@pytest.fixture(scope="module")
def cube(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_cube(tmp_path_factory.mktemp("export") / "layers.zarr")


def run(*words: object) -> None:
    assert cli.main([str(word) for word in words], standalone_mode=False) is None


def test_a_step_is_a_valid_cog_with_all_that_a_gis_wants(cube: Path, tmp_path: Path) -> None:
    run("export", cube, tmp_path / "one.tif", "--step", "2023-01-25", "-q")
    valid, errors, warnings = cog_validate(tmp_path / "one.tif", strict=True)
    assert (valid, errors, warnings) == (True, [], [])
    with rasterio.open(tmp_path / "one.tif") as file:
        assert file.crs.to_epsg() == 32632
        assert file.transform.to_gdal() == (500000.0, 10.0, 0.0, 5300000.0, 0.0, -10.0)
        assert file.descriptions == BANDS
        assert file.nodata == 0
        assert (file.scales[0], file.offsets[0]) == (1e-4, -0.1)
        assert (file.scales[-1], file.offsets[-1]) == (1, 0)
        for band, name in enumerate(BANDS, start=1):
            expected = classes(2) if name == "SCL" else counts(name, 2)
            np.testing.assert_array_equal(file.read(band), expected)
        assert file.tags()["scene"] == key(2)
        assert file.tags()["time"].startswith("2023-01-25T10:20")


@pytest.mark.parametrize("shape", [(1, 1), (7, 1), (1, 7)])
def test_a_row_or_column_of_pixels_has_a_place_in_a_netcdf(shape: tuple[int, int], tmp_path: Path) -> None:
    """Coordinates of a single pixel tell no step, which GDAL needs; of larger grids they suffice."""
    grid = Grid("EPSG:32733", 10.0, (500000.0, 6300000.0), shape, chunk=(8, 8), shard=(8, 8))
    steps = [Step(Entry("toy_1", datetime(2023, 1, 1, tzinfo=UTC), SEALED, ("i",)), 0, ((0, 0),))]
    build(tmp_path / "a.zarr", replace(toy.SPEC, grid=grid), steps, toy.Make(), Threads(1))
    file = export_netcdf(tmp_path / "a.zarr", tmp_path / "a.nc")
    with rasterio.open(f"netcdf:{file}:{toy.SPEC.layers[0].name}") as opened:
        assert (opened.shape, opened.crs.to_epsg()) == (shape, 32733)
        assert opened.transform.to_gdal() == (500000.0, 10.0, 0.0, 6300000.0, 0.0, -10.0)
    with xr.open_dataset(file) as opened:
        assert (opened.x[0], opened.y[0]) == (500005.0, 6299995.0)


def test_a_large_step_has_overviews_of_means_that_know_nodata(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    grid = Grid("EPSG:32632", 10.0, (500000.0, 5300000.0), (1100, 1040), chunk=(256, 256), shard=(2048, 2048))
    spec = CubeSpec("layers", grid, (Layer("B02", "uint16", 0, 1e-4, -0.1),), {"mission": "sentinel-2-l2a"})
    entry = next(iter(toy.steps(range(1)))).entry
    build(tmp_path / "large.zarr", spec, [Step(entry, None, ((0, 0),))], _halves, Threads(1))
    run("export", tmp_path / "large.zarr", tmp_path / "large.tif", "-q")
    assert cog_validate(tmp_path / "large.tif", strict=True)[0]
    with rasterio.open(tmp_path / "large.tif") as file:
        assert file.overviews(1) == [2, 4]
        np.testing.assert_array_equal(file.read(1), _halves(None, None)["B02"])
    with rasterio.open(tmp_path / "large.tif", overview_level=0) as file:
        small = file.read(1)
    assert set(np.unique(small[:, :260])) == {0}
    assert set(np.unique(small[:, 260:])) == {2000}, "no mean of nodata and 2000"


def _halves(_payload: object, _block: object) -> dict[str, np.ndarray]:
    pixels = np.full((1100, 1040), 2000, "uint16")
    pixels[:, :521] = 0
    return {"B02": pixels}


def test_a_folder_may_have_a_dot_in_its_name(cube: Path, tmp_path: Path) -> None:
    for name, suffix in (("maps.v2", "cog"), ("maps.2023", "netcdf")):
        (tmp_path / name).mkdir()
        files = export(cube, tmp_path / name, Export(layers=("B02",), format=suffix))
        assert {file.parent for file in files} == {tmp_path / name}
        assert all(file.is_file() for file in files)


def test_a_composite_with_floats_and_counts_fits_into_one_file(cube: Path, tmp_path: Path) -> None:
    stac2cube.store_composites(cube, tmp_path / "c.zarr")
    files = export(tmp_path / "c.zarr", tmp_path / "months")
    assert [file.name for file in files] == [
        f"{month}01_month.tif" for month in ("202212", "202301", "202303", "202401")
    ]
    made = stac2cube.open_cube(tmp_path / "c.zarr")
    with rasterio.open(files[1]) as file:
        assert np.isnan(file.nodata)
        assert file.descriptions[-1] == "n_valid"
        np.testing.assert_array_equal(file.read(1), made.B02.values[1])
        np.testing.assert_array_equal(file.read(len(file.descriptions)), made.n_valid.values[1])
    shown = stac2cube.to_reflectance(made, layers=None)
    assert shown.B02.attrs["standard_name"] == "surface_bidirectional_reflectance"
    # How often a pixel was seen is known where it has no data, too.
    seen = np.isfinite(made.B02.values).mean(axis=(1, 2))
    np.testing.assert_allclose(made.valid_fraction.values, seen, atol=1e-6)
    stac2cube.store_composites(tmp_path / "c.zarr", tmp_path / "r.zarr", stac2cube.Composition("season", window="120D"))
    export(tmp_path / "r.zarr", tmp_path / "r.nc")
    with xr.open_dataset(tmp_path / "r.nc", decode_cf=False) as file:
        told = "time: median (comment: over 120D about the middle of each period)"
        assert file.B02.attrs["cell_methods"] == told
        assert "cell_methods" not in file.n_valid.attrs


def test_a_clip_that_holds_no_pixel_is_refused(cube: Path, tmp_path: Path) -> None:
    speck = mapping(_degrees(Polygon([(500_051, 5_299_901), (500_053, 5_299_901), (500_052, 5_299_903)])))
    with pytest.raises(BadInputError, match="holds the centre of no pixel"):
        export(cube, tmp_path / "none", Export(clip=speck))
    assert not (tmp_path / "none").exists()


def test_a_clip_across_the_antimeridian(tmp_path: Path) -> None:
    grid = Grid("EPSG:4326", 0.01, (179.0, -16.0), (100, 200))
    spec = CubeSpec("layers", grid, (Layer("B02", "uint16", 0),))
    step = Step(Entry("a", datetime(2023, 1, 1, tzinfo=UTC), SEALED, ("i",)), None, tuple(grid.tiles()))
    assert build(tmp_path / "a.zarr", spec, [step], _everywhere, Threads(1)).exit_code == 0
    export(tmp_path / "a.zarr", tmp_path / "a.tif", Export(clip="179.5,-16.9,-179.5,-16.1"))
    with rasterio.open(tmp_path / "a.tif") as file:
        assert file.bounds == pytest.approx((179.5, -16.9, 180.5, -16.1))
        assert (file.read(1) == 7).all()


def _everywhere(_payload: object, _block: object) -> dict[str, np.ndarray]:
    return {"B02": np.full((100, 200), 7, "uint16")}


def test_clipped_to_a_polygon(cube: Path, tmp_path: Path) -> None:
    outline = {"type": "Feature", "properties": {}, "geometry": mapping(_degrees(TRIANGLE))}
    export(cube, tmp_path / "c.tif", Export(clip=outline, choice=TimeSelection(steps=("2023-01-25",)), layers=("B08",)))
    with rasterio.open(tmp_path / "c.tif") as file:
        left = round((file.transform.c - 500000) / 10)
        top = round((5300000 - file.transform.f) / 10)
        assert (left, top) == (5, 5)
        assert file.shape == (60, 56)
        inside = geometry_mask([TRIANGLE], GRID.shape, GRID.geobox.transform, invert=True)[
            top : top + 60, left : left + 56
        ]
        np.testing.assert_array_equal(
            file.read(1), np.where(inside, counts("B08", 2)[top : top + 60, left : left + 56], 0)
        )
    with pytest.raises(BadInputError, match="lies outside the cube"):
        export(
            cube, tmp_path / "d.tif", Export(clip=(11.0, 40.0, 11.1, 40.1), choice=TimeSelection(steps=("2023-01-25",)))
        )
    assert not (tmp_path / "d.tif").exists()


def _degrees(shape: Polygon) -> Polygon:
    from odc.geo.geom import Geometry

    return Geometry(shape, "EPSG:32632").to_crs("EPSG:4326").geom


def test_a_mosaic_of_cubes_on_one_lattice(cube: Path, tmp_path: Path) -> None:
    """Two parts of the cube, as cubes of their own, give the whole again; the first wins where both have data."""
    left, right = tmp_path / "left.zarr", tmp_path / "right.zarr"
    _part(left, 0, 40, 0)
    _part(right, 30, 70, 7)
    run("export", left, right, tmp_path / "m.tif", "--step", "2023-01-25", "-q")
    run("export", cube, tmp_path / "w.tif", "--step", "2023-01-25", "-q")
    with rasterio.open(tmp_path / "m.tif") as mosaic, rasterio.open(tmp_path / "w.tif") as whole:
        assert mosaic.transform == whole.transform
        expected = whole.read(1).astype(int)
        expected[:, 40:] = np.where(expected[:, 40:] > 0, expected[:, 40:] + 7, 0)
        both = slice(30, 40)
        np.testing.assert_array_equal(mosaic.read(1)[:, both], expected[:, both])
        np.testing.assert_array_equal(mosaic.read(1), expected)
    _part(tmp_path / "beside.zarr", 0, 40, 0, shift=3.0)
    with pytest.raises(CubeMismatchError, match="beside each other by a fraction"):
        export([left, tmp_path / "beside.zarr"], tmp_path / "n.tif")
    with pytest.raises(CubeMismatchError, match="different layers"):
        export([left, cube], tmp_path / "n.tif")
    with pytest.raises(BadInputError, match="go with one cube"):
        export([left, right], tmp_path / "n.tif", Export(hiding=stac2cube.Hiding(clouds="clouds.zarr")))


def _part(path: Path, first: int, last: int, more: int, shift: float = 0.0) -> None:
    from datetime import UTC, datetime

    from stac2cube.build.loop import build
    from stac2cube.build.plan import Step
    from stac2cube.executors.base import Threads
    from stac2cube.model.cube_spec import CubeSpec, Layer
    from stac2cube.model.grid import Grid
    from stac2cube.store.ledger import Entry

    grid = Grid("EPSG:32632", 10.0, (500000.0 + 10 * first + shift, 5300000.0), (90, last - first), (32, 32), (64, 64))
    spec = CubeSpec("layers", grid, (Layer("B02", "uint16", 0, 1e-4, -0.1),), {"mission": "sentinel-2-l2a"})

    def draw(_payload: object, block: object) -> dict[str, np.ndarray]:
        pixels = counts("B02", 2)[:, first:last]
        pixels = np.where(pixels > 0, pixels + more, 0).astype("uint16")
        return {"B02": pixels[block.grid.window(block.tile)]}

    entry = Entry(key(2), datetime(2023, 1, 25, 10, 20, tzinfo=UTC), "sealed", ("item",), {"tile": "05.00"})
    assert build(path, spec, [Step(entry, None, tuple(grid.tiles()))], draw, Threads(1)).exit_code == 0


def test_pictures_as_cog_and_png_have_the_stretch_of_the_series(cube: Path, tmp_path: Path) -> None:
    wanted = stac2cube.rgb(stac2cube.open_cube(cube), "cir", nodata="alpha").values
    files = export(cube, tmp_path / "cir", Export(look=Style("cir")))
    assert len(files) == len(DATES)
    for place, file in enumerate(files):
        assert cog_validate(file, strict=True)[0]
        with rasterio.open(file) as picture:
            assert [one.name for one in picture.colorinterp] == ["red", "green", "blue", "alpha"]
            np.testing.assert_array_equal(picture.read().transpose(1, 2, 0), wanted[place])
    run("export", cube, tmp_path / "p.png", "--show", "nir,red,green", "--step", "2023-01-25", "-q")
    from PIL import Image

    with Image.open(tmp_path / "p.png") as png:
        np.testing.assert_array_equal(np.asarray(png), wanted[2])
    with rasterio.open(tmp_path / "p.png") as picture:
        assert picture.transform.to_gdal() == (500000.0, 10.0, 0.0, 5300000.0, 0.0, -10.0), "by the world file"


def test_what_is_there_is_not_made_again_and_what_is_wrong_is(cube: Path, tmp_path: Path, monkeypatch) -> None:
    made = []
    real = exporting.write_numbers

    def counted(cut, step, file, fingerprint):
        made.append(step)
        if len(made) == 3:
            raise OSError(28, "No space left on device")
        real(cut, step, file, fingerprint)

    monkeypatch.setattr(exporting, "write_numbers", counted)
    with pytest.raises(BadInputError, match="No space left on device; complete files stay"):
        export(cube, tmp_path / "all")
    assert len(list((tmp_path / "all").iterdir())) == 2, "two whole files and nothing else"
    files = export(cube, tmp_path / "all")
    assert len(made) == 3 + 5
    before = [file.stat().st_mtime_ns for file in files]
    assert export(cube, tmp_path / "all") == files
    assert [file.stat().st_mtime_ns for file in files] == before
    files[2].write_bytes(files[2].read_bytes()[:500])
    export(cube, tmp_path / "all", Export(hiding=stac2cube.Hiding("clear"), choice=TimeSelection(time="2022")))
    export(cube, tmp_path / "all")
    assert made[8:] == [key(0), key(0), key(2)], "another mask, back again, and the broken one"


def test_netcdf_holds_the_stored_numbers_and_cf_metadata(cube: Path, tmp_path: Path) -> None:
    run("export", cube, tmp_path / "all.nc", "-q")
    with xr.open_dataset(tmp_path / "all.nc", mask_and_scale=False) as copy:
        for name in BANDS:
            expected = [classes(step) if name == "SCL" else counts(name, step) for step in range(len(DATES))]
            np.testing.assert_array_equal(copy[name].values, expected)
        assert copy["SCL"].attrs["flag_values"].dtype == np.uint8
        assert copy.attrs["acknowledgement"] == "Contains modified Copernicus Sentinel data 2022-2024"
        assert copy["platform"].values.tolist() == ["sentinel-2a"] * len(DATES)
    with xr.open_dataset(tmp_path / "all.nc") as copy:
        theirs = stac2cube.open_cube(cube, chunks=None)
        np.testing.assert_array_equal(copy["B04"].values, theirs["B04"].values)
        assert copy["SCL"].dtype == np.uint8
        np.testing.assert_array_equal(copy["time"].values, theirs["time"].values)
        np.testing.assert_array_equal(copy["x"].values, theirs["x"].values)
    with rasterio.open(f"netcdf:{tmp_path / 'all.nc'}:B04") as band:
        assert band.crs.to_epsg() == 32632
        assert band.transform.to_gdal() == (500000.0, 10.0, 0.0, 5300000.0, 0.0, -10.0)
        assert (band.scales[0], band.offsets[0], band.nodata) == (1e-4, -0.1, 0)
        np.testing.assert_array_equal(band.read(3), counts("B04", 2))
    assert [path.name for path in tmp_path.iterdir()] == ["all.nc"]
    export_netcdf(cube, tmp_path / "jan.nc", "2023-01")
    with xr.open_dataset(tmp_path / "jan.nc") as copy:
        assert copy.sizes["time"] == 3
    with pytest.raises(BadInputError, match="no step in 2019"):
        export_netcdf(cube, tmp_path / "2019.nc", "2019")


def test_netcdf_is_valid_cf(cube: Path, tmp_path: Path) -> None:
    from compliance_checker.runner import CheckSuite, ComplianceChecker

    stac2cube.store_composites(cube, tmp_path / "c.zarr", stac2cube.Composition("season", "best", "NDVI"))
    CheckSuite.load_all_available_checkers()
    # CF allows packed data to be unsigned since 1.9 (section 8.1); this checker knows the signed types only.
    known = "Variable is not of type byte, short, or int as required for different type add_offset/scale_factor."
    for source in (cube, tmp_path / "c.zarr"):
        file, said = tmp_path / f"{source.stem}.nc", tmp_path / "said.txt"
        export(source, file)
        ComplianceChecker.run_checker(
            str(file), ["cf:1.11"], 1, "normal", output_filename=str(said), output_format="text"
        )
        lines = [line.removeprefix("* ") for line in said.read_text().splitlines() if line.startswith("* ")]
        assert [line for line in lines if line != known] == []


def test_a_killed_netcdf_goes_on_where_it_was(cube: Path, tmp_path: Path) -> None:
    """Killed for good, without a chance to tidy up, after three steps."""
    code = (
        "import os, sys; from stac2cube.export import netcdf; real = netcdf._write_part; done = []\n"
        "def write(cut, step, path):\n"
        "    if len(done) == 3: os._exit(9)\n"
        "    done.append(step); return real(cut, step, path)\n"
        "netcdf._write_part = write\n"
        "netcdf.export_netcdf(sys.argv[1], sys.argv[2])"
    )
    words = [sys.executable, "-c", code, str(cube), str(tmp_path / "all.nc")]
    assert subprocess.run(words, check=False, env=dict(os.environ)).returncode == 9
    assert [path.name for path in tmp_path.iterdir()] == [".all.nc.parts"]
    from stac2cube.export.netcdf import write_netcdf
    from stac2cube.export.selection import selection_of

    assert write_netcdf(selection_of([cube]), tmp_path / "all.nc") == len(DATES) - 3
    export_netcdf(cube, tmp_path / "again.nc")
    with xr.open_dataset(tmp_path / "all.nc") as one, xr.open_dataset(tmp_path / "again.nc") as other:
        xr.testing.assert_equal(one, other)


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["x.jpg"], "is a .tif, .png or .nc, or a folder"),
        (["x.tif"], "these are 7 steps: choose one with --step, or give a folder"),
        (["x.png", "--step", "2023-01-25"], "say what is shown, for example --show cir"),
        (["x.nc", "--show", "cir"], "numbers, not pictures"),
        (["x.tif", "--step", "2023-01-26"], r"no step '2023-01-26': the nearest are .*2023-01-25 \("),
        (["x.tif", "--step", "latest"], "no step 'latest': give a date, or a key such as"),
        (["x.tif", "--step", "2023-01-25", "--layers", "B99"], "there is no layer B99"),
        (["x.tif", "--step", "2023-01-25", "--show", "cir", "--layers", "B02"], "say no --layers"),
        (["x.tif", "--step", "2023-01-25", "--show", "pink"], "nothing called 'pink' to show"),
        (["x.tif", "--step", "2023-01-25", "--show", "cir", "--stretch", "1,0"], "a stretch is"),
        (["x.tif", "--step", "2023-01-25", "--mask", "cloudy"], "unknown mask"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_is_written(
    cube: Path, tmp_path: Path, words: list[str], problem: str
) -> None:
    with pytest.raises(BadInputError, match=problem):
        cli.main(["export", str(cube), str(tmp_path / words[0]), *words[1:], "-q"], standalone_mode=False)
    assert not list(tmp_path.iterdir())
