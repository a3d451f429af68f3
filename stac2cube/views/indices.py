"""Spectral indices by name, from Awesome Spectral Indices (package spyndex)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr

from stac2cube.errors import BadInputError, TableError
from stac2cube.model.tables import shipped_and_own
from stac2cube.views.units import apply, common_names, derived_attributes, mission_of, names_text, physical

# Names of indices: a table lists aliases of the registry's names, and ambiguous names.
#
# The registry is Awesome Spectral Indices, from the package spyndex; the table is ``tables/indices.toml``.

TABLE = "indices.toml"

USUAL = (
    *("NDVI", "EVI", "SAVI", "NDRE", "NDWI", "MNDWI", "NDMI", "NBR", "NDMIR", "NDBI", "NDSI"),
    *("VV/VH", "VH/VV", "DpRVIVV"),
)
"""The most common indices, by their usual names: listed where all would be too many."""


@dataclass(frozen=True)
class IndexNames:
    """Content of the table.

    Attributes:
        aliases: Alias in upper case -> name in the registry.
        ambiguous: Ambiguous name in upper case -> unambiguous names of its meanings.
        constants: Index -> values of its constants, from the papers that define them.
    """

    aliases: Mapping[str, str] = field(default_factory=dict)
    ambiguous: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    constants: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    @classmethod
    def read(cls) -> IndexNames:
        """Read the shipped table, and the user's own, which adds or overrides entries.

        Raises:
            TableError: A table is malformed, or refers to an index that is not in the registry.
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
    """All indices of the registry, by name."""
    import spyndex

    indices: Mapping[str, Any] = spyndex.indices
    return indices


def registry_name(name: str) -> str:
    """Find the registry's name for a name in any case, or for an alias.

    Raises:
        BadInputError: No such index; an ambiguous name; a name that matches two indices except for case.
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
    """The name of an index in arguments and cubes: the registry's, or an unambiguous one if that is ambiguous."""
    names = IndexNames.read()
    if known.upper() not in names.ambiguous:
        return known
    return next(choice for choice in names.ambiguous[known.upper()] if names.aliases.get(choice) == known)


def _what(choice: str, names: IndexNames) -> str:
    entry = registry()[names.aliases.get(choice.upper(), choice)]
    return f"{entry.long_name}, {entry.formula}"


def _check(path: str, part: str, name: str, value: Any) -> None:
    """Check one entry of the table."""
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


# Computation of spectral indices from the registry, for the bands of any mission.
#
# Source of formulas and references: D. Montero et al., "A standardized catalogue of spectral indices to advance the
# use of remote sensing in Earth system research", Scientific Data 10, 197, 2023, doi:10.1038/s41597-023-02096-0.

SYMBOLS = {
    "A": ("coastal",),
    "B": ("blue",),
    "G": ("green",),
    "R": ("red",),
    "RE1": ("rededge1", "rededge071"),
    "RE2": ("rededge2", "rededge075"),
    "RE3": ("rededge3", "rededge078"),
    "N": ("nir",),
    "N2": ("nir08",),
    "WV": ("nir09",),
    "S1": ("swir16",),
    "S2": ("swir22",),
    "T": ("lwir", "lwir11"),
    "T1": ("lwir11",),
    "T2": ("lwir12",),
    "VV": ("vv",),
    "VH": ("vh",),
    "HH": ("hh",),
    "HV": ("hv",),
}
"""Registry's symbol -> common names of its band; the first available one is used."""


@dataclass(frozen=True)
class IndexFormula:
    """An index, ready to be computed.

    Attributes:
        name: Name in the registry, or ours if that is ambiguous.
        formula: Formula with the registry's symbols.
        long_name: Readable name.
        reference: Reference of the paper.
        layers: Symbol -> layer, for bands.
        constants: Symbol -> value, for constants.
    """

    name: str
    formula: str
    long_name: str
    reference: str
    layers: Mapping[str, str]
    constants: Mapping[str, float]


