"""Tables that the real tools make of recorded items: the same scenes as from the JSON."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import rustac

from stac2cube.model.catalog import find_catalog
from stac2cube.model.scene import Granule, Scene
from stac2cube.search.search import search
from tests.items import Json
from tests.real.recorded import real
from tests.search.mutations import query_of, recorded

pytestmark = real

STAC_GEOPARQUET = "stac-geoparquet==0.8.3"

SCRIPT = """
import sys
from stac_geoparquet.arrow import parse_stac_ndjson_to_arrow, to_parquet
to_parquet(parse_stac_ndjson_to_arrow(sys.argv[1]), sys.argv[2])
"""


def groups() -> dict[tuple[str, str, str], list[Json]]:
    """Recorded items by provider, mission and collection: a table is of one collection."""
    found: dict[tuple[str, str, str], list[Json]] = {}
    for provider, mission, item in recorded():
        found.setdefault((provider, mission, str(item.get("collection"))), []).append(item)
    return found


def scenes(path: Path, mission: str) -> list[Scene]:
    """Without what names the catalog, and the item's own text, which a table may write otherwise."""
    found = []
    for scene in search(query_of(mission), find_catalog(str(path))):
        granules = tuple(map(_plain, scene.granules))
        spares = {part: tuple(map(_plain, others)) for part, others in scene.spares.items()}
        versions = {
            name: {key: text[:23] if key in ("created", "updated") else text for key, text in version.items()}
            for name, version in scene.versions.items()
        }
        time = _to_the_millisecond(scene.time)
        found.append(replace(scene, granules=granules, spares=spares, versions=versions, time=time))
    return found


def _plain(granule: Granule) -> Granule:
    # Of times rustac keeps milliseconds.
    return replace(granule, catalog="", item="", time=_to_the_millisecond(granule.time))


def _to_the_millisecond(time: datetime) -> datetime:
    return time.replace(microsecond=time.microsecond // 1000 * 1000)


def differing(folder: Path, write: Callable[[Path, list[Any], Path], None]) -> list[str]:
    """Groups of which a table gives other scenes than the JSON, or which the tool cannot write."""
    wrong = []
    for number, ((provider, mission, collection), items) in enumerate(groups().items()):
        lines, table = folder / f"{number}.ndjson", folder / f"{number}.parquet"
        lines.write_text("".join(json.dumps(item) + "\n" for item in items))
        try:
            write(lines, items, table)
        except (OSError, ValueError, RuntimeError, subprocess.CalledProcessError, rustac.RustacError):
            # No tool takes all that the specification allows: rustac refuses "nan" beside numbers.
            continue
        wanted, got = scenes(lines, mission), scenes(table, mission)
        assert wanted
        if got != wanted:
            wrong.append(f"{provider} {collection}")
    assert len(list(folder.glob("*.parquet"))) >= 5
    return wrong


def test_tables_of_rustac(tmp_path: Path) -> None:
    def write(_lines: Path, items: list[Any], table: Path) -> None:
        rustac.write_sync(str(table), items)

    assert differing(tmp_path, write) == []


@pytest.mark.soak
def test_tables_of_stac_geoparquet(tmp_path: Path) -> None:
    """In an environment of its own."""
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    packages = [STAC_GEOPARQUET, "pyarrow"]
    subprocess.run([tmp_path / "venv/bin/pip", "install", "-q", *packages], check=True)

    def write(lines: Path, _items: list[Any], table: Path) -> None:
        subprocess.run([tmp_path / "venv/bin/python", "-c", SCRIPT, lines, table], check=True, capture_output=True)

    assert differing(tmp_path, write) == []
