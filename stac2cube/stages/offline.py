"""A search done ahead, for compute nodes without a network."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from stac2cube.index import records_of, with_headers, write_file
from stac2cube.source.headers import stored_headers
from stac2cube.stages.request import Request, find_scenes, local_sources, understand


@dataclass(frozen=True)
class StoredSearch:
    """What was stored.

    Attributes:
        catalog: Name of the catalog searched, to be asked for by name when the items are used.
        why: Why it.
        scenes: How many scenes the items make.
        items: The file, STAC GeoParquet.
    """

    catalog: str
    why: str
    scenes: int
    items: Path


def store_search(request: Request, file: Path, *, on_cluster: bool = True) -> StoredSearch:
    """Search now, and store the items for a build that cannot.

    Args:
        request: What is asked for.
        file: Where the items go.
        on_cluster: Whether the build will run on the nodes of a cluster, for the choice of the catalog.

    Raises:
        NothingFoundError: No scene.
        CatalogError: The catalog cannot be read.
    """
    wanted = understand(request, on_cluster=on_cluster)
    found = find_scenes(wanted)
    records = records_of(found.items)
    if headers := stored_headers(local_sources(wanted)):
        records = with_headers(records, headers.rows())
    write_file(file, records)
    return StoredSearch(found.choice.catalog.name, found.choice.why, len(found.scenes), file)
