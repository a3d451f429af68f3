"""The content of recipes: kinds of entries, options, JSON schema."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import yaml

from stac2cube.errors import BadInputError

# YAML as written: scalars as text, every part with its line, `${NAME}` filled in.

_VARIABLE = re.compile(r"\$(?P<name>\$)?\{(?P<inside>[^}]*)\}")
_INSIDE = re.compile(r"(?P<name>[A-Za-z_]\w*)(?P<or>:-(?P<default>.*))?", re.DOTALL)


@dataclass(frozen=True)
class Node:
    """A part of a recipe.

    Scalars keep their original text, because the key decides its meaning: in YAML 1.1 the day ``2023-07-14`` is a date
    and the orbit ``065`` is 53.

    Attributes:
        where: ``"line 4"``, or the ``--set`` that it comes from.
        value: A text, None for nothing, a table by name, or a list.
    """

    where: str
    value: str | dict[str, Node] | list[Node] | None

    def plain(self) -> Any:
        """The same as plain values; scalars are interpreted by YAML."""
        match self.value:
            case dict() as table:
                return {name: part.plain() for name, part in table.items()}
            case list() as parts:
                return [part.plain() for part in parts]
            case None:
                return None
            case str() as text:
                return yaml.safe_load(text) if text.strip() else text


def parse(text: str, what: str, where: str = "") -> Node:
    """Parse YAML.

    Args:
        text: The YAML.
        what: Description of the text, for messages.
        where: Location of all parts, instead of their lines.

    Raises:
        BadInputError: It is not YAML, has a duplicate name, contains itself, or has too many parts when its aliases
            are expanded.
    """
    try:
        loader = yaml.SafeLoader(text)
    except yaml.YAMLError as error:  # control characters
        raise BadInputError(f"{what} is not YAML: {' '.join(str(error).split())}") from error
    try:
        root = loader.get_single_node()
        if root is not None and _count(root, {}) > _MOST_PARTS:
            raise BadInputError(f"{what} has more than {_MOST_PARTS} parts, with what its aliases repeat")
        return Node(where or "line 1", None) if root is None else _node(loader, root, what, where)
    except yaml.YAMLError as error:
        raise BadInputError(f"{what} is not YAML: {' '.join(str(error).split())}") from error
    except RecursionError as error:
        raise BadInputError(f"{what} holds itself") from error
    finally:
        loader.dispose()


_MOST_PARTS = 200_000
"""Maximum number of words, tables and lists of a recipe: an archive of 10,000 tiles has no more."""


def _count(node: yaml.Node, known: dict[int, int]) -> int:
    """Number of parts of a node, with aliases counted as often as they are used; a node within itself counts 0."""
    if not isinstance(node, yaml.CollectionNode):
        return 1
    if id(node) not in known:
        known[id(node)] = 0
        parts = [part for pair in node.value for part in pair] if isinstance(node, yaml.MappingNode) else node.value
        known[id(node)] = 1 + sum(_count(part, known) for part in parts)
    return known[id(node)]


def _node(loader: yaml.SafeLoader, node: yaml.Node, what: str, where: str) -> Node:
    at = where or f"line {node.start_mark.line + 1}"
    if isinstance(node, yaml.MappingNode):
        given = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode) and key.value != "<<"]
        if twice := sorted({name for name in given if given.count(name) > 1}):
            raise BadInputError(f"{what}, {at}: {', '.join(twice)} occurs twice")
        loader.flatten_mapping(node)
        table = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise BadInputError(f"{what}, {at}: names should be words")
            part = _node(loader, value, what, where)
            # A table starts in the line of its name, not in the next one.
            table[key.value] = Node(where or f"line {key.start_mark.line + 1}", part.value)
        return Node(at, table)
    if isinstance(node, yaml.SequenceNode):
        return Node(at, [_node(loader, part, what, where) for part in node.value])
    if "\0" in node.value:
        raise BadInputError(f"{what}, {at}: a value holds a NUL character, which no name or path may have")
    return Node(at, None if node.tag == "tag:yaml.org,2002:null" else str(node.value))


def escaped(text: str) -> str:
    """A text for a recipe in which :func:`substitute` finds no variable: ``$${NAME}`` for ``${NAME}``."""
    return _VARIABLE.sub(lambda found: f"${found[0]}", text)


def substitute(node: Node, environment: Mapping[str, str], problems: list[str]) -> Node:
    """Replace ``${NAME}`` and ``${NAME:-default}``; ``$${`` becomes ``${``.

    Args:
        node: The tree.
        environment: Variables.
        problems: Receives a line for each unset variable.
    """

    def one(match: re.Match[str]) -> str:
        if match["name"]:
            return match[0][1:]
        inside = _INSIDE.fullmatch(match["inside"])
        if inside is None:
            problems.append(f"{node.where}: {match[0]} should be ${{NAME}} or ${{NAME:-default}}")
        elif inside["name"] in environment and (environment[inside["name"]] or inside["or"] is None):
            return environment[inside["name"]]
        elif inside["or"] is not None:
            return inside["default"]
        else:
            name = inside["name"]
            problems.append(f"{node.where}: the variable {name} is not set; ${{{name}:-DEFAULT}} does without")
        return ""

    match node.value:
        case dict() as table:
            return Node(node.where, {name: substitute(part, environment, problems) for name, part in table.items()})
        case list() as parts:
            return Node(node.where, [substitute(part, environment, problems) for part in parts])
        case str() as text:
            return Node(node.where, _VARIABLE.sub(one, text))
    return node


def put(root: Node, assignment: str) -> Node:
    """A tree with one value changed or added.

    Args:
        root: The tree.
        assignment: ``"layers.time=2024"``.

    Raises:
        BadInputError: It is not an assignment, or leads through a value that is not a table.
    """
    path, equals, text = assignment.partition("=")
    names = [name.strip() for name in path.split(".")]
    if not equals or not all(names):
        raise BadInputError(f"--set {assignment}: write WORD=VALUE, for example layers.time=2024")
    where = f"--set {assignment}"
    return _put(root, names, parse(text, where, where), where)


def _put(node: Node, names: list[str], value: Node, where: str) -> Node:
    if not names:
        return value
    if node.value is not None and not isinstance(node.value, dict):
        raise BadInputError(f"{where}: {names[0]!r} belongs to a value that is no table")
    table = dict(node.value or {})
    # A key may be written with a hyphen in the file and with an underscore here.
    name = next((known for known in table if known.replace("-", "_") == names[0].replace("-", "_")), names[0])
    table[name] = _put(table.get(name, Node(where, None)), names[1:], value, where)
    return Node(node.where, table)


# Keys of a recipe: their values, how they are read from YAML, and their JSON Schema.

Form = Literal["text", "path", "area", "list", "pairs", "texts", "number", "integer", "boolean"]
"""Form of a value: unchanged text; text that may be a path; an area; several texts (``a,b`` or a list); names with
values (``a=b,c=d`` or a table); texts that are given one by one; a number."""

Value = str | float | int | bool | tuple[str, ...]

_SWITCH = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}

_SCALAR = ["string", "number", "boolean"]
"""YAML may interpret a text without quotes as a number or a boolean."""


class Bounds(Protocol):
    """The allowed range of a number, see :class:`stac2cube.model.fields.Range`."""

    @property
    def said(self) -> Mapping[str, float]:
        """The bounds that are set: ``least`` and ``most``, inclusive; ``above`` and ``below``, exclusive."""
        ...

    def hold(self, number: Any) -> bool:
        """Whether a number is within the bounds."""
        ...


@dataclass(frozen=True)
class Option:
    """A key of an entry.

    Attributes:
        name: Its name.
        form: Form of its value.
        help: Its meaning.
        default: Value if it is not given; None for no default.
        choices: The only values, () for any.
        bounds: Bounds of a number, or of each number of a list; None for any.
        needed: Whether it is required.
        is_name: Whether a text is a name and no path: the folder of the cubes may be called like their catalog.
    """

    name: str
    form: Form
    help: str = ""
    default: Value | None = None
    choices: tuple[str | float, ...] = ()
    bounds: Bounds | None = None
    needed: bool = False
    is_name: Callable[[str], bool] | None = None

    def read(self, node: Node, folder: Path) -> Value:
        """The value of a node.

        Args:
            node: The node of the recipe.
            folder: Base folder of relative paths.

        Raises:
            ValueError: It is invalid; the message describes the expected value.
        """
        match node.value:
            case None:
                raise ValueError("should have a value")
            case str() as text:
                return self._of_text(text, folder)
            case list() as parts if self.form in ("list", "texts", "area", "pairs"):
                texts = tuple(part.value for part in parts if isinstance(part.value, str))
                if len(texts) < len(parts):
                    raise ValueError("should be a list of single values")
                return ",".join(texts) if self.form in ("area", "pairs") else texts
            case dict() if self.form == "area":
                return json.dumps(node.plain())
            case dict() as table if self.form == "pairs":
                if not all(isinstance(part.value, str) for part in table.values()):
                    raise ValueError("should be a table of single values")
                return ",".join(f"{name}={part.value}" for name, part in table.items())
        raise ValueError(f"should be {self.wanted}")

    @property
    def _bounds(self) -> Mapping[str, float]:
        return {} if self.bounds is None else self.bounds.said

    @property
    def wanted(self) -> str:
        """Description of the expected value."""
        if self.choices:
            return f"one of {', '.join(map(str, self.choices))}"
        bounds = [f"{_BOUNDS[word][1]} {bound:g}" for word, bound in self._bounds.items()]
        return " ".join([_WANTED[self.form], *bounds])

    def schema(self) -> dict[str, Any]:
        """JSON Schema of the value."""
        about: dict[str, Any] = {"description": self.help} if self.help else {}
        if self.default is not None:
            about["default"] = list(self.default) if isinstance(self.default, tuple) else self.default
        if self.choices and self.form == "text":
            return about | {"enum": list(self.choices)}
        bounds = {_BOUNDS[word][0]: bound for word, bound in self._bounds.items()}
        if self.form in ("number", "integer", "boolean"):
            exact = {"enum": list(self.choices)} if self.choices else {"type": self.form, **bounds}
            # To an editor, a variable of the environment is a text.
            return about | {"anyOf": [exact, {"type": "string", "pattern": r"^\$\{.*\}$"}]}
        if self.form in ("text", "path"):
            return about | {"type": _SCALAR}
        # Bounds apply to numbers; a text with several numbers is checked when the recipe is read.
        several: dict[str, Any] = {"type": "array", "items": {"type": _SCALAR, **bounds}}
        if self.form in ("area", "pairs"):
            return about | {"anyOf": [{"type": _SCALAR}, several, {"type": "object"}]}
        return about | {"anyOf": [{"type": _SCALAR, **bounds}, several]}

    def _of_text(self, text: str, folder: Path) -> Value:
        if self.choices and self.form == "text" and text not in self.choices:
            raise ValueError(f"should be {self.wanted}, not {text!r}")
        if self.form == "boolean":
            if text.lower() not in _SWITCH:
                raise ValueError(f"should be {self.wanted}, not {text!r}")
            return _SWITCH[text.lower()]
        if self.form in ("number", "integer"):
            return self._of_number(text)
        if self.form in ("path", "area"):
            named = self.is_name is not None and self.is_name(text)
            return text if named or not text else path_in_recipe(folder, text)
        if self.form in ("list", "texts"):
            parts = text.split(",") if self.form == "list" else [text]
            return tuple(part.strip() for part in parts if part.strip())
        return text

    def _of_number(self, text: str) -> float | int:
        try:
            number = int(text) if self.form == "integer" else float(text)
        except ValueError:
            raise ValueError(f"should be {self.wanted}, not {text!r}") from None
        inside = self.bounds is None or self.bounds.hold(number)
        if not inside or not math.isfinite(number) or (self.choices and number not in self.choices):
            raise ValueError(f"should be {self.wanted}, not {text}")
        return int(number) if number == int(number) and abs(number) < 2**53 else number


_WANTED: Mapping[Form, str] = {
    "text": "a single value",
    "path": "a single value",
    "area": "a path, a box of four numbers, or GeoJSON",
    "list": "a list",
    "pairs": "a single value, or a table",
    "texts": "a list",
    "number": "a number",
    "integer": "a whole number",
    "boolean": "true or false",
}


_BOUNDS: Mapping[str, tuple[str, str]] = {
    "least": ("minimum", "from"),
    "above": ("exclusiveMinimum", "above"),
    "most": ("maximum", "up to"),
    "below": ("exclusiveMaximum", "below"),
}
"""Bounds by name: keyword of JSON Schema, and text for users."""


def path_in_recipe(folder: Path, text: str) -> str:
    """A path in a recipe, resolved in its folder if it exists; any other text unchanged."""
    try:
        path = folder / text
        return str(path) if path.exists() else text
    except OSError:  # too long for a path: GeoJSON, for example
        return text


def tiles_of(node: Node, folder: Path, problems: list[str], known: Mapping[str, Option]) -> dict[str, Value]:
    """Parse `tiles:`. A single text is the name of a tiling, or the path of a file of tiles.

    Args:
        node: The value of `tiles:`.
        folder: Base folder of relative paths.
        problems: Receives a line for each problem.
        known: The known keys, by name.
    """
    if isinstance(node.value, str):
        named = "tiling" in known and node.value in known["tiling"].choices
        table = {"tiling": node} if named else {"tiling": Node(node.where, "file"), "path": node}
    elif isinstance(node.value, dict):
        table = node.value
    else:
        problems.append(f"{node.where}: tiles should be the name of a tiling, the path of a file, or a table of words")
        return {}
    found: dict[str, Value] = {}
    for name, part in table.items():
        if name not in known:
            problems.append(f"{part.where}: tiles does not know {name!r}; known are {', '.join(known)}")
            continue
        try:
            found[name] = known[name].read(part, folder)
        except ValueError as error:
            problems.append(f"{part.where}: tiles: {name} {error}")
    if "tiling" not in table:
        problems.append(f"{node.where}: tiles lacks the word 'tiling'")
    return found


# Kinds of entries: their keys, inputs and outputs.

CUBE_KIND = ".zarr"
"""Suffix of outputs that can be inputs of others."""


@dataclass(frozen=True)
class Input:
    """An input of an entry: a cube, or a folder.

    Attributes:
        word: Its key: ``"of"``, ``"clouds"``.
        kinds: Kinds of entries used if it is not given: the first of them that the recipe has. () if it is required.
        optional: Whether it may be missing.
        several: Whether several may be given, each processed separately; by default all entries of these kinds.
        takes: Suffix of the input: a cube, or "" for a folder.
    """

    word: str
    kinds: tuple[str, ...]
    optional: bool = False
    several: bool = False
    takes: str = CUBE_KIND

    @property
    def what(self) -> str:
        """Name of this type of input."""
        return "a cube" if self.takes == CUBE_KIND else " or ".join(self.kinds)

    @property
    def help(self) -> str:
        """Help text."""
        which = f"Which {self.what.removeprefix('a ')}: the name of an entry, or a path."
        if not self.kinds:
            return which
        usual = f"all of {', '.join(self.kinds)}" if self.several else f"the first of {', '.join(self.kinds)}"
        if len(self.kinds) == 1:
            usual = f"the entry {self.kinds[0]}"
        return f"{which} Default: {usual}."


@dataclass(frozen=True)
class Kind:
    """A kind of entry of a recipe: a command of the command line.

    Attributes:
        name: Name of the command, and of the entry if it has none of its own.
        help: Description.
        words: Its keys, by name.
        inputs: Its inputs; the first is the main one.
        suffix: Suffix of the output: :data:`CUBE_KIND`, or that of a file, or "" for a folder; None if the output is
            inside the input cube.
        blocks: Whether it works block by block, at any place.
        feeds: Whether its output can be an input of others.
    """

    name: str
    help: str
    words: Mapping[str, Option] = field(hash=False)
    inputs: tuple[Input, ...] = ()
    suffix: str | None = CUBE_KIND
    blocks: bool = True
    feeds: bool = True

    def every_word(self) -> dict[str, Option]:
        """All keys, including those for its inputs and its output file."""
        found = {one.word: Option(one.word, "list" if one.several else "text", one.help) for one in self.inputs}
        if self.suffix not in (CUBE_KIND, None):
            what = f"Name of the file in the folder of cubes. Default: NAME{self.suffix}."
            found["out"] = Option("out", "text", what)
        return found | dict(self.words)


# The JSON Schema of recipes, for editors.

ADDRESS = "https://json-schema.org/draft/2020-12/schema"


def recipe_schema(kinds: Mapping[str, Kind], tiles: Mapping[str, Option]) -> dict[str, Any]:
    """The JSON Schema of recipes.

    Args:
        kinds: All kinds, by name.
        tiles: Keys of `tiles:`: a recipe that has it makes an archive, with a cube per tile and entry.
    """
    cubes = {"type": "string", "description": "Folder of everything that is made, meant from the recipe's own folder."}
    words = {
        "type": "object",
        "additionalProperties": False,
        "required": ["tiling"],
        "properties": {name: word.schema() for name, word in tiles.items()},
    }
    archive = {
        "description": "Makes an archive: a folder per tile, a cube per entry. The area of layers chooses the tiles.",
        "anyOf": [{"type": "string"}, words],
    }
    return {
        "$schema": ADDRESS,
        "title": "Recipe of stac2cube",
        "description": "What is to be made of an archive: `stac2cube run RECIPE` or `stac2cube submit RECIPE`.",
        "type": "object",
        "required": ["cubes"],
        "additionalProperties": False,
        "properties": {"cubes": cubes, "tiles": archive, **{name: _entries(kind) for name, kind in kinds.items()}},
    }


def _entries(kind: Kind) -> dict[str, Any]:
    """One entry, or several by name."""
    words = kind.every_word()
    one: dict[str, Any] = {
        "type": "object",
        "additionalProperties": False,
        # A key of several parts may be written as on the command line, with hyphens.
        "properties": {name: word.schema() for name, word in words.items()}
        | {name.replace("_", "-"): word.schema() for name, word in words.items() if "_" in name},
    }
    if needed := [name for name, word in words.items() if word.needed]:
        one["required"] = needed
    several = {
        "type": "object",
        "minProperties": 1,
        "propertyNames": {"not": {"enum": sorted(one["properties"])}},
        "additionalProperties": one,
    }
    return {"description": kind.help, "anyOf": [*([] if needed else [{"type": "null"}]), one, several]}
