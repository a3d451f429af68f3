"""The first stage end to end on simulated scenes whose truth is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import stac2cube
from stac2cube.build.plan import BuildOptions
from stac2cube.errors import BadInputError, CubeMismatchError, IncompleteError, NothingFoundError
from stac2cube.executors.base import Threads
from stac2cube.stages.layers import prepare, query_of_words, run
from stac2cube.store.ledger import Ledger
from stac2cube.store.metadata import read_root
from stac2cube.store.reader import differences, open_cube
from stac2cube.testing.archive import Archive, ArchiveSpec, simulate
from stac2cube.testing.scenes import Overpass

CATALOGS = ("earth-search", "planetary-computer", "terrabyte", "cdse")
SPEC = ArchiveSpec(years=(2021, 2022, 2023), dates_per_year=2, tile_px=120, catalogs=CATALOGS, jp2=True)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    return simulate(tmp_path_factory.mktemp("archive"), SPEC)


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    return simulate(
        tmp_path_factory.mktemp("faulty"), ArchiveSpec(years=(2023,), dates_per_year=4, tile_px=120, faults=True)
    )


def build(archive: Archive, out: Path | None, catalog: str = "earth-search", **words: object) -> xr.Dataset:
    given: dict[str, object] = {
        "mission": "sentinel-2-l2a",
        "aoi": archive.area(),
        "time": "2021/2023",
        "catalog": str(archive.catalog(catalog)) if catalog in CATALOGS else catalog,
    }
    return stac2cube.get_stac_layers(out, **(given | words))


def test_four_catalogs_and_all_baselines_give_the_same_counts(archive: Archive, tmp_path: Path) -> None:
    cubes = {name: tmp_path / f"{name}.zarr" for name in CATALOGS}
    for name, path in cubes.items():
        build(archive, path, name)
    opened = {name: open_cube(path, decode=False, chunks=None) for name, path in cubes.items()}
    reference = opened["cdse"]
    baselines = {
        b for e in Ledger(cubes["cdse"], read_root(cubes["cdse"]).ledger).entries().values() for b in e.parts.values()
    }
    assert {float(b) >= 4 for b in baselines} == {True, False}, "both sides of baseline 04.00 are there"
    clipped = 0
    for name in CATALOGS[:3]:
        assert list(opened[name]["scene"].values) == list(reference["scene"].values)
        for band in reference.data_vars:
            got, wanted = opened[name][band].values, reference[band].values
            if name != "earth-search" or band == "SCL":
                np.testing.assert_array_equal(got, wanted, err_msg=f"{name} {band}")
                continue
            # The named rule: what a provider clipped at 0 when it subtracted the offset is lost, and is no data.
            lost = (got == 0) & (wanted > 0)
            assert (wanted[lost] <= 1000).all(), band
            clipped += int(lost.sum())
            near_lost = np.zeros_like(lost) if band in ("B02", "B03", "B04", "B08") else _grown(lost)
            same = (got == wanted) | lost | near_lost
            assert same.all(), f"{name} {band}: {np.count_nonzero(~same)}"
    assert clipped > 0, "the simulated scenes hold pixels that a provider clips"


def _grown(mask: np.ndarray) -> np.ndarray:
    """20 m pixels that were lost change their neighbours' interpolation."""
    out = mask.copy()
    for axis in (1, 2):
        for shift in (-3, -2, -1, 1, 2, 3):
            out |= np.roll(mask, shift, axis)
    return out | np.roll(out, 2, 1) | np.roll(out, -2, 1)


def test_pixels_are_the_simulated_truth(archive: Archive, tmp_path: Path) -> None:
    dataset = build(archive, tmp_path / "a.zarr", "planetary-computer")
    tile = archive.tiles[0]
    for overpass in archive.overpasses:
        image = archive.image(overpass, tile)
        step = dataset.sel(time=dataset["time"].dt.strftime("%Y%m%d") == f"{overpass.time:%Y%m%d}").isel(time=0)
        column = round((float(step.x[0]) - 5 - tile.origin[0]) / 10)
        row = round((tile.origin[1] - float(step.y[0]) - 5) / 10)
        truth = image.reflectance["B04"][row:, column:]
        got = step["B04"].values[: truth.shape[0], : truth.shape[1]]
        truth = truth[: got.shape[0], : got.shape[1]]
        # Before baseline 04.00 ESA's processor clipped at one count; a count is 1e-4.
        floor = 1e-4 if float(overpass.baseline) < 4 and overpass != archive.duplicate else -0.0999
        wanted = np.where(np.isnan(truth), np.nan, np.clip(truth, floor, None))
        inside = ~np.isnan(wanted)
        np.testing.assert_array_equal(np.isnan(got), np.isnan(wanted))
        assert np.abs(got[inside] - wanted[inside]).max() <= 0.51e-4


