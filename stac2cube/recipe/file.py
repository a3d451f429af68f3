"""A recipe file: what is to be made of an archive, entry by entry; for jobs, and for doing it again in a year."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from stac2cube.errors import BadInputError
from stac2cube.recipe.kind import Kind
from stac2cube.recipe.reading import Said, entries_of
from stac2cube.recipe.tree import fill, parse, put
from stac2cube.recipe.wiring import in_order, wired
from stac2cube.recipe.word import Value
from stac2cube.trust.address import public_each


@dataclass(frozen=True)
class Entry:
    """One thing to be made.

    Attributes:
        name: Its own, or that of its kind; what it makes is called so.
        kind: What it is.
        words: What is said of it.
        inputs: What it is made from, by word: names of other entries, or paths.
    """

    name: str
    kind: Kind
    words: Mapping[str, Value] = field(hash=False)
    inputs: Mapping[str, tuple[str, ...]] = field(hash=False)

    @property
    def label(self) -> str:
        """How it is spoken of: ``"layers"``, ``"composite.monthly"``."""
        return self.kind.name if self.name == self.kind.name else f"{self.kind.name}.{self.name}"

    @property
    def wants_gpu(self) -> bool:
        """Whether it runs on the site's GPU partition."""
        return self.words.get("device") == "cuda"


@dataclass(frozen=True)
class Recipe:
    """What is to be made.

    Attributes:
        path: The file, absolute.
        cubes: Folder of what it makes.
        entries: In the order in which they are made.
    """

    path: Path
    cubes: Path
    entries: tuple[Entry, ...]

    def made_by(self, entry: Entry) -> Path:
        """Where that lies which an entry makes."""
        return self.cubes / str(entry.words.get("out", f"{entry.name}{entry.kind.suffix}"))

    def cube(self, name: str) -> Path:
        """Where the cube (or the folder that others are made from) lies that an entry makes, or that a path names."""
        known = {entry.name: entry for entry in self.entries if entry.kind.feeds}
        return self.made_by(known[name]) if name in known else Path(name)

    def chosen(self, wanted: Sequence[str]) -> tuple[Entry, ...]:
        """Entries by label, name, or kind; all if none is wanted.

        Raises:
            BadInputError: There is none of that name.
        """
        if lacking := [one for one in wanted if not any(one in _names(entry) for entry in self.entries)]:
            known = ", ".join(entry.label for entry in self.entries)
            raise BadInputError(f"{self.path} has no {', '.join(lacking)}; it has {known}")
        return tuple(entry for entry in self.entries if not wanted or _names(entry) & set(wanted))

    def layers(self) -> Entry:
        """The one entry that reads a catalog: what a job array makes.

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
) -> Recipe:
    """Read a recipe.

    Relative paths in it are meant from the folder it lies in.

    Args:
        path: The file.
        kinds: What entries may be, in the order in which they are made.
        changes: ``"layers.time=2024"``: words said otherwise than in the file.
        environment: For ``${NAME}``.

    Raises:
        BadInputError: It is not there, not YAML, or does not make sense: a line for each thing that is wrong.
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
    root = fill(root, environment, problems)
    if not isinstance(root.value, dict) or not isinstance(getattr(root.value.get("cubes"), "value", None), str):
        raise BadInputError(f"the recipe {path} should say at least 'cubes: FOLDER' and one entry, as 'layers:'")
    cubes = file.parent / Path(str(root.value["cubes"].value)).expanduser()
    said = list(entries_of(root, kinds, file.parent, problems))
    inputs = wired(said, file.parent, problems)
    order = in_order(said, inputs, problems)
    if not said and not problems:
        problems.append(f"there is no entry; known are {', '.join(kinds)}")
    if problems:
        raise BadInputError("\n".join(f"the recipe {path}, {problem}" for problem in problems))
    return Recipe(file, cubes, tuple(_entry(said[at], inputs[at]) for at in order))


def write_recipe(recipe: Recipe) -> None:
    """Write a recipe to its file, all it says said."""
    partial = recipe.path.with_name(f".{recipe.path.name}.partial")
    partial.write_text(yaml.safe_dump(_content(recipe), sort_keys=False, allow_unicode=True), encoding="utf-8")
    partial.replace(recipe.path)


def show_recipe(recipe: Recipe) -> str:
    """A recipe as YAML, with what holds where nothing is said."""
    content = _content(recipe)
    lines = [f"cubes: {_scalar(content.pop('cubes'))}"]
    for entry in recipe.entries:
        if f"{entry.kind.name}:" not in lines:
            lines.append(f"{entry.kind.name}:")
            named = [other for other in recipe.entries if other.kind is entry.kind]
            for one in named:
                lines += _shown(one, alone=one.name == one.kind.name)
    return "\n".join(lines) + "\n"


def _shown(entry: Entry, *, alone: bool) -> Iterator[str]:
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
    for entry in recipe.entries:
        if entry.name == entry.kind.name:
            content[entry.kind.name] = _said(entry)
        else:
            content.setdefault(entry.kind.name, {})[entry.name] = _said(entry)
    return content


def _said(entry: Entry) -> dict[str, Any]:
    several = {one.word for one in entry.kind.inputs if one.several}
    given = {word: names if word in several else names[0] for word, names in entry.inputs.items() if names}
    inputs = {word: _plain(names) for word, names in given.items()}
    return {**inputs, **{name: _plain(value) for name, value in entry.words.items()}}


def _plain(value: Value) -> Any:
    """A value for YAML; what looks like a variable is none, having been filled in."""
    if isinstance(value, tuple):
        return [_plain(part) for part in value]
    # Of addresses what is public: a recipe is a file that others read.
    return public_each(value).replace("${", "$${") if isinstance(value, str) else value


def _scalar(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=True, width=10**6, allow_unicode=True).removesuffix("...\n").strip()


def _names(entry: Entry) -> set[str]:
    return {entry.label, entry.name, entry.kind.name}


def _entry(said: Said, inputs: Mapping[str, tuple[str, ...]]) -> Entry:
    own = {one.word for one in said.kind.inputs}
    words = {name: value for name, value in said.words.items() if name not in own}
    return Entry(said.name, said.kind, words, inputs)
