"""Entries and words of a recipe, checked one by one; what is wrong is listed with its line, not raised at the first."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path

from stac2cube.recipe.kind import Kind
from stac2cube.recipe.tree import Node
from stac2cube.recipe.word import Value

_NAME = re.compile(r"\w[\w-]*")


@dataclass(frozen=True)
class Said:
    """An entry as it stands in the recipe, its words understood.

    Attributes:
        name: Its own, or that of its kind.
        kind: What it is.
        where: Its line.
        words: What is said of it.
    """

    name: str
    kind: Kind
    where: str
    words: Mapping[str, Value] = field(hash=False)


def entries_of(root: Node, kinds: Mapping[str, Kind], folder: Path, problems: list[str]) -> Iterator[Said]:
    """All entries, in the order of the kinds, then of the file.

    Args:
        root: The recipe.
        kinds: What there is.
        folder: From which relative paths are meant.
        problems: Gets a line for each thing that is wrong.
    """
    assert isinstance(root.value, dict)
    for name, node in root.value.items():
        if name not in kinds and name != "cubes":
            problems.append(f"{node.where}: {name!r} is not known{nearest(name, ['cubes', *kinds])}")
    for kind in kinds.values():
        if kind.name not in root.value:
            continue
        node = root.value[kind.name]
        if not isinstance(node.value, dict | None):
            problems.append(f"{node.where}: {kind.name} should be a table of words")
            continue
        for name, part in _named(kind, node):
            if not _NAME.fullmatch(name) or not (isinstance(part.value, dict) or part is node):
                problems.append(f"{part.where}: {kind.name}: {name!r} should be a name and a table of words")
            else:
                yield Said(name, kind, part.where, _words(name, kind, part, folder, problems))


def nearest(word: str, known: Iterable[str]) -> str:
    """What may have been meant, or everything there is: ``"; did you mean 'time'?"``."""
    names = list(known)
    close = get_close_matches(word, names, 1, 0.6)
    return f"; did you mean {close[0]!r}?" if close else f"; known are {', '.join(names)}"


def _named(kind: Kind, node: Node) -> Iterator[tuple[str, Node]]:
    """One entry named after its kind; or several, where all that stands there are tables that are no words."""
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
