"""Equality of values that may hold NaN."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import Field, fields
from numbers import Real
from typing import Any, TypeVar

T = TypeVar("T")

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
