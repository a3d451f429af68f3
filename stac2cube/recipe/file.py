"""Recipes: read, check, order and write them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from stac2cube.errors import BadInputError
from stac2cube.recipe.schema import Input, Kind, Node, Option, Value, escaped, parse, put, substitute, tiles_of
from stac2cube.trust.address import expanded, public_each

# Entries and keys of a recipe, checked one by one; all problems are listed with their lines, not only the first.

_NAME = re.compile(r"\w[\w-]*")


@dataclass(frozen=True)
class ParsedEntry:
    """An entry of the recipe with parsed values.

    Attributes:
        name: Its own name, or that of its kind.
        kind: Its kind.
        where: Its line.
        words: Its keys and values.
    """

    name: str
    kind: Kind
    where: str
    words: Mapping[str, Value] = field(hash=False)


def entries_of(root: Node, kinds: Mapping[str, Kind], folder: Path, problems: list[str]) -> Iterator[ParsedEntry]:
    """All entries, in the order of the kinds, then of the file.

    Args:
        root: The recipe.
        kinds: The known kinds.
        folder: Base folder of relative paths.
        problems: Receives a line for each problem.
    """
    assert isinstance(root.value, dict)
    for name, node in root.value.items():
        if name not in kinds and name not in ("cubes", "tiles"):
            problems.append(f"{node.where}: {name!r} is not known{nearest(name, ['cubes', *kinds, 'tiles'])}")
    for kind in kinds.values():
        if kind.name not in root.value:
            continue
        node = root.value[kind.name]
        if not isinstance(node.value, dict | None):
            problems.append(f"{node.where}: {kind.name} should be a table of words")
            continue
        for name, part in _entries_named(kind, node):
            if not _NAME.fullmatch(name) or not (isinstance(part.value, dict) or part is node):
                problems.append(f"{part.where}: {kind.name}: {name!r} should be a name and a table of words")
            else:
                yield ParsedEntry(name, kind, part.where, _words(name, kind, part, folder, problems))


def nearest(word: str, known: Iterable[str]) -> str:
    """A suggestion of the closest name, or all names: ``"; did you mean 'time'?"``."""
    names = list(known)
    close = get_close_matches(word, names, 1, 0.6)
    return f"; did you mean {close[0]!r}?" if close else f"; known are {', '.join(names)}"


def _entries_named(kind: Kind, node: Node) -> Iterator[tuple[str, Node]]:
    """One entry named after its kind; or several, if all values are tables whose names are no keys of the kind."""
    table = node.value if isinstance(node.value, dict) else {}
    words = kind.every_word()
    own = [name for name, part in table.items() if isinstance(part.value, dict) and name.replace("-", "_") not in words]
    if own and not any(name.replace("-", "_") in words for name in table):
        yield from table.items()
    else:
        yield kind.name, node


def _words(name: str, kind: Kind, node: Node, folder: Path, problems: list[str]) -> dict[str, Value]:
    label = kind.name if name == kind.name else f"{kind.name}.{name}"
    known = kind.every_word()
    found: dict[str, Value] = {}
    table = node.value if isinstance(node.value, dict) else {}
    for written, part in table.items():
        word = known.get(written.replace("-", "_"))
        if word is None:
            problems.append(f"{part.where}: {label} does not know {written!r}{nearest(written, known)}")
            continue
        try:
            found[word.name] = word.read(part, folder)
        except ValueError as error:
            problems.append(f"{part.where}: {label}: {written} {error}")
    problems += [
        f"{node.where}: {label} lacks the word {word.name!r}"
        for word in known.values()
        if word.needed and word.name not in found
    ]
    return found


# Inputs of entries: as given, or the best available; and the resulting order.

Wires = Mapping[str, tuple[str, ...]]
"""Names of entries, or paths of cubes, by key."""


def wired(said: Sequence[ParsedEntry], folder: Path, problems: list[str]) -> list[Wires]:
    """The inputs of each entry.

    Args:
        said: All entries, in the order of their kinds.
        folder: Base folder of relative paths.
        problems: Receives a line for each missing or ambiguous cube.
    """
    makers = {one.name: one for one in said if one.kind.feeds}
    _require_different(said, problems)
    found: dict[str, Wires] = {}
    wires: list[Wires] = []
    for one in said:
        here = {part.word: _wire(one, part, makers, found, folder, problems) for part in one.kind.inputs}
        wires.append(here)
        if one.kind.feeds:
            found[one.name] = here
    return wires


def making_order(said: Sequence[ParsedEntry], wires: Sequence[Wires], problems: list[str]) -> list[int]:
    """Indices of the entries in the order of making: each after its inputs.

    Args:
        said: All entries.
        wires: The inputs of each.
        problems: Receives a line if entries depend on each other in a loop.
    """
    makers = {one.name: at for at, one in enumerate(said) if one.kind.feeds}
    before = [{makers[name] for names in here.values() for name in names if name in makers} for here in wires]
    order: list[int] = []
    while len(order) < len(said):
        free = (at for at in range(len(said)) if at not in order and before[at] <= set(order))
        if (following := next(free, None)) is None:
            left = [one for at, one in enumerate(said) if at not in order]
            problems.append(f"{left[0].where}: {', '.join(one.name for one in left)} would be made from each other")
            break
        order.append(following)
    return order


def _wire(
    one: ParsedEntry,
    part: Input,
    makers: Mapping[str, ParsedEntry],
    found: Mapping[str, Wires],
    folder: Path,
    problems: list[str],
) -> tuple[str, ...]:
    given = one.words.get(part.word)
    if given is not None:
        names = given if isinstance(given, tuple) else (str(given),)
        return tuple(_named(one, part, name, makers, folder, problems) for name in names)
    usable = [other for other in makers.values() if other is not one and not _reaches(other.name, one.name, found)]
    of_kind = [[other.name for other in usable if other.kind.name == kind] for kind in part.kinds]
    if part.several:
        several = tuple(name for names in of_kind for name in names)
        if several:
            return several
    best = next((names for names in of_kind if names), [])
    if len(best) > 1:
        problems.append(f"{one.where}: {one.name} can be made from several, say {part.word}: one of {', '.join(best)}")
    elif not best and not part.optional:
        wanted = " or ".join(part.kinds)
        problems.append(f"{one.where}: {one.name} needs an entry of {wanted}, or {part.word}: the path of {part.what}")
    return tuple(best[:1])


def _named(
    one: ParsedEntry, part: Input, name: str, makers: Mapping[str, ParsedEntry], folder: Path, problems: list[str]
) -> str:
    right = [maker for maker, other in makers.items() if other.kind.suffix == part.takes]
    if name in right:
        return name
    path = folder / name
    if (part.takes and path.suffix == part.takes) or path.exists():
        return str(path)
    problems.append(
        f"{one.where}: {one.name}: {part.word} is no entry that makes {part.what}: {name!r}{nearest(name, right)}"
    )
    return name


def _reaches(name: str, target: str, found: Mapping[str, Wires]) -> bool:
    """Whether an entry depends on another, directly or over others."""
    seen: set[str] = set()
    waiting = [name]
    while waiting:
        below = {other for names in found.get(waiting.pop(), {}).values() for other in names} - seen
        seen |= below
        waiting += below
    return target in seen


def _require_different(said: Sequence[ParsedEntry], problems: list[str]) -> None:
    seen: dict[str, ParsedEntry] = {}
    names: dict[str, ParsedEntry] = {}
    for one in (one for one in said if one.kind.feeds):
        if (
            one.name in names
            and names[one.name].kind is not one.kind
            and one.kind.suffix != names[one.name].kind.suffix
        ):
            problems.append(
                f"{one.where}: {one.name} is called like {names[one.name].where}, and others are made of both"
            )
        names.setdefault(one.name, one)
    for one in (one for one in said if one.kind.suffix is not None):
        makes = str(one.words.get("out", f"{one.name}{one.kind.suffix}"))
        if makes in seen:
            problems.append(f"{one.where}: {one.name} would make {makes}, as does {seen[makes].where}")
        seen[makes] = one


# A recipe file: what to make from an archive, entry by entry; for jobs, and for repeating it later.


@dataclass(frozen=True)
class RecipeEntry:
    """One entry of a recipe.

    Attributes:
        name: Its own name, or that of its kind; also the name of its output.
        kind: Its kind.
        words: Its keys and values.
        inputs: Its inputs, by key: names of other entries, or paths.
    """

    name: str
    kind: Kind
    words: Mapping[str, Value] = field(hash=False)
    inputs: Mapping[str, tuple[str, ...]] = field(hash=False)

    @property
    def label(self) -> str:
        """Its label in messages: ``"layers"``, ``"composite.monthly"``."""
        return self.kind.name if self.name == self.kind.name else f"{self.kind.name}.{self.name}"

    @property
    def wants_gpu(self) -> bool:
        """Whether it runs on the site's GPU partition."""
        return self.words.get("device") == "cuda"


