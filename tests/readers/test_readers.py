"""A stranger with only the path and a reader gets the date, the place and the value that ``open_cube`` gives.

docs/readers.md has the table of :data:`READERS`. Those that come with the tests' own environment run at once, the
others in environments of their own, in the campaigns.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import jsonschema
import numpy as np
import pytest
import rasterio
import referencing
import xarray as xr
from pyproj import CRS, Transformer

import stac2cube
from stac2cube.build.loop import build
from stac2cube.build.plan import Block, Step
from stac2cube.cli import cli
from stac2cube.executors.base import Threads
from stac2cube.export.export import Export, export
from stac2cube.export.netcdf import export_netcdf
from stac2cube.export.publish import write_stac
from stac2cube.export.stac import collection_of, items_of
from stac2cube.model.cube_spec import CubeSpec, Layer
from stac2cube.model.grid import Grid
from stac2cube.store.ledger import SEALED, Entry
from stac2cube.store.metadata import level_path, read_root
from stac2cube.superres.rules import SuperresRules
from stac2cube.testing.archive import ArchiveSpec, simulate
from tests.export.test_cf import layers_of
from tests.readers import scripts
from tests.readers.test_tables import make_tables, require_shown
from tests.real.recorded import DATA
from tests.stages.test_superres import cube as series
from tests.views.cubes import make_cube

PRODUCTS = {
    "layers": ("B04", "B11", "SCL"),
    "clouds": ("cloud_mask", "flags"),
    "masked": ("B04",),
    "indices": ("NDVI",),
    "composite": ("B04", "n_valid"),
    "superres": ("B04", "B05"),
    "coregistered": ("B04",),
    "overviews": ("B04", "SCL"),
    "samples": ("B04", "label"),
    "shifts": ("shift_x", "shift_y"),
    "l1c": ("B04", "B10"),
    "landsat": ("red", "st"),
    "quality": ("qa_pixel",),
    "radar": ("VV", "VH"),
    "heights": ("height",),
}
"""Products, and layers of theirs that are looked at. The layers have a sealed year: others see their own files."""

OTHERS = {
    "l1c": ("sentinel-2-l1c", "EPSG:32733", 10.0, (500000.0, 6300000.0)),
    "landsat": ("landsat-c2-l2", "EPSG:2154", 30.0, (700000.0, 6600000.0)),
    "quality": ("landsat-c2-l2", "EPSG:3577", 30.0, (-900000.0, -3100000.0)),
    "radar": ("sentinel-1-rtc", "EPSG:3413", 20.0, (-400.0, 300.0)),
    "heights": ("cop-dem-glo-30", "EPSG:4326", 0.0005, (179.98, -16.5)),
}
"""Mission, CRS, resolution and corner of cubes that are drawn at random: in the south, in France and Australia, about
the north pole, and just before the antimeridian: rio-tiler refuses longitudes above 180."""

MOMENTS = (
    datetime(2024, 2, 29, 10, 37, 21, 24_000, UTC),
    datetime(2017, 1, 1, 0, 0, 0, 1, UTC),
    datetime(2023, 6, 30, 23, 59, 58, 123_457, UTC),
)
"""As they arrive; heights have the first alone."""


@dataclass(frozen=True)
class Draw:
    """Any number that a layer can hold, a fifth of them its fill."""

    layers: tuple[Layer, ...]

    def __call__(self, number: int, block: Block) -> Mapping[str, np.ndarray]:
        return {layer.name: self._pixels(layer, number)[block.grid.window(block.tile)] for layer in self.layers}

    def _pixels(self, layer: Layer, number: int) -> np.ndarray:
        random, dtype = np.random.default_rng([number, len(layer.name)]), np.dtype(layer.dtype)
        drawn = random.normal(0, 300, SMALL) if dtype.kind == "f" else random.integers(0, 2**16, SMALL)
        return np.where(random.random(SMALL) < 0.2, layer.fill, drawn).astype(dtype)


SMALL = (40, 30)


def make_other(path: Path, name: str) -> Path:
    """A cube of :data:`OTHERS`."""
    mission, crs, resolution, corner = OTHERS[name]
    grid = Grid(crs, resolution, corner, SMALL, chunk=(16, 16), shard=(32, 32))
    layers = tuple(layer for layer in layers_of(mission) if layer.name in PRODUCTS[name])
    steps = []
    for number, moment in enumerate(MOMENTS[:1] if name == "heights" else MOMENTS):
        entry = Entry(f"a_R001_{moment:%Y%m%d}", moment, SEALED, (f"item-{number}",), properties={"platform": "a"})
        steps.append(Step(entry, number, tuple(grid.tiles())))
    build(path, CubeSpec("layers", grid, layers, {"mission": mission}), steps, Draw(layers), Threads(1))
    return path


SAMPLED = (
    *("--mission", "sentinel-2-l2a", "--target", "grid", "--bands", "B04,B11"),
    *("--labels", "scl", "--mapping", "4=0,5=0,6=0,8=1,9=1"),
)

ON_DEBIAN = Path(__file__).parents[1] / "on-debian"

PAGE = Path(__file__).parents[2] / "docs" / "readers.md"


@dataclass(frozen=True)
class Reader:
    """Somebody else's way to read.

    Attributes:
        name: In the table.
        script: See :mod:`tests.readers.scripts`.
        packages: Installed into an environment of its own; none for that of the tests.
        of: What it reads: the cube, or our ``"nc"`` or ``"cogs"`` of it.
        node: Whether it is a program of Node, and its packages are npm's.
        bare: Whether the packages' own dependencies are left out.
        r: Whether it is a program of R, and its packages are Debian's (``r-cran-...``), which are there or not.
        python: The Python that its packages need, where it is newer than that of the tests; there or not.
    """

    name: str
    script: str
    packages: tuple[str, ...] = ()
    of: Literal["cube", "nc", "cogs"] = "cube"
    node: bool = False
    bare: bool = False
    r: bool = False
    python: str = sys.executable


READERS = (
    Reader("xarray 2026.9, plain", scripts.PLAIN),
    Reader("xarray 2026.9 with dask", scripts.DASK, ("xarray==2026.9.0", "dask==2026.8.0", "zarr==3.1.6", "pyproj")),
    Reader("zarr-python 3.1", scripts.ZARR_PYTHON),
    Reader("zarr-python 3.4", scripts.ZARR_PYTHON, ("zarr==3.4.2",), python="python3.13"),
    Reader("zarr-python 3.0.8", scripts.ZARR_PYTHON, ("zarr==3.0.8", "numcodecs==0.16.5", "numpy<2.4")),
    Reader("zarrs 0.2", scripts.ZARRS, ("zarrs==0.2.3",)),
    Reader("tensorstore 0.1", scripts.TENSORSTORE, ("tensorstore==0.1.84",)),
    Reader("zarrita.js 0.7", scripts.ZARRITA, ("zarrita@0.7.5", "@zarrita/storage@0.2.0"), node=True),
    Reader("odc-geo 0.5", scripts.ODC),
    Reader("rioxarray 0.19", scripts.RIOXARRAY, ("rioxarray==0.19.0", "zarr==3.1.6")),
    Reader("rio-tiler 9.4", scripts.RIO_TILER, ("rio-tiler==9.4.12", "rioxarray==0.19.0", "zarr==3.1.6")),
    Reader("GDAL 3.13", scripts.GDAL_ZARR, ("pyramids-core==0.72.0", "hpc-utils==0.1.5", "numpy==2.4.6"), bare=True),
    Reader(
        "icechunk 1.1 by VirtualiZarr 2.5",
        scripts.ICECHUNK,
        ("virtualizarr==2.5.1", "icechunk==1.1.21", "obstore==0.12.1", "arro3-core", "pyproj", "zarr==3.1.6"),
    ),
    Reader("xarray of NetCDF", scripts.NETCDF, of="nc"),
    Reader("GDAL 3.10 of NetCDF", scripts.GDAL_NETCDF, of="nc"),
    Reader("rioxarray 0.19 of NetCDF", scripts.RIOXARRAY, ("rioxarray==0.19.0", "h5netcdf==1.8.2", "h5py"), of="nc"),
    Reader("GDAL 3.10 of COG", scripts.COG, of="cogs"),
    Reader("rioxarray 0.19 of COG", scripts.RIOXARRAY_COG, ("rioxarray==0.19.0",), of="cogs"),
    Reader("terra 1.7 (R 4.2) of NetCDF", scripts.TERRA, ("terra", "jsonlite"), of="nc", r=True),
)

Environments = Callable[[Reader], str]


@pytest.fixture(scope="module")
def cubes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return make_cubes(tmp_path_factory.mktemp("readers") / "cubes")


def make_cubes(folder: Path) -> dict[str, Path]:
    """A cube of each product, and a NetCDF and a folder of COGs of each beside it."""
    layers = series(folder, (150, 200), hole=200)
    paths = {name: folder / f"{name}.zarr" for name in PRODUCTS}
    stac2cube.get_cloud_layers(layers, paths["clouds"], method="scl")
    for words in (
        ["mask", layers, paths["clouds"], paths["masked"]],
        ["indices", layers, paths["indices"], "NDVI"],
        ["composite", layers, paths["composite"], "--period", "month"],
        ["coregister", layers, paths["coregistered"], "--engine", "phase"],
        ["samples", layers, paths["samples"], *SAMPLED],
        ["seal-year", layers, "2022"],
    ):
        cli.main([*map(str, words), "-q"], standalone_mode=False)
    rules = SuperresRules(target=10, backend="bicubic")
    stac2cube.super_resolution(layers, paths["superres"], rules=rules)
    stac2cube.store_overviews(layers, levels=1)
    paths["overviews"] = level_path(layers, 2)
    paths["shifts"] = folder / "coregistered.shifts.zarr"
    for name in OTHERS:
        make_other(paths[name], name)
    for name, path in paths.items():
        export_netcdf(path, folder / f"{name}.nc")
        (folder / f"{name}.cogs").mkdir()
        export(path, folder / f"{name}.cogs", Export(layers=PRODUCTS[name]))
    return paths


@pytest.fixture(scope="module")
def environments(tmp_path_factory: pytest.TempPathFactory) -> Environments:
    """Pythons with some packages, the tests' own for none; folders with some of npm's."""
    made: dict[tuple[str, ...], str] = {(): sys.executable}

    def with_packages(reader: Reader) -> str:
        if reader.r:
            there = f"stopifnot(requireNamespace({'), requireNamespace('.join(map(repr, reader.packages))}))"
            words = ["Rscript", "-e", there]
            if not shutil.which("Rscript") or subprocess.run(words, capture_output=True, check=False).returncode:
                pytest.skip(f"R is not here with {reader.packages}: apt install r-cran-terra r-cran-jsonlite")
            made[reader.packages] = "Rscript"
        if reader.packages not in made:
            folder = tmp_path_factory.mktemp("environment")
            if reader.node:
                if shutil.which("npm") is None:
                    pytest.skip("there is no npm")
                subprocess.run(["npm", "install", "--silent", *reader.packages], cwd=folder, check=True)
                made[reader.packages] = str(folder)
            else:
                found = shutil.which(reader.python)
                if not found or subprocess.run([found, "-V"], capture_output=True, check=False).returncode:
                    pytest.skip(f"there is no {reader.python}")
                subprocess.run([reader.python, "-m", "venv", folder], check=True)
                bare = ["--no-deps"] if reader.bare else []
                subprocess.run([folder / "bin/pip", "install", "-q", *bare, *reader.packages], check=True)
                made[reader.packages] = str(folder / "bin/python")
        return made[reader.packages]

    return with_packages


def truth(cube: Path, layer: str, count: int = 20) -> tuple[list[tuple[str, float, float]], np.ndarray]:
    """Random times and places, and what ``open_cube`` says of them; some are pixels without data, where there are any.

    Readers hide the fill of classes or show it: here it is NaN.
    """
    opened, stored = (stac2cube.open_cube(cube, chunks=None, decode=decode)[layer] for decode in (True, False))
    random = np.random.default_rng(0)
    at = [tuple(int(random.integers(0, size)) for size in opened.shape) for _ in range(count)]
    gone = _is_fill(cube, layer, stored.values)
    for place, empty in zip(range(count // 4), random.permutation(np.argwhere(gone)), strict=False):
        at[place] = tuple(int(number) for number in empty)
    points = [
        (str(opened.time.values[t]), float(opened.x.values[column]), float(opened.y.values[row]))
        for t, row, column in at
    ]
    values = np.where(gone, np.nan, opened.values.astype("float64"))
    return points, np.array([values[index] for index in at])


def _is_fill(cube: Path, layer: str, numbers: np.ndarray) -> np.ndarray:
    (fill,) = (one.fill for one in read_root(cube).spec.layers if one.name == layer)
    return np.asarray(np.isnan(numbers) if np.isnan(fill) else numbers == fill)


def require_equal(cube: Path, layer: str, crs: int, said: Sequence[float | None], values: np.ndarray) -> None:
    """What a reader says of points is what ``open_cube`` says."""
    got = np.array([np.nan if value is None else value for value in said])
    if np.issubdtype(stac2cube.open_cube(cube)[layer].dtype, np.integer):
        got = np.where(_is_fill(cube, layer, got), np.nan, got)
    assert crs == CRS.from_user_input(read_root(cube).spec.grid.crs).to_epsg()
    np.testing.assert_allclose(got, values, rtol=1e-5, atol=1e-6, err_msg=f"{cube.name} {layer}")
    assert np.isfinite(got).any()


def require_same(reader: Reader, environment: str, cubes: dict[str, Path], asked: Sequence[tuple[str, str]]) -> None:
    """Ask a reader for random pixels of layers, all at once; they are what ``open_cube`` says of them."""
    wanted = [truth(cubes[name], layer) for name, layer in asked]
    jobs = [
        (str(cubes[name] if reader.of == "cube" else cubes["layers"].with_name(f"{name}.{reader.of}")), layer, points)
        for (name, layer), (points, _) in zip(asked, wanted, strict=True)
    ]
    if reader.node:
        script = Path(environment) / "read.mjs"
        script.write_text(reader.script)
        command = ["node", str(script)]
    else:
        command = [environment, "-e" if reader.r else "-c", reader.script]
    done = subprocess.run([*command, json.dumps(jobs)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    answers = json.loads(done.stdout.splitlines()[-1])
    for (name, layer), (_, values), (epsg, said) in zip(asked, wanted, answers, strict=True):
        require_equal(cubes[name], layer, epsg, said, values)


@pytest.mark.parametrize("reader", [one for one in READERS if not one.packages], ids=lambda one: one.name)
def test_readers_at_hand(reader: Reader, cubes: dict[str, Path]) -> None:
    require_same(reader, sys.executable, cubes, [(name, layers[0]) for name, layers in PRODUCTS.items()])


@pytest.mark.soak
@pytest.mark.parametrize("reader", READERS, ids=lambda one: one.name)
def test_every_reader(reader: Reader, cubes: dict[str, Path], environments: Environments) -> None:
    asked = [(name, layer) for name, layers in PRODUCTS.items() for layer in layers]
    require_same(reader, environments(reader), cubes, asked)


QGIS = "QGIS 3.44 (GDAL 3.13)"
"""That of Debian's next release: older ones have a GDAL that does not read the codecs of Zarr 3."""


