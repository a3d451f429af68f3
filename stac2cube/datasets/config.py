"""YAML files for downloads and samples: their keys are the options of the Python values, checked strictly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import yaml

from stac2cube.datasets.rules import (
    GRID,
    AngleRules,
    DownloadRequest,
    LabelRules,
    SampleRequest,
    SampleRules,
)
from stac2cube.errors import BadInputError
from stac2cube.model.fields import options_in
from stac2cube.model.period import parse_period
from stac2cube.model.query import Query
from stac2cube.trust.address import expanded

Value = TypeVar("Value")

REQUEST = ("source", "aoi", "time", "crs", "resolution", "max_cloud_cover", "max_scenes")
"""Keys that choose the scenes that become samples."""

PATHS = ("source", "out", "folder", "aoi", "catalog")
"""Keys whose value may be a path, relative to the folder of the file."""


def read_words(path: str | Path, known: tuple[str, ...]) -> dict[str, Any]:
    """Read the options of a YAML file; relative paths become absolute.

    Args:
        path: The file.
        known: Valid keys.

    Raises:
        BadInputError: The file does not exist, is not YAML, or has an unknown key.
    """
    file = Path(path).resolve()
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadInputError(f"{path} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadInputError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise BadInputError(f"{path} should be a table of words")
    words = {str(name).replace("-", "_"): value for name, value in content.items()}
    if unknown := sorted(set(words) - set(known)):
        raise BadInputError(f"{path} does not know {', '.join(unknown)}; known words are {', '.join(sorted(known))}")
    for name in words.keys() & set(PATHS):
        words[name] = path_in_file(file, words[name], always=name in ("out", "folder"))
    if isinstance(words.get("labels"), dict) and isinstance(words["labels"].get("path"), str):
        words["labels"] = words["labels"] | {"path": path_in_file(file, words["labels"]["path"], always=True)}
    return words


def path_in_file(file: Path, value: Any, *, always: bool = False) -> Any:
    """Resolve a path relative to the folder of the file; other values are returned unchanged."""
    if not isinstance(value, str):
        return value
    path = file.parent / expanded(value)
    return str(path) if always or (len(value) < 255 and path.exists()) else value


DOWNLOAD = ("folder", "aoi", "time", *options_in(DownloadRequest), "connections", "tables")
"""Keys that a file for ``stac2cube download`` may have."""


def download_of_words(words: Mapping[str, Any]) -> DownloadRequest:
    """Build a download request from options.

    Raises:
        BadInputError: An option is missing or invalid.
    """
    from stac2cube.model.geometry import read_areas

    given = {name: words[name] for name in DOWNLOAD if words.get(name) is not None}
    if lacking := [name for name in ("aoi", "time") if name not in given]:
        raise BadInputError(f"say also {', '.join(lacking)}")
    more: dict[str, Any] = {name: listed(given[name]) for name in ("roles", "tiles") if name in given}
    if "cloud" in given:
        more["cloud"] = _range(given["cloud"])
    if "min_coverage" in given:
        more["min_coverage"] = number(given["min_coverage"], "min_coverage")
    if "max_scenes" in given:
        more["max_scenes"] = int(number(given["max_scenes"], "max_scenes"))
    if "catalog" in given:
        more["catalog"] = str(given["catalog"])
    return DownloadRequest(read_areas(given["aoi"])[0], parse_period(str(given["time"])).text, **more)


def listed(value: Any) -> tuple[str, ...]:
    """Split a list, or a text with commas, into strings."""
    several = value.split(",") if isinstance(value, str) else value
    if not isinstance(several, (list, tuple)):
        raise BadInputError(f"a list of words was meant, not {value!r}")
    return tuple(str(word).strip() for word in several if str(word).strip())


def _range(value: Any) -> tuple[float, float]:
    """Parse ``"10-60"``, ``[10, 60]``, or the upper limit alone."""
    several: list[Any] = (
        [value] if isinstance(value, (int, float)) else str(value).strip("[]").replace("-", ",").split(",")
    )
    if len(several) == 1:
        several = [0, *several]
    if len(several) != 2:
        raise BadInputError(f"cloud {value!r}: write LOWEST-HIGHEST, percent")
    return number(several[0], "cloud"), number(several[1], "cloud")


def sample_words() -> tuple[str, ...]:
    """Keys that a file for ``stac2cube samples`` may have."""
    return (*REQUEST, "out", *(field.name for field in fields(SampleRules)))


def request_of_words(words: Mapping[str, Any]) -> SampleRequest:
    """Build the request that chooses the scenes from options.

    Raises:
        BadInputError: An option is missing or invalid.
    """
    from stac2cube.model.geometry import read_areas
    from stac2cube.model.grid import crs_text, grid_over

    given = {name: words[name] for name in REQUEST if words.get(name) is not None}
    if "source" not in given:
        raise BadInputError("say a source: a manifest, another catalog, or a cube")
    area = read_areas(given["aoi"])[0] if "aoi" in given else None
    grid = None
    if "crs" in given or "resolution" in given:
        if area is None or "crs" not in given or "resolution" not in given:
            raise BadInputError("a grid of its own needs an area, crs and resolution")
        crs = crs_text(given["crs"])
        grid = grid_over(area.native, area.native_crs, crs, number(given["resolution"], "resolution"))
    cover, most = given.get("max_cloud_cover"), given.get("max_scenes")
    time = parse_period(str(given["time"])).text if "time" in given else ""
    clouds = None if cover is None else number(cover, "max_cloud_cover")
    return SampleRequest(
        Query(area=area, time=time, catalog=str(given["source"]), max_cloud_cover=clouds),
        grid,
        max_scenes=None if most is None else int(number(most, "max_scenes")),
    )


def rules_of_words(words: Mapping[str, Any]) -> SampleRules:
    """Build the rules that determine the values of samples from options.

    Raises:
        BadInputError: An option is invalid.
    """
    given = {field.name: words[field.name] for field in fields(SampleRules) if words.get(field.name) is not None}
    for name in ("nodata", "source_nodata", "threshold"):
        if name in given:
            given[name] = number(given[name], name)
    if "bands" in given:
        given["bands"] = listed(given["bands"])
    if "angles" in given:
        given["angles"] = _table(AngleRules, given["angles"], "angles", "form")
    if "labels" in given:
        given["labels"] = _table(LabelRules, given["labels"], "labels", "backend")
    if given.get("target") is None and words.get("crs") is not None:
        given["target"] = GRID
    return SampleRules(**given)


def number(value: Any, what: str) -> float:
    """Parse a number, also from a text such as ``"nan"``.

    Raises:
        BadInputError: The value is not a number.
    """
    try:
        if isinstance(value, bool):
            raise TypeError("it is yes or no")
        return float(value)
    except (TypeError, ValueError):
        raise BadInputError(f"{what} should be a number, not {value!r}") from None


def _table(kind: type[Value], value: Any, name: str, only: str) -> Value:
    """Build a dataclass from a table of its fields, or from the value of its main field ``only``."""
    if isinstance(value, kind):
        return value
    words = {only: value} if isinstance(value, str) else value
    if not isinstance(words, dict):
        raise BadInputError(f"{name} should be a table, not {value!r}")
    known = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    plain = {str(word).replace("-", "_"): part for word, part in words.items()}
    if unknown := sorted(set(plain) - set(known)):
        raise BadInputError(f"there is no word {', '.join(unknown)} here; known are {', '.join(known)}")
    if isinstance(plain.get("mapping"), dict):
        plain["mapping"] = {str(key): part for key, part in plain["mapping"].items()}
    if isinstance(plain.get("names"), dict):
        plain["names"] = {int(number(key, "a class")): str(part) for key, part in plain["names"].items()}
    try:
        return kind(**plain)
    except BadInputError as error:
        raise BadInputError(f"{name}: {error}") from error
