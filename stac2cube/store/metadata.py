"""The root zarr.json of a cube: consolidated metadata and the list of what is sealed; the location of overviews."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from stac2cube.errors import BadInputError, CubeError
from stac2cube.model.cube_spec import FORMAT, CubeSpec, Layer
from stac2cube.model.grid import Grid
from stac2cube.store.files import read_plain, real_folder, write_whole
from stac2cube.trust.text import printable

# Locations of related cubes, which a cube stores by path, also after all of them were moved together.

_CUBES = ("layers", "clouds", "shifts", "source")
"""Keys of a request that may be the path of another cube."""


def found_again(cube: Path, request: Mapping[str, Any]) -> dict[str, Any]:
    """The stored request of a cube, with the current paths of other cubes.

    If there is no cube at a stored path, the cube of the same name beside this one is used, if there is one: an
    archive is moved as a whole.

    Args:
        cube: The cube.
        request: Its stored request.
    """
    return {word: _now(cube, value) if word in _CUBES else value for word, value in request.items()}


def _now(cube: Path, remembered: Any) -> Any:
    if not isinstance(remembered, str) or not remembered.startswith("/") or _is_cube(Path(remembered)):
        return remembered
    here = cube.resolve().parent
    # A level of overviews is in a folder beside the cube that it was made from, or beside the level before it.
    beside = (here / Path(remembered).name, here.parent / Path(remembered).name)
    there = [path for path in (beside if here.suffix == ".overviews" else beside[:1]) if _is_cube(path)]
    return str(there[0]) if there else remembered


def _is_cube(path: Path) -> bool:
    return (path / "zarr.json").exists()


# The root ``zarr.json`` of a cube: consolidated metadata, and the only authority on what is sealed.
#
# It is plain JSON, written by zarr itself when the cube was created. A commit changes two things in it: the length of
# every array along ``time`` and the cube's own attributes.

OWN = ".stac2cube"
"""Folder for stac2cube's own files inside a cube (ledger, history, staging, trash). It is an empty Zarr group, so that
readers that list the store find nothing unexpected."""

COORDINATES = ("time", "scene")
"""Arrays that grow with the layers and hold one value per step."""

GRID_MAPPING = "spatial_ref"
"""Name of the variable with the CRS."""

COORDINATE_CHUNK = 8192
"""Steps per chunk of a coordinate: one small file for decades, rewritten as a whole by each commit."""

_CONVENTIONS = "https://github.com/zarr-conventions"


def convention(name: str, uuid: str, description: str) -> dict[str, str]:
    """An entry of the attribute ``zarr_conventions``, version 0.1."""
    raw = "https://raw.githubusercontent.com/zarr-conventions"
    return {
        "uuid": uuid,
        "schema_url": f"{raw}/{name}/refs/tags/v0.1/schema.json",
        "spec_url": f"{_CONVENTIONS}/{name}/blob/v0.1/README.md",
        "name": name,
        "description": description,
    }


CONVENTIONS = [
    convention("proj", "f17cb550-5864-4468-aeb7-f3180cfb622f", "Coordinate reference system of the grid"),
    convention("spatial", "689b58e2-cf7b-45e0-9fff-9cfc0883d6b4", "Transform, shape and extent of the grid"),
]
"""The Zarr conventions a cube follows beside CF (https://github.com/zarr-conventions); GDAL reads them from 3.13 on."""


@dataclass(frozen=True)
class Root:
    """A cube's root metadata as written by one commit.

    Attributes:
        document: The parsed ``zarr.json``.
    """

    document: Mapping[str, Any]

    @property
    def own(self) -> dict[str, Any]:
        """stac2cube's attributes: format, spec, commit, generation, ledger."""
        own: dict[str, Any] = self.document["attributes"]["stac2cube"]
        return own

    @property
    def spec(self) -> CubeSpec:
        """The spec of the cube."""
        return CubeSpec.from_json(self.own["spec"])

    @property
    def commit(self) -> int:
        """Number of the commit that wrote this root; 0 after creation."""
        return int(self.own["commit"])

    @property
    def generation(self) -> int:
        """Number of times that the cube was rebuilt from hard links."""
        return int(self.own["generation"])

    @property
    def ledger(self) -> tuple[str, ...]:
        """Names of the ledger parts of this state, oldest first."""
        return tuple(self.own["ledger"])

    @property
    def years(self) -> dict[int, str]:
        """Names of the stores of sealed years, see :mod:`stac2cube.store.yearly_store`."""
        return {int(year): str(name) for year, name in self.own.get("years", {}).items()}

    @property
    def steps(self) -> int:
        """Number of sealed time steps."""
        return int(self._arrays["time"]["shape"][0])

    @property
    def _arrays(self) -> dict[str, Any]:
        arrays: dict[str, Any] = self.document["consolidated_metadata"]["metadata"]
        return arrays

    def growing(self) -> dict[str, bytes]:
        """The ``zarr.json`` of each array that a commit may change, as in this root."""
        return {
            name: _text(metadata) for name, metadata in self._arrays.items() if _grows(metadata) or name == GRID_MAPPING
        }

    def nodes(self) -> dict[str, bytes]:
        """The ``zarr.json`` of every array and group in the cube, as in this root."""
        found = {OWN: _text({"attributes": {}, "zarr_format": 3, "node_type": "group"})}
        for name, metadata in self._arrays.items():
            alone = {key: value for key, value in metadata.items() if key != "consolidated_metadata"}
            found[name] = _text(alone)
        return found

    def strayed(self, cube: Path, nodes: Mapping[str, bytes] | None = None) -> dict[Path, bytes]:
        """Missing ``zarr.json`` files of nodes, and those that differ from this root, with the correct content.

        Args:
            cube: The cube.
            nodes: The nodes to check, from :meth:`nodes`; the arrays along time if None.
        """
        found = {}
        for name, wanted in (self.growing() if nodes is None else nodes).items():
            path = cube / name / "zarr.json"
            try:
                same = json.loads(read_plain(path)) == json.loads(wanted)
            except (OSError, ValueError):
                same = False
            if not same:
                found[path] = wanted
        return found

    def following(self, steps: int, **changes: Any) -> Root:
        """The root of the next commit, with ``steps`` steps and changed attributes of stac2cube."""
        document = json.loads(json.dumps(self.document))
        for metadata in document["consolidated_metadata"]["metadata"].values():
            if _grows(metadata):
                metadata["shape"][0] = steps
        _renew_attributes(document["consolidated_metadata"]["metadata"], self.spec.layers)
        hide_own(document)
        document["attributes"]["stac2cube"] |= {"commit": self.commit + 1, "made": now_text()} | changes
        return Root(document)

    def to_bytes(self) -> bytes:
        """The file's content."""
        return _text(self.document)


def read_root(path: Path, file: Path | None = None) -> Root:
    """Read and check the root of a cube; stored paths of other cubes are replaced by their current ones.

    Args:
        path: The cube.
        file: Another root to read instead, from the cube's history.

    Raises:
        CubeError: It does not exist, is not a cube of stac2cube, is damaged, cannot be read by this user, or was
            written by a newer version.
    """
    what = file or path
    try:
        document = json.loads(read_plain(file or path / "zarr.json", follow=True))
    except FileNotFoundError:
        if file is None and _put_in_place(path):
            return read_root(path)
        lost = f". Its root is lost: stac2cube verify {path} looks for it in its history"
        advice = lost if file is None and has_lost_root(path) else ""
        raise CubeError(
            f"{file} is not there" if file else f"{path} is not a cube: it has no zarr.json{advice}"
        ) from None
    except (NotADirectoryError, IsADirectoryError, ValueError, RecursionError) as error:
        raise CubeError(f"{what} is not a cube: {error}") from error
    except OSError as error:  # of another user: commands on several cubes continue with the others
        raise CubeError(f"{what} cannot be read: {error.strerror or error}") from error
    attributes = document.get("attributes") if isinstance(document, dict) else None
    own = attributes.get("stac2cube") if isinstance(attributes, dict) else None
    if not isinstance(own, dict) or "consolidated_metadata" not in document:
        raise CubeError(f"{path} is a Zarr store but not a cube of stac2cube")
    if "year" in own:
        raise CubeError(f"{path} holds one sealed year of a cube: open the cube")
    try:
        if own.get("format", 0) > FORMAT:
            raise CubeError(f"{path} has layout {own['format']}, this version knows {FORMAT}: upgrade stac2cube")
        own["spec"]["request"] = found_again(path, own["spec"]["request"])
        root = Root(document)
        _require_sound(root)
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
        words = " ".join(str(error).split())[:120] or type(error).__name__
        raise CubeError(
            f"{path} has a damaged root, or one that stac2cube did not write ({type(error).__name__}: "
            f"{printable(words)}): stac2cube verify {path} looks for a valid one in its history"
        ) from error
    return root


def has_lost_root(cube: Path) -> bool:
    """Whether a folder was a cube and has lost its root."""
    return (cube / OWN / "history").is_dir() and not (cube / "zarr.json").exists()


def _require_sound(root: Root) -> None:
    """Check that a root has all required members with valid types; later code relies on it."""
    spec, grid = root.spec, root.spec.grid
    root.commit, root.generation, root.steps, root.years  # noqa: B018 - these properties raise for invalid values
    if not all(isinstance(name, str) for name in (spec.stage, grid.crs, *root.ledger)):
        raise TypeError("stage, CRS and names of ledger parts must be text")
    if not isinstance(spec.recipe, dict):
        raise TypeError("the recipe must be an object")
    places = (grid.origin, grid.shape, grid.chunk, grid.shard)
    if any(len(pair) != 2 or not all(map(math.isfinite, pair)) for pair in places):
        raise ValueError("the grid needs pairs of finite numbers")
    if min(*grid.shape, *grid.chunk, *grid.shard, grid.resolution, root.steps + 1) <= 0:
        raise ValueError("sizes of the grid must be positive, and the number of steps not negative")


def _put_in_place(path: Path) -> bool:
    """Finish a swap of generations that died half-way; returns whether there is a cube now.

    Raises:
        CubeError: It cannot be finished.
    """
    try:
        return finish_journal(path.resolve())
    except OSError as error:
        raise CubeError(
            f"{path} is not there: a run died while it swapped in a new generation, which cannot be finished from here "
            f"({error.strerror}). Whoever may write the cube opens it once, with any command"
        ) from error


def finish_journal(cube: Path) -> bool:
    """Do the second step of a two-step swap that was interrupted after the first; any process may do this.

    Args:
        cube: The cube, which does not exist in that case.

    Returns:
        Whether there is a cube now.

    Raises:
        OSError: It cannot be done.
    """
    if not cube.exists() and swap_journal(cube).exists():
        try:
            next_folder(cube).rename(cube)
        except OSError:
            if not cube.exists():  # otherwise another process was faster
                raise
    return (cube / "zarr.json").exists()


def next_folder(cube: Path) -> Path:
    """Folder of the next generation before it is swapped in, and of the old one between swap and putting away."""
    return cube.with_name(f".{cube.name}.next")


def swap_journal(cube: Path) -> Path:
    """The file that describes the second step of a two-step swap."""
    return cube.with_name(f".{cube.name}.swap")


def _renew_attributes(arrays: Mapping[str, Any], layers: Sequence[Layer]) -> None:
    """Update attributes written by older versions.

    Up to version 0.1.0 the grid mapping had a ``GeoTransform``, which becomes wrong when a reader cuts or coarsens the
    coordinates; flags matched their masks where there is no data; and classes did not declare their ``nodata``.
    """
    if GRID_MAPPING in arrays:
        arrays[GRID_MAPPING]["attributes"].pop("GeoTransform", None)
    for layer in layers:
        if layer.name in arrays:
            today = layer.attributes()
            renewed = {name: today[name] for name in ("flag_masks", "nodata") if name in today}
            arrays[layer.name]["attributes"] |= renewed


def hide_own(document: dict[str, Any]) -> None:
    """Remove stac2cube's own folder from consolidated metadata, because readers show all entries as groups.

    It is a group nevertheless: readers that list folders warn about one that is no node.
    """
    document["consolidated_metadata"]["metadata"].pop(OWN, None)


def now_text() -> str:
    """The current time, UTC, as RFC 3339 with seconds."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _text(document: Mapping[str, Any]) -> bytes:
    """JSON without indentation: with indentation Python's own encoder would be used, which takes ten times as long."""
    return json.dumps(document).encode()


def _grows(metadata: Mapping[str, Any]) -> bool:
    """Whether it is an array along time."""
    return bool(metadata["node_type"] == "array" and metadata.get("dimension_names", [])[:1] == ["time"])


def placed(grid: Grid) -> dict[str, Any]:
    """Geotransform, shape, extent and CRS of a grid, in the terms of the conventions ``proj`` and ``spatial``."""
    return {
        **({"proj:code": grid.crs} if grid.crs.startswith("EPSG:") else {"proj:wkt2": grid.crs}),
        "spatial:dimensions": ["y", "x"],
        "spatial:transform": list(grid.transform),
        "spatial:shape": list(grid.shape),
        "spatial:bbox": list(grid.geobox.boundingbox),
    }


# Location of the overviews of a cube: beside it, in a separate Zarr group by the convention ``multiscales``.
#
# ``alps.zarr`` has its overviews in ``alps.zarr.overviews/``: ``2``, ``4``, ``8`` ... are cubes whose pixels are that
# many times larger, each with its own ledger and derived from the one before; ``1`` is a link to the cube itself, so
# that the group is the complete pyramid. The cube has no reference to them, so neither can damage the other.

SUFFIX = ".overviews"

MULTISCALES = convention("multiscales", "d35379db-88df-4056-af3a-620245f8e347", "Levels of the pyramid")


def overviews_folder(cube: Path) -> Path:
    """The folder of a cube's overviews, whether or not it exists."""
    cube = cube.resolve()
    return cube.with_name(f"{cube.name}{SUFFIX}")


def levels_of(cube: Path) -> tuple[int, ...]:
    """Levels of a cube, as factors of pixel size, ascending; without the cube itself."""
    folder = overviews_folder(cube)
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return tuple(sorted(int(name) for name in names if name.isdigit() and name != "1"))


def level_path(cube: Path, level: int) -> Path:
    """The cube of a level; the cube itself for 1.

    Raises:
        BadInputError: It has no such level.
    """
    if level == 1:
        return cube
    there = levels_of(cube)
    if level not in there:
        have = f"there are 1, {', '.join(map(str, there))}" if there else f"make them: stac2cube overviews {cube}"
        raise BadInputError(f"{cube} has no level {level}: {have}")
    return overviews_folder(cube) / str(level)


def overviews_beside(cube: Path) -> list[Path]:
    """All levels of a cube; for a level, all levels in its folder."""
    folder = cube.parent if cube.parent.suffix == SUFFIX else overviews_folder(cube)
    return [path for path in sorted(folder.glob("[0-9]*")) if path.name.isdigit() and not path.is_symlink()]


def write_pyramid(cube: Path) -> Path:
    """Write or rewrite the group that lists the levels; returns its folder.

    Raises:
        CubeError: Not a cube.
    """
    folder, grid = real_folder(overviews_folder(cube)), read_root(cube).spec.grid
    folder.mkdir(exist_ok=True)
    for level in levels_of(cube):
        real_folder(folder / str(level))
    whole = folder / "1"
    if not whole.is_symlink():
        whole.symlink_to(Path("..") / cube.name)
    layout: list[dict[str, Any]] = []
    for level in (1, *levels_of(cube)):
        own = read_root(level_path(cube, level)).spec.grid
        entry: dict[str, Any] = {"asset": str(level)}
        if layout:
            step = level / int(layout[-1]["asset"])
            entry |= {"derived_from": layout[-1]["asset"], "transform": {"scale": [step, step]}}
        layout.append(entry | {"spatial:shape": list(own.shape), "spatial:transform": list(own.transform)})
    document = {
        "zarr_format": 3,
        "node_type": "group",
        "attributes": {
            "zarr_conventions": [MULTISCALES, *CONVENTIONS],
            "multiscales": {"layout": layout, "resampling_method": "average"},
            **placed(grid),
        },
    }
    write_whole(folder / "zarr.json", json.dumps(document, indent=1).encode())
    return folder