@pytest.mark.soak
@pytest.mark.timeout(3000)
def test_qgis_reads_cubes_exports_items_and_tables(cubes: dict[str, Path]) -> None:
    folder = cubes["layers"].parent
    tables = folder / "tables"
    tables.mkdir()
    asked = [(name, layer) for name, layers in PRODUCTS.items() for layer in layers]
    wanted = {(name, layer): truth(cubes[name], layer) for name, layer in asked}
    jobs: list[tuple[object, ...]] = []
    for (name, layer), (points, _) in wanted.items():
        jobs += [("zarr", str(cubes[name]), layer, points), ("netcdf", str(folder / f"{name}.nc"), layer, points)]
    steps = sorted((folder / "layers.cogs").iterdir())
    time = stac2cube.open_cube(cubes["layers"]).time.values[0]
    first = [point for point in wanted["layers", "B04"][0] if point[0] == str(time)]
    jobs.append(("cog", str(steps[0]), "B04", first))
    write_stac(cubes["layers"], folder / "stac")
    (item, _) = items_of(cubes["layers"])
    jobs.append(("item", str(folder / "stac" / "items" / f"{item['id']}.json"), "", []))
    (folder / "ask.py").write_text(scripts.QGIS)
    (folder / "jobs.json").write_text(json.dumps(jobs))
    (tables / "ask.py").write_text(scripts.TABLES_OF_QGIS)
    (tables / "jobs.json").write_text(json.dumps(make_tables(make_cube(tables / "layers.zarr"), tables)))
    command = f"export QT_QPA_PLATFORM=offscreen; python3 {folder}/ask.py {folder}/jobs.json"
    command += f" && python3 {tables}/ask.py {tables}/jobs.json"
    # Its GDAL reads Parquet by duckdb, and loads libduckdb.so by that name, which is in the development package.
    packages = "python3-qgis,qgis-providers,python3-gdal,libduckdb-dev"
    words = [f"--packages={packages}", f"--lend={folder}", f"--run={command}"]
    done = subprocess.run([ON_DEBIAN, "forky", *words], capture_output=True, text=True, check=False)
    if done.returncode == 77:
        pytest.skip(done.stdout.splitlines()[-1])
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-3000:]
    answers, of_tables = (json.loads(line) for line in done.stdout.splitlines() if line.startswith("[["))
    assert len(answers) == len(jobs)
    require_shown(tables, of_tables)
    of_cog, of_item = answers[-2:]
    for ((name, layer), (_, values)), pair in zip(
        wanted.items(), zip(*[iter(answers)] * 2, strict=False), strict=False
    ):
        for crs, said in pair:
            require_equal(cubes[name], layer, int(crs.removeprefix("EPSG:")), said, values)
    truly = [value for point, value in zip(*wanted["layers", "B04"], strict=True) if point[0] == str(time)]
    require_equal(cubes["layers"], "B04", int(of_cog[0].removeprefix("EPSG:")), of_cog[1], np.array(truly))
    assert of_item[:2] == [item["id"], item["properties"]["datetime"]]
    np.testing.assert_allclose(of_item[2], item["bbox"], atol=1e-9)


