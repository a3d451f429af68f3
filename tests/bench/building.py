"""``python -m tests.bench.building``: the same cube built by stac2cube and by other tools, from catalog to Zarr.

Told are the least CPU seconds and wall seconds of the runs, after imports and a first small cube, and what was written.
What other tools do not do: the radiometry per item, all bands of a pixel from one granule, true bilinear across zones,
files made durable with checksums, a commit that survives a kill. Prints the table of docs/benchmarks.md.
"""

from __future__ import annotations

from tests.bench import builders
from tests.bench.data import BANDS, TEN
from tests.bench.works import Bench, Work, over_http

TOOLS = tuple(tool for tool in builders.TOOLS if not tool.startswith("GDAL"))
ALL = tuple(BANDS)
FULL = ("full tile", ("32TQT",), 3, (*TEN, "SCL"), (0, 0), 0, TOOLS)
MOSAIC = ("cross-zone mosaic", ("32TQT", "33TTN"), 6, ALL, (22_040, 3_000), 512, TOOLS)
WORKS = (
    Work(*FULL, exact=False),
    Work(*MOSAIC, exact=False),
    Work("full tile, HTTP 20 ms", *FULL[1:], exact=False, way=over_http(20), threads=16),
    Work("cross-zone mosaic, HTTP 20 ms", *MOSAIC[1:], exact=False, way=over_http(20), threads=16),
)


def main() -> None:
    Bench.of_command(__doc__, builders).run(WORKS, "files, or requests", "building.json")


if __name__ == "__main__":
    main()
