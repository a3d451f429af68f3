"""Checks of hrefs in items: which are followed, and which are refused with the reason. See docs/security.md.

A catalog behind a URL is not trusted: it may name addresses (http, https, s3), and local files only below the
folders listed in its entry (``local_root``). A catalog in the user's own file may name local files.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeGuard
from urllib.parse import unquote, urljoin, urlsplit

from stac2cube.errors import ItemError, ReadError
from stac2cube.model.catalog import Catalog
from stac2cube.trust.address import host_of, is_http, without_queries
from stac2cube.trust.text import is_printable, printable

ARCHIVES = ("/vsizip/", "/vsitar/", "/vsigzip/")
"""GDAL's prefixes for archives on disk, allowed in the user's own catalogs."""

STORES = ("gs", "az", "abfs")
"""Further stores that rasterio opens with the user's settings, allowed in the user's own catalogs."""

_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._\-]{1,254}")
_LONGEST = 8192
"""Maximum number of characters of an href: longer ones are other texts, such as an inline VRT."""


def problem_of_href(href: object, catalog: Catalog) -> str:
    """The reason why an href of an item is not followed; "" if it is followed.

    Args:
        href: The href in the item.
        catalog: Catalog of the item.
    """
    if not isinstance(href, str) or not href:
        return "it has no href"
    if len(href) > _LONGEST or not is_printable(href) or href != href.strip():
        return f"{_short(href)} is no address: it has control characters, blanks around it, or no end"
    try:
        parts = urlsplit(href)
        if is_http(href):
            return _problem_of_url(href)
    except ValueError as error:
        return f"{_short(href)} is no address: {error}"
    if parts.scheme == "s3":
        return "" if _BUCKET.fullmatch(parts.netloc) else f"{_short(href)} names no bucket"
    return _problem_of_place(href, catalog) if catalog.is_foreign else _problem_at_home(href, parts.scheme)


def _short(href: str) -> str:
    text = without_queries(printable(href))
    return repr(text if len(text) <= 120 else f"{text[:120]}...")


def _problem_of_url(href: str) -> str:
    if not host_of(href) or urlsplit(href).port == 0 or re.search(r"[\s\\\"<>{}|^`]", urlsplit(href).netloc):
        return f"{_short(href)} names no host"
    return ""


def _problem_of_place(href: str, catalog: Catalog) -> str:
    """For a catalog behind a URL: allow files below one of the folders of its entry, both sides resolved."""
    whose = catalog.origin or catalog.url
    path = local_path(href)
    if path and catalog.roots:
        place = Path(os.path.realpath(path))
        if any(place.is_relative_to(os.path.realpath(root)) for root in catalog.roots):
            return ""
        return f"{_short(href)} lies outside of {', '.join(catalog.roots)}, the local_root of catalog {catalog.name}"
    return (
        f"{_short(href)} names a place on this machine, which items of {whose} may not: they may name http, https and "
        "s3, and files below folders that local_root of the catalog's entry in catalogs.toml lists"
    )


def _problem_at_home(href: str, scheme: str) -> str:
    """For a catalog in the user's own file: allow files, archives on disk, and stores, but no texts for drivers."""
    if scheme in STORES or local_path(href) or href.startswith(ARCHIVES):
        return ""
    return f"{_short(href)} is neither a path nor an address of http, https or s3"


def is_relative(href: object) -> TypeGuard[str]:
    """Whether an href is relative to its item (RFC 3986, 4.2): ``./B04.tif``, ``//host/B04.tif``.

    Absolute paths are not, because they name files of the catalog's host; nor are other texts, such as an inline VRT;
    nor invalid addresses.

    Args:
        href: The href in the item.
    """
    if not isinstance(href, str) or not href.strip():
        return False
    try:
        return not urlsplit(href).scheme and (href.startswith("//") or not re.match(r"\s*[<{/\\]", href))
    except ValueError:
        return False


def absolute(href: str, base: str) -> str:
    """Resolve an href that :func:`is_relative`; returned unchanged if that is impossible.

    Args:
        href: The href.
        base: Address of the document with the href.
    """
    try:
        return urljoin(base, href)
    except ValueError:
        return href


def is_there(path: Path) -> bool:
    """Whether something exists at a path; False for invalid paths, such as names that are too long."""
    return os.path.exists(path)  # noqa: PTH110 - Path.exists raises where a name is too long


def local_path(href: str) -> str:
    """The absolute path of a regular file that an href names; "" if it names none.

    GDAL's virtual file systems (``/vsi...``) are no regular files.
    """
    try:
        parts = urlsplit(href)
    except ValueError:
        return ""
    if parts.scheme == "file":
        path = unquote(parts.path) if parts.netloc in ("", "localhost") else ""
    else:
        path = href if not parts.scheme or href.startswith("/") else ""
    if not path.startswith("/") or re.match(r"/+vsi", path, re.IGNORECASE) or "\0" in path:
        return ""
    return path


def check_href(item_id: str, key: str, href: object, catalog: Catalog) -> None:
    """Refuse an href of an item that may not be followed.

    Raises:
        ItemError: It may not be followed; names item, asset and reason.
    """
    if problem := problem_of_href(href, catalog):
        raise ItemError(f"item {printable(item_id)}, asset {printable(key)}: {problem}")


def kept_assets(item: Mapping[str, Any], catalog: Catalog) -> dict[str, Any]:
    """The assets of an item that may be followed, without the alternates that may not."""
    kept = {}
    for key, asset in item["assets"].items():
        if not isinstance(asset, Mapping) or problem_of_href(asset.get("href"), catalog):
            continue
        ways = asset.get("alternate")
        if isinstance(ways, Mapping):
            good = {
                name: way
                for name, way in ways.items()
                if isinstance(way, Mapping) and not problem_of_href(way.get("href"), catalog)
            }
            asset = asset if len(good) == len(ways) else {**asset, "alternate": good}  # noqa: PLW2901 - as it is kept
        kept[key] = asset
    return kept


def require_plain_file(path: str | Path) -> None:
    """Refuse a path to a pipe, device or socket, because reading it may block forever.

    Raises:
        ReadError: It is not a regular file. A missing file is not reported here but when it is opened.
    """
    try:
        mode = Path(path).stat().st_mode
    except OSError:
        return
    except ValueError as error:
        raise ReadError(f"{printable(path)} is no path: {error}") from None
    if not stat.S_ISREG(mode):
        raise ReadError(f"{printable(path)} is no plain file")