SCHEMAS = DATA / "stac-schemas"


@pytest.mark.real
@pytest.mark.skipif(not SCHEMAS.is_dir(), reason="the recorded material ../shared/data is absent")
def test_published_schemas_accept_every_product(cubes: dict[str, Path]) -> None:
    """Those of the extensions themselves; tests/export/test_stac.py has ours, which also refuse unknown fields."""
    known = {f"https://{path.relative_to(SCHEMAS)}": json.loads(path.read_text()) for path in SCHEMAS.rglob("*.json")}

    def retrieve(address: str) -> referencing.Resource:
        # Those of GeoJSON are not here: they take everything.
        content = known.get(address, {"$schema": "http://json-schema.org/draft-07/schema#", "$id": address})
        return referencing.Resource.from_contents(content)

    registry = referencing.Registry(retrieve=retrieve)
    held = set()
    for name, path in cubes.items():
        collection, *items = documents = [collection_of(path), *items_of(path)]
        for document in documents:
            assert set(document["stac_extensions"]) <= set(known), name
            for address in document["stac_extensions"]:
                errors = jsonschema.Draft7Validator(known[address], registry=registry).iter_errors(document)
                assert [f"{error.json_path}: {error.message}" for error in errors] == [], f"{name}, {address}"
                held.add(address)
        width = {"l1c": 10.0, "landsat": 30.0, "quality": 30.0, "radar": 20.0, "heights": 55.66}.get(name)
        told = {collection["summaries"]["gsd"][0], *(item["properties"]["gsd"] for item in items)}
        assert width is None or all(abs(gsd - width) < 0.01 for gsd in told), "metres, also of degrees"
    assert len(held) == 7