@dataclass(frozen=True)
class Recipe:
    """A parsed recipe.

    Attributes:
        path: The file, absolute.
        cubes: Folder of the outputs.
        entries: Entries in the order of making.
        tiles: The tiling of an archive, see :class:`stac2cube.model.query.TilingWords`; None if the recipe
            makes one cube per entry.
    """

    path: Path
    cubes: Path
    entries: tuple[RecipeEntry, ...]
    tiles: Mapping[str, Value] | None = field(default=None, hash=False)

    def made_by(self, entry: RecipeEntry) -> Path:
        """Path of an entry's output."""
        return self.cubes / str(entry.words.get("out", f"{entry.name}{entry.kind.suffix}"))

    def cube(self, name: str) -> Path:
        """Path of a cube (or a folder that is an input of others), by the name of its entry or by path."""
        known = {entry.name: entry for entry in self.entries if entry.kind.feeds}
        return self.made_by(known[name]) if name in known else Path(name)

    def chosen(self, wanted: Sequence[str]) -> tuple[RecipeEntry, ...]:
        """Entries by label, name, or kind; all if none is given.

        Raises:
            BadInputError: There is none of that name.
        """
        if lacking := [one for one in wanted if not any(one in _names(entry) for entry in self.entries)]:
            known = ", ".join(entry.label for entry in self.entries)
            raise BadInputError(f"{self.path} has no {', '.join(lacking)}; it has {known}")
        return tuple(entry for entry in self.entries if not wanted or _names(entry) & set(wanted))

    def layers(self) -> RecipeEntry:
        """The one entry that reads a catalog, which a job array makes.

        Raises:
            BadInputError: There is none, or several.
        """
        found = [entry for entry in self.entries if entry.kind.name == "layers"]
        if len(found) != 1:
            has = ", ".join(entry.name for entry in found) or "none"
            raise BadInputError(f"this wants a recipe with one entry of layers; {self.path} has {has}")
        return found[0]


