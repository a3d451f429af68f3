"""Catalogs: where items are found, and how their assets are read."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from platformdirs import user_data_path

from stac2cube.errors import BadInputError, CatalogError
from stac2cube.model.tables import shipped_and_own
from stac2cube.trust.address import NOBODY, Login, expanded, has_secret, is_http, public, public_each
from stac2cube.trust.text import parse_json, shown


@dataclass(frozen=True)
class Catalog:
    """A source of STAC items.

    docs/security.md describes how far the content of a catalog is trusted, depending on its entry.

    Attributes:
        name: Its name, or the path or URL that the user gave.
        title: Display name.
        url: Address of a STAC API, without user, password and keys; or path of a local source.
        signer: How the worker signs hrefs when reading: see :mod:`stac2cube.access.sign`.
        like: The catalog whose mission pages apply; "" where the page is found by the shape of each item.
        local_root: Folder that must be mounted to read its assets, or several; "" if none. Items of a catalog behind a
            URL may name files below these folders only.
        hosts: Hosts that may receive keys for its assets (a token, a password of ``~/.netrc``, the value of
            ``GDAL_HTTP_USERPWD``), including their subdomains.
        note: A remark for users.
        partial: Whether it holds samples of an archive only. It is searched if named, or if the others have nothing.
        origin: For items stored locally, the URL where they were found; "" if they do not come from a URL.
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
        """Separate the keys from the address, and turn lists from tables into tuples."""
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
        """Whether its items come from a URL, even if they are stored on disk now."""
        return "://" in (self.origin or self.url)

    @property
    def roots(self) -> tuple[str, ...]:
        """The folders of :attr:`local_root`."""
        if isinstance(self.local_root, str):
            return (self.local_root,) if self.local_root else ()
        return self.local_root

    def to_json(self) -> dict[str, Any]:
        """Its fields as plain values, without keys."""
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
        """The same catalog with its items stored in a file or folder. They are trusted as before."""
        return replace(self, url=place, origin=self.origin or (self.url if self.is_foreign else ""))


def catalogs() -> dict[str, Catalog]:
    """All named catalogs, in the order of the tables.

    Raises:
        TableError: A table is malformed.
    """
    known: dict[str, Catalog] = {}
    for place, file in enumerate(shipped_and_own("catalogs.toml")):
        for name, value in file.parse().items():
            file.check(Catalog, value, f"catalog {name!r}", given=("name", "origin", "login"))
            # Mission pages name the shipped catalogs, even if the user overrides them; otherwise each item decides.
            like = name if place == 0 or name in known else ""
            partial = name in known and known[name].partial
            known[name] = Catalog(**{"name": name, "like": like, "partial": partial, **value})
    return known


def find_catalog(name: str) -> Catalog:
    """Find a catalog by its name, the URL of a STAC API, the path of a local source, or the name of a scene index.

    An index takes the name of the catalog that was searched for it, because its items are read in the same way.

    Raises:
        BadInputError: There is no such catalog.
    """
    known = catalogs()
    if name in known:
        return known[name]
    if is_index(index_path(name)):
        return _of_index(index_path(name), known)
    if is_http(name):
        return _of_url(name, known)
    path = expanded(name)
    if path.exists():
        return Catalog(name=str(path), title=path.name, url=str(path.resolve()))
    if "/" in name and not path.is_absolute():  # a cube stores the path of its catalog as it was given
        raise BadInputError(
            f"there is no catalog at {shown(name)!r}, seen from the folder {Path.cwd()}: run the command where the "
            "path is right, or say the catalog with its whole path"
        )
    raise BadInputError(
        f"unknown catalog {shown(name)!r}: known are {', '.join(known)}, the URL of a STAC API, the path of a local "
        "catalog, or the name of a scene index (see `stac2cube index list`)"
    )


def is_catalog_name(text: str) -> bool:
    """Whether a text is the name of a catalog or of a scene index, or "auto", whatever files there are.

    Raises:
        TableError: A table is malformed.
    """
    return text == "auto" or text in catalogs() or ("/" not in text and is_index(indexes_folder() / text))


def _of_url(url: str, known: dict[str, Catalog]) -> Catalog:
    """The catalog at an address, from the tables if they have it. Keys that are given override those in the tables."""
    plain = public(url)
    by_url = {catalog.url.rstrip("/"): catalog for catalog in known.values()}
    found = by_url.get(plain.rstrip("/"), Catalog(name=plain, title=plain, url=plain))
    return replace(found, login=Login.of(url)) if has_secret(url) else found


def public_catalog(text: str) -> str:
    """Comma-separated names, URLs and paths of catalogs without keys, safe to write."""
    return text if "://" not in text or Path(text).exists() else public_each(text)


MANIFEST = "index.json"
"""The file that lists the parts of a scene index, see :mod:`stac2cube.search.index_files`."""


ITEM = "stac2cube:item"
"""Column with the item as JSON text: unsigned, without links."""

SOURCES = "stac2cube:sources"
"""Column of a ledger with the source items of a step, as JSON texts."""

HEADERS = "stac2cube:headers"
"""Column of an index with a list of headers per item."""

SIDES = ("xmin", "ymin", "xmax", "ymax")
"""Members of a column ``bbox``, see :mod:`stac2cube.model.geoparquet`."""


def indexes_folder() -> Path:
    """Folder of scene indexes that are known by name: below the user's data, or below STAC2CUBE_DATA_DIR."""
    chosen = os.environ.get("STAC2CUBE_DATA_DIR")
    return (Path(chosen) if chosen else Path(user_data_path("stac2cube"))) / "indexes"


def index_path(name: str | Path) -> Path:
    """Location of a scene index: its path, or its name among the user's own. A text with a slash is a path.

    A folder with the same name, for example a recipe's folder of cubes, does not hide an index.
    """
    path = expanded(name)
    is_path = "/" in str(name) or len(path.parts) > 1 or path.is_file() or is_index(path)
    return path.resolve() if is_path else indexes_folder() / path


def is_index(path: Path) -> bool:
    """Whether a folder is a scene index. A folder of products has a manifest of the same name, but with items in it."""
    manifest = path / MANIFEST
    if not manifest.is_file():
        return False
    with manifest.open("rb") as file:
        return b'"FeatureCollection"' not in file.read(_HEAD)


_HEAD = 256
"""Bytes at the start of a manifest that are enough to identify its kind."""


def _of_index(path: Path, known: dict[str, Catalog]) -> Catalog:
    try:
        name = str(parse_json((path / MANIFEST).read_bytes())["catalog"])
    except (ValueError, KeyError, TypeError) as error:
        raise CatalogError(f"{path / MANIFEST} is no manifest of a scene index: {error}") from error
    source = known.get(name) or (_of_url(name, known) if is_http(name) else Catalog(name=name, title=name, url=name))
    return source.kept_in(str(path))
