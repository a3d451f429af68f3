"""Write static catalogs, and post Items to a STAC API."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urljoin

from pystac.layout import BestPracticesLayoutStrategy
from pystac.stac_io import DefaultStacIO

from stac2cube.errors import BadInputError, CatalogError
from stac2cube.export.stac import UP, collection_of, items_of, safe_id
from stac2cube.store.files import write_whole
from stac2cube.trust.address import NOBODY, Login, has_secret, is_private_way, public, same_origin
from stac2cube.trust.deadline import TooSlowError, within
from stac2cube.trust.names import Names, is_below, path_below, require_own
from stac2cube.trust.text import parse_json, shown

if TYPE_CHECKING:
    import pystac


# Publishing a cube: as a static STAC catalog, or to a STAC API.

PAGE = 500
"""Items per page when their ids are queried."""

ANSWER = 90.0
"""Timeout of one answer, seconds."""


def write_stac(cube: Path, out: Path, href: str = "", address: str = "", name: str = "") -> Path:
    """Write a static catalog: ``collection.json`` and an Item per step, linked to each other.

    Items of steps that the cube no longer has are removed.

    Args:
        cube: The cube.
        out: The folder; files of the same names are replaced.
        href: Public address of the cube; its own path if "".
        address: Public address of the folder, for ``self`` links. If "", documents of a cube on this machine have their
            own paths as ``self`` links, and those of a cube elsewhere have none, as their final location is unknown.
        name: Source of the id of the Collection; the cube's file name if "".

    Returns:
        The Collection's file.

    Raises:
        CubeError: Not a cube.
        BadInputError: The cube has no step yet, or the folder has other files of these names, or links.
    """
    href = public(href)
    base = public(address).rstrip("/") or ("" if href else str(out.resolve()))
    collection = collection_of(cube, href, name)
    target = path_below(out, "collection.json")
    old = _own_items(target)
    (out / "items").mkdir(parents=True, exist_ok=True)
    folder, names = path_below(out, "items"), Names()
    for item in items_of(cube, href, name):
        file = f"{names.of(item['id'])}.json"
        path = path_below(folder, file)
        if path.exists() and file not in old and not _is_of(path, str(item["id"])):
            raise BadInputError(f"{path} exists, and is not one of this catalog's files: choose another folder")
        item["links"] = [*link_to_self(base, f"items/{file}", "application/geo+json"), *item["links"]]
        write_whole(path, json.dumps(item, indent=1).encode())
        listed = {"rel": "item", "href": f"./items/{file}", "type": "application/geo+json", "title": item["id"]}
        collection["links"].append(listed)
        old.discard(file)
    own = [
        {"rel": "root", "href": "./collection.json", "type": "application/json"},
        *link_to_self(base, "collection.json", "application/json"),
    ]
    collection["links"] += [link | {"title": collection["title"]} for link in own]
    write_whole(target, json.dumps(collection, indent=1).encode())
    for file in old:
        path_below(folder, file).unlink(missing_ok=True)
    return target


def link_to_self(base: str, path: str, kind: str) -> list[dict[str, str]]:
    """The ``self`` link of a document, if its location is known: absolute, as STAC requires.

    Args:
        base: Address of the published folder, without a slash at its end; "" if unknown.
        path: Path of the document within the folder.
        kind: Media type of the document.
    """
    return [{"rel": "self", "href": f"{base}/{path}", "type": kind}] if base else []


def _own_items(target: Path) -> set[str]:
    """File names of the Items that an existing Collection of stac2cube lists.

    Raises:
        BadInputError: The existing file was not written by stac2cube.
    """
    require_own(target, "the Collection")
    if not target.exists():
        return set()
    try:
        value = parse_json(target.read_bytes())
        made_here = any(one.get("name") == "stac2cube" for one in value["providers"])
        links = [str(link["href"]) for link in value["links"] if link["rel"] == "item"]
    except (ValueError, KeyError, TypeError, AttributeError):
        made_here, links = False, []
    if not made_here:
        raise BadInputError(f"{target} is there, and was not written by stac2cube: name another folder, or remove it")
    names = (link.removeprefix("./items/") for link in links if link.startswith("./items/"))
    return {name for name in names if is_below(name) and "/" not in name and name.endswith(".json")}


def _is_of(path: Path, name: str) -> bool:
    """Whether a file is the Item of this step, left by an interrupted run."""
    try:
        value = parse_json(path.read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(value, dict) and value.get("id") == name and "stac2cube:items" in value.get("properties", {})


def post_stac(cube: Path, api: str, href: str = "", headers: Mapping[str, str] | None = None, name: str = "") -> int:
    """Post a cube to a STAC API that has the transaction extension; existing documents are replaced.

    Items of this cube (by its address) whose steps it no longer has are deleted.

    Args:
        cube: The cube.
        api: Landing page of the API.
        href: Public address of the cube; its own path if "".
        headers: Additional request headers, for example with a token.
        name: Source of the id of the Collection; the cube's file name if "".

    Returns:
        Number of Items.

    Raises:
        CatalogError: The API cannot be reached, or refuses.
        BadInputError: The cube has no step yet, or keys would be sent over plain HTTP.
    """
    import requests

    from stac2cube.access.http import HostSession

    login = Login.of(api) if has_secret(api) else NOBODY
    api, href = public(api), public(href)
    if (login or headers) and not is_private_way(api):
        raise BadInputError(f"{api} uses plain HTTP, over which others can read keys: use https")
    collection = collection_of(cube, href, name)
    base, put_there = f"{api.rstrip('/')}/collections", set()
    with HostSession(api, login, headers) as session:

        def send(method: str, url: str, body: Mapping[str, Any] | None) -> requests.Response:
            # Redirects are not followed: documents would be sent to a server that the user did not name.
            return within(
                ANSWER,
                lambda: session.request(
                    method, login.with_parameters(url), json=body, timeout=60, allow_redirects=False
                ),
                f"the answer of {api}",
            )

        def ask(method: str, url: str, body: Mapping[str, Any] | None = None) -> requests.Response:
            try:
                answer = send(method, url, body)
                if method == "POST" and answer.status_code == 409:
                    answer = send("PUT", f"{url}/{quote(str(body['id']) if body else '', safe='')}", body)
            except (requests.RequestException, TooSlowError) as error:
                raise CatalogError(f"{api} cannot be reached: {shown(error)}") from None
            if answer.is_redirect:
                there = public(str(answer.headers.get("Location")))
                raise CatalogError(f"{api} leads on to {shown(there)}: name the address itself")
            if not answer.ok:
                what = body["id"] if body else f"{method} {public(url)}"
                raise CatalogError(f"{api} refuses {what}: {answer.status_code} {shown(answer.text[:200])}")
            return answer

        ask("POST", base, collection)
        items = f"{base}/{collection['id']}/items"
        for item in items_of(cube, href, name):
            links = [link for link in item["links"] if link["rel"] == "derived_from"]
            ask("POST", items, {**item, "links": links})
            put_there.add(item["id"])
        for gone in _items_about(collection["assets"]["cube"]["href"], items, ask) - put_there:
            ask("DELETE", f"{items}/{quote(gone, safe='')}")
    return len(put_there)


def _items_about(href: str, items: str, ask: Callable[..., Any]) -> set[str]:
    """Ids of the Items of a Collection that are steps of the cube at an address, from all pages.

    Raises:
        CatalogError: A page is on another server, which must not receive the headers.
    """
    found: set[str] = set()
    seen: set[str] = set()
    page: str | None = f"{items}?limit={PAGE}"
    while page is not None:
        if not same_origin(page, items):
            raise CatalogError(f"{items} goes on at another server, {shown(public(page))}: what is there no more stays")
        seen.add(page)
        answer = ask("GET", page).json()
        found |= {item["id"] for item in answer["features"] if item["assets"].get("cube", {}).get("href") == href}
        page = next((urljoin(items, link["href"]) for link in answer.get("links", ()) if link["rel"] == "next"), None)
        if page in seen:
            raise CatalogError(f"{items} names the same next page twice")
    return found


# A folder as a self-contained STAC catalog: ``catalog.json`` at the top, all links and hrefs relative.

CATALOG = "catalog.json"


class WholeFiles(DefaultStacIO):
    """Writes each file atomically."""

    def write_text_to_href(self, href: str, txt: str, *_: Any, **__: Any) -> None:
        """Write one file.

        Args:
            href: Path of the file.
            txt: Content of the file.
        """
        path = Path(href)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, txt.encode())


class _SafeLayout(BestPracticesLayoutStrategy):
    """The layout of best practices, with ids made safe as file names, see :mod:`stac2cube.trust.names`."""

    def __init__(self, folders: Mapping[str, str]) -> None:
        self._names, self._folders = Names(), folders

    def get_catalog_href(self, cat: pystac.Catalog, parent_dir: str, is_root: bool) -> str:
        """Path of a catalog."""
        return str(self._folder(cat, parent_dir, is_root) / CATALOG)

    def get_collection_href(self, col: pystac.Collection, parent_dir: str, is_root: bool) -> str:
        """Path of a collection."""
        return str(self._folder(col, parent_dir, is_root) / "collection.json")

    def get_item_href(self, item: pystac.Item, parent_dir: str) -> str:
        """Path of an item."""
        name = self._names.of(self._folders.get(item.id, item.id))
        return str(Path(parent_dir) / name / f"{name}.json")

    def _folder(self, one: pystac.Catalog, parent_dir: str, is_root: bool) -> Path:
        return Path(parent_dir) if is_root else Path(parent_dir) / self._names.of(one.id)


def save_catalog(catalog: pystac.Catalog, folder: Path, folders: Mapping[str, str] | None = None) -> Path:
    """Write a catalog into a folder; asset hrefs below the folder become relative.

    Documents have relative links to each other and to their root. They have no ``self`` links, as STAC requires for
    catalogs that may be moved.

    Args:
        catalog: The catalog with its children and items; hrefs of their assets are absolute.
        folder: Target folder.
        folders: Id of an item -> name of its folder, where that is not the id.

    Returns:
        The catalog's file.
    """
    import pystac

    # With the name of the file: a folder whose name has a dot would be treated as a file.
    catalog.normalize_hrefs(str(folder.resolve() / CATALOG), strategy=_SafeLayout(folders or {}))
    catalog.make_all_asset_hrefs_relative()
    catalog.save(pystac.CatalogType.SELF_CONTAINED, stac_io=WholeFiles())
    return folder / CATALOG


def describe_cubes(folder: Path) -> Path:
    """Describe the cubes of a folder: a catalog with a Collection per cube and an Item per time step.

    Args:
        folder: Folder of the cubes; cubes without steps are left out.

    Returns:
        The catalog's file.

    Raises:
        CubeError: A cube is damaged.
    """
    import pystac

    from stac2cube.store.ledger import Ledger
    from stac2cube.store.metadata import read_root

    catalog = pystac.Catalog(safe_id(folder.resolve().name), f"Cubes of {folder.resolve().name}, made by stac2cube")
    for cube in sorted(folder.resolve().glob("*.zarr")):
        if not (cube / "zarr.json").exists() or not Ledger(cube, read_root(cube).ledger).sealed():
            continue
        collection = pystac.Collection.from_dict(collection_of(cube), migrate=False)
        collection.add_items(_items(cube))
        catalog.add_child(collection)
    return save_catalog(catalog, folder)


def _items(cube: Path) -> list[pystac.Item]:
    import pystac

    items = [pystac.Item.from_dict(item, migrate=False) for item in items_of(cube)]
    for item in items:
        for rel in UP:
            item.clear_links(rel)
    return items
