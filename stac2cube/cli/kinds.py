"""What a recipe may hold: commands. Their words, types, defaults and help are read from the commands themselves.

A new command becomes a kind of entry by one line of :data:`_MAKINGS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click

from stac2cube.cli.bands import require_bands
from stac2cube.cli.checks import check_clouds, check_coregister, check_layers, check_superres
from stac2cube.cli.clouds import clouds, mask
from stac2cube.cli.derive import composite, indices, overviews
from stac2cube.cli.make import layers
from stac2cube.cli.out import export, publish, report, series
from stac2cube.cli.patches import patch_rules_of, patches, statistics, statistics_rules_of
from stac2cube.cli.registration import coregister, move
from stac2cube.cli.show import quicklook, slider, timelapse
from stac2cube.cli.superres import superres
from stac2cube.cli.where import where_options
from stac2cube.cli.words import Spelled
from stac2cube.errors import BadInputError
from stac2cube.recipe.file import Entry, Recipe, read_recipe
from stac2cube.recipe.kind import CUBE, Input, Kind
from stac2cube.recipe.word import Form, Value, Word

PIXELS = ("mask", "coregister", "layers")
"""Where products take their pixels from unless told otherwise: the cleanest first."""

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
"""Options that are no words of a recipe: they decide where and how a command runs, or look back at a cube."""


@dataclass(frozen=True)
class _Making:
    """How a command becomes a kind of entry.

    Attributes:
        command: The command.
        inputs: Cubes it is made from.
        order: Its arguments in their order: words of cubes, ``"out"``, and words that are no options.
        suffix: Of what it makes, see :class:`stac2cube.recipe.kind.Kind`.
        arguments: Words that are no options.
        needed: Options that a recipe has to say, though an update may leave them out.
        check: Refuses parameters of the command that cannot be meant; before anything runs.
        feeds: Whether others can be made from what it makes; a cube can always.
    """

    command: click.Command
    inputs: tuple[Input, ...] = ()
    order: tuple[str, ...] = ("of", "out")
    suffix: str | None = CUBE
    arguments: tuple[Word, ...] = ()
    needed: tuple[str, ...] = ()
    check: Callable[[Mapping[str, Any]], object] | None = None
    feeds: bool = False


_CUBES = ("layers", "clouds", "coregister", "move", "mask", "superres", "indices", "composite")

_SIDES = ("before", "after")

_HIDING = Input("clouds", (), optional=True)
"""A cube of clouds by which is hidden, where it is named: pixels of ``mask`` need none."""

_CLEARED = (Input("of", PIXELS), _HIDING)

_MAKINGS: Mapping[str, _Making] = {
    "layers": _Making(layers, order=("out",), needed=("mission", "aoi"), check=check_layers),
    "clouds": _Making(clouds, (Input("of", ("layers",)),), check=check_clouds),
    "coregister": _Making(
        coregister, (Input("of", ("layers",)), Input("clouds", ("clouds",), optional=True)), check=check_coregister
    ),
    "move": _Making(
        move, (Input("of", ("clouds",)), Input("coregistered", ("coregister",))), ("of", "coregistered", "out")
    ),
    "mask": _Making(
        mask, (Input("of", ("coregister", "layers")), Input("clouds", ("move", "clouds"))), ("of", "clouds", "out")
    ),
    "superres": _Making(superres.commands["make"], (Input("of", PIXELS),), check=check_superres),
    "indices": _Making(
        indices,
        _CLEARED,
        ("of", "out", "names"),
        arguments=(Word("names", "list", "Names of spectral indices: [ndvi, nbr].", needed=True),),
    ),
    "composite": _Making(composite, _CLEARED),
    "overviews": _Making(overviews, (Input("of", PIXELS),), ("of",), suffix=None),
    "export": _Making(export, _CLEARED, suffix=""),
    "series": _Making(
        series,
        _CLEARED,
        ("of", "places", "out"),
        suffix=".csv",
        arguments=(Word("places", "area", "Points or polygons: a file, GeoJSON, or 'lat,lon'.", needed=True),),
    ),
    "quicklook": _Making(quicklook, (Input("of", ("layers",)), _HIDING), suffix=".png"),
    "timelapse": _Making(timelapse, _CLEARED, suffix=".gif"),
    "slider": _Making(
        slider,
        _CLEARED,
        ("of", "before", "after", "out"),
        suffix=".html",
        arguments=tuple(Word(side, "text", f"The step {side}: scene key or date.", needed=True) for side in _SIDES),
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
    """Read a recipe made of the commands there are; see :func:`stac2cube.recipe.file.read_recipe`."""
    return read_recipe(path, KINDS, changes)


def command_lines(recipe: Recipe, entry: Entry) -> list[list[str]]:
    """What to type to make an entry, without ``stac2cube``: a command, or one for each cube it is made of."""
    making = _MAKINGS[entry.kind.name]
    first = making.inputs[0].word if making.inputs else ""
    several = entry.inputs.get(first) or ("",)
    return [
        [entry.kind.name, *_arguments(recipe, entry, making, of, alone=place == 0), *_options(recipe, entry, making)]
        for place, of in enumerate(several)
    ]


def make_entry(recipe: Recipe, entry: Entry, where: Sequence[str] = ()) -> int:
    """Make an entry; the exit code.

    Args:
        recipe: The recipe.
        entry: One of its entries.
        where: Options that say where and how it runs; those that its command does not have are left out.
    """
    command = _MAKINGS[entry.kind.name].command
    understood = {flag for option in command.params for flag in option.opts}
    here = [word for word in where if word.partition("=")[0] in understood]
    codes = [
        command.main([*words, *here], f"stac2cube {name}", standalone_mode=False) or 0
        for name, *words in command_lines(recipe, entry)
    ]
    return max(codes)


def parameters_of(recipe: Recipe, entry: Entry) -> dict[str, Any]:
    """The parameters of an entry's command, as click understands them.

    Raises:
        BadInputError: One is not understood.
    """
    (name, *words), *_ = command_lines(recipe, entry)
    try:
        return _MAKINGS[name].command.make_context(name, list(words)).params
    except click.ClickException as error:
        raise BadInputError(f"{recipe.path}: {entry.label}: {error.format_message()}") from error


def check_recipe(recipe: Recipe, entries: Sequence[Entry] | None = None) -> None:
    """Refuse what would fail later, as far as that can be known without reading a catalog or a cube.

    Raises:
        BadInputError: Naming recipe and entry.
    """
    for entry in recipe.entries if entries is None else entries:
        parameters = parameters_of(recipe, entry)
        try:
            if check := _MAKINGS[entry.kind.name].check:
                check(parameters)
            require_bands(recipe, entry, parameters_of)
        except BadInputError as error:
            raise BadInputError(f"{recipe.path}: {entry.label}: {error}") from error


def _arguments(recipe: Recipe, entry: Entry, making: _Making, of: str, *, alone: bool) -> list[str]:
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


def _options(recipe: Recipe, entry: Entry, making: _Making) -> list[str]:
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
    feeds = making.feeds or making.suffix == CUBE
    return Kind(name, help_, words, making.inputs, making.suffix, blocks, feeds)


def _word_name(option: click.Option) -> str:
    return max(option.opts, key=len).removeprefix("--").replace("-", "_")


def _word(option: click.Option) -> Word:
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
    choices = tuple(map(str, kind.choices)) if isinstance(kind, click.Choice) else ()
    bounds = (kind.min, kind.max) if isinstance(kind, (click.IntRange, click.FloatRange)) else (None, None)
    default: Any = option.default if isinstance(option.default, (str, int, float, bool)) else None
    if default == "" or (default is False and not option.secondary_opts):
        default = None
    if isinstance(option.default, tuple):
        default = tuple(f"{part:g}" for part in option.default)
    elif form == "list" and default is not None:
        default = tuple(default.split(","))
    return Word(_word_name(option), form, option.help or "", default, choices, *bounds, needed=option.required)


KINDS: Mapping[str, Kind] = {name: _kind(name, making) for name, making in _MAKINGS.items()}
"""All kinds of entries, in the order in which they are made."""
