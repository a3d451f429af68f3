"""YAML as it is written: every scalar as its own text, every part with its line, `${NAME}` filled in."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from stac2cube.errors import BadInputError

_VARIABLE = re.compile(r"\$(?P<name>\$)?\{(?P<inside>[^}]*)\}")
_INSIDE = re.compile(r"(?P<name>[A-Za-z_]\w*)(?P<or>:-(?P<default>.*))?", re.DOTALL)


@dataclass(frozen=True)
class Node:
    """A part of a recipe.

    Scalars keep the text they are written with, since what it means is for the word to say: to YAML 1.1 the day
    ``2023-07-14`` is a date and the orbit ``065`` is 53.

    Attributes:
        where: ``"line 4"``, or the ``--set`` it comes from.
        value: A text, None for nothing, a table by name, or a list.
    """

    where: str
    value: str | dict[str, Node] | list[Node] | None

    def plain(self) -> Any:
        """The same as plain values; scalars as YAML understands them."""
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
    """Read YAML.

    Args:
        text: The YAML.
        what: What it is, for messages.
        where: Said of every part instead of its line.

    Raises:
        BadInputError: It is not YAML, names something twice, or holds itself.
    """
    loader = yaml.SafeLoader(text)
    try:
        root = loader.get_single_node()
        return Node(where or "line 1", None) if root is None else _node(loader, root, what, where)
    except yaml.YAMLError as error:
        raise BadInputError(f"{what} is not YAML: {' '.join(str(error).split())}") from error
    except RecursionError as error:
        raise BadInputError(f"{what} holds itself") from error
    finally:
        loader.dispose()


def _node(loader: yaml.SafeLoader, node: yaml.Node, what: str, where: str) -> Node:
    at = where or f"line {node.start_mark.line + 1}"
    if isinstance(node, yaml.MappingNode):
        given = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode) and key.value != "<<"]
        if twice := sorted({name for name in given if given.count(name) > 1}):
            raise BadInputError(f"{what}, {at}: {', '.join(twice)} stands there twice")
        loader.flatten_mapping(node)
        table = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise BadInputError(f"{what}, {at}: names should be words")
            part = _node(loader, value, what, where)
            # A table begins where its name stands, not a line later.
            table[key.value] = Node(where or f"line {key.start_mark.line + 1}", part.value)
        return Node(at, table)
    if isinstance(node, yaml.SequenceNode):
        return Node(at, [_node(loader, part, what, where) for part in node.value])
    return Node(at, None if node.tag == "tag:yaml.org,2002:null" else str(node.value))


def fill(node: Node, environment: Mapping[str, str], problems: list[str]) -> Node:
    """Put in what ``${NAME}`` and ``${NAME:-default}`` stand for; ``$${`` is ``${``.

    Args:
        node: The tree.
        environment: Variables.
        problems: Gets a line for each variable that is not set.
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
            return Node(node.where, {name: fill(part, environment, problems) for name, part in table.items()})
        case list() as parts:
            return Node(node.where, [fill(part, environment, problems) for part in parts])
        case str() as text:
            return Node(node.where, _VARIABLE.sub(one, text))
    return node


def put(root: Node, assignment: str) -> Node:
    """A tree with one value changed or added.

    Args:
        root: The tree.
        assignment: ``"layers.time=2024"``.

    Raises:
        BadInputError: It is no assignment, or leads through a value that is no table.
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
        raise BadInputError(f"{where}: {names[0]!r} would stand in what is no table")
    table = dict(node.value or {})
    # A word may be written with a hyphen in the file and with an underscore here.
    name = next((known for known in table if known.replace("-", "_") == names[0].replace("-", "_")), names[0])
    table[name] = _put(table.get(name, Node(where, None)), names[1:], value, where)
    return Node(node.where, table)
