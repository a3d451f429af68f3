"""Whatever a product lacks or has damaged: named, listed, an exit code that is not 0, and never a smaller set."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import rasterio
import rasterio.shutil

from stac2cube.cli import main
from stac2cube.datasets.index import read_sample_index
from tests.datasets.products import Pair
from tests.items import catalog

ROLES = "l1c.band.B02,l1c.band.B11,l1c.product_metadata,l1c.tile_metadata,l2a.scl_20m"
HURT = "sentinel-2a_R108_20230517T102601_32TNT"


@pytest.fixture(scope="module")
def products(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fetched")
    pairs = [Pair(folder / "origin", day).write() for day in (12, 17)]
    source = catalog(folder / "items.json", [item for pair in pairs for item in pair.items()])
    where = ("--aoi", "10.3375,47.8365,10.3595,47.8455", "--time", "2023-05", "--catalog", source)
    assert code("download", folder / "products", *where, "--roles", ROLES, "-q") == 0
    return folder / "products"


def code(*words: object) -> int:
    """The exit code of the command line."""
    before, sys.argv = sys.argv, ["stac2cube", *map(str, words)]
    try:
        main()
    except SystemExit as end:
        return int(end.code or 0)
    finally:
        sys.argv = before
    return 0


def gone(path: Path) -> None:
    path.unlink()


def half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def page(path: Path) -> None:
    path.write_text("<html>Sorry, too many requests</html>")


def half_of_jpeg2000(path: Path) -> None:
    made = path.with_suffix(".made")
    rasterio.shutil.copy(str(path), str(made), driver="JP2OpenJPEG", QUALITY=100, REVERSIBLE="YES")
    made.replace(path)
    half(path)


REFUSED, FAILED = 1, 2


@pytest.mark.parametrize(
    ("role", "damage", "ends", "words"),
    [
        ("B11.tif", gone, REFUSED, "B11: .*/B11.tif does not exist"),
        ("B11.tif", half, FAILED, "band B11: .*/B11.tif cannot be read"),
        ("B11.tif", half_of_jpeg2000, FAILED, "band B11: .*/B11.tif cannot be read"),
        ("B11.tif", page, FAILED, "band B11: .*/B11.tif cannot be read: .*not recognized"),
        ("product_metadata.xml", gone, REFUSED, "product_metadata: .* does not exist"),
        ("product_metadata.xml", half, REFUSED, "product_metadata.xml is not XML"),
        ("product_metadata.xml", page, REFUSED, "product_metadata.xml is not the metadata of a Sentinel-2 product"),
        ("L1C/granule_metadata.xml", gone, REFUSED, "tile_metadata: .* does not exist"),
        ("L1C/granule_metadata.xml", half, FAILED, "granule_metadata.xml is not the metadata .*: unclosed token"),
        (
            "L1C/granule_metadata.xml",
            page,
            FAILED,
            "granule_metadata.xml is not .*: it has no Geoposition",
        ),
        ("SCL_20m.tif", gone, REFUSED, "SCL: .*/SCL_20m.tif does not exist"),
        ("SCL_20m.tif", half, FAILED, "band SCL: .*/SCL_20m.tif cannot be read"),
    ],
)
def test_samples_of_a_damaged_product(
    role: str,
    damage: Callable[[Path], None],
    ends: int,
    words: str,
    products: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copytree(products, tmp_path / "products")
    level, _, name = role.rpartition("/")
    (path,) = (path for path in (tmp_path / "products").rglob(f"*20230517*/{name}") if level in str(path))
    damage(path)
    out = tmp_path / "set"
    command = ["samples", tmp_path / "products", out, "--bands", "B02,B11", "--target", "B02"]
    command += ["--angles", "degrees", "--labels", "scl", "-q"]
    assert code(*command) == ends
    said = " ".join("".join(capsys.readouterr()).split())
    assert HURT in said
    assert re.search(words, said), said
    if ends == REFUSED:
        assert not out.exists()
        assert code(*command, "--incomplete", "list") == FAILED
    index = read_sample_index(out)
    assert [sample.id for sample in index.failed] == [HURT]
    assert re.search(words, index.failed[0].reason)
    assert len(index.done) == 1
    # Nothing is learnt from a set that lacks one.
    assert code("patches", out, tmp_path / "patches", "--size", "32", "-q") == REFUSED
    assert re.search(rf"1 sample\(s\) failed \({HURT}", capsys.readouterr().err)
    # With the file brought back, the same command makes what lacks.
    shutil.copytree(products, tmp_path / "products", dirs_exist_ok=True)
    assert code(*command) == 0
    assert len(read_sample_index(out).done) == 2


def test_sets_of_a_damaged_sample(products: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "set"
    assert code("samples", products, out, "--bands", "B02,B11", "--labels", "scl", "-q") == 0
    half(out / HURT / "x.tif")
    for command in (["statistics", out, tmp_path / "stats"], ["patches", out, tmp_path / "patches", "--size", "32"]):
        capsys.readouterr()
        assert code(*command, "-q") == FAILED
        said = capsys.readouterr().err
        assert "1 of 2 failed, run again to try them" in said
        assert f"{HURT}/x.tif cannot be read" in said
    assert not (tmp_path / "stats" / "stats.json").exists()
    assert not (tmp_path / "patches" / "manifest.json").exists()
    gone(out / HURT / "meta.json")
    assert code("patches", out, tmp_path / "other", "--size", "32", "-q") == REFUSED
    assert "meta.json cannot be read" in capsys.readouterr().err
    assert code("samples", products, out, "--bands", "B02,B11", "--labels", "scl", "-q") == 0, "it is made again"
    assert json.loads((out / HURT / "meta.json").read_text())
    assert code("patches", out, tmp_path / "patches", "--size", "32", "-q") == 0
