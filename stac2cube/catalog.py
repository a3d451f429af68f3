"""Catalogs: where items are found, and what reading their assets needs."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from platformdirs import user_data_path

from stac2cube.errors import BadInputError, CatalogError
from stac2cube.table import shipped_and_own


@dataclass(frozen=True)
class Catalog:
    """A place where STAC items are found.

    Attributes:
        name: Its name, or the path or URL a person gave.
        title: What people call it.
        url: Address of a STAC API, or path of a local source.
        signer: How the worker signs hrefs when reading: see :mod:`stac2cube.source.sign`.
        like: The catalog whose mission pages apply; "" where each item tells by its own shape.
        local_root: Folder that must be mounted to read its assets, "" if none.
        note: A remark for people.
    """

    name: str
    title: str
    url: str
    signer: Literal["none", "planetary-computer", "requester-pays", "cdse"] = "none"
    like: str = ""
    local_root: str = ""
    note: str = ""

    @property
    def is_local(self) -> bool:
        """Whether it is a file or folder on disk."""
        return "://" not in self.url


def catalogs() -> dict[str, Catalog]:
    """All catalogs known by name, in the order of the tables.

    Raises:
        TableError: A table is malformed.
    """
    known: dict[str, Catalog] = {}
    for place, file in enumerate(shipped_and_own("catalogs.toml")):
        for name, value in file.parse().items():
            file.check(Catalog, value, f"catalog {name!r}", given=("name",))
            # Mission pages name the shipped catalogs, also one that a person overrides; in others each item tells.
            like = name if place == 0 or name in known else ""
            known[name] = Catalog(**{"name": name, "like": like, **value})
    return known


def find_catalog(name: str) -> Catalog:
    """A catalog by its name, by the URL of a STAC API, by the path of a local source, or by the name of a scene index.

    An index goes by the name of the catalog that it was searched in, because its items are read as that one's.

    Raises:
        BadInputError: Nothing is known by that name.
    """
    known = catalogs()
    if name in known:
        return known[name]
    if is_index(index_path(name)):
        return _of_index(index_path(name), known)
    if name.startswith(("http://", "https://")):
        by_url = {catalog.url.rstrip("/"): catalog for catalog in known.values()}
        return by_url.get(name.rstrip("/"), Catalog(name=name, title=name, url=name))
    path = Path(name).expanduser()
    if path.exists():
        return Catalog(name=str(path), title=path.name, url=str(path.resolve()))
    raise BadInputError(
        f"unknown catalog {name!r}: known are {', '.join(known)}, the URL of a STAC API, the path of a local catalog, "
        "or the name of a scene index (see `stac2cube index list`)"
    )


MANIFEST = "index.json"
"""The file that says what belongs to a scene index, see :mod:`stac2cube.source.indexed`."""


def indexes_folder() -> Path:
    """Where scene indexes lie that have a name only: below the user's data, or below STAC2CUBE_DATA_DIR."""
    chosen = os.environ.get("STAC2CUBE_DATA_DIR")
    return (Path(chosen) if chosen else Path(user_data_path("stac2cube"))) / "indexes"


def index_path(name: str | Path) -> Path:
    """Where a scene index lies: its path, or its name among the user's own. A text with a slash is a path.

    A folder here that is called like an index, a recipe's folder of cubes for example, does not hide it.
    """
    path = Path(name).expanduser()
    is_path = "/" in str(name) or len(path.parts) > 1 or path.is_file() or is_index(path)
    return path.resolve() if is_path else indexes_folder() / path


def is_index(path: Path) -> bool:
    """Whether a folder is a scene index, and not one of products, whose manifest has the same name and holds items."""
    manifest = path / MANIFEST
    if not manifest.is_file():
        return False
    with manifest.open("rb") as file:
        return b'"FeatureCollection"' not in file.read(_HEAD)


_HEAD = 256
"""Bytes at the begin of a manifest that tell whose it is."""


def _of_index(path: Path, known: dict[str, Catalog]) -> Catalog:
    try:
        name = str(json.loads((path / MANIFEST).read_bytes())["catalog"])
    except (ValueError, KeyError, TypeError) as error:
        raise CatalogError(f"{path / MANIFEST} is no manifest of a scene index: {error}") from error
    by_url = {catalog.url.rstrip("/"): catalog for catalog in known.values()}
    source = known.get(name) or by_url.get(name.rstrip("/")) or Catalog(name=name, title=name, url=name)
    return replace(source, url=str(path))
