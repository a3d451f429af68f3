"""Fields of frozen dataclasses: options, each declared once; and equality of values that may hold NaN.

The command line, the recipes, their JSON Schema, the checks and the reference are generated from the arguments of
:func:`option`. A module that declares options imports nothing heavy, because every command loads it.
"""

from __future__ import annotations

import operator
import sys
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields
from inspect import cleandoc, get_annotations
from numbers import Integral, Real
from pathlib import PurePath
from types import SimpleNamespace
from typing import Any, Literal, TypeVar, cast, get_args, get_origin, get_type_hints

from stac2cube.errors import BadInputError

T = TypeVar("T")

# Options, declared in the dataclass that holds their values.


@dataclass(frozen=True)
class Range:
    """The allowed range of a number; None for no bound.

    Attributes:
        least: Smallest value.
        most: Largest value.
        above: Every value is larger.
        below: Every value is smaller.
    """

    least: float | None = None
    most: float | None = None
    above: float | None = None
    below: float | None = None

    def hold(self, number: Any) -> bool:
        """Whether a number is within the bounds; NaN never is."""
        return all(_HOLDS[word](number, bound) for word, bound in self.said.items())

    @property
    def said(self) -> dict[str, float]:
        """The bounds that are set, by name."""
        return {word: bound for word in _HOLDS if (bound := getattr(self, word)) is not None}

    def __str__(self) -> str:
        """``"at least 10 and at most 160"``, ``"more than 0"``."""
        return " and ".join(f"{_WORDS[word]} {bound:g}" for word, bound in self.said.items())


_HOLDS = {"least": operator.ge, "above": operator.gt, "most": operator.le, "below": operator.lt}

_WORDS = {"least": "at least", "above": "more than", "most": "at most", "below": "less than"}


Spelling = Literal["", "path", "cube", "list", "pairs", "area", "interval", "range"]
"""How the value of an option is written: ``"path"`` may be a path, relative to a recipe's folder if it is in a recipe;
``"cube"`` is a path; ``"list"`` is a text of words separated by commas; ``"pairs"`` one of ``name=value``; ``"area"`` a
path, a box or GeoJSON; ``"interval"`` is a text ``LOWEST-HIGHEST``; the help of ``"range"`` shows the bounds."""


@dataclass(frozen=True)
class Declared:
    """An option: the arguments of :func:`option` for a field, and the field's annotation.

    Attributes:
        name: Name of the field.
        default: Its value if none is given.
        help: Its meaning: a phrase or sentences for the command line, recipes and the reference.
        unit: Unit of its value, in the plural, "" for none.
        bounds: Bounds of a number, or of each number of a tuple; None for any.
        choices: The only values allowed, () for any.
        kind: Type of the value, or of the parts of a tuple: str, float, int or bool; object for a union of types.
        several: Number of parts: 1 for a plain value, n for a tuple of length n, 0 for a tuple of any length.
        form: How it is written where its type does not imply it, see :data:`Spelling`.
    """

    name: str
    default: Any
    help: str
    unit: str
    bounds: Range | None
    choices: tuple[Any, ...]
    kind: type
    several: int
    form: Spelling

    def require(self, value: Any) -> None:
        """Refuse an invalid value.

        Args:
            value: Value of the field.

        Raises:
            BadInputError: Names the option, the expected value and the given one.
        """
        parts = (value,) if self.several == 1 else value
        if not isinstance(parts, (tuple, list)) or (self.several and len(parts) != self.several):
            raise BadInputError(f"{self.name} should be {self.wanted}, not {value!r}")
        for part in parts:
            if not self._fits(part):
                raise BadInputError(f"{self.name} should be {self.wanted}, not {part!r}")

    def _fits(self, part: Any) -> bool:
        if self.form in ("path", "cube") and isinstance(part, PurePath):
            return True
        if not isinstance(part, KINDS[self.kind][0]) or (self.kind is not bool and isinstance(part, bool)):
            return False
        return (not self.choices or part in self.choices) and (self.bounds is None or self.bounds.hold(part))

    @property
    def wanted(self) -> str:
        """Description of the expected value: ``"a number of metres, at least 10 and at most 160"``."""
        if self.choices:
            return f"one of {', '.join(str(choice) for choice in self.choices if choice != '')}"
        what = KINDS[self.kind][1]
        if self.several != 1:
            count = f"{self.several} " if self.several else ""
            what = f"{count}{what.split(' ', 1)[1]}s"
        unit = f" of {self.unit}" if self.unit else ""
        each = "each " if self.several != 1 else ""
        return f"{what}{unit}{'' if self.bounds is None else f', {each}{self.bounds}'}"


KINDS: Mapping[type, tuple[Any, str]] = {
    str: (str, "a text"),
    bool: (bool, "true or false"),
    int: (Integral, "a whole number"),
    float: (Real, "a number"),
    object: (object, "a value"),
}
"""Types of plain values: the class to check against, and the word for it in messages."""

_KEY = "stac2cube"
"""Key of an option in the metadata of a field."""


