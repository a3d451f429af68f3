"""Mission pages and catalogs: strict reading, own tables, names that are not known."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from stac2cube.errors import BadInputError, TableError
from stac2cube.executors.site import find_site
from stac2cube.model.catalog import catalogs, find_catalog
from stac2cube.model.mission import find_mission, mission_names

PAGE = """name = "mine"
title = "My sensor"
platforms = ["sat-1"]
constellation = "sat"
default_bands = ["R"]
lattice = [0.0, 0.0]
lattice_step = 10.0
coverage = [-180.0, -90.0, 180.0, 90.0]

[quantities.counts]
dtype = "uint16"
fill = 0

[bands]
R = { quantity = "counts", gsd = 10, common_name = "red", long_name = "red" }

[[pages]]
catalog = "earth-search"
collection = "mine"
radiometry = "none"
assets = ["{band}"]
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STAC2CUBE_CONFIG_DIR", str(tmp_path))
    (tmp_path / "missions").mkdir()
    return tmp_path


def test_the_shipped_page_is_whole() -> None:
    mission = find_mission("sentinel-2-l2a")
    assert len(mission.bands) == 15
    assert mission.catalogs == ("earth-search", "planetary-computer", "terrabyte", "cdse", "eopf")
    for page in mission.pages:
        for band in mission.bands.values():
            assert page.asset_names(band)
    form = mission.bands["B04"].quantity
    assert (form.dtype, form.fill, form.scale, form.offset) == ("uint16", 0, 1e-4, -0.1)
    assert mission.bands["SCL"].quantity.is_class
    assert mission.bands["AOT"].quantity.offset == 0


def test_bands_go_by_name_and_common_name() -> None:
    mission = find_mission("sentinel-2-l2a")
    assert [band.name for band in mission.choose_bands(["red", "b8a", "SCL"])] == ["B04", "B8A", "SCL"]
    with pytest.raises(BadInputError, match=r"no band 'rad' \(did you mean red\?\)"):
        mission.choose_bands(["rad"])
    with pytest.raises(BadInputError, match="given twice"):
        mission.choose_bands(["red", "B04"])
    with pytest.raises(BadInputError, match="nowhere does not carry sentinel-2-l2a: ask earth-search"):
        mission.pages_in("nowhere")


def test_an_own_page_adds_a_mission(own: Path) -> None:
    (own / "missions/mine.toml").write_text(PAGE)
    assert set(mission_names()) >= {"mine", "sentinel-2-l2a"}
    assert find_mission("mine").bands["R"].common_name == "red"


@pytest.mark.parametrize(
    ("wrong", "right", "message"),
    [
        ("colour = 3\ntitle", "title", r"mine\.toml, line 2: a mission page has no key 'colour'"),
        ("dtipe", "dtype", r"mine\.toml, line 11: quantity 'counts' has no key 'dtipe'"),
        ("assets = []\nsignor", "assets", r"no key 'signor'"),
        ("", 'title = "My sensor"\n', r"lacks the key 'title'"),
        ('default_bands = ["G"]', 'default_bands = ["R"]', r"line 5: no such bands: G"),
        ('quantity = "length"', 'quantity = "counts"', r"band 'R' has an unknown quantity"),
        ("name = ", 'name = "mine"', r"mine\.toml: "),
    ],
)
def test_a_malformed_page_names_file_line_and_key(own: Path, wrong: str, right: str, message: str) -> None:
    assert right in PAGE
    (own / "missions/mine.toml").write_text(PAGE.replace(right, wrong, 1))
    with pytest.raises(TableError, match=message):
        find_mission("mine")


def test_own_catalogs_add_and_override(own: Path, tmp_path: Path) -> None:
    (own / "catalogs.toml").write_text(
        '[mirror]\ntitle = "Mirror"\nurl = "https://mirror.example/v1"\nlike = "earth-search"\n'
        '[cdse]\ntitle = "Ours"\nurl = "https://ours.example"\n'
    )
    assert find_catalog("mirror").like == "earth-search"
    assert find_catalog("cdse").title == "Ours"
    assert find_catalog("https://mirror.example/v1/").name == "mirror"
    assert find_catalog("https://other.example").like == ""
    (own / "catalogs.toml").write_text('[mirror]\ntitle = "M"\nurl = "u"\nsignature = "x"\n')
    with pytest.raises(TableError, match=r"line 4: catalog 'mirror' has no key 'signature'"):
        catalogs()


def test_own_tables_are_utf_8_with_or_without_a_mark(own: Path) -> None:
    title = 'title = "Zürich"\n'
    (own / "sites").mkdir()
    (own / "sites" / "here.toml").write_bytes(title.encode("utf-8-sig"))
    assert find_site("here").title == "Zürich"
    (own / "sites" / "here.toml").write_bytes(title.encode("latin-1"))
    with pytest.raises(TableError, match=r"here\.toml is not text in UTF-8"):
        find_site("here")


SHOWN = """
import locale
from stac2cube.views.indices import registry_name
from stac2cube.cli import main
assert locale.getencoding() != "utf-8", "the locale of this test has another encoding"
registry_name("ndvi")
main()
"""


def test_a_locale_without_utf_8_reads_and_writes_what_others_do(own: Path) -> None:
    (own / "sites").mkdir()
    (own / "sites" / "here.toml").write_text('title = "Zürich"\n', encoding="utf-8")
    # Python would turn the locale C into one of UTF-8; others, such as zh_CN.GBK, may not be installed here.
    odd = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "iso8859-5"}
    command = [sys.executable, "-c", SHOWN, "sites", "here"]
    done = subprocess.run(command, capture_output=True, text=True, env=odd, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(r"title       Z\xfcrich")


def test_unknown_names_list_what_is_known() -> None:
    with pytest.raises(BadInputError, match="unknown catalog 'terabyte': known are earth-search"):
        find_catalog("terabyte")
    with pytest.raises(BadInputError, match=r"unknown mission 'sentinel-9': known are .*sentinel-2-l2a"):
        find_mission("sentinel-9")