def test_updates_need_only_a_time(archive: Archive, tmp_path: Path) -> None:
    cube, once = tmp_path / "a.zarr", tmp_path / "once.zarr"
    build(archive, cube, time="2022")
    for time in ("2023", "2021"):
        stac2cube.get_stac_layers(cube, time=time, update=True)
    assert list(open_cube(cube)["time"].dt.year.values) == [2021, 2021, 2022, 2022, 2023, 2023]
    build(archive, once)
    assert differences(cube, once) == []
    commit = read_root(cube).commit
    stac2cube.get_stac_layers(cube, update=True)
    build(archive, cube, time="2021/2023")
    assert read_root(cube).commit == commit
    assert stac2cube.cube_status(cube).steps == 6


def test_a_look_without_building_shows_the_same_pixels(archive: Archive, tmp_path: Path) -> None:
    cube = build(archive, tmp_path / "a.zarr", time="2022", bands=["red", "rededge1", "scl"])
    lazy = build(archive, None, time="2022", bands=["red", "rededge1", "scl"])
    assert lazy["B04"].chunks is not None
    for band in ("B04", "B05", "SCL"):
        np.testing.assert_array_equal(lazy[band].values, cube[band].values)
        assert lazy[band].dtype == cube[band].dtype
    np.testing.assert_array_equal(lazy["time"].values, cube["time"].values)


def test_areas_over_two_zones_are_one_grid(archive: Archive, tmp_path: Path) -> None:
    dataset = build(archive, tmp_path / "a.zarr", aoi=archive.area(two_zones=True), time="2023", bands=["B04", "SCL"])
    entries = Ledger(tmp_path / "a.zarr", read_root(tmp_path / "a.zarr").ledger).entries()
    tiles = {part[:5] for entry in entries.values() for part in entry.parts}
    assert {tile[:2] for tile in tiles} == {"32", "33"}
    assert read_root(tmp_path / "a.zarr").spec.grid.crs == "EPSG:32632"
    other = build(
        archive, tmp_path / "b.zarr", aoi=archive.area(two_zones=True), time="2023", bands=["B04"], crs="EPSG:32633"
    )
    assert int(dataset["B04"].notnull().sum()) > 0
    assert int(other["B04"].notnull().sum()) > 0


def test_cut_files_fail_their_step_until_they_are_whole(faulty: Archive, tmp_path: Path) -> None:
    cube = tmp_path / "a.zarr"
    with pytest.raises(IncompleteError, match=r"1 step.*B03.*cannot be read"):
        build(faulty, cube, time="2023")
    assert len(open_cube(cube)["time"]) == 2
    overpass, tile, band = faulty.corrupt
    assert list(stac2cube.cube_status(cube).failed) == [key_of(overpass)]
    product = next(p for p in faulty.products() if (p.overpass, p.tile) == (overpass, tile))
    path, sound = (faulty.file("earth-search", product, name) for name in (band, "B02"))
    cut = path.read_bytes()
    try:
        path.write_bytes(sound.read_bytes())
        build(faulty, cube, time="2023")
    finally:
        path.write_bytes(cut)
    assert key_of(overpass) in open_cube(cube)["scene"].values
    assert stac2cube.cube_status(cube).failed == {}


