"""Tables in the documentation that say what tables of the package and pyproject.toml say."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import stac2cube
from stac2cube.cli import cli
from stac2cube.cli.catalogs import mission_tables
from stac2cube.cli.recipes import check_recipe, recipe_at
from stac2cube.executors.site import find_site
from stac2cube.model.catalog import catalogs

DOCS = Path(__file__).parents[1] / "docs"
ALL = [DOCS.parent / "README.md", *sorted(DOCS.rglob("*.md"))]
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


def code(page: Path, kind: str) -> list[str]:
    """The blocks of code of one kind on a page, in order."""
    found: list[str] = re.findall(rf"```{kind}\n(.*?)```", page.read_text(), re.DOTALL)
    return found


def with_code(kind: str) -> list[Path]:
    return [page for page in ALL if code(page, kind)]


def imported(tree: ast.Module) -> Iterator[tuple[str, object]]:
    """What a block imports from stac2cube, by its name there; a name that does not exist is an error."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("stac2cube"):
            module = importlib.import_module(str(node.module))
            yield from ((one.asname or one.name, getattr(module, one.name)) for one in node.names)


@pytest.mark.parametrize("page", with_code("python"), ids=lambda page: page.name)
def test_python_of_a_page_calls_what_exists_with_its_parameters(page: Path) -> None:
    if page.name == "patches.md":
        pytest.importorskip("torch", reason="the datasets of this page need PyTorch")
    known: dict[str, object] = {}
    for block in code(page, "python"):
        tree = ast.parse(block)
        known |= dict(imported(tree))
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "stac2cube":
                getattr(stac2cube, node.attr)
            if not isinstance(node, ast.Call) or any(isinstance(one, ast.Starred) for one in node.args):
                continue
            name = ast.unparse(node.func)
            called = known.get(name) or getattr(stac2cube, name.removeprefix("stac2cube."), None)
            if callable(called) and (name in known or name.startswith("stac2cube.")):
                given = {str(one.arg): None for one in node.keywords}
                inspect.signature(called).bind(*[None] * len(node.args), **given)


@pytest.mark.parametrize(
    "page", [page for page in with_code("yaml") if page.parent == DOCS], ids=lambda page: page.name
)
def test_recipes_of_a_page_are_valid(page: Path, tmp_path: Path) -> None:
    for text in code(page, "yaml"):
        if not re.search(r"^cubes:", text, re.MULTILINE):
            continue  # rules of a training set, or one entry
        for name in re.findall(r"aoi: ([\w.]+)", text):
            area = '{"type": "Polygon", "coordinates": [[[11,47],[12,47],[12,48],[11,47]]]}'
            (tmp_path / name).with_suffix(".geojson").write_text(area)
        (tmp_path / "recipe.yaml").write_text(re.sub(r"(aoi: \w+)\.\w+", r"\1.geojson", text))
        check_recipe(recipe_at(tmp_path / "recipe.yaml"))


@pytest.mark.parametrize("page", with_code("toml"), ids=lambda page: page.name)
def test_settings_of_a_page_are_valid(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables are site files, or entries of catalogs.toml. Lines without a table are alternatives for [slurm]."""
    monkeypatch.setenv("STAC2CUBE_CONFIG_DIR", str(tmp_path))
    (tmp_path / "sites").mkdir()
    for text in code(page, "toml"):
        lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
        parts = [text] if any(line.startswith("[") for line in lines) else [f"[slurm]\n{line}\n" for line in lines]
        for part in parts:
            if any("url" in table for table in tomllib.loads(part).values()):
                (tmp_path / "catalogs.toml").write_text(part)
                assert set(tomllib.loads(part)) <= set(catalogs())
            else:
                (tmp_path / "sites" / "mine.toml").write_text(part)
                find_site("mine")


@pytest.mark.parametrize("page", ALL, ids=lambda page: page.name)
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
