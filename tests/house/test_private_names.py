"""Libraries are used by their public names; what is not public is taken in the adapters alone, where tests watch it."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OWN = {"stac2cube", "tests"}

PRIVATE_ROOMS = {"zarr.core", "xarray.core"}
"""Their libraries say that these are not for others, though no underscore does."""

PUBLIC = {"_replace", "_asdict", "_fields", "_field_defaults", "_make", "_exit", "_value_", "_missing_"}
"""Documented with an underscore: of named tuples, enumerations and :mod:`os`."""


def private(name: str) -> bool:
    shown = name.startswith("_repr_") and name.endswith("_")  # how notebooks ask for a picture
    return name.startswith("_") and not name.startswith("__") and name not in PUBLIC and not shown


def foreign(module: str) -> bool:
    # _typeshed is the part of the standard library that only type checkers know.
    return module.split(".", maxsplit=1)[0] not in OWN | set(sys.stdlib_module_names) | {"_typeshed"}


def private_module(module: str) -> bool:
    inner = any(module == room or module.startswith(f"{room}.") for room in PRIVATE_ROOMS)
    return foreign(module) and (inner or any(private(part) for part in module.split(".")))


def own_names(tree: ast.AST) -> Iterator[str]:
    """Names that a file gives: of functions, classes, fields, variables and attributes that it sets."""
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
            case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                yield name


def reaches(tree: ast.AST, own: set[str]) -> Iterator[str]:
    """Where a file reaches into a library.

    Args:
        tree: The file.
        own: Private names of this project.
    """
    bound: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                bound |= {(one.asname or one.name).split(".")[0] for one in names if foreign(one.name)}
                yield from (f"{node.lineno}: import {one.name}" for one in names if private_module(one.name))
            case ast.ImportFrom(module=str(module), level=0, names=names) if foreign(module):
                bound |= {one.asname or one.name for one in names}
                for one in names:
                    if private(one.name) or private_module(module) or private_module(f"{module}.{one.name}"):
                        yield f"{node.lineno}: from {module} import {one.name}"
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute):
            continue
        chain = ast.unparse(node)
        first = chain.split(".")[0]
        if first in bound and any(chain == f"{room}" or chain.startswith(f"{room}.") for room in PRIVATE_ROOMS):
            yield f"{node.lineno}: {chain}"
        if private(node.attr) and (node.attr not in own or (isinstance(node.value, ast.Name) and first in bound)):
            yield f"{node.lineno}: {chain}"


def trees() -> dict[str, ast.AST]:
    files = [path for room in sorted(OWN) for path in sorted((ROOT / room).rglob("*.py"))]
    return {str(path.relative_to(ROOT)): ast.parse(path.read_text()) for path in files}


def test_private_names_of_libraries_are_used_in_the_adapters_alone() -> None:
    files = trees()
    own = {name for tree in files.values() for name in own_names(tree) if private(name)}
    assert len(own) > 100
    found = [
        f"{name}:{where}"
        for name, tree in files.items()
        if not name.startswith("stac2cube/adapters/")
        for where in reaches(tree, own)
    ]
    assert not found, "take it in stac2cube/adapters, with a test of what is assumed"


def test_every_adapter_has_a_test() -> None:
    tested = "".join(path.read_text() for path in (ROOT / "tests" / "adapters").glob("test_*.py"))
    adapters = [path.stem for path in (ROOT / "stac2cube" / "adapters").glob("*.py") if path.stem != "__init__"]
    assert adapters
    assert not [name for name in adapters if f"from stac2cube.adapters import {name} as of_{name}" not in tested]


@pytest.mark.parametrize(
    "code",
    [
        "from rasterio._err import CPLE_BaseError",
        "import rasterio._err",
        "from rasterio import _err",
        "from zarr.core.buffer import Buffer",
        "from zarr import core",
        "import xarray as xr; xr.Dataset()._variables",
        "import zarr; zarr.core.sync",
        "from dask_jobqueue.slurm import SLURMJob; SLURMJob._call(1)",
        "def made(client): return client._scheduler_identity",
        "class Own:\n    def _held(self): ...\nimport pandas as pd\npd._held",
    ],
)
def test_reaches_are_seen(code: str) -> None:
    tree = ast.parse(code)
    assert list(reaches(tree, set(own_names(tree))))


@pytest.mark.parametrize(
    "code",
    [
        "import os; os._exit(1)",
        "from stac2cube.store.staging import _scalar",
        "class Own:\n    def __init__(self, other): self._held = other._held",
        "from collections import namedtuple\nT = namedtuple('T', 'a'); T(1)._replace(a=2)",
        "import distributed; distributed.core.Status",
    ],
)
def test_what_is_public_or_our_own_is_left_alone(code: str) -> None:
    tree = ast.parse(code)
    assert not list(reaches(tree, set(own_names(tree))))
