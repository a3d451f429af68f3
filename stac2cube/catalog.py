"""Catalogs: where items are found, and what reading their assets needs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from stac2cube.errors import BadInputError
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
    """A catalog by its name, by the URL of a STAC API, or by the path of a local source.

    Raises:
        BadInputError: Nothing is known by that name.
    """
    known = catalogs()
    if name in known:
        return known[name]
    if name.startswith(("http://", "https://")):
        by_url = {catalog.url.rstrip("/"): catalog for catalog in known.values()}
        return by_url.get(name.rstrip("/"), Catalog(name=name, title=name, url=name))
    path = Path(name).expanduser()
    if path.exists():
        return Catalog(name=str(path), title=path.name, url=str(path.resolve()))
    raise BadInputError(
        f"unknown catalog {name!r}: known are {', '.join(known)}, the URL of a STAC API, or the path of a local catalog"
    )