def read_recipe(
    path: str | Path,
    kinds: Mapping[str, Kind],
    changes: Sequence[str] = (),
    environment: Mapping[str, str] = os.environ,
    tile_words: Mapping[str, Option] | None = None,
) -> Recipe:
    """Read a recipe.

    Relative paths in it are relative to its folder.

    Args:
        path: The file.
        kinds: Known kinds of entries, in the order of making.
        changes: ``"layers.time=2024"``: values that override those of the file.
        environment: Values for ``${NAME}``.
        tile_words: Known keys of ``tiles:``, by name.

    Raises:
        BadInputError: It is missing, not YAML, or invalid: a line for each problem.
    """
    file = Path(path).resolve()
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise BadInputError(f"the recipe {path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise BadInputError(f"the recipe {path} is not text: {error}") from error
    root = parse(text, f"the recipe {path}")
    for change in changes:
        root = put(root, change)
    problems: list[str] = []
    root = substitute(root, environment, problems)
    if not isinstance(root.value, dict) or not isinstance(getattr(root.value.get("cubes"), "value", None), str):
        raise BadInputError(f"the recipe {path} should say at least 'cubes: FOLDER' and one entry, as 'layers:'")
    cubes = file.parent / expanded(str(root.value["cubes"].value))
    said = list(entries_of(root, kinds, file.parent, problems))
    inputs = wired(said, file.parent, problems)
    order = making_order(said, inputs, problems)
    tiles = tiles_of(root.value["tiles"], file.parent, problems, tile_words or {}) if "tiles" in root.value else None
    if not said and not problems:
        problems.append(f"there is no entry; known are {', '.join(kinds)}")
    if problems:
        raise BadInputError("\n".join(f"the recipe {path}, {problem}" for problem in problems))
    return Recipe(file, cubes, tuple(_entry(said[at], inputs[at]) for at in order), tiles)


def write_recipe(recipe: Recipe) -> None:
    """Write a recipe to its file, with all its values."""
    partial = recipe.path.with_name(f".{recipe.path.name}.partial")
    partial.write_text(yaml.safe_dump(_content(recipe), sort_keys=False, allow_unicode=True), encoding="utf-8")
    partial.replace(recipe.path)


def show_recipe(recipe: Recipe) -> str:
    """A recipe as YAML, with the defaults of keys that are not given."""
    content = _content(recipe)
    lines = [f"cubes: {_scalar(content.pop('cubes'))}"]
    if recipe.tiles is not None:
        lines.append(f"tiles: {_scalar(content.pop('tiles'))}")
    for entry in recipe.entries:
        if f"{entry.kind.name}:" not in lines:
            lines.append(f"{entry.kind.name}:")
            named = [other for other in recipe.entries if other.kind is entry.kind]
            for one in named:
                lines += _shown(one, alone=one.name == one.kind.name)
    return "\n".join(lines) + "\n"


def _shown(entry: RecipeEntry, *, alone: bool) -> Iterator[str]:
    indent = "  " if alone else "    "
    if not alone:
        yield f"  {entry.name}:"
    for name, value in _said(entry).items():
        yield f"{indent}{name}: {_scalar(value)}"
    for word in entry.kind.words.values():
        if word.default is not None and word.name not in entry.words:
            yield f"{indent}{word.name}: {_scalar(_plain(word.default))}  # unless said otherwise"


def _content(recipe: Recipe) -> dict[str, Any]:
    content: dict[str, Any] = {"cubes": _plain(str(recipe.cubes))}
    if recipe.tiles is not None:
        content["tiles"] = {name: _plain(value) for name, value in recipe.tiles.items()}
    for entry in recipe.entries:
        if entry.name == entry.kind.name:
            content[entry.kind.name] = _said(entry)
        else:
            content.setdefault(entry.kind.name, {})[entry.name] = _said(entry)
    return content


def _said(entry: RecipeEntry) -> dict[str, Any]:
    several = {one.word for one in entry.kind.inputs if one.several}
    given = {word: names if word in several else names[0] for word, names in entry.inputs.items() if names}
    inputs = {word: _plain(names) for word, names in given.items()}
    return {**inputs, **{name: _plain(value) for name, value in entry.words.items()}}


def _plain(value: Value) -> Any:
    """A value for YAML, with ``${`` escaped, because all variables are filled in already."""
    if isinstance(value, tuple):
        return [_plain(part) for part in value]
    # Addresses without keys: a recipe is a file that others read.
    return escaped(public_each(value)) if isinstance(value, str) else value


def _scalar(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=True, width=10**6, allow_unicode=True).removesuffix("...\n").strip()


def _names(entry: RecipeEntry) -> set[str]:
    return {entry.label, entry.name, entry.kind.name}


def _entry(said: ParsedEntry, inputs: Mapping[str, tuple[str, ...]]) -> RecipeEntry:
    own = {one.word for one in said.kind.inputs}
    words = {name: value for name, value in said.words.items() if name not in own}
    return RecipeEntry(said.name, said.kind, words, inputs)
