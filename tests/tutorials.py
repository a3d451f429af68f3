"""The tutorials of the docs, run as they are written. ``python -m tests.tutorials docs/images`` makes their pictures.

Blocks of a page run in order: ``python`` in one namespace, commands of stac2cube from ``console``; ``yaml`` whose first
line is ``# NAME`` becomes that file. A comment ``<!-- not run: REASON -->`` before a block leaves it out, and
``<!-- exit code: N -->`` says how its commands end.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stac2cube.cli import cli

ROOT = Path(__file__).parents[1]
TUTORIALS = ROOT / "docs" / "tutorials"

PICTURES = {
    "first-cube": ("lech.png", "tutorial-first-cube.png"),
    "from-cube-to-product": ("ndvi.gif", "tutorial-product.gif"),
    "keep-an-archive": ("kept.png", "tutorial-archive.png"),
    "on-a-cluster": ("lech/quicklook.png", "tutorial-cluster.png"),
}
"""What each tutorial ends with, and the name under which the docs show it."""

BLOCK = re.compile(r"(?:<!-- (?P<mark>[^>]*?) -->\n+)?```(?P<kind>\w+)\n(?P<text>.*?)```", re.DOTALL)

Run = Callable[[Sequence[str], int], None]


@dataclass(frozen=True)
class Block:
    """A block of code of a page.

    Attributes:
        kind: python, console, yaml ...
        text: What stands in it.
        skipped: Why it is not run; "" if it is.
        code: Exit code of its commands.
    """

    kind: str
    text: str
    skipped: str = ""
    code: int = 0


def blocks(page: Path) -> Iterator[Block]:
    """The blocks of a page, in order."""
    for found in BLOCK.finditer(page.read_text()):
        mark = found["mark"] or ""
        code = int(mark.removeprefix("exit code:")) if mark.startswith("exit code:") else 0
        reason = mark.removeprefix("not run:").strip() if mark.startswith("not run:") else ""
        yield Block(found["kind"], found["text"], reason, code)


def in_process(words: Sequence[str], code: int) -> None:
    """Run a command here. Without a cluster, ``submit`` is ``run`` with the same words, and there are no logs.

    Raises:
        AssertionError: It ends otherwise than the page says.
    """
    if words[0] == "logs" or "--dry-run" in words:
        return
    if words[0] == "submit":
        changes = [part for at, word in enumerate(words) if word == "--set" for part in words[at : at + 2]]
        words = ["run", words[1], *changes]
    ended = cli.main([*words], standalone_mode=False)
    assert (ended or 0) == code, f"stac2cube {shlex.join(words)} ended with {ended}"


def follow(page: Path, run: Run = in_process) -> dict[str, Any]:
    """Do what a page says, in the current folder.

    Args:
        page: A tutorial.
        run: Runs a command, given its words and the expected exit code.

    Returns:
        The names that the Python of the page has defined.
    """
    names: dict[str, Any] = {"__name__": page.stem}
    for block in blocks(page):
        if block.skipped:
            continue
        if block.kind == "python":
            exec(compile(block.text, page.name, "exec"), names)
        elif block.kind == "yaml":
            first = block.text.partition("\n")[0]
            Path(first.removeprefix("# ")).write_text(block.text)
        else:
            assert block.kind == "console", f"{page.name}: a block of {block.kind} is neither run nor marked"
            for line in block.text.splitlines():
                words = shlex.split(line, comments=True)
                assert words[:2] == ["$", "stac2cube"], f"{page.name}: {line} is neither run nor marked"
                run(words[2:], block.code)
    return names


def main() -> None:
    """Run all tutorials and write their pictures."""
    target = Path(sys.argv[1]).resolve()
    os.environ["STAC2CUBE_CONFIG_DIR"] = tempfile.mkdtemp()
    for name, (made, shown) in PICTURES.items():
        with tempfile.TemporaryDirectory() as folder, chdir(folder):
            follow(TUTORIALS / f"{name}.md")
            shutil.copy(made, target / shown)


if __name__ == "__main__":
    main()
