"""Tables in the documentation that say what tables of the package and pyproject.toml say."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path

import click
import pytest

from stac2cube.cli import cli
from stac2cube.cli.catalogs import mission_tables

DOCS = Path(__file__).parents[1] / "docs"
MARK = "<!-- made by: stac2cube missions --markdown -->\n"


def test_the_page_of_missions_is_up_to_date(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STAC2CUBE_CONFIG_DIR", str(tmp_path))
    made = mission_tables()
    assert (DOCS / "missions.md").read_text().partition(MARK)[2] == made
    assert "| `sentinel-2-l2a` | recorded | recorded | recorded | recorded | recorded |" in made


def test_the_page_of_installation_lists_every_extra() -> None:
    listed = re.findall(r"^\| `([\w-]+)` \| ", (DOCS / "installation.md").read_text(), re.MULTILINE)
    extras = tomllib.loads((DOCS.parent / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert sorted(listed) == sorted(extras)


def typed(page: Path) -> list[list[str]]:
    """The commands of stac2cube that a page says, words after the program's name; those cut short with ... are not."""
    blocks = re.findall(r"```console\n(.*?)```", page.read_text(), re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    said = [shlex.split(line, comments=True) for line in lines if re.match(r"\$ (\w+=\S+ )*stac2cube ", line)]
    return [words[words.index("stac2cube") + 1 :] for words in said if "..." not in words]


@pytest.mark.parametrize("page", [DOCS.parent / "README.md", *sorted(DOCS.rglob("*.md"))], ids=lambda page: page.name)
def test_every_command_of_a_page_is_understood(page: Path) -> None:
    for words in typed(page):
        command: click.Command = cli
        rest = list(words)
        while isinstance(command, click.Group) and rest and rest[0] in command.commands:
            command = command.commands[rest.pop(0)]
        try:
            command.make_context("stac2cube", rest)
        except click.exceptions.Exit:
            assert rest == ["--version"]
        except click.ClickException as error:
            pytest.fail(f"{page.name}: stac2cube {shlex.join(words)}: {error.format_message()}")


def test_every_command_stands_on_a_page() -> None:
    said = {words[0] for page in (DOCS.parent / "README.md", *DOCS.rglob("*.md")) for words in typed(page) if words}
    # Those of job scripts, and those that only look, are named in sentences.
    prose = "".join(page.read_text() for page in DOCS.glob("*.md")) + (DOCS.parent / "README.md").read_text()
    scripts = "".join(path.read_text() for path in (DOCS.parent / "slurm").glob("*.sbatch"))
    lacking = [name for name in cli.commands if name not in said and f"stac2cube {name}" not in prose + scripts]
    assert lacking == []
