"""``python -m tests.bench.index``: what a scene index costs to make and to keep, and what planning from it takes.

Items of a simulated archive are told many times over on other days; their files come from a range server in a process
of its own with latency: headers read cold (an index made), warm (an update that finds nothing new), and checked (one
request for each file). Prints the table of docs/index.md.
"""

from __future__ import annotations

import argparse
import copy
import json
import multiprocessing
import shutil
import time
from datetime import datetime, timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import stac2cube
from stac2cube.index.index import update_index
from stac2cube.search.clients import items_of_path
from stac2cube.stages.layers import area_words, prepare, query_of_words
from stac2cube.testing.archive import Archive, ArchiveSpec, simulate
from tests.servers.range_server import serving

LATENCY = 0.02


def serve(folder: Path, link: Connection) -> None:
    """In a process of its own: a server, and how often it was asked whenever somebody wants to know."""
    with serving(folder, LATENCY) as server:
        link.send(server.url)
        while link.recv():
            link.send((len(server.requests), server.sent))


def repeated(archive: Archive, url: str, count: int) -> list[dict[str, Any]]:
    """Items of the archive on as many days as it takes; each has addresses of its own for the same files."""
    originals, made = archive.items("earth-search", base_url=url), []
    for number in range(count):
        item, later = copy.deepcopy(originals[number % len(originals)]), timedelta(days=number // len(originals))
        moment = datetime.fromisoformat(item["properties"]["datetime"]) + later
        item["id"] += f"-{number}"
        item["properties"]["datetime"] = moment.isoformat()
        item["properties"]["s2:datastrip_id"] = ""
        for asset in item["assets"].values():
            asset["href"] = asset["href"].replace(url, f"{url}/again-{number // len(originals)}")
        made.append(item)
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("build/bench-index"))
    parser.add_argument("--items", type=int, default=300)
    chosen = parser.parse_args()
    shutil.rmtree(chosen.folder, ignore_errors=True)
    archive = simulate(chosen.folder / "archive", ArchiveSpec(years=(2023,), dates_per_year=4, tile_px=240))
    mine, theirs = multiprocessing.Pipe()
    for number in range(chosen.items):
        (archive.root / f"again-{number}").symlink_to(archive.root)
    server = multiprocessing.Process(target=serve, args=(archive.root, theirs), daemon=True)
    server.start()
    url = mine.recv()
    items, file = archive.items("earth-search", base_url=url), chosen.folder / "items.json"
    items = repeated(archive, url, chosen.items)
    file.write_text(json.dumps({"type": "FeatureCollection", "features": items}))
    words: dict[str, Any] = {"mission": "sentinel-2-l2a", "time": "2023/2026", "aoi": archive.area(two_zones=True)}
    index = chosen.folder / "index"

    def asked() -> int:
        mine.send(True)
        return int(mine.recv()[0])

    print("| work | wall s | CPU s | requests |\n| --- | --- | --- | --- |")

    def row(what: str, work: Any) -> None:
        before, wall, cpu = asked(), time.perf_counter(), time.process_time()
        work()
        spent = time.perf_counter() - wall, time.process_time() - cpu
        print(f"| {what} | {spent[0]:.2f} | {spent[1]:.2f} | {asked() - before} |", flush=True)

    told = str(file)
    row(f"make it: {len(items)} items", lambda: stac2cube.create_index(chosen.folder / "bare", catalog=told, **words))
    row("make it with headers (cold)", lambda: stac2cube.create_index(index, catalog=told, headers=True, **words))
    row("update it, nothing new (warm)", lambda: update_index(index))
    row("update it, every file checked", lambda: update_index(index, check=True))
    row("read all its items", lambda: list(items_of_path(index)))
    area = area_words(words.pop("aoi"))
    query, options = query_of_words({**words, **area, "catalog": str(index)})
    row("plan a cube from it", lambda: prepare(None, query, options).plan())
    stored, plain = sum(path.stat().st_size for path in index.rglob("*.parquet")), file.stat().st_size
    print(f"\n{stored / len(items) / 1024:.1f} KiB an item with headers, {plain / len(items) / 1024:.1f} as JSON")
    mine.send(False)
    server.join()


if __name__ == "__main__":
    main()
