"""Files and bytes: what a cube has, what a build and a year add, and a site's limits, which no byte crosses."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import stac2cube
from stac2cube.build.loop import build
from stac2cube.build.plan import BuildOptions, plan
from stac2cube.build.status import Size, added, cube_status, forecast, per_year
from stac2cube.cli import cli
from stac2cube.errors import BadInputError, TableError
from stac2cube.executors.base import Threads
from stac2cube.executors.local import Local
from stac2cube.executors.site import Limits, find_site, limits_at
from stac2cube.executors.slurm import Slurm
from stac2cube.maintain.seal_year import seal_year
from tests.build.toy import GRID, SPEC, Make, step, steps
from tests.items import catalog
from tests.stages.test_care import DATES, LATTICE, product

TILES = 3 * 3


def on_disk(cube: Path) -> tuple[int, int]:
    files = [path for layer in ("B02", "SCL") for path in (cube / layer / "c").rglob("*") if path.is_file()]
    return len(files), sum(path.stat().st_size for path in files)


def test_what_a_cube_holds_is_what_lies_on_disk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cube = tmp_path / "toy.zarr"
    build(cube, SPEC, steps(range(360, 368)), Make(), Threads(2))  # 2020-12-26 to 2021-01-02
    status = cube_status(cube)
    assert (status.files, status.size) == on_disk(cube)
    assert {year: load.steps for year, load in status.by_year.items()} == {2020: 6, 2021: 2}
    assert sum(load.size for load in status.by_year.values()) == status.size
    assert status.deep == Size()
    # One step a day.
    assert status.year_more.steps == 365
    assert status.year_more.files == 365 * 2 * TILES
    done = seal_year(cube, 2020)
    status = cube_status(cube)
    assert (status.deep.files, status.deep.size) == on_disk(Path(done.store)) == (done.files, done.size)
    capsys.readouterr()
    assert cli.main(["status", str(cube)], standalone_mode=False) == 0
    said = capsys.readouterr().out
    assert "2020             6 steps, 108 files" in said
    assert "; sealed, 6 steps" in said
    assert "a year more      about 365 steps, 6570 files" in said
    assert cli.main(["status", str(cube), "--json"], standalone_mode=False) == 0
    assert json.loads(capsys.readouterr().out)["by_year"]["2021"]["files"] == 2 * 2 * TILES


@pytest.mark.parametrize(
    ("days", "expected"),
    [
        ([], 0),
        ([3], 1),
        ([0, 5], 73),
        (list(range(0, 731, 5)), 73),
        # Summers only: ninety days every year.
        ([day + 365 * year for year in range(3) for day in range(150, 240, 10)], 9),
        # A second satellite since a year: the last year counts.
        ([*range(0, 730, 10), *range(730, 1100, 5)], 73),
    ],
)
def test_a_further_year_is_like_the_last(days: list[int], expected: int) -> None:
    times = [datetime(2020, 1, 1, tzinfo=UTC) + timedelta(days=day) for day in days]
    more = per_year(times, Size(10, 40, 1000))
    assert more.steps == expected
    assert (more.files, more.size) == (4 * expected, 100 * expected)


def test_a_build_adds_no_more_than_was_said(tmp_path: Path) -> None:
    cube = tmp_path / "toy.zarr"
    wanted = steps(range(4))
    ahead = forecast(cube, SPEC, plan(wanted, {}))
    assert (ahead.now, ahead.more.files) == (Size(), 4 * 2 * TILES)
    assert ahead.pixels == 4 * GRID.shape[0] * GRID.shape[1]
    build(cube, SPEC, wanted, Make(), Threads(2))
    assert on_disk(cube)[0] <= ahead.more.files
    # From now on the cube itself tells what a pixel costs on disk.
    assert forecast(cube, SPEC, plan([step(9)], {})).more.size == pytest.approx(on_disk(cube)[1] / 4, rel=0.01)


def test_a_build_that_would_outgrow_the_site_writes_nothing(tmp_path: Path) -> None:
    cube = tmp_path / "toy.zarr"
    files = added(SPEC, steps(range(3))).files
    enough = BuildOptions(limits=Limits(max_files=files))
    with pytest.raises(BadInputError, match=f"0 files and up to {files + 18} more, where the site allows {files}"):
        build(cube, SPEC, steps(range(4)), Make(), Threads(2), options=enough)
    assert list(tmp_path.iterdir()) == []
    build(cube, SPEC, steps(range(3)), Make(), Threads(2), options=enough)
    build(cube, SPEC, steps(range(3)), Make(), Threads(2), options=enough)  # nothing to do is always allowed
    before = sorted(path for path in cube.rglob("*"))
    for limits in (Limits(max_files=files + 1), Limits(max_bytes="20kB")):
        with pytest.raises(BadInputError, match="Nothing was written"):
            build(cube, SPEC, steps(range(4)), Make(), Threads(2), options=BuildOptions(limits=limits))
        with pytest.raises(BadInputError, match="Nothing was written"):
            seal_year(cube, 2020, options=BuildOptions(limits=limits))
    assert sorted(path for path in cube.rglob("*")) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["toy.zarr"]


def test_a_sites_limits_hold_at_its_places_and_in_its_jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STAC2CUBE_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    pages = tmp_path / "config/sites"
    pages.mkdir(parents=True)
    (pages / "small.toml").write_text('cluster = "lab"\n[limits]\nmax_files = 1\n')
    (pages / "other.toml").write_text('[slurm]\nclusters = "far"\n[limits]\nmax_files = 1\n')
    (pages / "roomy.toml").write_text('cluster = "lab"\n')
    small = find_site("small")
    assert limits_at(small.place()) == limits_at(small.place(gpu=True)) == limits_at(small.gateway) == (small.limits,)
    assert limits_at(Slurm(clusters="far")) == (Limits(1),)
    assert limits_at(Slurm()) == limits_at(Threads()) == limits_at(Local()) == ()

    out, items = tmp_path / "layers.zarr", catalog(tmp_path / "items.json", [product(tmp_path, DATES[0])])
    words = {"mission": "sentinel-2-l2a", "aoi": LATTICE, "time": "2022", "bands": ["B04", "SCL"], "catalog": items}
    refused = pytest.raises(BadInputError, match="up to 2 more, where the site allows 1")
    with refused:
        stac2cube.get_stac_layers(out, place=small.place(), **words)
    monkeypatch.setenv("SLURM_CLUSTER_NAME", "lab")  # of a login node: no job
    assert limits_at(Threads()) == ()
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    for place in (None, Threads(1), Local(1), Slurm()):
        with refused:
            stac2cube.get_stac_layers(out, place=place, **words)
    box = ",".join(map(str, LATTICE.footprint("EPSG:4326").boundingbox))
    with refused:
        asked = [
            "--mission",
            "sentinel-2-l2a",
            "--aoi",
            box,
            "--time",
            "2022",
            "--bands",
            "B04,SCL",
            "--catalog",
            items,
        ]
        cli.main(["layers", str(out), *map(str, asked), "--dry-run", "-q"], standalone_mode=False)
    assert not out.exists()
    monkeypatch.setenv("SLURM_CLUSTER_NAME", "elsewhere")
    stac2cube.get_stac_layers(out, **words)
    monkeypatch.setenv("SLURM_CLUSTER_NAME", "lab")
    with pytest.raises(BadInputError, match="2 files and up to 2 more"):
        stac2cube.seal_year(out, 2022)
    with pytest.raises(BadInputError, match="2 files and up to 2 more"):
        cli.main(["seal-year", str(out), "2022", "-q"], standalone_mode=False)
    assert cli.main(["seal-year", str(out), "2022", "--site", "roomy", "-q"], standalone_mode=False) == 0
    (pages / "small.toml").write_text("[slurm]\nsite = 'me'\n")
    with pytest.raises(TableError, match="no key 'site'"):
        find_site("small")


def test_a_site_says_its_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STAC2CUBE_CONFIG_DIR", str(tmp_path))
    (tmp_path / "sites").mkdir()
    page = tmp_path / "sites/small.toml"
    page.write_text('[limits]\nmax_files = 10\nmax_bytes = "1GiB"\n')
    assert find_site("small").limits == Limits(10, "1GiB")
    assert find_site("example").limits == Limits()
    cube = tmp_path / "toy.zarr"
    build(cube, SPEC, steps(range(1)), Make(), Threads(2))
    with pytest.raises(BadInputError, match="where the site allows 10"):
        cli.main(["seal-year", str(cube), "2020", "--site", "small", "-q"], standalone_mode=False)
    for text, message in (
        ("[limits]\nmax_inodes = 1\n", "no key 'max_inodes'"),
        ('[limits]\nmax_files = "many"\n', "max_files should be a whole number"),
    ):
        page.write_text(text)
        with pytest.raises(TableError, match=message):
            find_site("small")
    page.write_text('[limits]\nmax_bytes = "a lot"\n')
    with pytest.raises(BadInputError, match="write a number and a unit"):
        find_site("small")
    with pytest.raises(BadInputError, match="not -1"):
        Limits(max_files=-1)
