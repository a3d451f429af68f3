"""The tutorials run as they are written; that of the cluster runs as jobs in ``tests/slurm/test_tutorial.py``."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

import stac2cube
from tests.tutorials import PICTURES, ROOT, TUTORIALS, blocks, follow


def test_every_tutorial_ends_with_a_picture() -> None:
    assert {page.stem for page in TUTORIALS.glob("*.md")} == set(PICTURES)
    for name, (_, shown) in PICTURES.items():
        assert f"](../images/{shown})" in (TUTORIALS / f"{name}.md").read_text()


@pytest.mark.parametrize("name", sorted(PICTURES))
def test_it_works_as_written(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STAC2CUBE_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)
    follow(TUTORIALS / f"{name}.md")
    made, shown = PICTURES[name]
    with Image.open(made) as new, Image.open(ROOT / "docs" / "images" / shown) as kept:
        assert (new.format, new.size, getattr(new, "n_frames", 1)) == (
            kept.format,
            kept.size,
            getattr(kept, "n_frames", 1),
        )
    cube = "lech/layers.zarr" if name == "on-a-cluster" else "lech.zarr"
    steps = {"first-cube": 8, "from-cube-to-product": 6, "keep-an-archive": 6, "on-a-cluster": 8}
    assert stac2cube.open_cube(cube).sizes["time"] == steps[name]


def test_marks_of_blocks_are_understood(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "<!-- not run: a reason -->\n\n```console\n$ x\n```\n\n<!-- exit code: 2 -->\n\n```console\n$ y\n```\n"
    )
    first, second = blocks(page)
    assert (first.skipped, second.skipped, second.code) == ("a reason", "", 2)
    page.write_text("```bash\nrm x\n```\n")
    with pytest.raises(AssertionError, match="neither run nor marked"):
        follow(page)
