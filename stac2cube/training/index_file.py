"""``index.json`` beside the samples: paths in it are relative to its folder, so that a set can be moved."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from datetime import datetime
from pathlib import Path
from typing import Any, get_args

from stac2cube.cube.files import write_whole
from stac2cube.errors import BadInputError
from stac2cube.names import is_below
from stac2cube.training.documents import read_document
from stac2cube.training.index import Angles, Labels, Radiometry, Sample, SampleGrid, SampleIndex, Status, Validity
from stac2cube.trust.text import printable

SCHEMA = "stac2cube-samples/1"
"""Name and version of what is written; another version is refused, not guessed at."""

INDEX = "index.json"
"""Name of the file."""

_READINGS: dict[str, tuple[str, ...]] = {"radiometry": get_args(Radiometry), "status": get_args(Status)}


def write_index(folder: Path, index: SampleIndex) -> Path:
    """Write ``index.json``, atomically.

    Raises:
        BadInputError: The index contradicts itself; nothing is written.
    """
    _check(index, folder / INDEX)
    value = {"schema": SCHEMA} | asdict(index)
    value["nodata"] = "nan" if math.isnan(index.nodata) else index.nodata
    if index.labels is not None:
        value["labels"]["classes"] = {str(number): name for number, name in index.labels.classes.items()}
    value["samples"] = [sample_to_json(sample) for sample in index.samples]
    write_whole(folder / INDEX, (json.dumps(value, indent=1, allow_nan=False) + "\n").encode())
    return folder / INDEX


def read_index(path: Path) -> SampleIndex:
    """Read an index.

    Args:
        path: ``index.json``, or its folder.

    Raises:
        BadInputError: It is not there, of another schema, lacks something, or contradicts itself; says where.
    """
    file = path / INDEX if path.is_dir() else path
    value = read_document(file, SCHEMA, "index of samples", "make samples with `stac2cube samples`")
    index = _index(value, str(file))
    _check(index, file)
    return index


def _index(value: Mapping[str, Any], where: str) -> SampleIndex:
    part = _part(SampleIndex, {k: v for k, v in value.items() if k != "schema"}, where)
    part["nodata"] = _number(part["nodata"], f"{where}: nodata")
    part["bands"] = tuple(part["bands"])
    validity = _part(Validity, part["validity"], f"{where}: validity")
    part["validity"] = Validity(tuple(validity["channels"]), float(validity["threshold"]))
    if part["angles"] is not None:
        angles = _part(Angles, part["angles"], f"{where}: angles")
        part["angles"] = Angles(tuple(angles["channels"]), angles["form"])
    if part["labels"] is not None:
        labels = _part(Labels, part["labels"], f"{where}: labels")
        part["labels"] = Labels(**labels | {"classes": {int(n): name for n, name in labels["classes"].items()}})
    part["samples"] = tuple(
        sample_from_json(sample, f"{where}: sample {at}") for at, sample in enumerate(part["samples"])
    )
    return SampleIndex(**part)


def sample_to_json(sample: Sample) -> dict[str, Any]:
    """A sample as plain JSON values."""
    return asdict(sample) | {"counts": {str(number): count for number, count in sample.counts.items()}}


def sample_from_json(value: Any, where: str) -> Sample:
    """Read back what :func:`sample_to_json` gave.

    Raises:
        BadInputError: It is none; says where.
    """
    part = _part(Sample, value, where)
    if part["grid"] is not None:
        grid = _part(SampleGrid, part["grid"], f"{where}: grid")
        part["grid"] = SampleGrid(grid["crs"], tuple(grid["transform"]), tuple(grid["shape"]))
    part["bounds"] = None if part["bounds"] is None else tuple(part["bounds"])
    part["counts"] = {int(number): count for number, count in part["counts"].items()}
    return Sample(**part)


def _part(kind: type, value: Any, where: str) -> dict[str, Any]:
    """The fields of a dataclass from JSON: all of them, and no other."""
    if not isinstance(value, dict):
        raise BadInputError(f"{where} should be an object, not {value!r}")
    names = {field.name for field in fields(kind)}
    if lacking := sorted(names - set(value)):
        raise BadInputError(f"{where} lacks {', '.join(lacking)}")
    if unknown := sorted(set(value) - names):
        raise BadInputError(f"{where} has unknown keys: {', '.join(unknown)}")
    for name, readings in _READINGS.items():
        if name in names and value[name] not in readings:
            raise BadInputError(f"{where}: {name} should be one of {', '.join(readings)}, not {value[name]!r}")
    return dict(value)


def _number(value: Any, where: str) -> float:
    if value == "nan":
        return math.nan
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise BadInputError(f"{where} should be a number or 'nan', not {value!r}")
    return float(value)


def _check(index: SampleIndex, file: Path) -> None:
    """What must hold of every index, read or written."""
    if not index.bands:
        raise BadInputError(f"{file}: there are no bands")
    repeated = _repeated([sample.id for sample in index.samples]) or _repeated(index.bands)
    if repeated:
        raise BadInputError(f"{file}: {repeated} is there twice")
    for sample in index.samples:
        where = f"{file}: sample {sample.id}"
        if sample.status == "failed":
            if not sample.reason:
                raise BadInputError(f"{where} failed without a reason")
            continue
        paths = (sample.x_path, sample.y_path, sample.angles_path, sample.meta_path)
        if leaving := next((path for path in paths if path is not None and not is_below(path)), None):
            raise BadInputError(f"{where}: the path {printable(leaving)!r} leads out of the set")
        if sample.x_path is None or sample.meta_path is None or sample.grid is None or sample.bounds is None:
            raise BadInputError(f"{where} is done but lacks x_path, meta_path, grid or bounds")
        for what, path, wanted in (
            ("y_path", sample.y_path, index.labels),
            ("angles_path", sample.angles_path, index.angles),
        ):
            if (path is None) != (wanted is None):
                raise BadInputError(f"{where}: {what} is {path!r}, which the set's own description contradicts")
        try:
            datetime.fromisoformat(sample.time)
        except ValueError:
            raise BadInputError(f"{where} has no time: {sample.time!r}") from None


def _repeated(names: Sequence[str]) -> str:
    seen: set[str] = set()
    return next((name for name in names if name in seen or seen.add(name)), "")  # type: ignore[func-returns-value]
