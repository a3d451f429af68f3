"""The reference of the documentation is written from the code: nothing public is left out, nothing is without words."""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
import shlex
import sys
from pathlib import Path
from types import ModuleType

import click
import pytest

import stac2cube
from stac2cube.cli import cli
from tests import diagrams
from tests.house import frozen

ROOT = Path(__file__).parents[1]

ELSEWHERE = {"AWS_", "GDAL_", "SLURM_", "SLURMD_"}
"""Variables of others, which the pages explain where they are needed."""


@pytest.fixture(scope="module")
def reference() -> ModuleType:
    folder = str(ROOT / "docs" / "site")
    sys.path.insert(0, folder)
    try:
        import reference as module  # type: ignore[import-not-found]  # as mkdocs finds it
    finally:
        sys.path.remove(folder)
    return module


def test_every_command_and_option_is_there_with_words(reference: ModuleType) -> None:
    page = reference.commands()
    for path, command in reference.leaves(cli):
        name = " ".join(["stac2cube", *path])
        assert f"### {name}\n" in page, name
        assert command.help, name
        for option in command.params:
            if isinstance(option, click.Option) and not option.hidden:
                assert f"`{option.opts[-1]}`" in page, (name, option.name)
                assert option.help, f"{name} {option.opts[-1]} has no help"


def test_every_command_has_an_example_that_is_understood(reference: ModuleType) -> None:
    for path, command in reference.leaves(cli):
        if isinstance(command, click.Group):
            continue
        words = shlex.split(reference.example(path)[3].removeprefix("$ stac2cube "))
        if path == ("superres", "make"):
            words.insert(1, "make")
        assert words[: len(path)] == list(path)
        command.make_context(" ".join(path), words[len(path) :])


def test_every_public_name_is_there(reference: ModuleType) -> None:
    page = reference.python()
    assert re.findall(r"^::: stac2cube\.(\w+)$", page, re.MULTILINE)
    lacking = [name for name in reference.public() if f"::: stac2cube.{name}\n" not in page]
    assert lacking == []


def parameters_without_words(name: str) -> list[str]:
    """Parameters of a public function or class that no docstring explains."""
    thing = getattr(stac2cube, name)
    texts = [inspect.getdoc(thing) or ""]
    if inspect.isclass(thing):  # fields may be explained where they stand, or by a base
        texts += [inspect.getdoc(base) or "" for base in thing.__mro__[1:-1]]
    explained = set(re.findall(r"^\s*\*{0,2}(\w+)(?: \([^)]*\))?:", "\n".join(texts), re.MULTILINE))
    explained |= {
        word
        for line in re.findall(r"^\s*(\w+(?:, \*{0,2}\w+)+):", "\n".join(texts), re.MULTILINE)
        for word in re.findall(r"\w+", line)
    }
    if dataclasses.is_dataclass(thing):
        source = "".join(inspect.getsource(base) for base in thing.__mro__[:-1])
        explained |= set(re.findall(r'^    (\w+):[^\n]*\n(?:        [^\n]*\n|    \)\n)*    """', source, re.MULTILINE))
    return [parameter for parameter in inspect.signature(thing).parameters if parameter not in explained]


def test_every_parameter_of_a_public_function_is_explained(reference: ModuleType) -> None:
    pytest.importorskip("torch", reason="datasets for training are among them, and need PyTorch")
    lacking = {name: words for name in reference.public() if (words := parameters_without_words(name))}
    assert lacking == {}


def test_every_environment_variable_is_explained(reference: ModuleType) -> None:
    texts = "".join(path.read_text() for path in (ROOT / "stac2cube").rglob("*.py"))
    ours = set(re.findall(r'"((?:STAC2CUBE|CDSE)_[A-Z0-9_]+|DASK_CLUSTER)"', texts))
    ours -= {"STAC2CUBE_MADE_FROM"}  # a tag in GeoTIFFs
    assert ours == set(reference.VARIABLES)
    others = set(re.findall(r'environ(?:\.get\(|\[)"([A-Z_0-9]+)"', texts)) - ours
    pages = "".join(page.read_text() for page in (ROOT / "docs").glob("*.md"))
    lacking = [name for name in others if name not in pages and not name.startswith(tuple(ELSEWHERE))]
    assert sorted(lacking) == []


def test_tables_hold_what_the_program_has(reference: ModuleType) -> None:
    kept = json.loads(frozen.FILE.read_text())["products"]
    assert {name for product in kept.values() for name in product["ledger"]} == set(reference.COLUMNS)
    pages = reference.pages()
    assert all(text.startswith("# ") and text.count("\n") > 5 for text in pages.values())
    assert "| `earth-search` |" in pages["reference/catalogs.md"]
    assert "| `NDVI` |" in pages["reference/indices.md"]
    assert "| `true` | `rgb` | red, green, blue |" in pages["reference/colours.md"]
    assert "| 2 | Some steps failed" in pages["reference/exit-codes.md"]
    assert "| `mission` |" in pages["reference/recipe.md"]


def test_every_page_is_in_the_navigation() -> None:
    """Checked strictly by `make docs`; here without mkdocs."""
    told = (ROOT / "mkdocs.yml").read_text()
    pages = {page.relative_to(ROOT / "docs").as_posix() for page in (ROOT / "docs").rglob("*.md")}
    pages -= {"index.md", "notebooks/README.md"}  # the first lies in the site as scene-index.md
    assert sorted(page for page in pages if f": {page}\n" not in told) == []


@pytest.mark.parametrize("name", sorted(diagrams.DRAWINGS))
def test_diagrams_are_those_of_their_script(name: str) -> None:
    made = diagrams.DRAWINGS[name]()
    assert (ROOT / "docs" / "images" / name).read_text() == made, "python -m tests.diagrams docs/images"
