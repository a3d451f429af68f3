"""The commands for training sets as people meet them: words, files of words, exit codes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from stac2cube.cli import cli
from stac2cube.datasets.acquisitions import read_manifest
from stac2cube.datasets.config import (
    DOWNLOAD,
    download_of_words,
    read_words,
    request_of_words,
    rules_of_words,
    sample_words,
)
from stac2cube.datasets.index import read_sample_index
from stac2cube.errors import BadInputError
from tests.datasets.products import GSD, Pair
from tests.items import catalog

AOI = "10.3375,47.8365,10.3595,47.8455"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("origin")
    pairs = [Pair(folder, day).write() for day in (12, 17)]
    return catalog(folder / "items.json", [item for pair in pairs for item in pair.items()])


def run(*words: object) -> tuple[int, str]:
    done = CliRunner().invoke(cli, list(map(str, words)), standalone_mode=False)
    if done.exception is not None:
        raise done.exception
    return int(done.return_value), done.output


CONFIG = """
source: products
out: samples
bands: [B02, B11]
target: B11
threshold: 1.0
angles: {form: sin_cos, view: per_band}
labels:
  backend: scl
  mapping: {4: 0, 5: 0, 8: 1, 9: 1, 10: 1}
  names: {0: clear, 1: cloud}
"""


def test_from_a_catalog_to_samples(source: str, tmp_path: Path) -> None:
    where = ("--aoi", AOI, "--time", "2023", "--catalog", source, "-q")
    bands = ",".join(f"l1c.band.{band}" for band in GSD)
    roles = ("--roles", f"{bands},l1c.product_metadata,l1c.tile_metadata,l2a.scl_20m")
    code, said = run("download", tmp_path / "products", *where, *roles, "--dry-run")
    assert code == 0
    assert "S2A_20230512T102601_32TNT" in said
    assert list(tmp_path.iterdir()) == []
    code, said = run("download", tmp_path / "products", *where, *roles, "--tables", "csv,parquet,xlsx")
    assert code == 0
    assert "14 files fetched" in said
    names = {path.name for path in (tmp_path / "products").iterdir() if path.is_file()}
    assert names == {"index.json", "files.csv", "files.parquet", "files.xlsx"}
    (tmp_path / "set.yaml").write_text(CONFIG)
    code, said = run("samples", "--config", tmp_path / "set.yaml", "--dry-run", "-q")
    assert code == 0
    assert "96x96" in said
    code, said = run("samples", "--config", tmp_path / "set.yaml", "-q")
    assert code == 0
    assert "2 samples made, 0 were there, 0 failed" in said
    index = read_sample_index(tmp_path / "samples")
    assert index.labels.classes == {0: "clear", 1: "cloud"}
    assert index.angles.form == "sin_cos"
    assert run("samples", "--config", tmp_path / "set.yaml", "-q")[1].count("2 were there") == 1
    # The same words by options.
    words = ("--bands", "B02,B11", "--target", "B11", "--threshold", "1", "--angles", "sin_cos", "--view", "per_band")
    labels = ("--labels", "scl", "--mapping", "4=0,5=0,8=1,9=1,10=1")
    code, _ = run("samples", tmp_path / "products", tmp_path / "again", *words, *labels, "-q")
    assert code == 0
    for name in ("x.tif", "y.tif", "angles.tif"):
        one, two = (tmp_path / folder / index.samples[0].id / name for folder in ("samples", "again"))
        assert one.read_bytes() == two.read_bytes()


def test_a_lost_file_is_told_by_the_exit_code(source: str, tmp_path: Path) -> None:
    where = ("--aoi", AOI, "--time", "2023-05-12", "--catalog", source, "-q")
    code, said = run("download", tmp_path / "products", *where, "--roles", "l1c.band.B02,l1c.band.B12")
    assert code == 2
    assert "l1c.band.B12: item" in said
    assert [entry.role for entry in read_manifest(tmp_path / "products").absent] == ["l1c.band.B12"]
    words = (tmp_path / "products", tmp_path / "set", "--bands", "B02", "-q")
    with pytest.raises(BadInputError, match="product_metadata: the item has no such asset"):
        run("samples", *words)
    code, said = run("samples", *words, "--dry-run")
    assert code == 2
    assert "product_metadata" in said
    code, said = run("samples", *words, "--incomplete", "list")
    assert code == 2
    assert "0 samples made, 0 were there, 1 failed" in said


def test_a_cube_of_samples_from_a_file(source: str, tmp_path: Path) -> None:
    text = f"source: {source}\nout: set.zarr\naoi: [{AOI}]\ncrs: EPSG:32632\nresolution: 60\nbands: B02,B11\n"
    (tmp_path / "set.yaml").write_text(text)
    code, said = run("samples", "--config", tmp_path / "set.yaml", "-q")
    assert code == 0
    assert "2 steps sealed" in said
    attributes = json.loads((tmp_path / "set.zarr" / "zarr.json").read_text())
    assert attributes["attributes"]["stac2cube"]["spec"]["stage"] == "samples"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("sauce: a", "does not know sauce"),
        ("[", "not YAML"),
        ("- a", "table of words"),
        ("labels: {backend: scl, colour: red}", "no word colour"),
        ("angles: {form: radians}", "angles: form should be one of degrees, sin_cos, not 'radians'"),
        ("threshold: much", "threshold should be a number"),
        (
            "labels: {backend: scl, ignore_index: many}",
            "labels: ignore_index should be a whole number, at least 0 and at most 255, not 'many'",
        ),
        ("labels: {backend: scl, mask_invalid: 1}", "labels: mask_invalid should be true or false, not 1"),
        ("bands: 7", "a list of words was meant"),
    ],
)
def test_what_a_file_must_not_say(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(BadInputError, match=words):
        rules_of_words(read_words(tmp_path / "a.yaml", sample_words()))


def test_the_files_of_words_in_the_documentation_are_understood(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "training.md").read_text()
    (tmp_path / "lech.geojson").write_text(
        '{"type": "Polygon", "coordinates": [[[10, 47], [11, 47], [11, 48], [10, 47]]]}'
    )
    products, samples = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    (tmp_path / "products.yaml").write_text(products)
    request = download_of_words(read_words(tmp_path / "products.yaml", DOWNLOAD))
    assert (request.tiles, request.cloud, request.max_scenes) == (("32TNT", "32TPT"), (0, 40), 20)
    (tmp_path / "samples.yaml").write_text(samples)
    words = read_words(tmp_path / "samples.yaml", sample_words())
    rules = rules_of_words(words)
    assert rules.labels.table == {"4": 0, "5": 0, "6": 0, "8": 1, "9": 1, "10": 1}
    assert rules.angles.form == "sin_cos"
    assert request_of_words(words).max_scenes == 100


def test_cloud_ranges() -> None:
    for value, expected in (("10-60", (10, 60)), ([10, 60], (10, 60)), (30, (0, 30)), ("30", (0, 30))):
        assert download_of_words({"aoi": AOI, "time": "2023", "cloud": value}).cloud == expected
    with pytest.raises(BadInputError, match="LOWEST-HIGHEST"):
        download_of_words({"aoi": AOI, "time": "2023", "cloud": "1-2-3"})
    with pytest.raises(BadInputError, match="say also aoi"):
        download_of_words({"time": "2023"})
