"""What users rely on, as JSON: commands, public functions, exit codes, ledger columns, attributes of every product.

``python -m tests.house.frozen`` writes ``tests/house/frozen.json``. A change of that file is a change for users: name
it in the changelog.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import math
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import pyarrow.parquet as pq

import stac2cube
from stac2cube.build.plan import Summary
from stac2cube.cli import cli
from stac2cube.store.metadata import read_root
from stac2cube.testing.archive import ArchiveSpec, simulate

FILE = Path(__file__).with_name("frozen.json")

Json = dict[str, Any]

AREA = "11.965,47.48,11.985,47.494"
"""Some 150 x 150 pixels of 10 m, where two of the simulated tiles overlap."""


def interface() -> Json:
    """What can be known without building a cube."""
    return {
        "commands": _commands(cli),
        "python": {
            name: _signature(getattr(stac2cube, name)) for name in sorted(set(stac2cube.__all__) - {"__version__"})
        },
        "exit codes": {
            "complete": Summary().exit_code,
            "failed steps": Summary(failed={"key": "reason"}).exit_code,
            "stopped": Summary(stopped=True).exit_code,
            "stopped with failed steps": Summary(failed={"key": "reason"}, stopped=True).exit_code,
        },
    }


def products(folder: Path) -> Json:
    """Structure of one small cube of every product: arrays, attribute names, ledger columns; no values.

    Args:
        folder: Empty; the simulated archive and the cubes go there.
    """
    return {path.stem: _structure(path) for path in build_products(folder)}


def build_products(folder: Path) -> list[Path]:
    """One small cube of every product, made by engines that need no extra.

    Args:
        folder: Empty; the simulated archive and the cubes go there.

    Returns:
        The cubes.
    """
    archive = simulate(folder / "archive", ArchiveSpec(years=(2023,), dates_per_year=4))
    layers = folder / "layers.zarr"
    source = ["--catalog", str(archive.catalog("earth-search")), "--mission", "sentinel-2-l2a", "--aoi", AREA]
    _run("layers", layers, *source, "--time", "2023")
    _run("clouds", layers, folder / "clouds.zarr", "--method", "scl")
    _run("mask", layers, folder / "clouds.zarr", folder / "masked.zarr")
    _run("coregister", layers, folder / "moved.zarr", "--engine", "phase")
    _run("superres", "make", layers, folder / "superres.zarr", "--backend", "backproject")
    _run("indices", layers, folder / "indices.zarr", "ndvi")
    _run("composite", layers, folder / "composite.zarr")
    made = ("clouds", "composite", "indices", "layers", "masked", "moved", "superres")
    return [folder / f"{name}.zarr" for name in made]


def _run(*words: object) -> None:
    """One command, in this process."""
    code = cli.main([str(word) for word in (*words, "-q")], standalone_mode=False)
    if code:
        raise RuntimeError(f"{words[0]} ended with exit code {code}")


def _commands(command: click.Command) -> Json:
    if isinstance(command, click.Group):
        return {name: _commands(child) for name, child in sorted(command.commands.items())}
    return {str(parameter.name): _parameter(parameter) for parameter in command.params}


def _parameter(parameter: click.Parameter) -> Json:
    facts: Json = {"type": parameter.type.name}
    # Releases of click differ in what stands for "no default" (None, False for flags, a mark of its own).
    if _plain(parameter.default) not in (None, False, "(none)", "(computed)"):
        facts["default"] = _plain(parameter.default)
    if isinstance(parameter, click.Option):
        facts["flags"] = " ".join([*parameter.opts, *parameter.secondary_opts])
    if isinstance(parameter.type, click.Choice):
        facts["choices"] = " ".join(str(choice) for choice in parameter.type.choices)
    for name in ("required", "multiple", "envvar", "nargs"):
        if (value := getattr(parameter, name, None)) not in (None, False, 1):
            facts[name] = value
    return facts


def _signature(thing: Any) -> Json:
    """Parameters and defaults. Annotations are left out: they name classes, which may move."""
    return {
        name: f"{parameter.kind.description}, {json.dumps(_plain(parameter.default))}"
        for name, parameter in inspect.signature(thing).parameters.items()
    }


def _plain(default: Any) -> Any:
    """A default in JSON: a value that is not plain is told by its fields."""
    if default is inspect.Parameter.empty or type(default).__name__ == "Sentinel":
        return "(none)"
    if dataclasses.is_dataclass(default) and not isinstance(default, type):
        return {field.name: _plain(getattr(default, field.name)) for field in dataclasses.fields(default)}
    if isinstance(default, Mapping):
        return {str(key): _plain(value) for key, value in default.items()}
    if isinstance(default, tuple | list | frozenset):
        return [_plain(value) for value in default]
    if isinstance(default, float) and math.isnan(default):
        return "nan"
    return default if isinstance(default, str | int | float | None) else "(computed)"


def _structure(cube: Path) -> Json:
    root = json.loads((cube / "zarr.json").read_text())
    nodes = root["consolidated_metadata"]["metadata"]
    ledger = cube / ".stac2cube" / "ledger"
    columns = {
        column.name: str(column.type) for part in read_root(cube).ledger for column in pq.read_schema(ledger / part)
    }
    return {
        "attributes": _names(root["attributes"]),
        "arrays": {
            name: {
                "dtype": node["data_type"],
                "dimensions": " ".join(node.get("dimension_names") or []),
                "fill": node["fill_value"],
                "attributes": " ".join(sorted(node["attributes"])),
            }
            for name, node in sorted(nodes.items())
            if node["node_type"] == "array"
        },
        "ledger": columns,
    }


def _names(attributes: Mapping[str, Any]) -> Json:
    """Names of attributes, two levels deep: below lie values of recipes and requests."""
    return {
        name: " ".join(sorted(value)) if isinstance(value, Mapping) else type(value).__name__
        for name, value in sorted(attributes.items())
    }


def main() -> None:
    """Write the file anew."""
    with tempfile.TemporaryDirectory() as folder:
        content = {**interface(), "products": products(Path(folder))}
    FILE.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")
    sys.stdout.write(f"{FILE} is written\n")


if __name__ == "__main__":
    main()