STAC_READERS = (
    *("pystac==1.15.2", "xpystac==0.5.0", "stac-geoparquet==0.8.3", "rustac==0.9.18", "odc-stac==0.5.3"),
    *("zarr==3.1.6", "xarray==2026.9.0", "pyarrow==26.0.1"),
)


@pytest.mark.soak
def test_readers_of_stac_load_what_is_published(cubes: dict[str, Path], tmp_path: Path) -> None:
    folders, wanted = [], []
    for name, (layer, *_) in PRODUCTS.items():
        write_stac(cubes[name], tmp_path / name)
        points, values = truth(cubes[name], layer)
        folders.append((str(tmp_path / name), layer, points))
        wanted.append((name, layer, values))
    archive = simulate(tmp_path / "archive", ArchiveSpec(years=(2024,), dates_per_year=4, tile_px=96))
    (tmp_path / "one.json").write_text(json.dumps(archive.items("earth-search")[-2]))
    words = ["item", str(tmp_path / "one.json"), str(tmp_path / "out"), "--index", "ndvi", "--clear", "-q"]
    assert cli.main(words, standalone_mode=False) == 0
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    subprocess.run([tmp_path / "venv/bin/pip", "install", "-q", *STAC_READERS], check=True)
    asked = json.dumps([folders, str(tmp_path / "out" / "catalog.json"), str(tmp_path / "items.parquet")])
    command = [tmp_path / "venv/bin/python", "-c", scripts.STAC, asked]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    told, crs, (x, y), values = json.loads(done.stdout.splitlines()[-1])
    for (name, layer, truly), (code, rows) in zip(wanted, told, strict=True):
        for row in rows:
            require_equal(cubes[name], layer, code, row, truly)
    (file,) = (tmp_path / "out").glob("*/ndvi.tif")
    with rasterio.open(file) as opened:
        assert CRS.from_user_input(crs) == CRS.from_user_input(opened.crs)
        assert [x[0], y[0]] == [opened.transform.c + 5, opened.transform.f - 5]
        np.testing.assert_array_equal(np.array(values, "float32"), opened.read(1))


