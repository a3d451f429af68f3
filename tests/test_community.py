"""Changelog, citation and templates for issues: their form, and that they name what is there."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from stac2cube.cli import cli

ROOT = Path(__file__).parents[1]


def test_the_changelog_has_the_usual_form() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    sections = re.findall(r"^## \[([^\]]+)\]", text, re.MULTILINE)
    assert sections[0] == "Unreleased"
    versions = [tuple(map(int, name.split("."))) for name in sections[1:]]
    assert versions == sorted(versions, reverse=True)
    headings = set(re.findall(r"^### (.+)$", text, re.MULTILINE))
    assert headings <= {"Upgrade notes", "Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_the_citation_file_is_whole_and_names_nobody() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors", "version", "license"} <= set(citation)
    assert [set(author) for author in citation["authors"]] == [{"name"}]
    newest = re.search(r"^## \[(\d[^\]]*)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest is not None
    assert citation["version"] == newest[1]


def test_the_glossary_and_the_rules_of_style_stay_short() -> None:
    words = re.findall(r"^\| (?!word \||-)[^|]+ \|", (ROOT / "docs" / "glossary.md").read_text(), re.MULTILINE)
    assert 20 < len(words) <= 30
    style = (ROOT / "CONTRIBUTING.md").read_text().partition("## Plain English\n")[2].partition("\n## ")[0]
    assert 20 < len(style.strip().splitlines()) <= 30


def test_the_template_for_bugs_asks_for_what_doctor_prints() -> None:
    folder = ROOT / ".github" / "ISSUE_TEMPLATE"
    forms = {path.stem: yaml.safe_load(path.read_text()) for path in folder.glob("*.yml")}
    assert "stac2cube doctor --bug-report CUBE" in str(forms["bug"])
    options = {flag for option in cli.commands["doctor"].params for flag in option.opts}
    assert "--bug-report" in options
    for name, form in forms.items():
        assert name == "config" or {"name", "description", "body"} <= set(form), name
