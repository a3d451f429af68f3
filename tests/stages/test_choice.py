"""The silent switch: which catalog "auto" means, outside and inside a cluster, with and without the site's archive."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import stac2cube
import stac2cube.model.geometry
from stac2cube.errors import BadInputError, NothingFoundError
from stac2cube.executors.base import Threads
from stac2cube.executors.slurm import Slurm
from stac2cube.model.catalog import find_catalog
from stac2cube.stages.layers import prepare, query_of_words, run
from stac2cube.store.ledger import Ledger
from stac2cube.store.metadata import read_root
from stac2cube.testing.archive import Archive, ArchiveSpec, simulate

SPEC = ArchiveSpec(years=(2023,), dates_per_year=2, tile_px=96, catalogs=("earth-search", "terrabyte"), jp2=True)


@dataclass(frozen=True)
class Site:
    """A fake HPC centre: the archive it mounts, in the shape of terrabyte's (file:// items, JPEG 2000)."""

    archive: Archive
    root: Path
    config: Path

    def words(self, **more: object) -> dict[str, object]:
        area = stac2cube.model.geometry.read_areas(json.dumps(self.archive.area()))[0]
        return {"mission": "sentinel-2-l2a", "area": area, "time": "2023", "bands": ("B04",), **more}

    def choose(self, *, on_cluster: bool, **more: object) -> tuple[str, str]:
        """Catalog and reason that the ledger will hold."""
        job = prepare(None, *query_of_words(self.words(**more)), on_cluster=on_cluster)
        properties = job.steps[0].entry.properties
        return properties["catalog"], properties["catalog_choice"]

    def tables(self, **catalogs: dict[str, object]) -> None:
        """The user's own catalogs.toml."""
        lines = [
            f"[{name}]\n" + "\n".join(f"{k} = {json.dumps(str(v))}" for k, v in c.items())
            for name, c in catalogs.items()
        ]
        (self.config / "catalogs.toml").write_text("\n".join(lines))

    def standard(self, **terrabyte: object) -> None:
        mine = {"title": "t", "url": self.archive.catalog("terrabyte"), "local_root": self.root, **terrabyte}
        self.tables(terrabyte=mine, **{"earth-search": {"title": "e", "url": self.archive.catalog("earth-search")}})


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    config = tmp_path / "config"
    config.mkdir()
    monkeypatch.setenv("STAC2CUBE_CONFIG_DIR", str(config))
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    archive = simulate(tmp_path / "archive", SPEC)
    made = Site(archive, tmp_path / "archive", config)
    made.standard()
    return made


def test_outside_a_cluster_the_first_open_catalog(site: Site) -> None:
    assert Threads().on_cluster is False
    assert site.choose(on_cluster=False) == ("earth-search", "the first open catalog that carries sentinel-2-l2a")


def test_inside_a_job_with_the_archive_the_sites_own(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    assert Threads().on_cluster is True
    name, why = site.choose(on_cluster=Threads().on_cluster)
    assert name == "terrabyte"
    assert f"the archive {site.root} is mounted" in why


def test_worker_jobs_count_from_a_login_node_too(site: Site) -> None:
    assert Slurm().on_cluster is True
    assert site.choose(on_cluster=Slurm().on_cluster)[0] == "terrabyte"


def test_inside_a_job_without_the_archive_an_open_one(site: Site) -> None:
    site.standard(local_root=site.root / "not-mounted")
    assert site.choose(on_cluster=True)[0] == "earth-search"


def test_an_archive_that_cannot_be_read_is_passed_over_and_the_ledger_says_why(
    site: Site, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for file in site.root.rglob("*.jp2"):
        file.unlink()
    cube = tmp_path / "layers.zarr"
    with caplog.at_level("INFO", "stac2cube"):
        run(prepare(cube, *query_of_words(site.words()), on_cluster=True), Threads(1))
    entry = next(iter(Ledger(cube, read_root(cube).ledger).entries().values()))
    assert entry.properties["catalog"] == "earth-search"
    assert "not terrabyte: " in entry.properties["catalog_choice"]
    assert "cannot be read here" in entry.properties["catalog_choice"]
    assert "catalog terrabyte is passed over" in caplog.text
    assert len([r for r in caplog.records if r.message.startswith("catalog earth-search: ")]) == 1


def test_a_site_catalog_that_is_down_or_has_no_scene_is_passed_over(site: Site) -> None:
    site.standard(url=site.root / "gone.json")
    name, why = site.choose(on_cluster=True)
    assert (name, "gone.json does not exist" in why) == ("earth-search", True)
    empty = site.root / "empty.json"
    items = json.loads(Path(site.archive.catalog("terrabyte")).read_text())
    for item in items["features"]:
        item["properties"]["datetime"] = "1999-01-01T00:00:00Z"
    empty.write_text(json.dumps(items))
    site.standard(url=empty)
    name, why = site.choose(on_cluster=True)
    assert (name, "no scene for these words" in why) == ("earth-search", True)


def test_an_explicit_choice_always_wins(site: Site) -> None:
    assert site.choose(on_cluster=True, catalog="earth-search") == ("earth-search", "asked for")
    assert site.choose(on_cluster=False, catalog="terrabyte") == ("terrabyte", "asked for")
    shutil.rmtree(site.root / "L2A", ignore_errors=True)
    with pytest.raises(BadInputError, match="unknown catalog 'nonsense'"):
        site.choose(on_cluster=True, catalog="nonsense")


def test_a_path_that_is_right_elsewhere_is_said_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInputError, match=f"no catalog at 'archive/items.json', seen from the folder {tmp_path}"):
        find_catalog("archive/items.json")


def test_another_centre_than_terrabyte(site: Site) -> None:
    own = {"title": "Our centre", "url": site.archive.catalog("terrabyte"), "local_root": site.root}
    open_one = {"title": "e", "url": site.archive.catalog("earth-search")}
    site.tables(our_centre=own, **{"earth-search": open_one})
    assert site.choose(on_cluster=True)[0] == "our_centre"
    assert site.choose(on_cluster=False)[0] == "earth-search"


def test_nothing_anywhere_names_every_catalog_tried(site: Site) -> None:
    with pytest.raises(NothingFoundError, match=r"not terrabyte: .*not earth-search: "):
        site.choose(on_cluster=True, time="1985")


def test_both_ways_give_the_same_pixels(site: Site, tmp_path: Path) -> None:
    cubes = {}
    for on_cluster in (True, False):
        cube = tmp_path / f"{on_cluster}.zarr"
        run(prepare(cube, *query_of_words(site.words()), on_cluster=on_cluster), Threads(1))
        cubes[on_cluster] = stac2cube.open_cube(cube, decode=False, chunks=None).load()
    assert len({cube.attrs.get("title") for cube in cubes.values()}) == 1
    # By position: catalogs stamp the same scene minutes apart.
    ours, theirs = (cube["B04"].values for cube in cubes.values())
    assert ours.any()
    # What Earth Search clipped at zero when it applied the offset, no rule can bring back.
    np.testing.assert_array_equal(ours[theirs > 0], theirs[theirs > 0])
    assert (ours > 0).mean() - (theirs > 0).mean() < 0.001