LINT = """
import json, sys
from stac_check.lint import Linter
print(json.dumps([Linter(path).create_best_practices_dict() for path in sys.argv[1:]]))
"""


@pytest.mark.soak
def test_stac_check_finds_nothing_to_improve(cubes: dict[str, Path], tmp_path: Path) -> None:
    """Its advice; its schemas come over the network, and are those of the tests above."""
    for name, cube in cubes.items():
        write_stac(cube, tmp_path / name)
    documents = sorted((*tmp_path.glob("*/collection.json"), *tmp_path.glob("*/items/*.json")))
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    subprocess.run([tmp_path / "venv/bin/pip", "install", "-q", "stac-check==1.14.0"], check=True)
    command = [tmp_path / "venv/bin/python", "-c", LINT, *documents]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    for path, advice in zip(documents, json.loads(done.stdout.splitlines()[-1]), strict=True):
        west, _, east, _ = json.loads(path.read_text()).get("bbox", [0, 0, 0, 0])
        # It takes places beyond 90 degrees for swapped ones, and boxes about a pole for some across the antimeridian.
        wrongly = {"geometry_coordinates_order"} if abs(west) > 90 else set()
        wrongly |= {"check_bbox_antimeridian"} if (west, east) == (-180, 180) else set()
        assert set(advice) == wrongly, path


