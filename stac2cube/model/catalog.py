"""Catalogs: where items are found, and what reading their assets needs."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from platformdirs import user_data_path

from stac2cube.errors import BadInputError, CatalogError
from stac2cube.model.tables import shipped_and_own
from stac2cube.trust.address import NOBODY, Login, has_secret, is_http, public, public_each
from stac2cube.trust.text import shown


@dataclass(frozen=True)
class Catalog:
    """A place where STAC items are found.

    What it says is trusted no further than its entry says, see docs/security.md.

    Attributes:
        name: Its name, or the path or URL a person gave.
        title: What people call it.
        url: Address of a STAC API, without user, password and keys; or path of a local source.
        signer: How the worker signs hrefs when reading: see :mod:`stac2cube.access.sign`.
        like: The catalog whose mission pages apply; "" where each item tells by its own shape.
        local_root: Folder that must be mounted to read its assets, or several; "" if none. Of a catalog behind a URL,
            items may name files below these folders, and no others.
        hosts: Names of hosts that may see keys for its assets (a token, a password of ``~/.netrc``, what
            ``GDAL_HTTP_USERPWD`` says), each with those below it.
        note: A remark for people.
        partial: Whether it has samples of an archive only: it is asked by name, or where the others have nothing.
        origin: Of items that are kept here, the URL where they were found; "" where they were not found at one.
        login: User, password and keys of the address, in memory only.
    """

    name: str
    title: str
    url: str
    signer: Literal["none", "planetary-computer", "requester-pays", "cdse"] = "none"
    like: str = ""
    local_root: str | tuple[str, ...] = ""
    hosts: tuple[str, ...] = ()
    note: str = ""
    partial: bool = False
    origin: str = ""
    login: Login = field(default=NOBODY, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Keep keys of the address apart from it, and lists from tables as tuples."""
        if has_secret(self.url):
            object.__setattr__(self, "login", Login.of(self.url))
            object.__setattr__(self, "url", public(self.url))
        for name in ("name", "title", "origin"):
            object.__setattr__(self, name, public(getattr(self, name)))
        if not isinstance(self.local_root, str):
            object.__setattr__(self, "local_root", tuple(self.local_root))
        object.__setattr__(self, "hosts", tuple(self.hosts))

    @property
    def is_local(self) -> bool:
        """Whether it is a file or folder on disk."""
        return "://" not in self.url

    @property
    def is_foreign(self) -> bool:
        """Whether its items come from a URL, also where they are kept on disk by now."""
        return "://" in (self.origin or self.url)

    @property
    def roots(self) -> tuple[str, ...]:
        """The folders of :attr:`local_root`."""
        if isinstance(self.local_root, str):
            return (self.local_root,) if self.local_root else ()
        return self.local_root

    def to_json(self) -> dict[str, Any]:
        """What is known of it as plain values, without keys."""
        return {
            "name": self.name,
            "title": self.title,
            "url": self.url,
            "signer": self.signer,
            "like": self.like,
            "local_root": self.local_root if isinstance(self.local_root, str) else list(self.local_root),
            "hosts": list(self.hosts),
            "note": self.note,
            "partial": self.partial,
        }

    def kept_in(self, place: str) -> Catalog:
        """The same catalog, of which items are kept in a file or folder: they are trusted as before."""
        return replace(self, url=place, origin=self.origin or (self.url if self.is_foreign else ""))


def catalogs() -> dict[str, Catalog]:
    """All catalogs known by name, in the order of the tables.

    Raises:
        TableError: A table is malformed.
    """
    known: dict[str, Catalog] = {}
    for place, file in enumerate(shipped_and_own("catalogs.toml")):
        for name, value in file.parse().items():
            file.check(Catalog, value, f"catalog {name!r}", given=("name", "origin", "login"))
            # Mission pages name the shipped catalogs, also one that a person overrides; in others each item tells.
            like = name if place == 0 or name in known else ""
            partial = name in known and known[name].partial
            known[name] = Catalog(**{"name": name, "like": like, "partial": partial, **value})
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
    if is_http(name):
        return _of_url(name, known)
    path = Path(name).expanduser()
    if path.exists():
        return Catalog(name=str(path), title=path.name, url=str(path.resolve()))
    if "/" in name and not path.is_absolute():  # a cube remembers its catalog as it was said
        raise BadInputError(
            f"there is no catalog at {shown(name)!r}, seen from the folder {Path.cwd()}: run the command where the "
            "path is right, or say the catalog with its whole path"
        )
    raise BadInputError(
        f"unknown catalog {shown(name)!r}: known are {', '.join(known)}, the URL of a STAC API, the path of a local "
        "catalog, or the name of a scene index (see `stac2cube index list`)"
    )


def _of_url(url: str, known: dict[str, Catalog]) -> Catalog:
    """The catalog of an address, one of the tables if one has it; keys that are given count more than those there."""
    plain = public(url)
    by_url = {catalog.url.rstrip("/"): catalog for catalog in known.values()}
    found = by_url.get(plain.rstrip("/"), Catalog(name=plain, title=plain, url=plain))
    return replace(found, login=Login.of(url)) if has_secret(url) else found


def public_catalog(text: str) -> str:
    """Names, URLs and paths of catalogs, with commas between them, as they may be written: without keys."""
    return text if "://" not in text or Path(text).exists() else public_each(text)


MANIFEST = "index.json"
"""The file that says what belongs to a scene index, see :mod:`stac2cube.search.index_files`."""


ITEM = "stac2cube:item"
"""Column with the item as JSON text: unsigned, without links."""

SOURCES = "stac2cube:sources"
"""Column of a ledger with the items that a step was made from, as JSON texts."""

HEADERS = "stac2cube:headers"
"""Column of an index with a list of headers per item."""

SIDES = ("xmin", "ymin", "xmax", "ymax")
"""Members of a column ``bbox``, see :mod:`stac2cube.model.geoparquet`."""


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
    source = known.get(name) or (_of_url(name, known) if is_http(name) else Catalog(name=name, title=name, url=name))
    return source.kept_in(str(path))
