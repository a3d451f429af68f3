"""The house: a room imports from lower floors only, `import stac2cube` is quick, every public name is documented."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "stac2cube"

FLOORS = {
    **dict.fromkeys(("adapters", "equality", "errors", "version", "names", "trust"), 1),
    **dict.fromkeys(
        (
            "grid",
            "table",
            "mission",
            "catalog",
            "site",
            "recipe",
            "scene",
            "globe",
            "faults",
            "feature",
            "area",
            "period",
            "progress",
            "weights",
            "cwl",
            "geoparquet",
            "limits",
            "kernels",
            "places",
            "tables",
        ),
        2,
    ),
    **dict.fromkeys(("cube", "source"), 3),
    **dict.fromkeys(
        (
            "alive",
            "work",
            "flow",
            "filling",
            "sealer",
            "shares",
            "build",
            "status",
            "jobs",
            "doctor",
            "index",
            "growth",
        ),
        4,
    ),
    **dict.fromkeys(("stages", "products", "views", "reads", "training"), 5),
    **dict.fromkeys(("cli", "demo", "explorer", "__main__"), 6),
}
"""Rooms of one floor may not form a ring either: within floor 2 and 3 the order below holds."""

NEIGHBOURS = {
    ("__main__", "cli"),
    ("area", "feature"),
    ("area", "globe"),
    ("build", "filling"),
    ("build", "flow"),
    ("build", "growth"),
    ("build", "sealer"),
    ("build", "work"),
    ("catalog", "table"),
    ("cli", "demo"),
    ("cli", "explorer"),
    ("feature", "globe"),
    ("filling", "flow"),
    ("filling", "work"),
    ("flow", "work"),
    ("growth", "work"),
    ("index", "alive"),
    ("limits", "places"),
    ("names", "errors"),
    ("names", "trust"),
    ("mission", "table"),
    ("products", "stages"),
    ("products", "views"),
    ("reads", "products"),
    ("reads", "stages"),
    ("sealer", "filling"),
    ("sealer", "work"),
    ("shares", "filling"),
    ("shares", "flow"),
    ("shares", "sealer"),
    ("shares", "work"),
    ("site", "limits"),
    ("site", "places"),
    ("site", "table"),
    ("stages", "views"),
    ("status", "growth"),
    ("status", "work"),
    ("training", "stages"),
    ("trust", "errors"),
    ("weights", "kernels"),
    ("weights", "table"),
    ("work", "alive"),
}
"""Who may use whom on the same floor."""

DASK_ROOMS = {
    "places/allocation.py",
    "places/batch.py",
    "places/dasking.py",
    "places/gateway.py",
    "places/gateway_server.py",
    "places/keys.py",
    "places/local.py",
    "places/jobqueue.py",
    "source/lazy.py",
    "views/neighbours.py",
}


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down(path: Path) -> None:
    here = room(path)
    if here == "__init__":
        return
    for name in imports(path):
        if not name.startswith("stac2cube."):
            continue
        there = name.split(".")[1]
        lower = FLOORS[there] < FLOORS[here]
        assert lower or there == here or (here, there) in NEIGHBOURS, f"{here} may not import {name}"


def test_stages_never_import_each_other_and_only_places_name_dask() -> None:
    for path in modules():
        names = {name.split(".")[0] for name in imports(path)}
        where = str(path.relative_to(PACKAGE))
        assert where in DASK_ROOMS or not names & {"dask", "distributed", "dask_jobqueue", "dask_gateway"}, where
    assert not {"stac2cube.cube", "zarr"} & {n for p in (PACKAGE / "source").glob("*.py") for n in imports(p)}
    assert not [n for p in (PACKAGE / "cube").glob("*.py") for n in imports(p) if "source" in n or "pystac" in n]


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


def test_every_public_name_is_there_and_documented() -> None:
    import stac2cube

    pytest.importorskip("torch", reason="datasets for training are among them, and need PyTorch")

    for name in stac2cube.__all__:
        value = getattr(stac2cube, name)
        assert name == "__version__" or value.__doc__, name
    with pytest.raises(AttributeError, match="nonsense"):
        stac2cube.nonsense  # noqa: B018


def test_files_stay_rooms_not_halls() -> None:
    long = {str(p.relative_to(PACKAGE)): n for p in modules() if (n := len(p.read_text().splitlines())) > 350}
    assert not long


def test_every_test_file_is_collected(request: pytest.FixtureRequest) -> None:
    """A folder that pytest passes over would be a gap that nobody sees."""
    if request.config.args != ["tests"] or request.config.getoption("-k") or "fast" in request.config.getoption("-m"):
        pytest.skip("this run was asked for some tests only")
    tests = Path(__file__).parents[1]
    seen = {Path(item.path) for item in request.session.items}
    elsewhere = [Path(folder).resolve() for folder in request.config.getoption("ignore") or []]
    there = {path for path in tests.rglob("test_*.py") if not any(path.is_relative_to(folder) for folder in elsewhere)}
    soak_only = {path for path in there if "def test_" in path.read_text()} - seen
    assert not soak_only
