"""The command that opens a page: explore."""

from __future__ import annotations

import os
import signal
import tempfile
import webbrowser
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from stac2cube.cli.options import CUBE, console_for

if TYPE_CHECKING:
    from stac2cube.explorer.server import LivePage
    from stac2cube.explorer.session import Explorer


@click.command()
@click.argument("folder", type=CUBE, default=Path())
@click.option("--catalog", default="auto", show_default=True, help="Catalog that the page searches first.")
@click.option("--mission", default="sentinel-2-l2a", show_default=True, help="Mission that the page searches first.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Port on this machine. Default: any free port.")
@click.option("--no-browser", is_flag=True, help="Print the address, and open no browser.")
@click.option("--behind", default="", help="Address at which a proxy shows the page.")
@click.option(
    "--tiles", default="", help="Address of map tiles for the background, https://.../{z}/{x}/{y}.png. Needs a network."
)
def explore(folder: Path, catalog: str, mission: str, port: int, no_browser: bool, behind: str, tiles: str) -> None:
    """Choose area and dates on a local web page with a map and a calendar, which writes a recipe into FOLDER.

    From another machine, use ssh -L PORT:127.0.0.1:PORT HOST and open the printed address. Stop it with Ctrl-C.
    If FOLDER is an archive, the page shows its status, refreshes it every 15 seconds, and writes nothing.
    """
    from stac2cube.archives.archive import is_archive
    from stac2cube.archives.status import archive_status, draw_archive
    from stac2cube.explorer.server import LivePage
    from stac2cube.explorer.session import explore as begin

    opened: LivePage | Explorer
    if is_archive(folder):
        archive_status(folder)  # what is wrong with it is said here, not on the page
        opened, said = LivePage(partial(draw_archive, folder), port, behind), f"how {folder} stands"
    else:
        opened = begin(folder, catalog=catalog, mission=mission, port=port, behind=behind, tiles=tiles)
        said = f"recipes go into {opened.folder}"
    with console_for(quiet=False), opened as page:
        # Who reads the address may press Ctrl-C before anything else is done here.
        try:
            signal.signal(signal.SIGTERM, signal.default_int_handler)
            click.echo(page.url)
            click.echo(f"{said}; Ctrl-C ends this page", err=True)
            seen = any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))
            with tempfile.TemporaryDirectory(prefix="stac2cube-") as door:
                if seen and not no_browser:
                    webbrowser.open(_door(Path(door), page.url).as_uri())
                signal.pause()
        except KeyboardInterrupt:
            click.echo("the page has ended", err=True)


def _door(folder: Path, url: str) -> Path:
    """A file that leads on to the page: an address on a command line could be read by everybody on this machine."""
    file = folder / "explore.html"
    file.write_text(f'<!doctype html><meta http-equiv="refresh" content="0; url={url}"><a href="{url}">stac2cube</a>')
    file.chmod(0o600)
    return file
