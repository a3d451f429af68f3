"""Commands that work from a recipe: run, stage, array jobs, config."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stac2cube.cli.archives import (
    budget_option,
    refuse_tiles,
    require_tiles_for,
    run_recipe_of_tiles,
    tile_option,
    tiling_words,
)
from stac2cube.cli.build import layers
from stac2cube.cli.datasets import patch_rules_of, patches, statistics, statistics_rules_of
from stac2cube.cli.derive import check_layers, clouds, composite, coregister, indices, mask, move, overviews, superres
from stac2cube.cli.export import export, publish, quicklook, report, series, slider, timelapse
from stac2cube.cli.options import (
    CUBE,
    DeclaredOption,
    Spelled,
    console_for,
    listed,
    query_words,
    value_of,
    where_options,
)
from stac2cube.cli.run import RunOptions, commits_of, leave, prepared, said, stoppable
from stac2cube.clouds.rules import CloudRules
from stac2cube.coregister.rules import ShiftRules
from stac2cube.errors import BadInputError
from stac2cube.executors.queue import Queue, in_job, job_end, share_of_array
from stac2cube.model.catalog import is_catalog_name
from stac2cube.model.fields import Range
from stac2cube.recipe.file import Recipe, RecipeEntry, read_recipe
from stac2cube.recipe.schema import CUBE_KIND, Form, Input, Kind, Option, Value
from stac2cube.superres.rules import SuperresRules

if TYPE_CHECKING:
    import xarray as xr


# Checks that the indices and colours in a recipe have their bands, by its options, before anything is made.

KEEPING = ("mask", "coregister", "superres")
"""Kinds of entries that keep the bands of their source."""

SPEAKING = ("names", "by", "indices", "show")
"""Options that name indices or colours."""

Parameters = Callable[[Recipe, RecipeEntry], Mapping[str, Any]]


def require_bands(recipe: Recipe, entry: RecipeEntry, parameters_of: Parameters) -> None:
    """Refuse an index or colours whose bands the source of an entry does not have.

    Entries whose source is a cube made outside the recipe, or of clouds, cannot be checked here.

    Args:
        recipe: The recipe.
        entry: One of its entries.
        parameters_of: Parses the parameters of an entry's command.

    Raises:
        BadInputError: A band is missing; the message names the index, the band and the entry without it.
    """
    said = {word: entry.words[word] for word in SPEAKING if entry.words.get(word)}
    source = _source(recipe, entry)
    if not said or source is None or (bands := _bands(recipe, source, parameters_of)) is None:
        return
    from stac2cube.views.indices import formula_for
    from stac2cube.views.render import require_shown  # imports xarray and pandas: only if there is something to check

    try:
        for word, value in said.items():
            names = _names(value)
            if word == "show":
                require_shown(bands, ",".join(names))
            else:
                for name in names:
                    if word != "by" or name not in bands.data_vars:
                        formula_for(bands, name)
    except BadInputError as error:
        raise BadInputError(f"made of {source.label}: {error}") from error


def _source(recipe: Recipe, entry: RecipeEntry) -> RecipeEntry | None:
    """The entry from whose pixels another is made."""
    names = entry.inputs.get("of", ())
    return next((other for other in recipe.entries if other.kind.feeds and names == (other.name,)), None)


def _bands(recipe: Recipe, entry: RecipeEntry, parameters_of: Parameters) -> xr.Dataset | None:
    """The cube that an entry makes, with layers but without pixels; None if they are unknown."""
    from stac2cube.model.mission import find_mission
    from stac2cube.views.indices import plain_name, registry_name

    if entry.kind.name == "layers":
        parameters = parameters_of(recipe, entry)
        mission = find_mission(parameters["mission"])
        return _empty([band.name for band in mission.choose_bands(listed(parameters["bands"]))], mission.name)
    source = _source(recipe, entry)
    bands = None if source is None else _bands(recipe, source, parameters_of)
    if bands is None or entry.kind.name in KEEPING:
        return bands
    if entry.kind.name == "composite":
        chosen = _names(entry.words.get("layers") or tuple(bands.data_vars))
        return bands[[name for name in chosen if name in bands.data_vars]]
    if entry.kind.name == "indices":
        return _empty([plain_name(registry_name(name)) for name in _names(entry.words["names"])], "")
    return None


def _empty(layers: list[str], mission: str) -> xr.Dataset:
    import numpy as np
    import xarray as xr

    nothing = (("time", "y", "x"), np.zeros((0, 0, 0), "float32"))
    return xr.Dataset(dict.fromkeys(layers, nothing), attrs={"mission": mission})


def _names(value: Any) -> list[str]:
    return list(value) if isinstance(value, tuple) else list(listed(str(value)) or ())


# Kinds of entries of a recipe: commands. Their words, types, defaults and help are read from the commands themselves.
#
# A new command becomes a kind of entry by one line of :data:`_MAKINGS`.

PIXELS = ("mask", "coregister", "layers")
"""Default sources of pixels for products: the cleanest first."""

_WHERE = frozenset(option.name for option in click.command("where")(where_options(lambda: None)).params)

_ASIDE = _WHERE | {
    "updating",
    "dry_run",
    "machine",
    "replace_superseded",
    "per_feature",
    "from_probability",
    "measure_only",
}
"""Options that cannot be in a recipe: they decide where and how a command runs, or apply to an existing cube."""


@dataclass(frozen=True)
class _Making:
    """Description of a command as a kind of entry.

    Attributes:
        command: The command.
        inputs: Its input cubes.
        order: Its arguments in order: names of inputs, ``"out"``, and words that are not options.
        suffix: Suffix of its result, see :class:`stac2cube.recipe.schema.Kind`.
        arguments: Words that are not options.
        needed: Options that are required in a recipe, though an update may leave them out.
        check: Refuses invalid parameters of the command before anything runs.
        feeds: Whether its result can be an input of other entries; a cube always can.
    """

    command: click.Command
    inputs: tuple[Input, ...] = ()
    order: tuple[str, ...] = ("of", "out")
    suffix: str | None = CUBE_KIND
    arguments: tuple[Option, ...] = ()
    needed: tuple[str, ...] = ()
    check: Callable[[Mapping[str, Any]], object] | None = None
    feeds: bool = False


_CUBES = ("layers", "clouds", "coregister", "move", "mask", "superres", "indices", "composite")

_SIDES = ("before", "after")

_HIDING = Input("clouds", (), optional=True)
"""An optional cube of clouds that hides pixels: pixels of ``mask`` need none."""

_CLEARED = (Input("of", PIXELS), _HIDING)

_MAKINGS: Mapping[str, _Making] = {
    "layers": _Making(layers, order=("out",), needed=("mission", "aoi"), check=check_layers),
    "clouds": _Making(clouds, (Input("of", ("layers",)),), check=partial(value_of, CloudRules)),
    "coregister": _Making(
        coregister,
        (Input("of", ("layers",)), Input("clouds", ("clouds",), optional=True)),
        check=partial(value_of, ShiftRules),
    ),
    "move": _Making(
        move, (Input("of", ("clouds",)), Input("coregistered", ("coregister",))), ("of", "coregistered", "out")
    ),
    "mask": _Making(
        mask, (Input("of", ("coregister", "layers")), Input("clouds", ("move", "clouds"))), ("of", "clouds", "out")
    ),
    "superres": _Making(superres.commands["make"], (Input("of", PIXELS),), check=partial(value_of, SuperresRules)),
    "indices": _Making(
        indices,
        _CLEARED,
        ("of", "out", "names"),
        arguments=(Option("names", "list", "Names of spectral indices: [ndvi, nbr].", needed=True),),
    ),
    "composite": _Making(composite, _CLEARED),
    "overviews": _Making(overviews, (Input("of", PIXELS),), ("of",), suffix=None),
    "export": _Making(export, _CLEARED, suffix=""),
    "series": _Making(
        series,
        _CLEARED,
        ("of", "places", "out"),
        suffix=".csv",
        arguments=(Option("places", "area", "Points or polygons: a file, GeoJSON, or 'lat,lon'.", needed=True),),
    ),
    "quicklook": _Making(quicklook, (Input("of", ("layers",)), _HIDING), suffix=".png"),
    "timelapse": _Making(timelapse, _CLEARED, suffix=".gif"),
    "slider": _Making(
        slider,
        _CLEARED,
        ("of", "before", "after", "out"),
        suffix=".html",
        arguments=tuple(Option(side, "text", f"The step {side}: scene key or date.", needed=True) for side in _SIDES),
    ),
    "report": _Making(report, (Input("of", _CUBES, several=True),), suffix=".html"),
    "statistics": _Making(statistics, _CLEARED, suffix="", check=statistics_rules_of, feeds=True),
    "patches": _Making(
        patches,
        (*_CLEARED, Input("statistics", ("statistics",), optional=True, takes="")),
        suffix="",
        check=patch_rules_of,
    ),
    "publish": _Making(publish, (Input("of", PIXELS),), suffix=""),
}


def recipe_at(path: str | Path, changes: Sequence[str] = ()) -> Recipe:
    """Read a recipe of the known commands; see :func:`stac2cube.recipe.file.read_recipe`."""
    return read_recipe(path, KINDS, changes, tile_words=TILES)


def command_lines(recipe: Recipe, entry: RecipeEntry) -> list[list[str]]:
    """Command lines that make an entry, without ``stac2cube``: one command, or one for each of its source cubes."""
    making = _MAKINGS[entry.kind.name]
    first = making.inputs[0].word if making.inputs else ""
    several = entry.inputs.get(first) or ("",)
    return [
        [entry.kind.name, *_arguments(recipe, entry, making, of, alone=place == 0), *_options(recipe, entry, making)]
        for place, of in enumerate(several)
    ]


def make_entry(recipe: Recipe, entry: RecipeEntry, where: Sequence[str] = ()) -> int:
    """Make an entry; returns the exit code.

    Args:
        recipe: The recipe.
        entry: One of its entries.
        where: Options of the place and the run; those that its command does not have are left out.
    """
    command = _MAKINGS[entry.kind.name].command
    understood = {flag for option in command.params for flag in option.opts}
    here = [word for word in where if word.partition("=")[0] in understood]
    codes = [
        command.main([*words, *here], f"stac2cube {name}", standalone_mode=False) or 0
        for name, *words in command_lines(recipe, entry)
    ]
    return max(codes)


def parameters_of(recipe: Recipe, entry: RecipeEntry) -> dict[str, Any]:
    """The parameters of an entry's command, parsed by click.

    Raises:
        BadInputError: A parameter is invalid.
    """
    (name, *words), *_ = command_lines(recipe, entry)
    try:
        return _MAKINGS[name].command.make_context(name, list(words)).params
    except click.ClickException as error:
        raise BadInputError(f"{recipe.path}: {entry.label}: {error.format_message()}") from error


def check_recipe(recipe: Recipe, entries: Sequence[RecipeEntry] | None = None) -> None:
    """Refuse what would fail later, as far as possible without reading a catalog or a cube.

    Raises:
        BadInputError: An entry is invalid; the message names recipe and entry.
    """
    for entry in recipe.entries if entries is None else entries:
        parameters = parameters_of(recipe, entry)
        try:
            if check := _MAKINGS[entry.kind.name].check:
                check(parameters)
            require_bands(recipe, entry, parameters_of)
        except BadInputError as error:
            raise BadInputError(f"{recipe.path}: {entry.label}: {error}") from error


def _arguments(recipe: Recipe, entry: RecipeEntry, making: _Making, of: str, *, alone: bool) -> list[str]:
    made: list[str] = []
    for word in making.order:
        if word == "out":
            if entry.words.get("api") is None:
                made.append(str(_beside_others(recipe.made_by(entry), "" if alone else of)))
        elif word in entry.inputs:
            made.append(str(recipe.cube(of if word == making.inputs[0].word else entry.inputs[word][0])))
        else:
            made += _texts(entry.words[word])
    return made


def _beside_others(path: Path, of: str) -> Path:
    return path if not of else path.with_name(f"{path.stem}-{Path(of).stem}{path.suffix}")


def _options(recipe: Recipe, entry: RecipeEntry, making: _Making) -> list[str]:
    made = [
        f"--{part.word}={recipe.cube(entry.inputs[part.word][0])}"
        for part in making.inputs
        if part.word not in making.order and entry.inputs.get(part.word)
    ]
    options = {_word_name(option): option for option in making.command.params if isinstance(option, click.Option)}
    for name, value in entry.words.items():
        if name == "out" or name in making.order:
            continue
        option = options[name]
        flag = max(option.opts, key=len)
        if option.nargs > 1:
            made += [flag, *_texts(value)]
        elif isinstance(value, bool):
            made += [flag] if value else option.secondary_opts[:1]
        elif option.multiple:
            made += [f"{flag}={text}" for text in _texts(value)]
        else:
            made.append(f"{flag}={','.join(_texts(value))}")
    return made


def _texts(value: Value) -> list[str]:
    return list(value) if isinstance(value, tuple) else [str(value)]


def _kind(name: str, making: _Making) -> Kind:
    options = [option for option in making.command.params if isinstance(option, click.Option) and not option.hidden]
    cubes = {part.word for part in making.inputs}
    words = {word.name: word for word in making.arguments}
    mine = [_word(option) for option in options if option.name not in _ASIDE and _word_name(option) not in cubes]
    words |= {word.name: replace(word, needed=word.needed or word.name in making.needed) for word in mine}
    help_ = (making.command.help or "").split("\n\n")[0].replace("\n", " ")
    blocks = any(option.name == "place" for option in options)
    feeds = making.feeds or making.suffix == CUBE_KIND
    return Kind(name, help_, words, making.inputs, making.suffix, blocks, feeds)


def _word_name(option: click.Option) -> str:
    return max(option.opts, key=len).removeprefix("--").replace("-", "_")


def _word(option: click.Option) -> Option:
    kind = option.type
    form: Form = "text"
    if option.is_flag:
        form = "boolean"
    elif option.multiple:
        form = "texts"
    elif option.nargs > 1:
        form = "list"
    elif isinstance(kind, Spelled):
        form = kind.form
    elif isinstance(kind, click.Path):
        form = "path"
    elif isinstance(kind, (click.types.IntParamType, click.IntRange)):
        form = "integer"
    elif isinstance(kind, (click.types.FloatParamType, click.FloatRange)):
        form = "number"
    choices: tuple[str | float, ...] = tuple(map(str, kind.choices)) if isinstance(kind, click.Choice) else ()
    bounds: Range | None = None
    if isinstance(kind, (click.IntRange, click.FloatRange)):
        bounds = Range(least=kind.min, most=kind.max)
    elif isinstance(option, DeclaredOption):
        bounds = option.declared.bounds
        choices = choices or (option.declared.choices if form == "number" else ())
    default: Any = option.default if isinstance(option.default, (str, int, float, bool)) else None
    if default == "" or (default is False and not option.secondary_opts):
        default = None
    if isinstance(option.default, tuple):
        default = tuple(f"{part:g}" for part in option.default)
    elif form == "list" and default is not None:
        default = tuple(default.split(","))
    name = _word_name(option)
    is_name = is_catalog_name if name == "catalog" else None
    return Option(name, form, option.help or "", default, choices, bounds, option.required, is_name)


KINDS: Mapping[str, Kind] = {name: _kind(name, making) for name, making in _MAKINGS.items()}
"""All kinds of entries, in the order in which they are made."""


TILES: Mapping[str, Option] = {
    word.name: replace(word, needed=word.name == "tiling") for word in map(_word, tiling_words)
}
"""Options allowed in ``tiles:`` of a recipe."""


# Commands that work from a recipe: run, stage, and the three parts of a job array: claim, share, seal.

RECIPE = click.argument("recipe", type=CUBE)

set_option = click.option(
    "--set",
    "changes",
    multiple=True,
    metavar="WORD=VALUE",
    help="Change one value of the recipe, for example layers.time=2024. Repeatable.",
)

_AN_ARRAY = "its job array takes tiles, see `stac2cube submit --array`"

claim_option = click.option("--claim", "job", help="Id of the job that will seal the cube. Default: this job.")


@click.command()
@RECIPE
@click.option(
    "--stage", "only", multiple=True, help="Make only this entry: composite, or composite.monthly. Repeatable."
)
@set_option
@click.option(
    "--on-deadline",
    type=click.Choice(["stop", "requeue"]),
    default="stop",
    show_default=True,
    help="What a job does before its time limit: stop with exit code 10, or be requeued and continue.",
)
@click.option(
    "--package",
    type=CUBE,
    help=("Write all products into this folder instead of the recipe's own, with a STAC catalog of them."),
)
@tile_option
@budget_option
@click.option("--dry-run", is_flag=True, help="For archives: print which tiles would be made, and stop.")
@click.option("--planned", type=CUBE, hidden=True)
@where_options
def run(recipe: Path, only: tuple[str, ...], changes: tuple[str, ...], on_deadline: str, **options: Any) -> int:
    """Make what RECIPE says, one entry after the other. Run it again to continue where it stopped.

    A recipe with tiles makes an archive, tile after tile.
    """
    wanted = recipe_at(recipe, changes)
    package: Path | None = options.pop("package")
    of_tiles = {name: options.pop(name) for name in ("tiles", "budget", "dry_run", "planned")}
    if wanted.tiles is not None:
        return _run_tiles(wanted, only, package, on_deadline, options, of_tiles)
    require_tiles_for(wanted, of_tiles)
    if package is not None:
        wanted = replace(wanted, cubes=package.absolute())
    entries = wanted.chosen(only)
    check_recipe(wanted, entries)
    where = where_words(options)
    cubes = [wanted.made_by(entry) for entry in entries if entry.kind.suffix == CUBE_KIND]
    # Only a job may be requeued, and asks whether it got anywhere.
    code, before = 0, commits_of(cubes) if in_job() else []
    for entry in entries:
        if not options["quiet"]:
            click.echo(f"== {entry.label}", err=True)
        code = max(code, make_entry(wanted, entry, where))
        if code == 10:
            break
    # Of what is no cube nobody knows how far it came.
    progressed = code != 10 or entry.kind.suffix != CUBE_KIND or commits_of(cubes) != before
    if package is not None:
        from stac2cube.export.publish import describe_cubes

        click.echo(describe_cubes(wanted.cubes))
    with console_for(options["quiet"]):
        return leave(code, on_deadline, progressed=progressed)


def _run_tiles(
    wanted: Recipe,
    only: tuple[str, ...],
    package: Path | None,
    on_deadline: str,
    options: dict[str, Any],
    of_tiles: dict[str, Any],
) -> int:
    if only or package is not None:
        raise BadInputError(
            f"{wanted.path} makes an archive, tile by tile and whole: say neither --stage nor --package"
        )
    check_recipe(wanted)
    planned: Path | None = of_tiles["planned"]
    code, may_requeue, progressed = run_recipe_of_tiles(
        wanted, layers_words(wanted), make_entry, {**options, **of_tiles}, where_words(options), planned
    )
    with console_for(options["quiet"]):
        return leave(code, on_deadline if may_requeue else "stop", progressed=progressed)


@click.command()
@RECIPE
@click.argument("folder", type=CUBE, required=False)
@set_option
@click.option("--quiet", "-q", is_flag=True, help="Print warnings only.")
def stage(recipe: Path, folder: Path | None, changes: tuple[str, ...], quiet: bool) -> None:
    """Search now, and store what a job without a network needs in FOLDER: RECIPE, area and found items.

    Run it on a login node, then submit the recipe that it prints.
    """
    with console_for(quiet):
        click.echo(stage_recipe(recipe, folder, changes))


def stage_recipe(path: Path, folder: Path | None = None, changes: Sequence[str] = ()) -> Path:
    """Store a recipe with its search result and area; returns the path of the stored recipe.

    Raises:
        NothingFoundError: No scene.
        CatalogError: The catalog cannot be read.
    """
    from shapely import to_geojson

    from stac2cube.index.index import store_search
    from stac2cube.recipe.file import write_recipe
    from stac2cube.stages.layers import query_of_words

    recipe = recipe_at(path, changes)
    target = (folder or recipe.cubes / "staged").resolve()
    layers = recipe.layers()
    query, _ = query_of_words(layers_words(recipe))
    stored = store_search(query, target / "items.parquet")
    (target / "area.geojson").write_text(to_geojson(query.geometry), encoding="utf-8")
    words = {name: value for name, value in layers.words.items() if name not in ("aoi_crs", "edge")}
    words |= {"aoi": "area.geojson", "catalog": stored.catalog, "items": "items.parquet"}
    entries = tuple(replace(one, words=words) if one is layers else one for one in recipe.entries)
    staged = replace(recipe, path=target / "recipe.yaml", entries=entries)
    write_recipe(staged)
    return staged.path


@click.command()
@RECIPE
@claim_option
@where_options
def claim(recipe: Path, job: str | None, **options: Any) -> None:
    """Lock the layers cube of RECIPE for a job array, until the job that seals it ends."""
    from stac2cube.build.array_job import lease_cube
    from stac2cube.build.plan import BuildOptions
    from stac2cube.build.status import require_room

    with console_for(options["quiet"]) as console:
        wanted, run_options = recipe_at(recipe), RunOptions.of(options, console)
        refuse_tiles(wanted, _AN_ARRAY)
        out = wanted.made_by(wanted.layers())
        work = prepared(out, layers_words(wanted), run_options)
        require_room(out, work.spec, work.plan(), BuildOptions(limits=run_options.limits), run_options.place)
        lease_cube(out, work.spec, claim_of(job))


@click.command()
@RECIPE
@claim_option
@click.option(
    "--number", type=click.IntRange(0), help="Number of the share, from 0. Default: this task of the job array."
)
@click.option("--of", "of", type=click.IntRange(1), help="Number of shares. Default: the tasks of the job array.")
@where_options
def share(recipe: Path, job: str | None, number: int | None, of: int | None, **options: Any) -> int:
    """Make one share of the missing blocks of the claimed layers cube of RECIPE. Runs in each task of a job array."""
    from stac2cube.build.array_job import build_part
    from stac2cube.build.plan import BuildOptions

    which, many = share_of_array(number, of)
    with console_for(options["quiet"]) as console:
        wanted = recipe_at(recipe)
        refuse_tiles(wanted, _AN_ARRAY)
        run_options = RunOptions.of(options, console)
        if run_options.progress_file is not None:
            run_options = replace(run_options, progress_file=run_options.progress_file.with_suffix(f".{which}.json"))
        out = wanted.made_by(wanted.layers())
        work = prepared(out, layers_words(wanted), run_options)
        with stoppable() as stop:
            build_options = BuildOptions(stop=stop, deadline=job_end())
            summary = build_part(
                out,
                work.steps,
                work.task(),
                run_options.place,
                claim_of(job),
                (which, many),
                options=build_options,
                progress=run_options.progress(),
            )
        return summary.exit_code


@click.command()
@RECIPE
@claim_option
@where_options
def seal(recipe: Path, job: str | None, **options: Any) -> int:
    """Seal the steps that a job array made for RECIPE, and release the lock. Runs in a last, dependent job."""
    from stac2cube.build.array_job import seal_parts
    from stac2cube.stages.layers import doubted

    with console_for(options["quiet"]) as console:
        wanted = recipe_at(recipe)
        refuse_tiles(wanted, _AN_ARRAY)
        out = wanted.made_by(wanted.layers())
        work = prepared(out, layers_words(wanted), RunOptions.of(options, console))
        return said(out, seal_parts(out, work.spec, doubted(work), claim_of(job)))


def layers_words(recipe: Recipe) -> dict[str, Any]:
    """The options of the layers of a recipe, as arguments of a query.

    Raises:
        BadInputError: The recipe has no layers, or several; or an option is invalid.
    """
    return query_words(**parameters_of(recipe, recipe.layers()))


def where_words(options: Mapping[str, Any]) -> list[str]:
    """The given options of the place, as words of a command line for another command."""
    said = {f"--{name.replace('_', '-')}": value for name, value in options.items() if value not in (None, False)}
    return [name if value is True else f"{name}={value}" for name, value in said.items()]


def claim_of(job: str | None) -> Any:
    """The lease of a sealing job, of the present job if none is named.

    Raises:
        BadInputError: None is named, and this process runs in no job.
    """
    from stac2cube.build.array_job import ArrayLease

    sealing = job or os.environ.get("SLURM_JOB_ID")
    if not sealing:
        raise BadInputError("give --claim JOB: the id of the job that will seal")
    return ArrayLease(sealing, os.environ.get("SLURM_CLUSTER_NAME") or Queue().name())


# Commands about recipes themselves: config schema, config show.


@click.group()
def config() -> None:
    """Print the schema of recipes, or a resolved recipe."""


@config.command()
@click.argument("out", type=CUBE, required=False)
def schema(out: Path | None) -> None:
    """Print the JSON Schema of recipes, or write it to OUT. Editors use it to complete and check recipes."""
    text = schema_text()
    if out is None:
        click.echo(text, nl=False)
        return
    from stac2cube.store.files import write_whole

    write_whole(out, text.encode())
    click.echo(f"begin a recipe with: # yaml-language-server: $schema={out}")


@config.command()
@RECIPE
@set_option
@click.option("--commands", is_flag=True, help="Print the commands that would run.")
def show(recipe: Path, changes: tuple[str, ...], commands: bool) -> None:
    """Check RECIPE, and print it resolved: entries in order, variables filled in, and all defaults."""
    from stac2cube.recipe.file import show_recipe

    wanted = recipe_at(recipe, changes)
    check_recipe(wanted)
    if not commands:
        click.echo(show_recipe(wanted), nl=False)
        return
    for entry in wanted.entries:
        for line in command_lines(wanted, entry):
            click.echo(shlex.join(["stac2cube", *line]))


def schema_text() -> str:
    """The JSON Schema of recipes."""
    from stac2cube.recipe.schema import recipe_schema

    return json.dumps(recipe_schema(KINDS, TILES), indent=1, ensure_ascii=False) + "\n"
