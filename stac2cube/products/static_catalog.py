"""A folder as a self-contained STAC catalog: ``catalog.json`` at its top, all links and hrefs relative."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pystac.layout import BestPracticesLayoutStrategy
from pystac.stac_io import DefaultStacIO

from stac2cube.cube.files import write_whole
from stac2cube.names import Names
from stac2cube.products.stac import UP, collection_of, items_of, safe_id

if TYPE_CHECKING:
    import pystac

CATALOG = "catalog.json"


class WholeFiles(DefaultStacIO):
    """Writes each file so that others see the old content or the new."""

    def write_text_to_href(self, href: str, txt: str, *_: Any, **__: Any) -> None:
        """Write one file.

        Args:
            href: Its path.
            txt: Its content.
        """
        path = Path(href)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, txt.encode())


class _SafeLayout(BestPracticesLayoutStrategy):
    """The usual folders and files, named by ids only where these are names, see :mod:`stac2cube.names`."""

    def __init__(self, folders: Mapping[str, str]) -> None:
        self._names, self._folders = Names(), folders

    def get_catalog_href(self, cat: pystac.Catalog, parent_dir: str, is_root: bool) -> str:
        """Where a catalog goes."""
        return str(self._folder(cat, parent_dir, is_root) / CATALOG)

    def get_collection_href(self, col: pystac.Collection, parent_dir: str, is_root: bool) -> str:
        """Where a collection goes."""
        return str(self._folder(col, parent_dir, is_root) / "collection.json")

    def get_item_href(self, item: pystac.Item, parent_dir: str) -> str:
        """Where an item goes."""
        name = self._names.of(self._folders.get(item.id, item.id))
        return str(Path(parent_dir) / name / f"{name}.json")

    def _folder(self, one: pystac.Catalog, parent_dir: str, is_root: bool) -> Path:
        return Path(parent_dir) if is_root else Path(parent_dir) / self._names.of(one.id)


def save_catalog(catalog: pystac.Catalog, folder: Path, folders: Mapping[str, str] | None = None) -> Path:
    """Write a catalog into a folder; asset hrefs below the folder become relative.

    Documents link to each other and to their root, relatively. They have no ``self`` links, as STAC wants it of
    catalogs that may be moved.

    Args:
        catalog: With its children and items; hrefs of their assets are absolute.
        folder: Where.
        folders: What the folder of an item is named by, where that is not its id.

    Returns:
        The catalog's file.
    """
    import pystac

    # With the file: a folder whose name has a dot would pass for one.
    catalog.normalize_hrefs(str(folder.resolve() / CATALOG), strategy=_SafeLayout(folders or {}))
    catalog.make_all_asset_hrefs_relative()
    catalog.save(pystac.CatalogType.SELF_CONTAINED, stac_io=WholeFiles())
    return folder / CATALOG


def describe_cubes(folder: Path) -> Path:
    """Describe the cubes of a folder: a catalog with a Collection per cube and an Item per time step.

    Args:
        folder: Holds the cubes; those without a step yet are left out.

    Returns:
        The catalog's file.

    Raises:
        CubeError: A cube is damaged.
    """
    import pystac

    from stac2cube.cube.ledger import Ledger
    from stac2cube.cube.root import read_root

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
