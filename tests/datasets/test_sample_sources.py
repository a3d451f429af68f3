"""Where samples come from and go to besides folders of products: cubes in and out, label files, grids of one's own."""

from __future__ import annotations

import tarfile
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
import rasterio.shutil
from click.testing import CliRunner
from odc.geo.geobox import GeoBox
from rasterio.features import rasterize
from shapely.geometry import Polygon, box

import stac2cube
from stac2cube.build.loop import build
from stac2cube.build.plan import Block, Step
from stac2cube.cli import cli
from stac2cube.datasets.frames import find_frames
from stac2cube.datasets.index import read_sample_index
from stac2cube.datasets.patch_rules import PatchQuality, PatchRules, Splits
from stac2cube.datasets.rules import AngleRules, LabelRules, SampleRequest, SampleRules
from stac2cube.datasets.sample_cube import make_sample_cube
from stac2cube.datasets.samples import make_samples
from stac2cube.datasets.shards import make_patches
from stac2cube.errors import BadInputError, IncompleteError
from stac2cube.executors.base import Threads
from stac2cube.model.cube_spec import CubeSpec, Layer
from stac2cube.model.geometry import read_areas
from stac2cube.model.grid import grid_from_geobox
from stac2cube.model.query import Query
from stac2cube.store.ledger import SEALED, Entry
from tests.datasets.products import EDGE, NORTH, WEST, Pair, write_raster
from tests.items import catalog

LATTICE = GeoBox((96, 96), rasterio.Affine(20, 0, WEST, 0, -20, NORTH), "EPSG:32632")
RULES = SampleRules(bands=("B02", "B11"), target="grid", threshold=1.0)


def on_grid(source: str, geobox: GeoBox = LATTICE) -> SampleRequest:
    (area,) = read_areas(geobox.footprint("EPSG:4326").geom)
    return SampleRequest(Query(catalog=source, area=area), grid=grid_from_geobox(geobox))


def read(path: Path) -> np.ndarray:
    with rasterio.open(path) as file:
        return file.read()


def test_a_cube_holds_the_numbers_of_the_files(source: str, tmp_path: Path) -> None:
    rules = replace(RULES, labels=LabelRules(), angles=AngleRules("sin_cos"))
    index = make_samples(on_grid(source), tmp_path / "set", rules)
    cube = make_sample_cube(on_grid(source), tmp_path / "set.zarr", rules)
    assert index.target_grid == "grid"
    assert [sample.id for sample in index.samples] == list(cube["scene"].values)
    for place, sample in enumerate(index.done):
        x, y, angles = (read(tmp_path / "set" / p) for p in (sample.x_path, sample.y_path, sample.angles_path))
        for channel, name in enumerate((*index.bands, "valid")):
            np.testing.assert_array_equal(cube[name].values[place], x[channel])
        for channel, name in enumerate(index.angles.channels):
            np.testing.assert_array_equal(cube[name].values[place], angles[channel])
        label = stac2cube.open_cube(tmp_path / "set.zarr", decode=False)["label"].values[place]
        np.testing.assert_array_equal(label, y[0])
    frames = find_frames(tmp_path / "set.zarr", labels="label")
    assert frames.bands == index.bands, "neither validity nor angles are bands"
    assert find_frames(tmp_path / "set.zarr", ["sun_zenith_sin"]).bands == ("sun_zenith_sin",)
    before = (tmp_path / "set.zarr" / "zarr.json").read_bytes()
    make_sample_cube(on_grid(source), tmp_path / "set.zarr", rules)
    assert (tmp_path / "set.zarr" / "zarr.json").read_bytes() == before, "running it again changes nothing"
    with pytest.raises(stac2cube.errors.CubeMismatchError, match="threshold"):
        make_sample_cube(on_grid(source), tmp_path / "set.zarr", replace(rules, threshold=0.5))