def test_tools_of_climate_science_read_dates_and_periods(cubes: dict[str, Path], tmp_path: Path) -> None:
    file = cubes["layers"].with_suffix(".nc")
    days = [str(day)[:10] for day in stac2cube.open_cube(cubes["layers"]).time.values]
    months = cubes["composite"].with_suffix(".nc")

    def said(*words: object) -> str:
        done = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=True)
        return done.stdout

    if not all(map(shutil.which, ("cdo", "ncks", "ncdump"))):
        pytest.skip("cdo, nco and netcdf-bin are not installed")
    assert said("cdo", "-s", "showdate", "-selname,B04", file).split() == days
    mean = tmp_path / "mean.nc"
    subprocess.run(["cdo", "-s", "monmean", "-selname,B04", file, mean], check=True, capture_output=True)
    assert len(said("cdo", "-s", "showdate", mean).split()) == 2
    opened = stac2cube.open_cube(cubes["layers"], chunks=None)["B04"]
    yearly = tmp_path / "year.nc"
    subprocess.run(["cdo", "-s", "yearmean", "-selname,B04", file, yearly], check=True, capture_output=True)
    for period, made in (("1MS", mean), ("1YS", yearly)):
        truly = opened.resample(time=period).mean().dropna("time", how="all")
        with xr.open_dataset(made) as again:
            assert again.sizes["time"] == truly.sizes["time"]
            np.testing.assert_allclose(again["B04"].values, truly.values, atol=1.01e-4)  # of a stored count
    for name, layer in (("radar", "VV"), ("landsat", "red")):
        words = ["-seltimestep,1", f"-selname,{layer}", cubes[name].with_suffix(".nc")]
        rows = np.array(
            [line.split() for line in said("cdo", "-s", "outputtab,lon,lat,value", *words).splitlines()[1:]]
        )
        cube = stac2cube.open_cube(cubes[name], chunks=None)
        turn = Transformer.from_crs(CRS.from_cf(cube.spatial_ref.attrs), "EPSG:4326", always_xy=True)
        places = np.stack(turn.transform(*np.meshgrid(cube.x, cube.y)), axis=-1).reshape(-1, 2)
        np.testing.assert_allclose(rows[:, :2].astype("float64"), places, rtol=1e-5)  # it prints six digits
        truly = cube[layer].values[0].ravel()
        there = np.isfinite(truly)
        np.testing.assert_allclose(rows[there, 2].astype("float64"), truly[there], rtol=1e-5, atol=1e-6)
    subprocess.run(["ncks", "-O", "-d", f"time,{days[1]}", file, tmp_path / "cut.nc"], check=True, capture_output=True)
    assert said("cdo", "-s", "showdate", "-selname,B04", tmp_path / "cut.nc").split() == days[1:]
    said("ncra", "-O", "-v", "B04", file, mean)
    said("ncrcat", "-O", "-v", "B04", file, mean, tmp_path / "joined.nc")
    assert xr.open_dataset(tmp_path / "joined.nc").sizes["time"] == len(days) + 1
    assert all(day in said("ncdump", "-t", "-v", "time", file) for day in days)
    bounds = said("ncdump", "-t", "-v", "time_bnds", months)
    assert all(f'"{day}"' in bounds for day in ("2022-05-01", "2022-06-01", "2022-07-01", "2022-08-01"))
    assert 'cell_methods = "time: median"' in said("ncdump", "-h", months)
    assert "string :" not in said("ncdump", "-h", file)


