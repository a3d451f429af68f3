"""The house: how many files, rooms and arrows there are, no name twice, `import stac2cube` is quick.

That rooms import from lower floors only is a contract of import-linter, in pyproject.toml, which `make lint` checks.
A later change raises a count only with a reason in its commit.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import Counter
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from tests.house.rooms import PACKAGE, PAGE, arrows, files, imports, modules, page

MOST_FILES = 170
MOST_ARROWS = 130
MOST_LINES = 700

MOST_MODULES = 200
"""Modules of a worker beyond those of distributed, NumPy and rasterio; 166 with shapely 2.1 and pyproj 3.7."""

DASK_FILES = {
    "executors/dask.py",
    "executors/gateway.py",
    "executors/slurm.py",
    "executors/jobqueue.py",
    "executors/local.py",
    "pixels/lazy.py",
    "views/units.py",
}
"""The only files that may name dask: an executor changes no pixel, and lazy arrays are dask's."""


def names(kind: type | tuple[type, ...], files: list[Path]) -> list[str]:
    return [node.name for path in files for node in ast.parse(path.read_text()).body if isinstance(node, kind)]


def twice(found: list[str]) -> list[str]:
    return sorted(name for name, count in Counter(found).items() if count > 1)


def test_the_house_stays_small() -> None:
    there = [path for path in modules() if path.name != "__init__.py"]
    assert len(there) <= MOST_FILES
    assert len(arrows()) <= MOST_ARROWS
    assert {path.name: n for path in there if (n := len(path.read_text().splitlines())) > MOST_LINES} == {}


def test_no_class_and_no_public_function_has_its_name_twice() -> None:
    assert twice(names(ast.ClassDef, modules())) == []
    elsewhere = [path for path in modules() if path.relative_to(PACKAGE).parts[0] != "cli"]
    assert twice([name for name in names(ast.FunctionDef, elsewhere) if not name.startswith("_")]) == []


def test_no_two_files_import_each_other() -> None:
    """Nor over others; an import within a function or for types alone closes a circle, too."""
    order = tuple(TopologicalSorter(files()).static_order())  # raises CycleError, which names the circle
    assert order.index("stac2cube.errors") < order.index("stac2cube.model.grid") < order.index("stac2cube.cli")


def test_what_some_rooms_must_not_know() -> None:
    dask = {"dask", "distributed", "dask_jobqueue", "dask_gateway"}
    assert {
        str(p.relative_to(PACKAGE)) for p in modules() if dask & {n.split(".")[0] for n in imports(p)}
    } == DASK_FILES
    for room in ("search", "pixels", "fastcog", "access"):
        knowing = {p.name for p in (PACKAGE / room).glob("*.py") if "zarr" in imports(p)}
        # Products in Zarr are read by zarr; nothing else of these rooms is a store of arrays.
        assert knowing == ({"zarr_store.py"} if room == "pixels" else set()), room
    assert [n for p in (PACKAGE / "store").glob("*.py") for n in imports(p) if "pystac" in n] == []


def test_importing_is_quick_and_light() -> None:
    code = (
        "import sys, time; begun = time.process_time(); import stac2cube; print(time.process_time() - begun);"
        "print(*sorted({name.split('.')[0] for name in sys.modules}))"
    )
    seconds, loaded = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout.splitlines()
    assert float(seconds) < 1.0
    assert not {"torch", "arosics", "lightgbm", "dask_jobqueue", "xarray", "zarr", "rasterio"} & set(loaded.split())


def test_a_worker_imports_little() -> None:
    """What a worker job imports to make blocks: each of hundreds opens these files on a shared file system."""
    code = (
        "import sys, distributed, numpy, rasterio; before = set(sys.modules);"
        "import stac2cube.build.loop, stac2cube.stages.layers; print(*sorted(set(sys.modules) - before))"
    )
    answer = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    more = answer.stdout.split()
    assert len(more) <= MOST_MODULES
    heavy = {"scipy", "pyarrow", "rich", "pandas", "xarray", "pystac", "pystac_client", "requests", "torch", "arosics"}
    heavy |= {"zarr", "zarrs", "numcodecs", "numba"}
    assert not heavy & {name.split(".")[0] for name in more}
    assert "dask.array" not in more


def test_commands_import_little(tmp_path: Path) -> None:
    """What looks at a cube needs no zarr and no dask, and what commits needs no pandas, which pyarrow would import."""
    code = (
        "import sys; from pathlib import Path; from stac2cube.store.ledger import Entry, Ledger;"
        "from datetime import UTC, datetime; cube = Path(sys.argv[1]);"
        "row = Entry('a', datetime(2024, 1, 2, tzinfo=UTC), 'failed', ('b',));"
        "assert Ledger(cube, Ledger(cube, ()).write([row], 1)).entries() == {'a': row};"
        "import stac2cube.cli, stac2cube.archives.archive, stac2cube.build.status; print(*sys.modules)"
    )
    (tmp_path / "a.zarr" / ".stac2cube").mkdir(parents=True)
    command = [sys.executable, "-c", code, str(tmp_path / "a.zarr")]
    answer = subprocess.run(command, check=True, capture_output=True, text=True)
    heavy = {"pandas", "zarr", "numcodecs", "odc", "dask", "pyproj", "rasterio", "scipy", "numba", "requests", "xarray"}
    assert not heavy & {name.split(".")[0] for name in answer.stdout.split()}


def test_every_public_name_is_there_and_documented() -> None:
    import stac2cube

    pytest.importorskip("torch", reason="datasets for training are among them, and need PyTorch")

    for name in stac2cube.__all__:
        value = getattr(stac2cube, name)
        assert name == "__version__" or value.__doc__, name
    with pytest.raises(AttributeError, match="nonsense"):
        stac2cube.nonsense  # noqa: B018


def test_every_test_file_is_collected(request: pytest.FixtureRequest) -> None:
    """A folder that pytest passes over would be a gap that nobody sees."""
    if request.config.args != ["tests"] or request.config.getoption("-k") or "fast" in request.config.getoption("-m"):
        pytest.skip("this run was asked for some tests only")
    tests = Path(__file__).parents[1]
    seen = {Path(item.path) for item in request.session.items}
    elsewhere = [Path(folder).resolve() for folder in request.config.getoption("ignore") or []]
    there = {path for path in tests.rglob("test_*.py") if not any(path.is_relative_to(folder) for folder in elsewhere)}
    texts = {path: path.read_text() for path in there - seen}
    # Each test of a file may be a campaign of its own.
    assert not [path for path, text in texts.items() if text.count("def test_") > text.count("@pytest.mark.soak")]


def test_the_picture_of_the_rooms_is_that_of_today() -> None:
    assert PAGE.read_text() == page(), "python -m tests.house.rooms writes it"