def test_late_scenes_are_added_and_late_tiles_reported(faulty: Archive, tmp_path: Path) -> None:
    cube, words = tmp_path / "a.zarr", {"time": "2023-01/2023-09", "bands": ["B04", "SCL"]}
    build(faulty, cube, **words)
    before = open_cube(cube, decode=False)
    assert key_of(faulty.late) not in before["scene"].values
    late = str(faulty.catalog("earth-search", late=True))
    stac2cube.get_stac_layers(cube, update=True, catalog=late)
    after = open_cube(cube, decode=False)
    assert key_of(faulty.late) in after["scene"].values
    place = list(before["scene"].values).index(key_of(faulty.late_granule[0]))
    np.testing.assert_array_equal(before["B04"][place], after["B04"][place], "a late tile is not slipped in")
    job = prepare(cube, *query_of_words({"catalog": late}, cube))
    assert [step.entry.key for _, step in job.plan().superseded] == [key_of(faulty.late_granule[0])]
    summary = run(job, Threads(2), options=BuildOptions(superseded="replace"))
    assert summary.replaced == [key_of(faulty.late_granule[0])]
    once = tmp_path / "once.zarr"
    build(faulty, once, **words, catalog=late)
    assert differences(cube, once) == []


def key_of(overpass: Overpass) -> str:
    return f"{overpass.platform}_R{overpass.orbit:03d}_{overpass.time:%Y%m%d}"


def test_the_guard_names_what_differs(archive: Archive, tmp_path: Path) -> None:
    cube = tmp_path / "a.zarr"
    build(archive, cube, time="2022")
    for words, word in [
        ({"crs": "EPSG:32633"}, "grid crs"),
        ({"resolution": 20}, "grid resolution"),
        ({"bands": ["B04"]}, "layers"),
        ({"resampling": "nearest"}, "resampling"),
        ({"aoi": archive.area(two_zones=True)}, "grid shape"),
    ]:
        with pytest.raises(CubeMismatchError, match=word):
            build(archive, cube, **{"time": "2023", **words})
    assert read_root(cube).commit == 1


def test_words_as_the_command_line_takes_them(archive: Archive) -> None:
    """Bands as one text, a catalog as a path."""
    text = build(archive, None, bands="red, nir", catalog=archive.catalog("cdse"))
    assert list(text.data_vars) == ["B04", "B08"]


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ({"place": "threads"}, r"place should be a place such as stac2cube\.Threads\(4\) .*, not 'threads'"),
        ({"place": 4}, "not 4"),
        ({"resolution": 0}, "resolution must be a positive number, not 0"),
        ({"out": Path("~/a.zarr")}, "a folder called ~ would be made"),
    ],
)
def test_words_of_another_kind_are_refused(
    archive: Archive, words: dict[str, object], why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInputError, match=why):
        build(archive, **({"out": tmp_path / "a.zarr"} | words))  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_words_that_are_not_understood(archive: Archive, tmp_path: Path) -> None:
    out = tmp_path / "a.zarr"
    for words, message in [
        ({"mission": "sentinel-9"}, "unknown mission"),
        ({"bands": ["B99"]}, "no band 'B99'"),
        ({"catalog": "nowhere"}, "unknown catalog"),
        ({"time": "2023-13"}, "2023-13"),
        ({"max_cloud_cover": 120}, "number of percent, at least 0 and at most 100, not 120"),
        ({"resolution": -10}, "resolution"),
        ({"crs": "EPSG:999999"}, "unknown CRS"),
        ({"resampling": "cubik"}, "cubik"),
        ({"resampling": {"B99": "cubic"}}, "not asked for"),
        ({"aoi": [0, -89.9, 1, -89]}, "outside what sentinel-2-l2a covers"),
        ({"aoi": {"type": "Polygon", "coordinates": [[[0, 0], [1, 1], [1, 0], [0, 1], [0, 0]]]}}, "Self-intersection"),
    ]:
        with pytest.raises(BadInputError, match=message):
            build(archive, out, **words)
    with pytest.raises(NothingFoundError, match=r"no scene of sentinel-2-l2a: .* over .* in 2011"):
        build(archive, out, time="2011")
    with pytest.raises(NothingFoundError, match="at most 0 % cloud"):
        build(archive, out, time="2021-01", max_cloud_cover=0)
    with pytest.raises(BadInputError, match="say also mission, aoi"):
        stac2cube.get_stac_layers(out, time="2023")
    assert not out.exists()
    assert list(tmp_path.iterdir()) == []