def test_an_area_cuts_a_band_to_whole_pixels(source: str, pairs: list[Pair], tmp_path: Path) -> None:
    part = box(WEST + 605, NORTH - 905, WEST + 995, NORTH - 405)
    (area,) = read_areas(geopandas.GeoSeries([part], crs="EPSG:32632"))
    index = make_samples(
        SampleRequest(Query(catalog=source, area=area), max_scenes=1),
        tmp_path / "set",
        replace(RULES, target="B11", bands=("B11",)),
    )
    (sample,) = index.done
    assert sample.grid.transform == (20, 0, WEST + 600, 0, -20, NORTH - 400)
    assert sample.grid.shape == (26, 20)
    x = read(tmp_path / "set" / sample.x_path)
    np.testing.assert_allclose(x[0], pairs[0].reflectance("B11")[20:46, 30:50], atol=6e-8)


def test_two_tiles_on_a_grid_of_their_own_are_joined(tmp_path: Path) -> None:
    """The right half of the tile lacks in one granule; another one of the same scene has it."""
    pair = Pair(tmp_path / "left").write()
    other = Pair(tmp_path / "right").write()
    counts = pair.counts("B11")
    half = counts.copy()
    half[:, 48:] = 0
    write_raster(pair.path("L1C", "B11"), half, 20)
    items = [pair.item("L1C"), other.item("L1C")]
    items[1]["id"] += "_other"
    items[1]["properties"]["grid:code"] = "MGRS-32TPT"
    index = make_samples(
        on_grid(catalog(tmp_path / "index.json", items)), tmp_path / "set", replace(RULES, bands=("B11",))
    )
    (sample,) = index.done
    assert sample.tile == ""
    x = read(tmp_path / "set" / sample.x_path)
    np.testing.assert_allclose(x[0], pair.reflectance("B11"), atol=6e-8)


