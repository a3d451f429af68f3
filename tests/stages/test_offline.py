"""A recipe staged on a login node runs where no network is: in a network namespace without a route."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from stac2cube.store.ledger import Ledger
from stac2cube.store.metadata import read_root
from stac2cube.store.reader import open_cube
from stac2cube.testing.archive import ArchiveSpec, simulate
from tests.servers.stac_api import StacApi

CUT_OFF = ["unshare", "--net", *(["--map-root-user", "--user"] if os.geteuid() else [])]


def can_cut_off() -> bool:
    return (
        bool(shutil.which("unshare"))
        and subprocess.run([*CUT_OFF, "true"], capture_output=True, check=False).returncode == 0
    )


def command(*words: object) -> list[str]:
    return [sys.executable, "-m", "stac2cube", *map(str, words)]


@pytest.mark.postgres
def test_a_staged_recipe_needs_no_network(stac_api: StacApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not can_cut_off():
        pytest.skip("network namespaces are not allowed here")
    archive = simulate(
        tmp_path / "archive",
        ArchiveSpec(years=(2023,), dates_per_year=3, tile_px=96, catalogs=("terrabyte",), jp2=True),
    )
    stac_api.load(archive.collections("terrabyte"), archive.items("terrabyte"))
    config = tmp_path / "config"
    config.mkdir()
    (config / "catalogs.toml").write_text(
        f'[terrabyte]\ntitle = "site"\nurl = "{stac_api.url}"\nlocal_root = "{tmp_path / "archive"}"\n'
    )
    monkeypatch.setenv("STAC2CUBE_CONFIG_DIR", str(config))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    (tmp_path / "area.geojson").write_text(json.dumps(archive.area()))
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "cubes: cubes\nlayers:\n  mission: sentinel-2-l2a\n  aoi: area.geojson\n  time: 2023\n  bands: [B04]\n"
    )
    alone = subprocess.run([*CUT_OFF, *command("run", recipe)], capture_output=True, text=True, check=False)
    assert alone.returncode == 1
    assert "does not answer" in alone.stderr
    assert not (tmp_path / "cubes" / "layers.zarr").exists()

    done = subprocess.run(command("stage", recipe, "-q"), capture_output=True, text=True, check=True)
    staged = Path(done.stdout.strip())
    (tmp_path / "area.geojson").unlink()
    ran = subprocess.run([*CUT_OFF, *command("run", staged)], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    cube = tmp_path / "cubes" / "layers.zarr"
    assert open_cube(cube).sizes["time"] == 3
    entry = next(iter(Ledger(cube, read_root(cube).ledger).entries().values()))
    assert entry.properties["catalog"] == "terrabyte", "the ledger names the catalog, not the file"
    assert "items.parquet" in entry.properties["catalog_choice"]
