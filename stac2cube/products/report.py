"""One self-contained HTML page about a cube: what it is, what is in it, what failed, how it came to be."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import BinaryIO

from stac2cube import __version__
from stac2cube.cube.files import write_whole
from stac2cube.cube.ledger import SEALED, Entry, Ledger
from stac2cube.cube.root import now_text, read_root
from stac2cube.errors import BadInputError
from stac2cube.products.calendar import draw_calendar
from stac2cube.products.frames import frames_of
from stac2cube.products.quicklook import write_sheet
from stac2cube.products.shifts import draw_before_after, draw_shifts
from stac2cube.products.superres import draw_side_by_side
from stac2cube.status import cube_history, cube_status


def write_report(cube: str | Path, out: str | Path) -> Path:
    """Write the page.

    Args:
        cube: The cube.
        out: The HTML file; replaced whole if it exists.

    Returns:
        The file.

    Raises:
        CubeError: Not a cube.
    """
    from jinja2 import Environment

    path, target = Path(cube), Path(out)
    template = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(
        files("stac2cube.products").joinpath("report.html.j2").read_text()
    )
    rows = Ledger(path, read_root(path).ledger).entries()
    page = template.render(
        status=cube_status(path),
        spec=read_root(path).spec,
        steps=[_step(entry) for entry in rows.values() if entry.status == SEALED],
        others=[entry for entry in rows.values() if entry.status != SEALED],
        history=cube_history(path)[::-1],
        calendar=_drawn(path, draw_calendar, "png"),
        picture=_drawn(path, lambda cube, out: write_sheet(frames_of(cube), out), "png"),
        shifts=_drawn(path, draw_shifts, "png"),
        finer=_drawn(path, draw_side_by_side, "png"),
        before_after=_drawn(path, draw_before_after, "gif"),
        made=now_text(),
        version=__version__,
    )
    target.parent.mkdir(parents=True, exist_ok=True)
    write_whole(target, page.encode())
    return target


def _step(entry: Entry) -> dict[str, object]:
    shards = [shard for receipt in entry.receipts for shard in receipt.shards]
    layers = {shard.layer for shard in shards}
    return {
        "entry": entry,
        "cloud": entry.cloud_percent,
        "valid": sum(shard.valid for shard in shards) / max(len(layers), 1),
        "size": sum(shard.size for shard in shards),
        "seconds": sum(receipt.seconds for receipt in entry.receipts),
    }


def _drawn(cube: Path, draw: Callable[[Path, BinaryIO], None], kind: str) -> str:
    """A picture as a data URL, "" for a cube that has nothing of the kind to show."""
    picture = io.BytesIO()
    try:
        draw(cube, picture)
    except BadInputError:
        return ""
    return f"data:image/{kind};base64,{base64.b64encode(picture.getvalue()).decode()}"
