"""What catalogs have, side by side; what a cube lacks; and one cube from several catalogs."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import stac2cube
from stac2cube.cli import cli
from stac2cube.errors import BadInputError, IncompleteError
from stac2cube.store.ledger import Ledger
from stac2cube.store.metadata import read_root
from stac2cube.store.reader import differences
from stac2cube.testing.archive import Archive, ArchiveSpec, simulate

SPEC = ArchiveSpec(
    years=(2023,), dates_per_year=6, tile_px=96, catalogs=("earth-search", "terrabyte", "cdse"), jp2=True
)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    return simulate(tmp_path_factory.mktemp("archive"), SPEC)


@pytest.fixture
def config(archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Terrabyte's catalog holds the first half of the year, CDSE's the second half; Earth Search's everything."""
    folder = tmp_path / "config"
    folder.mkdir()
    lines = []
    for name in ("earth-search", "terrabyte", "cdse"):
        content = json.loads(Path(archive.catalog(name)).read_text())
        months = {"terrabyte": range(1, 7), "cdse": range(7, 13)}.get(name, range(1, 13))
        content["features"] = [f for f in content["features"] if int(f["properties"]["datetime"][5:7]) in months]
        own = Path(archive.catalog(name)).with_name(f"part-{name}.json")
        own.write_text(json.dumps(content))
        lines.append(f'[{name}]\ntitle = "{name}"\nurl = "{own}"\n')
    (folder / "catalogs.toml").write_text("\n".join(lines))
    monkeypatch.setenv("STAC2CUBE_CONFIG_DIR", str(folder))
    return folder


