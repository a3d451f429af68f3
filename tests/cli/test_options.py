"""Options are declared once, in a dataclass; commands, recipes, checks, docstrings and functions agree with it."""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import Callable
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

import stac2cube
from stac2cube.cli import as_typed, cli
from stac2cube.cli.options import DeclaredOption, WhereOptions, options_of, value_of
from stac2cube.clouds.rules import CloudRules
from stac2cube.coregister.rules import ShiftRules
from stac2cube.datasets.patch_rules import PatchRules, StatisticsRules
from stac2cube.datasets.rules import (
    AngleRules,
    DownloadRequest,
    LabelRules,
    SampleRequest,
    SampleRules,
    TransferOptions,
)
from stac2cube.errors import BadInputError
from stac2cube.model.fields import Options, Range, documented, option, options_in
from stac2cube.model.grid import GridOptions
from stac2cube.model.query import AreaOptions, Query
from stac2cube.recipe.cwl import Package
from stac2cube.superres.rules import SuperresRules
from stac2cube.views.options import Columns, Composition, Export, Film, Hiding, Style, TimeSelection

DECLARING = {"clouds": CloudRules, "coregister": ShiftRules, "superres make": SuperresRules}
"""Commands whose options are all those of a dataclass, beside what all commands have."""


def command_at(path: str) -> click.Command:
    found: click.Command = cli
    for word in path.split():
        assert isinstance(found, click.Group)
        found = found.commands[word]
    return found


