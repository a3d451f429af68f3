"""Values of the wrong kind in a person's own tables: refused where they are read, not where they would do harm."""

from __future__ import annotations

from pathlib import Path

import pytest

from stac2cube.errors import TableError
from stac2cube.model.catalog import catalogs, find_catalog
from stac2cube.model.mission import find_mission
from tests.test_tables import PAGE


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STAC2CUBE_CONFIG_DIR", str(tmp_path))
    (tmp_path / "missions").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("right", "wrong", "message"),
    [
        ("fill = 0", 'fill = "zero"', r"mine\.toml, line 12: quantity 'counts': fill should be a number, not 'zero'"),
        ("fill = 0", "fill = true", r"fill should be a number, not True"),
        ('dtype = "uint16"', 'dtype = "uint17"', r"dtype should be one of uint8, .*, not 'uint17'"),
        ("R = {", "X = 3\nR = {", r"band 'X' should be a table, not 3"),
        ('default_bands = ["R"]', 'default_bands = "R"', r"line 5: a mission page: default_bands should be a list"),
        ("lattice = [0.0, 0.0]", "lattice = [0.0]", r"lattice should be a list of 2, not"),
        ("-180.0, -90.0, 180.0, 90.0", '-180, -90, 180, "N"', r"coverage should be a list of which each is a number"),
        ("gsd = 10,", 'gsd = "10 m",', r"band 'R': gsd should be a whole number, not '10 m'"),
        ('["{band}"]', '"{band}"', r"a page: assets should be a list"),
        ('["{band}"]', '["{bend}"]', r"asset names \['\{bend\}'\] of a page may hold \{band\}"),
        ("[[pages]]", "[pages]", r"pages should be a list"),
        ('name = "mine"', 'name = "other"', r"the page of 'other' belongs in other\.toml"),
        # A rule that is misspelt must not mean "no rule": reflectance would be off by 1000 counts.
        ('radiometry = "none"', 'radiometry = "sentinel2"', r"radiometry should be one of none, sentinel-2"),
    ],
)
def test_a_value_of_another_kind_is_named(own: Path, right: str, wrong: str, message: str) -> None:
    assert PAGE.count(right) == 1
    (own / "missions/mine.toml").write_text(PAGE.replace(right, wrong))
    with pytest.raises(TableError, match=message):
        find_mission("mine")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1\n", r"catalog 'x' should be a table"),
        ('[a]\ntitle = "A"\nurl = 3\n', r"catalogs\.toml, line 3: catalog 'a': url should be a text, not 3"),
        (
            '[a]\ntitle = "A"\nurl = "u"\nsigner = "me"\n',
            r"line 4: .* signer should be one of none, planetary-computer",
        ),
        ('[a]\ntitle = "A"\n', r"catalog 'a' lacks the key 'url'"),
    ],
)
def test_a_malformed_catalog_is_named(own: Path, text: str, message: str) -> None:
    (own / "catalogs.toml").write_text(text)
    with pytest.raises(TableError, match=message):
        catalogs()


def test_whose_pages_apply(own: Path) -> None:
    """A shipped catalog keeps its pages when it is overridden; in a person's own one each item tells by its shape."""
    (own / "catalogs.toml").write_text(
        '[cdse]\ntitle = "Ours"\nurl = "https://ours.example"\n[mirror]\ntitle = "M"\nurl = "https://m.example"\n'
    )
    assert find_catalog("cdse").like == "cdse"
    assert find_catalog("mirror").like == ""
    assert find_catalog("earth-search").like == "earth-search"
