"""Plain English, see CONTRIBUTING.md: phrases that a reader must guess at, and sentences that are too long."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from stac2cube.cli import cli

ROOT = Path(__file__).parents[2]

PAGES = [
    *ROOT.glob("*.md"),
    *(ROOT / "docs").rglob("*.md"),
    ROOT / "findings" / "README.md",
]

PHRASES = {
    "asked wrongly": "refused",
    "if not said": "Default: ...",
    "unless told otherwise": "by default",
    "says otherwise": "sets another",
    "said otherwise": "changed",
    "what it is made of": "its source, its parent",
    "as none said": "by default",
    "for ever": "always",
    "made anew": "rebuilt",
    "makes anew": "rebuilds",
    "make anew": "rebuild",
    "in silence": "without a message",
    "the words of": "the options of",
    "stands in": "is in",
    "stand in": "are in",
    "nobody knows": "unknown",
    "where it belongs": "with its shift corrected",
    "what lacks": "what is missing",
    "reckon": "compute",
    "whence": "from where",
    "let in": "accepted",
}
"""Phrases of our old private language, and what to write instead."""

LONGEST = 45
"""Words of a sentence."""


def prose(page: Path) -> str:
    """The sentences of a page, without code, tables, headings and links."""
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    lines = [line for line in text.splitlines() if not re.match(r"\s*(\||#|!\[)", line)]
    # An item of a list is a sentence of its own, also without a full stop.
    text = "\n".join(re.sub(r"^\s*([*-]|\d+\.) ", "\n\n", line) for line in lines)
    text = re.sub(r"\]\([^)]*\)", "]", text)
    return re.sub(r"`[^`]*`", "code", text)


def sentences(text: str) -> list[str]:
    """Split at full stops, colons, semicolons and empty lines."""
    parts = re.split(r"(?<=[.!?:;])\s+|\n\s*\n", text)
    return [" ".join(part.split()) for part in parts if part.strip()]


def phrases(text: str) -> list[str]:
    """Phrases of the list that a text in small letters holds."""
    return [phrase for phrase in PHRASES if re.search(rf"\b{phrase}\b", text)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_pages_are_in_plain_english(page: Path) -> None:
    text = " ".join(page.read_text().lower().split())
    if page.name != "CONTRIBUTING.md":  # it names what to avoid
        assert phrases(text) == []
    long = [one for one in sentences(prose(page)) if len(one.split()) > LONGEST]
    assert long == []


def test_help_is_in_plain_english() -> None:
    texts: list[str] = []

    def collect(command: click.Command) -> None:
        texts.append(command.help or "")
        texts.extend(one.help or "" for one in command.params if isinstance(one, click.Option))
        for child in getattr(command, "commands", {}).values():
            collect(child)

    collect(cli)
    assert [(found, text) for text in texts if (found := phrases(text.lower()))] == []
    # A noun alone leaves out what the option does.
    assert [text for text in texts if text and not text.rstrip().endswith((".", "...", ")"))] == []
