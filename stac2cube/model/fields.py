"""Fields of frozen dataclasses: options, each declared once; and values that may hold NaN.

The command line, the recipes, their JSON Schema, the checks and the reference are made from what :func:`option` says of
a field. A module that declares options imports nothing heavy, because every command loads it.
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
    """Between which numbers a value lies; None for no bound.

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
        """Whether a number lies between them; NaN never does."""
        return all(_HOLDS[word](number, bound) for word, bound in self.said.items())

    @property
    def said(self) -> dict[str, float]:
        """The bounds that there are, by name."""
        return {word: bound for word in _HOLDS if (bound := getattr(self, word)) is not None}

    def __str__(self) -> str:
        """``"at least 10 and at most 160"``, ``"more than 0"``."""
        return " and ".join(f"{_WORDS[word]} {bound:g}" for word, bound in self.said.items())


_HOLDS = {"least": operator.ge, "above": operator.gt, "most": operator.le, "below": operator.lt}

_WORDS = {"least": "at least", "above": "more than", "most": "at most", "below": "less than"}


Spelling = Literal["", "path", "cube", "list", "pairs", "area", "interval", "range"]
"""How the value of an option is written: ``"path"`` may be a path, which a recipe means from its own folder; ``"cube"``
is one; ``"list"`` is a text in which commas separate words; ``"pairs"`` one of ``name=value``; ``"area"`` a path, a box
or GeoJSON; ``"interval"`` is a text ``LOWEST-HIGHEST``; the help of ``"range"`` shows the bounds."""


@dataclass(frozen=True)
class Declared:
    """What :func:`option` says of a field, and what its annotation says.

    Attributes:
        name: Of the field.
        default: Its value where none is given.
        help: What it means: a phrase or sentences for the command line, recipes and the reference.
        unit: Unit of its value, in the plural, "" for none.
        bounds: Of a number, or of each number of a tuple; None for any.
        choices: The only values allowed, () for any.
        kind: Type of the value, or of the parts of a tuple: str, float, int or bool; object for one of several.
        several: How many parts it has: 1 for a plain value, another number for a tuple of so many, 0 for any number.
        form: How it is written where its type does not say it, see :data:`Spelling`.
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
        """Refuse a value that cannot be.

        Args:
            value: Of the field.

        Raises:
            BadInputError: Naming the option, what it should be and what it is.
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
        """What the value should be, for people: ``"a number of metres, at least 10 and at most 160"``."""
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
"""Types of plain values: what is one, and what it is called."""

_KEY = "stac2cube"
"""Key of an option among the metadata of a field."""


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
    """Declare a field of a frozen dataclass as an option. This is the only place of all that is said of it.

    Args:
        default: Value of the field where none is given.
        help: What it means; plain sentences. The first use is the help of the command line.
        unit: Unit of the value, in the plural: ``"metres"``.
        bounds: Of the number, or of each number of a tuple.
        choices: The only values; those of an annotation ``Literal[...]`` need not be said again.
        form: How it is written where its type does not say it.
        compare: As of :func:`dataclasses.field`; False for what changes no pixel.

    Returns:
        The field; typed as the default, as type checkers want it of ``dataclasses.field``.
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
    """Base of dataclasses that declare options: a value that cannot be is refused when the dataclass is made."""

    def __post_init__(self) -> None:
        """Refuse an option that cannot be. An option that is None where None is its default is not looked at.

        Raises:
            BadInputError: Naming the option, what it should be and what it is.
        """
        for name, declared in options_in(type(self)).items():
            if (given := getattr(self, name)) is not None or declared.default is not None:
                declared.require(given)


def documented(cls: type[T]) -> type[T]:
    """Add the options of a dataclass to its docstring, to its section ``Attributes``; apply it above ``@dataclass``.

    Args:
        cls: A dataclass with a docstring, in which that section, if there is one, is the last.

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
"""Stands for every NaN, whichever object it is."""


def equal_nan(cls: type[T]) -> type[T]:
    """Make two values of a frozen dataclass equal where both hold NaN in a field; apply it above ``@dataclass``.

    The ``__eq__`` that :mod:`dataclasses` writes compares tuples of fields up to Python 3.12, in which the same NaN
    object is equal to itself, and field by field from Python 3.13 on, where NaN never is. Two NaN that were read from
    two files were different in both. Fill values, nodata values and recipes mean the same number by every NaN.

    Fields with ``compare=False`` do not count, and those with ``hash=False`` are left out of the hash, as usual. NaN
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
    """A value in which every NaN is the same."""
    if isinstance(value, Real) and value != value:  # noqa: PLR0124 - that is how NaN is told
        return _NAN
    if isinstance(value, (tuple, list)):
        return type(value)(map(_plain, value)) if type(value) in (tuple, list) else value
    if isinstance(value, Mapping):
        return {name: _plain(part) for name, part in value.items()}
    return value
