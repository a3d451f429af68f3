"""Which releases of libraries are asked for, the same wherever it is said."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REPOSITORY = Path(__file__).parents[2]
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
PINS = sorted((REPOSITORY / "envs" / "constraints").glob("py*.txt"))
CONDA = {"distributed": "dask", "matplotlib-base": "matplotlib", "python-isal": "isal", "pytorch": "torch"}
"""Names at conda-forge, and those at PyPI."""


def pins(file: Path) -> list[str]:
    return [line for line in file.read_text().splitlines() if line and not line.startswith("#")]


def asked(*extras: str) -> dict[str, Requirement]:
    """What the program and extras ask for, extras of extras included."""
    found: dict[str, Requirement] = {}
    for text in [*PROJECT["dependencies"], *(text for extra in extras for text in EXTRAS[extra])]:
        one = Requirement(text)
        found |= asked(*one.extras) if one.name == PROJECT["name"] else {canonicalize_name(one.name): one}
    return found


@pytest.mark.parametrize("file", PINS, ids=lambda file: file.stem)
def test_what_is_tested_is_pinned_exactly_and_to_no_machine(file: Path) -> None:
    made = {}
    for line in pins(file):
        match = re.fullmatch(r"([A-Za-z0-9._-]+)==([0-9a-z.]+)", line)
        assert match, f"{line}: a name and a release, no local build, file or address"
        made[canonicalize_name(match[1])] = match[2]
    for name, one in asked("test", "test-torch").items():
        assert name in made, f"{name}: run envs/make-constraints"
        assert one.specifier.contains(made[name]), f"{name} {made[name]}: run envs/make-constraints"


def test_only_its_own_extras_bring_pytorch() -> None:
    assert {extra for extra in EXTRAS if "torch" in asked(extra)} == {"superres", "test-torch"}


def test_every_bound_is_a_lower_one_or_has_its_reason() -> None:
    lines = (REPOSITORY / "pyproject.toml").read_text().splitlines()
    for one in asked(*EXTRAS).values():
        signs = {part.operator for part in one.specifier}
        if one.name != "torch" and signs != {">="}:
            place = next(number for number, line in enumerate(lines) if f'"{one.name}' in line)
            assert lines[place - 1].lstrip().startswith("#"), f"{one}: why?"


def test_the_conda_environment_asks_for_the_same() -> None:
    told = (REPOSITORY / "envs" / "stac2cube.yml").read_text()
    known = {name: next(iter(one.specifier)).version for name, one in asked(*EXTRAS).items() if name != "torch"}
    bounds = dict(re.findall(r"- ([a-z0-9_-]+)>=([0-9a-z.]+)", told))
    assert len(bounds) > 40
    for name, bound in bounds.items():
        if name not in ("gdal", "arosics", "pytorch"):
            assert bound == known[canonicalize_name(CONDA.get(name, name))], name


def test_judges_are_pinned_in_one_place() -> None:
    file = REPOSITORY / "envs" / "tools.txt"
    assert {"mypy", "ruff", "uv"} <= {line.partition("==")[0] for line in pins(file)}
    assert all("==" in line for line in pins(file))
    assert not {"mypy", "ruff"} & set(asked(*EXTRAS))