@documented
@dataclass(frozen=True)
class Sieve(Options):
    """A dataclass of options.

    Attributes are below.
    """

    edge: int = option(3, "Edge of the window.", unit="pixels", bounds=Range(least=3, most=9))
    share: float = option(0.5, "Share that is kept.", bounds=Range(above=0, below=1))
    levels: tuple[float, ...] = option((0.2, 0.4), "Levels, separated by commas.", unit="metres")
    ends: tuple[float, float] | None = option(None, "Two ends.")
    shape: str = option("disk", "Shape.", choices=("disk", "square"))
    sure: bool = option(True, "Be sure.")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"edge": 2}, "edge should be a whole number of pixels, at least 3 and at most 9, not 2"),
        ({"edge": 3.5}, "edge should be a whole number of pixels, at least 3 and at most 9, not 3.5"),
        ({"edge": True}, "edge should be a whole number .* not True"),
        ({"edge": None}, "edge should be a whole number .* not None"),
        ({"share": 1}, "share should be a number, more than 0 and less than 1, not 1"),
        ({"share": float("nan")}, "not nan"),
        ({"levels": (1, "x")}, "levels should be numbers of metres, not 'x'"),
        ({"levels": 1.0}, "levels should be numbers of metres, not 1.0"),
        ({"ends": (1.0,)}, "ends should be 2 numbers, not \\(1.0,\\)"),
        ({"shape": "star"}, "shape should be one of disk, square, not 'star'"),
        ({"sure": "no"}, "sure should be true or false, not 'no'"),
    ],
)
def test_a_value_that_cannot_be_is_refused_by_name(given: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        Sieve(**given)


def test_a_path_is_taken_where_a_path_is_written() -> None:
    assert Hiding(clouds=Path("clouds.zarr")).clouds == Path("clouds.zarr")  # type: ignore[arg-type]
    with pytest.raises(BadInputError, match="mask should be a text, not"):
        Hiding(mask=Path("clear"))  # type: ignore[arg-type]


def test_a_command_made_of_a_dataclass_gives_its_value() -> None:
    got: list[Sieve] = []

    @click.command()
    @options_of(Sieve, flags={"share": ("--part", "share")})
    def sieve(**options: Any) -> None:
        """Sieve."""
        got.append(value_of(Sieve, options))

    run = CliRunner().invoke
    assert run(sieve, []).exit_code == 0
    words = [
        "--edge",
        "5",
        "--part",
        "0.25",
        "--levels",
        "1, 2.5",
        "--ends",
        "3",
        "4",
        "--shape",
        "square",
        "--no-sure",
    ]
    assert run(sieve, words).exit_code == 0
    assert got == [Sieve(), Sieve(5, 0.25, (1.0, 2.5), (3.0, 4.0), "square", sure=False)]
    wrong = run(sieve, ["--levels", "1,x"]).exception
    assert str(wrong) == "levels should be numbers of metres, not 'x'"
    said = run(sieve, ["--help"]).output
    assert "[default: 0.2,0.4]" in said
    assert "--sure / --no-sure" in said


def test_an_option_not_given_may_be_left_to_the_command() -> None:
    @click.command()
    @options_of(Sieve, "levels", "edge", unset="told")
    def sieve(**options: Any) -> None:
        """Sieve."""
        assert options == {"levels": None, "edge": None}
        assert value_of(Sieve, options) == Sieve()

    assert CliRunner().invoke(sieve, [], catch_exceptions=False).exit_code == 0
    said = CliRunner().invoke(sieve, ["--help"]).output
    assert "Edge of the window. Default: 3." in said
    assert "Default: 0.2 0.4." in said
    assert said.index("--levels") < said.index("--edge")


@pytest.mark.parametrize("path", DECLARING)
def test_a_command_has_the_options_of_its_dataclass_and_says_no_default_itself(path: str) -> None:
    kind, command = DECLARING[path], command_at(path)
    made = {one.name: one for one in command.params if isinstance(one, DeclaredOption)}
    assert set(made) - set(options_in(WhereOptions)) == set(options_in(kind)) == {one.name for one in fields(kind)}
    light = {"coregister": {"engine": "phase"}, "superres make": {"backend": "bicubic"}}.get(path, {})
    context = command.make_context(path, ["a", "b", *(f"--{name}={value}" for name, value in light.items())])
    assert value_of(kind, context.params) == kind(**light)


@pytest.mark.parametrize(
    ("path", "kinds"),
    [
        ("layers", (Query, AreaOptions, GridOptions, WhereOptions)),
        ("plan", (Query, AreaOptions, GridOptions, WhereOptions)),
        ("read", (Query, GridOptions)),
        ("sample", (Query, GridOptions)),
        ("index create", (Query, AreaOptions)),
        ("index filter", (Query, AreaOptions)),
        ("indices", (Hiding,)),
        ("composite", (Composition, Hiding)),
        ("superres train", (SuperresRules,)),
        ("export", (Export, Hiding, TimeSelection, Style)),
        ("series", (Columns, Hiding, TimeSelection)),
        ("quicklook", (Hiding, TimeSelection, Style)),
        ("timelapse", (Film, Hiding, TimeSelection, Style)),
        ("slider", (Hiding, Style)),
        ("statistics", (StatisticsRules,)),
        ("patches", (PatchRules,)),
        ("samples", (SampleRules, AngleRules, LabelRules, SampleRequest, Query, GridOptions)),
        ("download", (DownloadRequest, TransferOptions, Query)),
        ("item", (Query, GridOptions)),
    ],
)
def test_no_command_says_again_what_a_dataclass_declares(path: str, kinds: tuple[type, ...]) -> None:
    declared = {name: one for kind in kinds for name, one in options_in(kind).items()}
    elsewhere = {"steps", "clouds", "labels", "seed", "path", "mask"}  # of another meaning, or given several times
    options = [one for one in command_at(path).params if isinstance(one, click.Option)]
    made = {one.declared.name for one in options if isinstance(one, DeclaredOption)}
    assert made & set(declared)
    again = {one.name for one in options if not isinstance(one, DeclaredOption) and one.name in declared}
    assert again <= elsewhere
    helps = {one.help for one in options if not isinstance(one, DeclaredOption)}
    assert not helps & {one.help for one in declared.values() if one.name not in elsewhere}


@pytest.mark.parametrize(
    ("function", "kind"),
    [(stac2cube.get_cloud_layers, CloudRules), (stac2cube.rgb, Style), (stac2cube.composite, Composition)],
)
def test_public_functions_have_the_defaults_of_the_dataclass(function: Callable[..., Any], kind: type) -> None:
    given = inspect.signature(function).parameters
    declared = options_in(kind)
    assert {name: given[name].default for name in declared if name in given} == {
        name: one.default for name, one in declared.items() if name in given
    }


def test_the_command_cwl_has_the_defaults_of_its_dataclass() -> None:
    given = {option.name: option.default for option in command_at("cwl").params if isinstance(option, click.Option)}
    assert tuple(given.values()) == astuple(Package())


def test_options_stand_in_the_docstring() -> None:
    assert Sieve.__doc__ is not None
    assert Sieve.__doc__.splitlines()[-7:-5] == ["Attributes:", "    edge: Edge of the window."]
    assert "    max_shift: Largest shift that is accepted, in pixels." in str(ShiftRules.__doc__)


def test_errors_name_the_option_as_it_is_typed() -> None:
    message = "max_shift should be a number of pixels, more than 0 and at most 10, not 11.0"
    assert as_typed(message, ["coregister", "a", "b"]).startswith("--max-shift should be a number")
    assert as_typed(message, ["clouds", "a", "b"]) == message


def test_a_recipe_refuses_a_number_out_of_bounds_at_its_line(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "cubes: made\nlayers: {mission: sentinel-2-l2a, aoi: '11,47,11.1,47.1'}\nclouds:\n  resolution: 5\n"
    )
    done = CliRunner().invoke(cli, ["config", "show", str(recipe)])
    assert isinstance(done.exception, BadInputError)
    assert "line 4: clouds: resolution should be a number from 10 up to 160, not 5" in str(done.exception)


def test_the_command_line_declares_its_options_without_loading_what_they_steer() -> None:
    code = "import sys, stac2cube.cli; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert not {"numpy", "scipy", "xarray", "pandas", "zarr", "rasterio", "pyproj", "shapely", "dask"} & set(loaded)