@pytest.fixture(scope="module")
def layers(source: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("cube") / "layers.zarr"
    words = {"mission": "sentinel-2-l1c", "time": "2023", "bands": ["B02", "B11"], "catalog": source}
    stac2cube.get_stac_layers(out, aoi=LATTICE, resampling={"B02": "average"}, **words)
    return out


def test_steps_of_a_cube_become_samples(layers: Path, tmp_path: Path) -> None:
    index = make_samples(layers, tmp_path / "set", replace(RULES, angles=AngleRules()))
    cube = stac2cube.open_cube(layers)
    assert [sample.id for sample in index.samples] == list(cube["scene"].values)
    for place, sample in enumerate(index.done):
        x = read(tmp_path / "set" / sample.x_path)
        for channel, band in enumerate(("B02", "B11")):
            np.testing.assert_allclose(x[channel], cube[band].values[place], atol=1e-7)
        angles = read(tmp_path / "set" / sample.angles_path)
        assert np.isfinite(angles).all()
        assert angles[0][0, 0] == pytest.approx(30 + 10 / 5000 + 20 / 5000, abs=1e-6)
    with pytest.raises(BadInputError, match="no layer B03"):
        make_samples(layers, tmp_path / "other", replace(RULES, bands=("B03",)))
    with pytest.raises(BadInputError, match="cube's own grid"):
        make_samples(layers, tmp_path / "other", replace(RULES, target="B02"))
    with pytest.raises(BadInputError, match="raw samples need the products"):
        make_samples(layers, tmp_path / "other", replace(RULES, radiometry="raw"))
    with pytest.raises(BadInputError, match="no layer SCL"):
        make_samples(layers, tmp_path / "other", replace(RULES, labels=LabelRules()))


@dataclass(frozen=True)
class Sky:
    """A clouds cube's task: what a mask of 60 m pixels says."""

    def __call__(self, payload: int, block: Block) -> dict[str, np.ndarray]:
        random = np.random.default_rng(payload)
        return {
            "cloud_mask": random.choice([0, 1, 255], (32, 32)).astype("uint8"),
            "shadow_mask": random.choice([0, 1], (32, 32)).astype("uint8"),
        }


def test_masks_of_a_clouds_cube_are_labels(layers: Path, tmp_path: Path) -> None:
    coarse = grid_from_geobox(GeoBox((32, 32), rasterio.Affine(60, 0, WEST, 0, -60, NORTH), "EPSG:32632"))
    masks = tuple(Layer(name, "uint8", 255) for name in ("cloud_mask", "shadow_mask"))
    keys = list(stac2cube.open_cube(layers)["scene"].values)
    square = {"type": "Polygon", "coordinates": [[[9, 47], [10, 47], [10, 48], [9, 47]]]}
    steps = [
        Step(Entry(key, datetime(2023, 5, 1 + n, tzinfo=UTC), SEALED, (key,), footprint=square), n, ((0, 0),))
        for n, key in enumerate(keys)
    ]
    build(tmp_path / "clouds.zarr", CubeSpec("clouds", coarse, masks), steps, Sky(), Threads(1))
    rules = replace(RULES, labels=LabelRules("clouds", str(tmp_path / "clouds.zarr"), mask_invalid=False))
    index = make_samples(layers, tmp_path / "set", rules)
    assert index.labels.classes == {0: "clear", 1: "cloud", 2: "shadow"}
    for place, sample in enumerate(index.done):
        mask = Sky()(place, None)
        expected = np.where(mask["cloud_mask"] == 1, 1, np.where(mask["shadow_mask"] == 1, 2, 0))
        expected[mask["cloud_mask"] == 255] = 255
        y = read(tmp_path / "set" / sample.y_path)[0]
        np.testing.assert_array_equal(y, expected.repeat(3, axis=0).repeat(3, axis=1))
    build(tmp_path / "few.zarr", CubeSpec("clouds", coarse, masks), steps[:1], Sky(), Threads(1))
    few = replace(rules, labels=replace(rules.labels, path=str(tmp_path / "few.zarr")))
    with pytest.raises(
        BadInputError, match=r"1 of 2 samples lack an input.*(.|\n)*has no step sentinel-2a_R108_20230517"
    ):
        make_samples(layers, tmp_path / "other", few)


def test_labels_of_a_raster_by_tile_and_day(source: str, tmp_path: Path) -> None:
    classes = {}
    for day in (12, 17):
        classes[day] = np.random.default_rng(day).integers(-1, 7, (64, 64)).astype("int16") * 100
        write_raster(tmp_path / f"32TNT_202305{day}.tif", classes[day], 30)
        with rasterio.open(tmp_path / f"32TNT_202305{day}.tif", "r+") as file:
            file.nodata = 600
    mapping = {"-100": 3, "0": 0, "100": 1, "600": 2}
    rules = LabelRules("raster", str(tmp_path / "{tile}_{date}.tif"), mapping=mapping, mask_invalid=False)
    index = make_samples(source, tmp_path / "set", replace(RULES, target="B02", bands=("B02",), labels=rules))
    for day, sample in zip((12, 17), index.done, strict=True):
        y = read(tmp_path / "set" / sample.y_path)[0]
        fine = classes[day].repeat(3, axis=0).repeat(3, axis=1)
        # 600 is no data in the file, so the mapping never sees it.
        np.testing.assert_array_equal(y, np.select([fine == -100, fine == 0, fine == 100], [3, 0, 1], 255))
    (tmp_path / "32TNT_20230517.tif").unlink()
    with pytest.raises(BadInputError, match=r"labels: .*32TNT_20230517\.tif does not exist"):
        make_samples(source, tmp_path / "other", replace(RULES, target="B02", labels=rules))


@pytest.mark.parametrize("form", ["webdataset", "geotiff", "zarr"])
def test_stacks_of_samples_have_long_names(form: str, source: str, tmp_path: Path) -> None:
    """A stack is named by its first and its last sample: longer than the names of plain tar files may be."""
    make_samples(source, tmp_path / "set", replace(RULES, target="B02", labels=LabelRules()))
    rules = PatchRules(
        size=64, stack=2, form=form, good=PatchQuality(min_valid=0.5), splits=Splits({"train": 1.0}, 1e6)
    )
    made = make_patches(find_frames(tmp_path / "set"), tmp_path / "patches", rules)
    count = made.manifest["counts"]["kept"]["train"]
    assert count > 3
    if form == "webdataset":
        with tarfile.open(tmp_path / "patches" / "train-00000.tar") as tar:
            names = tar.getnames()
        assert len(names) == 3 * count
        assert max(map(len, names)) > 100
        assert all(name.split(".", 1)[1] in ("x.npy", "y.npy", "json") for name in names)


def test_labels_of_a_raster_that_is_cut_off_are_never_zeros(source: str, tmp_path: Path) -> None:
    """Of a JPEG 2000 that lists its tiles GDAL alone reads zeros where they are missing, and 0 may be a class."""
    path = tmp_path / "classes.jp2"
    with rasterio.MemoryFile() as memory:
        lattice = {"crs": "EPSG:32632", "transform": rasterio.Affine(10, 0, WEST, 0, -10, NORTH)}
        about = {"driver": "GTiff", "height": 192, "width": 192, "count": 1, "dtype": "uint8"}
        with memory.open(**about, **lattice) as file:
            file.write(np.random.default_rng(0).integers(0, 3, (192, 192)).astype("uint8"), 1)
        options = {"QUALITY": 100, "REVERSIBLE": "YES", "TLM": "YES", "BLOCKXSIZE": 64, "BLOCKYSIZE": 64}
        rasterio.shutil.copy(memory.name, path, driver="JP2OpenJPEG", **options)
    labels = LabelRules("raster", str(path), mapping={"0": 0, "1": 1, "2": 2}, mask_invalid=False)
    rules = replace(RULES, target="B02", bands=("B02",), labels=labels)
    counts = make_samples(source, tmp_path / "set", rules).done[0].counts
    assert set(counts) == {0, 1, 2}
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(IncompleteError, match=r"2 sample\(s\) .* failed.*labels: .*classes\.jp2 .*it is cut off"):
        make_samples(source, tmp_path / "other", rules)


def test_labels_of_shapes(source: str, tmp_path: Path) -> None:
    triangle = Polygon([(WEST + 100, NORTH - 100), (WEST + 1700, NORTH - 150), (WEST + 300, NORTH - 1800)])
    square = box(WEST + 400, NORTH - 700, WEST + 900, NORTH - 300)
    frame = geopandas.GeoDataFrame({"crop": [7.0, 8.0, 9.0]}, geometry=[triangle, square, box(0, 0, 1, 1)], crs=32632)
    frame.to_crs(32633).to_file(tmp_path / "fields.gpkg")
    rules = LabelRules("vector", str(tmp_path / "fields.gpkg"), "crop", {"7": 1, "8": 2}, outside=0, mask_invalid=False)
    index = make_samples(
        SampleRequest(Query(catalog=source), max_scenes=1), tmp_path / "set", replace(RULES, target="B02", labels=rules)
    )
    y = read(tmp_path / "set" / index.done[0].y_path)[0]
    transform = rasterio.Affine(10, 0, WEST, 0, -10, NORTH)
    shapes = [(triangle, 1), (square, 2)]
    expected = rasterize(shapes, (round(EDGE / 10),) * 2, transform=transform, fill=0, dtype="uint8")
    assert (y != expected).mean() < 1e-3, "the way over another zone bends the edges by less than a pixel"
    assert index.done[0].counts[2] == pytest.approx(50 * 40, rel=0.02)
    wrong = replace(rules, column="crops")
    with pytest.raises((BadInputError, IncompleteError), match="no column 'crops'; there are crop"):
        make_samples(
            SampleRequest(Query(catalog=source), max_scenes=1),
            tmp_path / "other",
            replace(RULES, target="B02", labels=wrong),
        )


def test_scale_and_offset_of_the_items_where_that_is_said(tmp_path: Path) -> None:
    """The house's rule for the baseline, 04.00 and later: (count - 1000) / 10000."""
    pair = Pair(tmp_path / "products").write()
    pair.path("L1C", "product_metadata").unlink()
    source = catalog(tmp_path / "index.json", pair.items())
    rules = replace(RULES, target="B11", bands=("B11",))
    with pytest.raises(BadInputError, match=r"product_metadata\.xml does not exist"):
        make_samples(source, tmp_path / "set", rules)
    index = make_samples(source, tmp_path / "set", replace(rules, scaling="item"))
    x = read(tmp_path / "set" / index.done[0].x_path)[0]
    counts = pair.counts("B11").astype("float64")
    np.testing.assert_allclose(x, np.where(counts == 0, np.nan, (counts - 1000) / 10_000), atol=6e-8)
    assert read_sample_index(tmp_path / "set") == index


def test_patches_find_the_samples(source: str, pairs: list[Pair], tmp_path: Path) -> None:
    labels = LabelRules(mapping={"4": 0, "8": 1}, names={0: "land", 1: "cloud"}, mask_invalid=False)
    index = make_samples(source, tmp_path / "set", replace(RULES, target="B11", labels=labels, nodata=-9999.0))
    frames = find_frames(tmp_path / "set")
    assert frames.bands == ("B02", "B11")
    for sample, frame in zip(index.done, frames.frames, strict=True):
        assert frame.key == sample.id
        pixels = frame.pixels.read(slice(10, 60), slice(0, 96))
        x = read(tmp_path / "set" / sample.x_path)[:, 10:60]
        np.testing.assert_array_equal(pixels.values, np.where(x[2] == 1, x[:2], np.nan))
        np.testing.assert_array_equal(pixels.labels, read(tmp_path / "set" / sample.y_path)[0, 10:60])


def test_update_follows_the_source_of_a_cube_of_samples(pairs: list[Pair], tmp_path: Path) -> None:
    source = catalog(tmp_path / "index.json", pairs[0].items())
    rules = replace(RULES, labels=LabelRules(names={4: "green"}, mapping={"4": 4}), angles=AngleRules("sin_cos"))
    cube = tmp_path / "set.zarr"
    request = on_grid(source)
    make_sample_cube(replace(request, query=replace(request.query, max_cloud_cover=90)), cube, rules)
    before = (cube / "zarr.json").read_bytes()
    assert update(cube) == 0
    assert (cube / "zarr.json").read_bytes() == before, "nothing new, nothing done"
    frames = find_frames(cube)
    newer = pairs[0].again("05.10")
    for path in [newer.path("L1C", key) for key in ("B02", "B11", "product_metadata", "granule_metadata")]:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(pairs[0].path("L1C", path.stem).read_bytes())
    write_raster(newer.path("L1C", "B11"), pairs[1].counts("B11"), 20)
    items = [newer.item("L1C"), pairs[0].item("L2A"), *pairs[1].items()]
    catalog(tmp_path / "index.json", items)
    assert update(cube) == 0
    opened = stac2cube.open_cube(cube)
    assert find_frames(cube).frames[0].version != frames.frames[0].version, "sets and statistics of it are others"
    assert list(opened["scene"].values) == ["sentinel-2a_R108_20230512", "sentinel-2a_R108_20230517"]
    # The numbers of a cube that is made of the new catalog at once, also where a newer baseline came.
    anew = make_sample_cube(on_grid(source), tmp_path / "anew.zarr", rules)
    for name in opened.data_vars:
        np.testing.assert_array_equal(opened[name].values, anew[name].values)
    with pytest.raises(BadInputError, match="leave out --time"):
        update(cube, "--time", "2023")
    with pytest.raises(BadInputError, match="leave out --catalog"):
        update(cube, "--catalog", "cdse")
    next(path for path in (cube / "B02" / "c").rglob("*") if path.is_file()).write_bytes(b"rotten")
    done = CliRunner().invoke(cli, ["verify", str(cube), "--repair", "-q"], standalone_mode=False)
    assert (done.exception, done.return_value) == (None, 0), done.output
    np.testing.assert_array_equal(stac2cube.open_cube(cube)["B02"].values, anew["B02"].values)


def test_update_follows_a_cube_whose_steps_are_samples(layers: Path, tmp_path: Path) -> None:
    make_sample_cube(
        SampleRequest(Query(catalog=str(layers)), max_scenes=1),
        tmp_path / "set.zarr",
        replace(RULES, angles=AngleRules()),
    )
    assert update(tmp_path / "set.zarr") == 0
    assert len(stac2cube.open_cube(tmp_path / "set.zarr")["time"]) == 1
    make_sample_cube(
        SampleRequest(Query(catalog=str(layers))), tmp_path / "set.zarr", replace(RULES, angles=AngleRules())
    )
    assert update(tmp_path / "set.zarr") == 0
    assert len(stac2cube.open_cube(tmp_path / "set.zarr")["time"]) == 2


def update(cube: Path, *words: str) -> int:
    done = CliRunner().invoke(cli, ["update", str(cube), "-q", *words], standalone_mode=False)
    if done.exception is not None:
        raise done.exception
    return int(done.return_value)