def test_cdo_reads_dates_that_plain_xarray_writes(tmp_path: Path) -> None:
    """Scenes have fractions of a second, of which xarray by itself makes milliseconds, and CDO the date 0000-00-00."""
    if shutil.which("cdo") is None:
        pytest.skip("cdo is not installed")
    opened = stac2cube.open_cube(make_cube(tmp_path / "alps.zarr"))[["B04"]].isel(x=slice(4), y=slice(4))
    shift = np.array([1_234_567 * step for step in range(opened.sizes["time"])], "timedelta64[us]")
    opened["time"] = opened["time"].copy(data=opened.time.values + shift)  # keeps what open_cube says of writing
    views = {
        "whole": opened,
        "part": opened.isel(time=slice(2, 5)),
        "joined": xr.concat([opened.isel(time=[5, 6]), opened.isel(time=[0, 1])], "time").sortby("time"),
        "floats": opened.astype("float64"),
        "months": opened.resample(time="1MS").mean(),
    }
    plain = xr.open_zarr(tmp_path / "alps.zarr", drop_variables="scene")[["B04"]].sortby("time").isel(x=[0], y=[0])
    plain.attrs = {}
    plain.time.encoding = {"units": "seconds since 1970-01-01", "dtype": "float64"}
    views["plain"] = plain
    for name, view in views.items():
        view.to_netcdf(tmp_path / f"{name}.nc")
        command = ["cdo", "-s", "showdate", "-selname,B04", str(tmp_path / f"{name}.nc")]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        assert said == [str(time)[:10] for time in view.time.values], name
        view.to_zarr(tmp_path / f"{name}.zarr")
        exact = xr.coders.CFDatetimeCoder(time_unit="us")
        np.testing.assert_array_equal(xr.open_zarr(tmp_path / f"{name}.zarr", decode_times=exact).time, view.time)


def test_the_page_names_every_reader() -> None:
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    for name in (*(reader.name for reader in READERS), QGIS, f"{QGIS} of NetCDF"):
        assert any(line.startswith(f"| {name} |") for line in rows), name


def test_the_page_has_the_recipe_that_is_run() -> None:
    assert scripts.VIRTUALIZARR.strip() in PAGE.read_text()