def indices(
    dataset: xr.Dataset,
    names: str | Sequence[str],
    *,
    bands: Mapping[str, str] | None = None,
    constants: Mapping[str, float] | None = None,
) -> xr.Dataset:
    """Compute spectral indices of an opened cube.

    Args:
        dataset: Reflectance (radar: linear power; thermal: kelvin), decoded or stored, dims ``(time, y, x)``.
        names: The registry's names in any case (``"NDVI"``, ``"evi"``), or a name of
            :data:`stac2cube.views.indices.TABLE`.
        bands: Symbol or common name -> layer (``{"N": "B8A"}``, ``{"nir": "B8A"}``), to replace the mission's band, or
            if the mission is unknown.
        constants: Values for the formulas' constants (``{"L": 0.5}``), for all requested indices; else those of the
            table, the mission's wavelengths, and the registry's defaults.

    Returns:
        One variable per index under the registry's name, float32, NaN where any band has no data or the formula has no
        finite value; attributes ``long_name``, ``formula``, ``reference``, ``bands``, ``constants``.

    Raises:
        BadInputError: Unknown index, missing band, constant without a value; messages list the possible choices.
    """
    wanted = [formula_for(dataset, name, bands, constants) for name in ([names] if isinstance(names, str) else names)]
    if not wanted:
        raise BadInputError("name at least one index, for example NDVI")
    used = {layer for recipe in wanted for layer in recipe.layers.values()}
    quantities = {layer: _quantity(dataset[layer]) for layer in used}
    result = {}
    for recipe in wanted:
        values = apply(
            _evaluate,
            *(quantities[layer] for layer in recipe.layers.values()),
            name=registry_name(recipe.name),
            symbols=tuple(recipe.layers),
            constants=dict(recipe.constants),
        )
        result[recipe.name] = values.assign_attrs(_attributes(recipe, dataset))
    coordinates = dataset.drop_vars(list(dataset.data_vars))
    return coordinates.assign(result).drop_attrs(deep=False).assign_attrs(derived_attributes(dataset))


def describe_index(name: str) -> dict[str, str]:
    """Describe an index: name, long name, formula, bands by common name, constants, reference.

    Raises:
        BadInputError: An unknown or ambiguous name.
    """
    known = registry_name(name)
    entry = registry()[known]
    bands = [f"{symbol} = {' or '.join(SYMBOLS[symbol])}" for symbol in entry.bands if symbol in SYMBOLS]
    values = {**_defaults(), **IndexNames.read().constants.get(known, {})}
    constants = [symbol for symbol in entry.bands if symbol not in SYMBOLS]
    return {
        "name": known,
        "what": str(entry.long_name),
        "formula": str(entry.formula),
        "bands": ", ".join(bands),
        "constants": ", ".join(f"{symbol} = {_number(symbol, values.get(symbol))}" for symbol in constants),
        "reference": str(entry.reference),
    }


def _number(symbol: str, value: float | None) -> str:
    """Text of a constant's value."""
    if symbol.startswith("lambda"):
        return "the mission's wavelength"
    return "to be given" if value is None else f"{value:g}"


