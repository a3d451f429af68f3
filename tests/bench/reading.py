"""``python -m tests.bench.reading``: blocks of pixels read by stac2cube and by other tools, side by side.

Told are the least CPU seconds and wall seconds of the runs, after imports and a first small block; requests and bytes
over HTTP as nginx counts them; opens and reads of files as a preloaded library counts them. Where no tool has to
resample, all must give the same bytes. Prints the table of docs/benchmarks.md and draws its picture.
"""

from __future__ import annotations

from typing import Any

from tests.bench import readers
from tests.bench.data import BANDS, TEN
from tests.bench.servers import slow_files
from tests.bench.works import Bench, Work, over_http

EVERY = ("stac2cube", "stac2cube, GDAL only", "rasterio, threads", "odc-stac, pool", "odc-stac, dask", "stackstac")
SAME_GRID = (*EVERY, "async-geotiff")
"""The last warps nothing."""

LOCAL = (*SAME_GRID, "rasteret")
"""Neither does this one, which over HTTP reads encrypted connections only."""

SMALL: dict[str, Any] = {"tiles": ("32TQT",), "dates": 6, "bands": TEN, "corner": (6_000, 5_000), "edge": 512}
ALL = tuple(BANDS)
WORKS = (
    Work("small area", **SMALL, tools=LOCAL),
    Work("small area, 11 bands", **SMALL | {"bands": ALL}, tools=EVERY, exact=False),
    Work("cross-zone mosaic", ("32TQT", "33TTN"), 6, ALL, (22_040, 3_000), 512, EVERY, exact=False),
    Work("full tile", ("32TQT",), 3, (*TEN, "SCL"), (0, 0), 0, EVERY, exact=False),
    Work("full tile mosaic", ("32TQT", "32TPT", "33TTN"), 2, TEN, (0, 0), 0, EVERY, exact=False),
    Work("HTTP 0 ms", **SMALL, tools=SAME_GRID, way=over_http(0), threads=24),
    Work("HTTP 20 ms", **SMALL, tools=SAME_GRID, way=over_http(20), threads=24),
    Work("HTTP 50 ms", **SMALL, tools=SAME_GRID, way=over_http(50), threads=24),
    Work(
        "HTTP 50 ms, no index",
        **SMALL,
        tools=("stac2cube", "rasterio, threads"),
        way=over_http(50),
        threads=24,
        indexed=False,
    ),
    Work("slow files, 2 ms", **SMALL, tools=LOCAL, way=lambda files, folder: slow_files(files, folder, 2), threads=16),
)


def main() -> None:
    Bench.of_command(__doc__, readers).run(WORKS, "requests, or opens + reads", "reading.json")


if __name__ == "__main__":
    main()
