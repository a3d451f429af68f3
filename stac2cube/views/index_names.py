"""Which index of the registry a name means: the names in use beside it, and those that mean several, stand in a table.

The registry is Awesome Spectral Indices, as the package spyndex brings it; the table is ``tables/indices.toml``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from stac2cube.errors import BadInputError, TableError
from stac2cube.table import shipped_and_own

TABLE = "indices.toml"

USUAL = (
    *("NDVI", "EVI", "SAVI", "NDRE", "NDWI", "MNDWI", "NDMI", "NBR", "NDMIR", "NDBI", "NDSI"),
    *("VV/VH", "VH/VV", "DpRVIVV"),
)
"""Those that most people want, as they call them: told where all would be too many."""


@dataclass(frozen=True)
class IndexNames:
    """What the table says.

    Attributes:
        aliases: The registry's name for one in use, which is in upper case.
        ambiguous: What a name, in upper case, may mean, in names that are not ambiguous.
        constants: Values of single indices' constants, by the papers that define them.
    """

    aliases: Mapping[str, str] = field(default_factory=dict)
    ambiguous: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    constants: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    @classmethod
    def read(cls) -> IndexNames:
        """The shipped table, and a person's own that adds or overrides.

        Raises:
            TableError: One of them is malformed, or leads to an index that the registry lacks.
        """
        parts: dict[str, dict[str, Any]] = {"aliases": {}, "ambiguous": {}, "constants": {}}
        for file in shipped_and_own(TABLE):
            given = file.parse()
            file.check(cls, given, "the table of indices")
            for part, values in given.items():
                for name, value in values.items():
                    _check(file.path, part, name, value)
                parts[part] |= values
        return cls(**parts)


def registry() -> Mapping[str, Any]:
    """All indices of the registry by its own names."""
    import spyndex

    indices: Mapping[str, Any] = spyndex.indices
    return indices


def registry_name(name: str) -> str:
    """The registry's spelling of a name in any case, or in use beside it.

    Raises:
        BadInputError: No such index; a name that means several; two that differ in upper and lower case only.
    """
    known, names = registry(), IndexNames.read()
    if name.upper() in names.ambiguous:
        choices = [f"{choice} ({_what(choice, names)})" for choice in names.ambiguous[name.upper()]]
        raise BadInputError(f"{name!r} means several indices: say {' or '.join(choices)}")
    wanted = names.aliases.get(name.upper(), name)
    if wanted in known:
        return wanted
    alike = [other for other in known if other.lower() == wanted.lower()]
    if len(alike) == 1:
        return alike[0]
    if alike:
        raise BadInputError(f"{name!r} may be {' or '.join(alike)}: write it as it is meant")
    near = [other for other in (*known, *names.aliases) if wanted.lower() in other.lower()][:8]
    hint = ", ".join(near) or "NDVI, EVI, NDWI, NDMI, NBR"
    raise BadInputError(f"unknown index {name!r}: known are for example {hint}; `stac2cube indices` lists more")


def plain_name(known: str) -> str:
    """The name under which an index of the registry is asked for and stored: its own, but where that means several."""
    names = IndexNames.read()
    if known.upper() not in names.ambiguous:
        return known
    return next(choice for choice in names.ambiguous[known.upper()] if names.aliases.get(choice) == known)


def _what(choice: str, names: IndexNames) -> str:
    entry = registry()[names.aliases.get(choice.upper(), choice)]
    return f"{entry.long_name}, {entry.formula}"


def _check(path: str, part: str, name: str, value: Any) -> None:
    """One line of the table is of the kind its part wants."""
    if part == "aliases" and not (isinstance(value, str) and value in registry()):
        raise TableError(f"{path}: the alias {name} should lead to an index of the registry, not to {value!r}")
    if part == "ambiguous" and not (isinstance(value, list) and all(isinstance(choice, str) for choice in value)):
        raise TableError(f"{path}: {name} should be a list of the names that it may mean, not {value!r}")
    if part in ("aliases", "ambiguous") and name != name.upper():
        raise TableError(f"{path}: write {name} in upper case; it is found in any")
    if part == "constants":
        numbers = isinstance(value, Mapping) and all(isinstance(number, int | float) for number in value.values())
        if name not in registry() or not numbers:
            raise TableError(f"{path}: the constants of {name} should be numbers of an index of the registry")
