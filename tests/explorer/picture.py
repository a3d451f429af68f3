"""Draws docs/images/explore.png: the page over a simulated archive. Run: python -m tests.explorer.picture OUT.png."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image

from stac2cube.explorer.session import explore
from stac2cube.testing.archive import ArchiveSpec, simulate
from tests.servers.browser import running_browser


def draw(out: Path) -> None:
    """Choose an area and three years, pick a clear day, and take a picture."""
    with TemporaryDirectory() as folder:
        spec = ArchiveSpec(years=(2022, 2023, 2024), dates_per_year=30, tile_px=120)
        archive = simulate(Path(folder) / "archive", spec)
        catalog = archive.catalog("earth-search")
        ring = archive.area(two_zones=True)["coordinates"][0]
        corners = [f(place[at] for place in ring) for f, at in ((min, 0), (min, 1), (max, 0), (max, 1))]
        with explore(folder, catalog=str(catalog)) as page, running_browser() as browser:
            tab = browser.new_page(viewport={"width": 1280, "height": 860})
            tab.goto(page.url)
            tab.fill("#area-text", ",".join(f"{corner:.4f}" for corner in corners))
            tab.click("#area-set")
            tab.wait_for_selector("#zoom-area:enabled")
            tab.fill("#time", "2022/2024")
            tab.press("#time", "Tab")
            tab.fill("#cloud", "60")
            tab.click("#search")
            tab.locator(".scene.clear").nth(4).click()
            tab.wait_for_timeout(500)
            picture = Image.open(io.BytesIO(tab.screenshot())).convert("RGB").quantize(128)
    picture.save(out, optimize=True)


if __name__ == "__main__":
    draw(Path(sys.argv[1]))
