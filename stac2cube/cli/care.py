"""Commands for keeping cubes: sync, verify, diff, rollback, tidy, seal-year."""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stac2cube.cli.steps import Manner, built, said
from stac2cube.cli.stopping import stoppable
from stac2cube.cli.tables import human_bytes
from stac2cube.cli.where import where_options
from stac2cube.cli.words import CUBE, as_json, listed, talking
from stac2cube.places.queue import job_end

if TYPE_CHECKING:
    from stac2cube.cube.root import Root
    from stac2cube.stages.kin import Kin


class CommitNumber(click.ParamType[int]):
    """Number of a commit as `stac2cube history` lists it: 3, or v3."""

    name = "commit"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The number."""
        digits = str(value).removeprefix("v")
        if not digits.isdecimal():
            self.fail(f"{value!r} is no commit: write its number, 3 or v3, see `stac2cube history`", param, ctx)
        return int(digits)


COMMIT = CommitNumber()


@click.command()
@click.argument("cube", type=CUBE)
@click.option("--apply", "applying", is_flag=True, help="Do it; else only say what would be done.")
@click.option("--only", help="Kinds with commas: new, late, failed, superseded, reduced, withdrawn, children.")
@click.option("--even-many", is_flag=True, help="Take steps out however many were withdrawn.")
@click.option("--inventory", type=CUBE, help="Parquet file of the archive: what was removed, what is not here yet.")
@as_json
@where_options
def sync(cube: Path, applying: bool, only: str | None, even_many: bool, inventory: Path | None, **options: Any) -> int:
    """Compare CUBE with its catalog over its whole time: new, late, superseded and withdrawn scenes, stale children.

    Without --apply it only says what would be done, with --only that of some kinds.
    """
    from stac2cube.stages.sync import KINDS, look
    from stac2cube.stages.sync import sync as bring_together

    kinds, kin = listed(only) or KINDS, _all_kin()
    with talking(options["quiet"]) as console:
        manner = Manner.of(options, console)
        if applying:
            make = partial(bring_together, cube, kinds=kinds, even_many=even_many, inventory=inventory, kin=kin)
            return built(cube, make, manner)
        found, _ = look(cube, on_cluster=manner.place.on_cluster, inventory=inventory, kin=kin)
        found = found.only(kinds)
        if manner.machine:
            click.echo(json.dumps(asdict(found), indent=1))
            return 0
        for kind in (kind for kind in KINDS[:-1] if kind in kinds):
            click.echo(_some(kind, getattr(found, kind)))
        for child, state in found.children.items():
            click.echo(
                f"child        {child}: {', '.join(f'{count} {what}' for what, count in state.items() if count)}"
            )
        if found.awaited:
            click.echo(_some("not here yet", tuple(found.awaited)))
        if found.nothing:
            click.echo("all in step")
        return 0


def _all_kin() -> tuple[Kin, ...]:
    """All kinds of cubes that are made from others: stages do not know those of training sets."""
    from stac2cube.stages.kin import STAGES
    from stac2cube.training.cubes import OfSamples

    return (*STAGES, OfSamples())


def _some(kind: str, keys: tuple[str, ...]) -> str:
    return f"{kind:<12} {len(keys):>5}  {' '.join(keys[:4])}{' ...' if len(keys) > 4 else ''}"


@click.command()
@click.argument("cube", type=CUBE)
@click.option("--repair", "repairing", is_flag=True, help="Make anew what is damaged, and only that.")
@click.option("--quick", is_flag=True, help="Compare sizes of files, not their checksums.")
@as_json
@where_options
def verify(cube: Path, repairing: bool, quick: bool, machine: bool, **options: Any) -> int:
    """Compare every file of CUBE with what root, grid and ledger say of it. Exit code 0 sound, 2 damaged."""
    from stac2cube.stages.care import remarks, repair
    from stac2cube.stages.care import verify as look_for_damage
    from stac2cube.training.cubes import follow_samples
    from stac2cube.work import Orders

    with talking(options["quiet"]) as console:
        if repairing:
            manner = Manner.of(options, console)
            done = repair(
                cube,
                manner.place,
                orders=Orders(limits=manner.limits),
                progress=manner.progress(),
                deep=not quick,
                again=follow_samples if _holds_samples(cube) else None,
            )
            found, left = done.found, done.left
            if done.summary.replaced and not machine:
                said(cube, done.summary)
        else:
            found = left = tuple(look_for_damage(cube, deep=not quick))
        lost = any(one.kind in ("ledger", "root") for one in left)
        besides = [] if lost else remarks(cube, _all_kin())
    if machine:
        told = {"found": [asdict(one) for one in found], "left": [asdict(one) for one in left], "remarks": besides}
        click.echo(json.dumps(told, indent=1))
    else:
        for one in found:
            click.echo(f"{one.kind:<10} {one.path}  {one.key}  {one.what}")
        for remark in besides:
            click.echo(f"remark     {remark}")
        what = f"{len(found)} damaged" if found else "no damage found"
        click.echo(f"{cube}: {what}" + (f", {len(left)} left" if repairing and found else ""))
    return 2 if left else 0


def _holds_samples(cube: Path) -> bool:
    """Whether a cube is one of samples; False where its root is lost, which is put right first."""
    from stac2cube.errors import CubeError
    from stac2cube.training.cubes import holds_samples

    try:
        return holds_samples(cube)
    except CubeError:
        return False


@click.command()
@click.argument("cube", type=CUBE)
@click.argument("one", type=COMMIT)
@click.argument("other", type=COMMIT)
@as_json
def diff(cube: Path, one: int, other: int, machine: bool) -> None:
    """Say which steps of CUBE differ between the commits ONE and OTHER."""
    from stac2cube.cube.rearrange import difference

    found = asdict(difference(cube, one, other))
    if machine:
        click.echo(json.dumps(found, indent=1))
        return
    for what, keys in found.items():
        for key in keys:
            click.echo(f"{what:<9} {key}")


@click.command()
@click.argument("cube", type=CUBE)
@click.argument("commit", type=COMMIT)
@as_json
def rollback(cube: Path, commit: int, machine: bool) -> None:
    """Make CUBE what it was after COMMIT. That is a commit, too: one can go back again."""
    from stac2cube.stages.care import rollback as roll

    root = roll(cube, commit)
    said = f"{cube}: commit {root.commit}, {root.steps} steps, as after commit {commit}"
    click.echo(_root_json(root) if machine else said)


@click.command()
@click.argument("cube", type=CUBE)
@as_json
def tidy(cube: Path, machine: bool) -> None:
    """Put the steps of CUBE in the order of time, without rewriting a pixel."""
    from stac2cube.cube.root import read_root
    from stac2cube.stages.care import tidy as put_in_order

    root = put_in_order(cube)
    said = f"{cube}: {'in order already' if root is None else f'in order of time, commit {root.commit}'}"
    click.echo(_root_json(root or read_root(cube), made=root is not None) if machine else said)


@click.command("seal-year")
@click.argument("cube", type=CUBE)
@click.argument("year", type=int)
@as_json
@where_options
def seal_year(cube: Path, year: int, machine: bool, **options: Any) -> int:
    """Write YEAR of CUBE, which must be over, a second time, into files that hold all its steps: fast along time."""
    from stac2cube.stages.yearly import seal_year as seal
    from stac2cube.work import Orders

    with talking(options["quiet"]) as console, stoppable() as stop:
        manner = Manner.of(options, console)
        orders = Orders(stop=stop, deadline=job_end(), limits=manner.limits)
        done = seal(cube, year, manner.place, orders=orders, progress=manner.progress())
    if machine:
        click.echo(json.dumps(asdict(done), indent=1))
    elif not done.store:
        click.echo("stopped before the end: the same command goes on")
    else:
        what = f"{done.steps} steps of {year} in {done.files} files of {human_bytes(done.size)}"
        besides = f"besides the cube's own {done.files_before} of {human_bytes(done.size_before)}"
        click.echo(f"{done.store}: {what}, {besides}{'' if done.made else '; nothing had changed'}")
    return done.exit_code


def _root_json(root: Root, *, made: bool = True) -> str:
    return json.dumps({"commit": root.commit, "steps": root.steps, "generation": root.generation, "made": made})
