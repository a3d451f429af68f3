"""Tables in the documentation that say what tables of the package and pyproject.toml say."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from stac2cube.cli.pages import mission_tables

DOCS = Path(__file__).parents[1] / "docs"
MARK = "<!-- made by: stac2cube missions --markdown -->\n"


def test_the_page_of_missions_is_up_to_date(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STAC2CUBE_CONFIG_DIR", str(tmp_path))
    made = mission_tables()
    assert (DOCS / "missions.md").read_text().partition(MARK)[2] == made
    assert "| `sentinel-2-l2a` | recorded | recorded | recorded | recorded |" in made


def test_the_page_of_installation_lists_every_extra() -> None:
    listed = re.findall(r"^\| `(\w+)` \| ", (DOCS / "installation.md").read_text(), re.MULTILINE)
    extras = tomllib.loads((DOCS.parent / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert sorted(listed) == sorted(extras)