def run(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    cli.main([str(word) for word in words], standalone_mode=False)
    return capsys.readouterr().out


def lose_first_files(archive: Archive) -> str:
    """Let terrabyte's first scene have no files any more; its day."""
    part = Path(archive.catalog("terrabyte")).with_name("part-terrabyte.json")
    content = json.loads(part.read_text())
    first = str(min(feature["properties"]["datetime"][:10] for feature in content["features"]))
    for feature in content["features"]:
        if feature["properties"]["datetime"].startswith(first):
            for asset in feature["assets"].values():
                asset["href"] = "file:///nowhere/" + asset["href"].rpartition("/")[2]
    part.write_text(json.dumps(content))
    return first


@pytest.fixture
def words(archive: Archive, tmp_path: Path) -> dict[str, object]:
    return {"mission": "sentinel-2-l2a", "aoi": archive.area(), "time": "2023", "bands": ["B04", "SCL"]}


def test_each_scene_from_the_first_catalog_that_has_it(config: Path, words: dict[str, object], tmp_path: Path) -> None:
    cube, whole = tmp_path / "together.zarr", tmp_path / "whole.zarr"
    stac2cube.get_stac_layers(cube, catalog="terrabyte,cdse", **words)
    stac2cube.get_stac_layers(whole, catalog="earth-search", **words)
    entries = Ledger(cube, read_root(cube).ledger).entries().values()
    used = {entry.key[-8:][4:6]: entry.properties["catalog"] for entry in entries}
    assert {name for month, name in used.items() if int(month) < 7} == {"terrabyte"}
    assert {name for month, name in used.items() if int(month) >= 7} == {"cdse"}
    assert [entry.key for entry in entries] == list(Ledger(whole, read_root(whole).ledger).entries())
    assert len(differences(cube, whole)) <= len(used), "item ids differ, scenes do not"


def test_a_scene_whose_files_are_gone_comes_from_the_next(
    config: Path, words: dict[str, object], tmp_path: Path, archive: Archive
) -> None:
    first = lose_first_files(archive)
    cube = tmp_path / "together.zarr"
    stac2cube.get_stac_layers(cube, catalog="terrabyte, earth-search", **words)
    entries = list(Ledger(cube, read_root(cube).ledger).entries().values())
    gone = [entry for entry in entries if entry.key.endswith(first.replace("-", ""))]
    assert [entry.properties["catalog"] for entry in gone] == ["earth-search"]
    assert "terrabyte" in {entry.properties["catalog"] for entry in entries}


def test_compare_and_gaps(
    config: Path, words: dict[str, object], tmp_path: Path, archive: Archive, capsys: pytest.CaptureFixture[str]
) -> None:
    area = tmp_path / "area.geojson"
    area.write_text(json.dumps(archive.area()))
    asked = ["--mission", "sentinel-2-l2a", "--aoi", area, "--time", "2023"]
    found = json.loads(run(capsys, "compare", *asked, "--catalogs", "earth-search,terrabyte,cdse", "--json"))
    counts = {name: len(answer["scenes"]) for name, answer in found.items()}
    assert counts["earth-search"] == 6
    assert counts["terrabyte"] + counts["cdse"] == 6
    assert all(answer["seconds"] > 0 for answer in found.values())
    table = run(capsys, "compare", *asked, "--catalogs", "earth-search,terrabyte")
    assert f"earth-search  6       {6 - counts['terrabyte']}" in table

    nowhere = "http://127.0.0.1:9/stac"
    table = run(capsys, "compare", *asked, "--catalogs", f"earth-search,{nowhere}")
    assert re.search(r"127.0.0.1:9/stac +- +- +- ", table), "one that does not answer has not none"
    with pytest.raises(BadInputError, match=r"no catalog answered: .*does not answer") as told:
        run(capsys, "compare", *asked, "--catalogs", nowhere)
    assert "Connection refused" in str(told.value)
    assert "Max retries" not in str(told.value)

    cube = tmp_path / "cube.zarr"
    stac2cube.get_stac_layers(cube, catalog="terrabyte", **words)
    said = run(capsys, "gaps", cube, "--catalogs", "earth-search,terrabyte")
    assert said.count("late, or not in the catalog used") == counts["cdse"]
    lacking = json.loads(run(capsys, "gaps", cube, "--catalogs", "earth-search", "--json"))["gaps"]
    assert {gap["key"] for gap in lacking} == set(found["cdse"]["scenes"])
    stac2cube.get_stac_layers(cube, update=True, catalog="terrabyte,earth-search")
    assert "has all scenes of" in run(capsys, "gaps", cube, "--catalogs", "earth-search")


def test_a_dataset_says_what_catalogs_have_beyond_it(
    config: Path, words: dict[str, object], tmp_path: Path, archive: Archive
) -> None:
    first = lose_first_files(archive)
    with pytest.raises(IncompleteError):
        stac2cube.get_stac_layers(tmp_path / "cube.zarr", catalog="terrabyte", **words)
    opened = stac2cube.open_cube(tmp_path / "cube.zarr")
    whole = stac2cube.get_stac_layers(tmp_path / "whole.zarr", catalog="earth-search", **words)
    months = {str(scene.values): f"{scene.time.dt.strftime('%Y-%m').item()}" for scene in whole["scene"]}
    later = {key: month for key, month in months.items() if int(month[5:]) > 6}
    failed = next(key for key in months if key.endswith(first.replace("-", "")))

    gaps = opened.s2c.gaps(["earth-search", "terrabyte", "cdse"]).set_index("scene")
    assert dict(gaps["time"]) == later | {failed: months[failed]}
    assert dict(gaps["catalogs"]) == dict.fromkeys(later, "earth-search, cdse") | {failed: "earth-search, terrabyte"}
    assert gaps["reason"][failed].startswith("failed: ")
    assert set(gaps["reason"].drop(failed)) == {"not built: late, or not in the catalog used"}
    assert list(opened.s2c.gaps("terrabyte")["scene"]) == list(opened.s2c.gaps()["scene"]) == [failed]
    nothing = whole.s2c.gaps(["earth-search", "cdse"])
    assert (len(nothing), list(nothing)) == (0, ["scene", "time", "reason", "catalogs"])
