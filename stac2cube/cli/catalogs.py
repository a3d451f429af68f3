"""Commands about what catalogs have: compare, gaps."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.table import Table

from stac2cube.cli.tables import wide_console
from stac2cube.cli.words import CUBE, as_json, talking, what_options, what_words
from stac2cube.errors import BadInputError

if TYPE_CHECKING:
    from stac2cube.stages.compare import Answer

catalog_list = click.option("--catalogs", "names", help="Names, URLs or paths with commas; all that carry the mission.")


@click.command()
@what_options
@catalog_list
@as_json
def compare(names: str | None, machine: bool, **options: Any) -> None:
    """Search the same words in several catalogs: how many scenes each has, which only it has, and how fast it is."""
    from stac2cube.mission import find_mission
    from stac2cube.stages.compare import compare_catalogs
    from stac2cube.stages.layers import make_request

    with talking(quiet=True):
        request = make_request({**what_words(**options), "catalog": "auto"})
        answers = list(compare_catalogs(request, _listed(names) or find_mission(request.mission).catalogs))
    everything = Counter(key for answer in answers for key in answer.scenes)
    _require_an_answer(answers)
    if machine:
        found = {a.catalog: {"seconds": a.seconds, "problem": a.problem, "scenes": sorted(a.scenes)} for a in answers}
        click.echo(json.dumps(found, indent=1))
        return
    table = Table("catalog", "scenes", "only here", "lacks", "seconds", "remark", box=None)
    for answer in answers:
        alone = sum(everything[key] == 1 for key in answer.scenes)
        lacks = len(everything) - len(answer.scenes)
        counts = ("-", "-", "-") if not answer.answered else (str(len(answer.scenes)), str(alone), str(lacks))
        table.add_row(answer.catalog, *counts, f"{answer.seconds:.1f}", answer.problem)
    console = wide_console()
    console.print(table)
    days = Table("scene", *(answer.catalog for answer in answers), box=None)
    for key in sorted(everything, key=lambda key: key[-8:]):
        days.add_row(key, *("x" if key in answer.scenes else "" for answer in answers))
    console.print(days)


@click.command()
@click.argument("cube", type=CUBE)
@catalog_list
@as_json
def gaps(cube: Path, names: str | None, machine: bool) -> None:
    """List, per month, the scenes that some catalog has and CUBE lacks, with the reason."""
    from stac2cube.mission import find_mission
    from stac2cube.stages.compare import gaps_of
    from stac2cube.stages.request import request_of

    with talking(quiet=True):
        _, request = request_of(cube)
        found, answers = gaps_of(cube, _listed(names) or find_mission(request.mission).catalogs)
    _require_an_answer(answers)
    silent = [f"{answer.catalog}: {answer.problem}" for answer in answers if not answer.answered]
    if machine:
        click.echo(json.dumps({"gaps": [asdict(gap) for gap in found], "silent": silent}, indent=1))
        return
    for month in sorted({gap.month for gap in found}):
        here = [gap for gap in found if gap.month == month]
        click.echo(f"{month}  {len(here)}")
        for gap in here:
            click.echo(f"  {gap.key:<34} {', '.join(gap.catalogs):<40} {gap.reason}")
    if not found:
        click.echo(f"{cube} lacks nothing that {', '.join(a.catalog for a in answers if a.answered)} has")
    for line in silent:
        click.echo(f"not asked: {line}")


def _listed(names: str | None) -> list[str]:
    return [] if names is None else [name.strip() for name in names.split(",") if name.strip()]


def _require_an_answer(answers: Sequence[Answer]) -> None:
    if not any(answer.answered for answer in answers):
        said = "; ".join(f"{answer.catalog}: {answer.problem}" for answer in answers)
        raise BadInputError(f"no catalog could say anything: {said}")