def option(
    default: T,
    help: str,  # noqa: A002 - as click and argparse call it
    *,
    unit: str = "",
    bounds: Range | None = None,
    choices: tuple[Any, ...] = (),
    form: Spelling = "",
    compare: bool = True,
) -> T:
    """Declare a field of a frozen dataclass as an option. Everything about the option is declared here.

    Args:
        default: Value of the field if none is given.
        help: Its meaning, in plain sentences. The first use is the help of the command line.
        unit: Unit of the value, in the plural: ``"metres"``.
        bounds: Bounds of the number, or of each number of a tuple.
        choices: The only values; those of an annotation ``Literal[...]`` need not be repeated.
        form: How it is written where its type does not imply it.
        compare: As in :func:`dataclasses.field`; False for options that change no pixel.

    Returns:
        The field; typed as the default, as type checkers expect for ``dataclasses.field``.
    """
    about = {"help": help, "unit": unit, "bounds": bounds, "choices": choices, "form": form}
    made: Any = field(default=default, compare=compare, metadata={_KEY: about})
    return made  # type: ignore[no-any-return]


def options_in(kind: type) -> Mapping[str, Declared]:
    """The options that a dataclass declares, by name, in order.

    Args:
        kind: The dataclass.
    """
    if kind not in _OPTIONS:
        known = {one.name: one for one in fields(cast("Any", kind)) if _KEY in one.metadata}
        hints: dict[str, Any] = {}
        for base in reversed(kind.__mro__):
            # Other fields may have types that are imported for type checkers only.
            said = {name: hint for name, hint in get_annotations(base).items() if name in known}
            hints |= get_type_hints(SimpleNamespace(__annotations__=said), vars(sys.modules[base.__module__]))
        _OPTIONS[kind] = {name: _declared(one, hints[name]) for name, one in known.items()}
    return _OPTIONS[kind]


_OPTIONS: dict[type, Mapping[str, Declared]] = {}


def _declared(one: Field[Any], hint: Any) -> Declared:
    about = dict(one.metadata[_KEY])
    parts = [part for part in get_args(hint) if part is not type(None)]
    several = 1
    if get_origin(hint) not in (None, Literal, tuple):  # it may be None
        hint = parts[0] if len(parts) == 1 else object
        parts = list(get_args(hint))
    if get_origin(hint) is tuple:
        several = 0 if parts[-1] is Ellipsis else len(parts)
        hint = parts[0]
    if get_origin(hint) is Literal:
        about["choices"] = about["choices"] or get_args(hint)
        hint = type(get_args(hint)[0])
    return Declared(one.name, one.default, kind=hint, several=several, **about)


class Options:
    """Base of dataclasses that declare options: invalid values are refused when an instance is created."""

    def __post_init__(self) -> None:
        """Refuse invalid options. An option that is None and has the default None is not checked.

        Raises:
            BadInputError: Names the option, the expected value and the given one.
        """
        for name, declared in options_in(type(self)).items():
            if (given := getattr(self, name)) is not None or declared.default is not None:
                declared.require(given)


def documented(cls: type[T]) -> type[T]:
    """Add the options of a dataclass to the section ``Attributes`` of its docstring; apply it above ``@dataclass``.

    Args:
        cls: A dataclass with a docstring in which that section, if present, is the last.

    Returns:
        The same class.
    """
    said = cleandoc(cls.__doc__ or "")
    lines = [f"    {one.name}: {one.metadata[_KEY]['help']}" for one in fields(cls) if _KEY in one.metadata]  # type: ignore[arg-type] # a dataclass
    heading = [] if "\nAttributes:\n" in said else ["", "Attributes:"]
    cls.__doc__ = "\n".join([said, *heading, *lines])
    return cls


# Equality of values that may hold NaN.

_NAN = object()
"""Stands for every NaN object."""


def equal_nan(cls: type[T]) -> type[T]:
    """Make two values of a frozen dataclass equal if both hold NaN in a field; apply it above ``@dataclass``.

    The ``__eq__`` that :mod:`dataclasses` generates compares tuples of fields up to Python 3.12, where a NaN object is
    equal to itself, and field by field from Python 3.13 on, where NaN never is. Two NaN read from two files differ in
    both. For fill values, nodata values and recipes every NaN means the same.

    Fields with ``compare=False`` are ignored, and those with ``hash=False`` are left out of the hash, as usual. NaN
    counts as equal in tuples, lists and mappings inside a field, too.

    Args:
        cls: A dataclass with ``eq=True`` and ``frozen=True``.

    Returns:
        The same class, with ``__eq__`` and ``__hash__`` of its own.
    """
    compared: list[Field[Any]] = [part for part in fields(cls) if part.compare]  # type: ignore[arg-type] # a dataclass

    def equal(self: T, other: object) -> Any:
        if other.__class__ is not self.__class__:
            return NotImplemented
        return all(_plain(getattr(self, part.name)) == _plain(getattr(other, part.name)) for part in compared)

    def hashed(self: T) -> int:
        return hash(tuple(_plain(getattr(self, part.name)) for part in compared if part.hash is not False))

    cls.__eq__ = equal  # type: ignore[assignment]
    cls.__hash__ = hashed  # type: ignore[assignment]
    return cls


def _plain(value: Any) -> Any:
    """A value with every NaN replaced by the same object."""
    if isinstance(value, Real) and value != value:  # noqa: PLR0124 - that is how NaN is told
        return _NAN
    if isinstance(value, (tuple, list)):
        return type(value)(map(_plain, value)) if type(value) in (tuple, list) else value
    if isinstance(value, Mapping):
        return {name: _plain(part) for name, part in value.items()}
    return value