def possible_indices(dataset: xr.Dataset, bands: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """Names of all indices that can be computed from a Dataset, in the registry's order."""
    found, given = _symbols(dataset, bands), _constants(dataset)
    return tuple(
        plain_name(name)
        for name, entry in registry().items()
        if any(symbol in SYMBOLS for symbol in entry.bands)
        and all(symbol in found or given.get(symbol) is not None for symbol in entry.bands)
    )


def formula_for(
    dataset: xr.Dataset,
    name: str,
    bands: Mapping[str, str] | None = None,
    constants: Mapping[str, float] | None = None,
) -> IndexFormula:
    """The formula of an index for a Dataset; arguments and errors as in :func:`indices`."""
    entry = registry()[registry_name(name)]
    found = _symbols(dataset, bands)
    lacking = [symbol for symbol in entry.bands if symbol in SYMBOLS and symbol not in found]
    if lacking:
        told = " and ".join(f"{symbol} ({' or '.join(SYMBOLS[symbol])})" for symbol in lacking)
        raise BadInputError(
            f"{entry.short_name} needs {told}, which the layers {names_text(dataset.data_vars)} lack; possible with "
            f"these: {_some(possible_indices(dataset, bands))}. In Python bands= says which layer a band is"
        )
    values = {**_constants(dataset), **IndexNames.read().constants.get(entry.short_name, {}), **(constants or {})}
    given = {symbol: value for symbol, value in values.items() if value is not None}
    needed = [symbol for symbol in entry.bands if symbol not in SYMBOLS]
    unset = [symbol for symbol in needed if symbol not in given]
    if unset:
        raise BadInputError(
            f"{entry.short_name} needs a value for {names_text(unset)}: give constants={{{unset[0]!r}: ...}}"
        )
    return IndexFormula(
        plain_name(entry.short_name),
        entry.formula,
        entry.long_name,
        entry.reference,
        {symbol: found[symbol] for symbol in entry.bands if symbol in SYMBOLS},
        {symbol: float(given[symbol]) for symbol in needed},
    )


def _some(names: Sequence[str]) -> str:
    """Names for an error message: the common ones among them, and the number of others."""
    usual = {registry_name(name) for name in USUAL}
    told = [name for name in names if registry_name(name) in usual] or list(names[:10])
    more = len(names) - len(told)
    return names_text(told) + (f", and {more} more" if more else "")


def _symbols(dataset: xr.Dataset, bands: Mapping[str, str] | None) -> dict[str, str]:
    """Registry's symbol -> layer, for the symbols that a Dataset has."""
    common = common_names(dataset)
    given = dict(bands or {})
    common_known = {name for names in SYMBOLS.values() for name in names}
    for word, layer in given.items():
        if word not in SYMBOLS and word not in common_known:
            raise BadInputError(
                f"bands={{{word!r}: ...}} is no band: use one of {names_text(SYMBOLS)} or a common name"
            )
        if layer not in dataset.data_vars:
            raise BadInputError(f"there is no layer {layer!r}: there are {names_text(dataset.data_vars)}")
    common |= {word: layer for word, layer in given.items() if word not in SYMBOLS}
    found = {}
    for symbol, names in SYMBOLS.items():
        there = [common[name] for name in names if name in common]
        if there:
            found[symbol] = there[0]
    return found | {word: layer for word, layer in given.items() if word in SYMBOLS}


def _constants(dataset: xr.Dataset) -> dict[str, float | None]:
    """The registry's defaults, and the mission's wavelengths in nanometres for formulas that need them."""
    constants = _defaults()
    mission = mission_of(dataset)
    if mission is not None:
        centres = {band.common_name: band.wavelength for band in mission.bands.values() if band.wavelength}
        centres |= {"nir": centres["nir08"]} if "nir08" in centres and "nir" not in centres else {}
        for symbol, names in SYMBOLS.items():
            wavelength = next((centres[name] for name in names if name in centres), None)
            if f"lambda{symbol}" in constants and wavelength is not None:
                constants[f"lambda{symbol}"] = 1000 * wavelength
    return constants


def _defaults() -> dict[str, float | None]:
    """The registry's default constants; None without a default value."""
    import spyndex

    return {name: constant.default for name, constant in spyndex.constants.items() if name not in SYMBOLS}


def _quantity(layer: xr.DataArray) -> xr.DataArray:
    if layer.attrs.get("units") == "dB":
        raise BadInputError(f"indices of radar are made of linear power, {layer.name} is in dB: use from_db first")
    return physical(layer)


def _attributes(recipe: IndexFormula, dataset: xr.Dataset) -> dict[str, str]:
    first = dataset[next(iter(recipe.layers.values()))]
    return {
        "long_name": recipe.long_name,
        "units": "1",
        "formula": recipe.formula,
        "reference": recipe.reference,
        "bands": ", ".join(f"{symbol}={layer}" for symbol, layer in recipe.layers.items()),
        "constants": ", ".join(f"{symbol}={value:g}" for symbol, value in recipe.constants.items()),
        **({"grid_mapping": first.attrs["grid_mapping"]} if "grid_mapping" in first.attrs else {}),
    }


def _evaluate(*values: np.ndarray, name: str, symbols: Sequence[str], constants: Mapping[str, float]) -> np.ndarray:
    """Compute an index of the registry on arrays; NaN where it has no finite value."""
    import spyndex

    named = {**dict(zip(symbols, values, strict=True)), **constants}
    with np.errstate(all="ignore"):
        result = np.asarray(spyndex.computeIndex(name, named), dtype="float32")
    valid = np.isfinite(result)
    for layer in values:
        valid = valid & np.isfinite(layer)
    finite: np.ndarray = np.where(valid, result, np.float32(np.nan))
    return finite
