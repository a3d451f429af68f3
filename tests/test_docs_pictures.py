"""Pictures of the docs: made by commands that stand beside them; those of the README and of products run here."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from PIL import Image

import stac2cube
from stac2cube.cli import cli
from stac2cube.export.stac import SIMULATED, Origin
from stac2cube.testing.archive import ArchiveSpec, simulate
from tests.bench.report_pictures import before_after

ROOT = Path(__file__).parents[1]
PICTURES = ROOT / "docs" / "images"


def commands(page: Path) -> list[list[str]]:
    """Commands of the consoles of a page, lines joined."""
    blocks = re.findall(r"```console\n(.*?)```", page.read_text(), re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [shlex.split(line[2:], comments=True) for line in lines if line.startswith("$ ")]


def making() -> list[list[str]]:
    """The commands of stac2cube that the page of products names for pictures and what they are made of."""
    return [
        words
        for words in commands(ROOT / "docs" / "products.md")
        if words[0] == "stac2cube" and any(word.startswith("build/demo/") for word in words)
    ]


def test_every_picture_has_its_command() -> None:
    made = {Path(word).name for words in making() for word in words if word.startswith("docs/images/")}
    browser = [words for words in commands(ROOT / "docs" / "products.md") if words[0] == "chromium"]
    assert [Path(word).name for words in browser for word in words if "docs/images" in word] == ["slider.png"]
    for page in (ROOT / "README.md", ROOT / "docs" / "products.md"):
        shown = shown_on(page)
        assert shown
        assert shown <= made | {"slider.png"}
        assert all((PICTURES / name).stat().st_size < 1_200_000 for name in shown)


def shown_on(page: Path) -> set[str]:
    return set(re.findall(r"\]\((?:docs/|\.\./)?images/([\w.-]+)\)", page.read_text()))


def test_pictures_of_every_page_have_a_command_on_it() -> None:
    pages = [page for page in sorted((ROOT / "docs").rglob("*.md")) if page.name != "products.md"]
    for page in pages:
        words = page.read_text()
        for name in shown_on(page):
            modules = re.findall(rf"python -m (tests[\w.]+)[^`\n]* docs/images(?:/{re.escape(name)})?[\s`]", words)
            assert modules, f"{page.name} says no command that makes {name}"
            named = f"docs/images/{name}" in words
            sources = [(ROOT / module.replace(".", "/")).with_suffix(".py").read_text() for module in modules]
            assert named or any(f'"{name}"' in source for source in sources), name
    everywhere = set().union(*(shown_on(page) for page in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md"))))
    assert {path.name for path in PICTURES.iterdir()} == everywhere, "a picture that no page shows"


@pytest.mark.soak
def test_the_picture_of_coregistration_is_made_by_its_command(tmp_path: Path) -> None:
    before_after(tmp_path / "series", tmp_path / "coregistration.gif")
    with Image.open(tmp_path / "coregistration.gif") as new, Image.open(PICTURES / "coregistration.gif") as kept:
        assert (new.size, getattr(new, "n_frames", 1)) == (kept.size, getattr(kept, "n_frames", 1))


def test_the_commands_run_on_the_demos_cube(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = simulate(tmp_path / "archive", ArchiveSpec(years=(2022, 2023), dates_per_year=6, tile_px=60))
    stac2cube.get_stac_layers(
        tmp_path / "build/demo/layers.zarr",
        mission="sentinel-2-l2a",
        catalog=str(archive.catalog("earth-search")),
        aoi=archive.area(two_zones=True),
        time="2022/2023",
        bands=["red", "green", "blue", "nir", "swir22", "scl"],
    )
    monkeypatch.chdir(tmp_path)
    Path("docs/images").mkdir(parents=True)
    for words in making():
        assert not cli.main(words[1:], standalone_mode=False), words
    page = Path("build/demo/before-after.html").read_text()
    assert SIMULATED in page
    assert "Copernicus" not in page
    # Composites know it too, though no step of theirs is a scene.
    origin = Origin.of_steps(stac2cube.open_cube("build/demo/seasons.zarr"))
    assert (origin.simulated, origin.measured) == (True, False)
    assert [Path(name).name for name in origin.catalogs] == ["earth-search.json"]
    made = sorted(Path("docs/images").iterdir())
    assert len(made) == 6
    for path in made:
        with Image.open(path) as new, Image.open(PICTURES / path.name) as kept:
            assert (new.format, getattr(new, "n_frames", 1)) == (kept.format, getattr(kept, "n_frames", 1))
    assert Path("build/demo/before-after.html").stat().st_size > 10_000
