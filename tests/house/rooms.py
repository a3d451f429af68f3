"""Rooms and the imports between them, and the picture of both in docs/architecture.md.

`python -m tests.house.rooms` writes the picture anew.
"""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
PACKAGE = CHECKOUT / "stac2cube"
PAGE = CHECKOUT / "docs" / "architecture.md"
BEGIN, END = "<!-- rooms: written by python -m tests.house.rooms -->", "<!-- end of rooms -->"


def modules() -> list[Path]:
    """Every Python file of the package."""
    return sorted(PACKAGE.rglob("*.py"))


def imports(path: Path) -> set[str]:
    """Dotted names that a file imports, at its top or in a function."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def arrows() -> set[tuple[str, str]]:
    """Pairs of folders, the first of which imports from the second. Modules beside them (errors, ...) do not count."""
    rooms = {path.name for path in PACKAGE.iterdir() if path.is_dir()}
    pairs = set()
    for path in modules():
        here = path.relative_to(PACKAGE).parts[0]
        there = {name.split(".")[1] for name in imports(path) if name.startswith("stac2cube.")}
        pairs |= {(here, room) for room in there & rooms - {here} if here in rooms}
    return pairs


def files() -> dict[str, set[str]]:
    """Which modules of the package each of them imports, at its top, in a function or for types alone."""
    own = {}
    for path in modules():
        parts = path.relative_to(CHECKOUT).with_suffix("").parts
        own[".".join(parts[:-1] if path.name == "__init__.py" else parts)] = path
    # A package that stands in a longer name is imported, too, but says nothing of what is used.
    longest = {name: imports(path) & own.keys() for name, path in own.items()}
    return {
        name: {one for one in found if one != name and not any(other.startswith(f"{one}.") for other in found)}
        for name, found in longest.items()
    }


def floors() -> list[list[str]]:
    """Rooms floor by floor, the highest first, as the contract in pyproject.toml has them."""
    contract = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"][0]
    rooms = {path.name for path in PACKAGE.iterdir() if path.is_dir()}
    layers = [[room for room in layer.split(" | ") if room in rooms] for layer in contract["layers"]]
    return [layer for layer in layers if layer]


def picture() -> str:
    """Floors and arrows as a Mermaid diagram, without arrows to a room that is reached over another one."""
    pairs = arrows()
    direct = {(a, b) for a, b in pairs if not any((a, c) in pairs and (c, b) in pairs for c, _ in pairs)}
    lines = ["```mermaid", "flowchart TB"]
    for number, rooms in zip(range(len(floors()), 0, -1), floors(), strict=True):
        lines += [f"  subgraph floor{number}[floor {number}]", *(f"    {room}" for room in sorted(rooms)), "  end"]
    return "\n".join([*lines, *(f"  {a} --> {b}" for a, b in sorted(direct)), "```"])


def page() -> str:
    """The page with today's picture."""
    before, rest = PAGE.read_text().split(BEGIN)
    return f"{before}{BEGIN}\n\n{picture()}\n\n{END}{rest.split(END)[1]}"


if __name__ == "__main__":
    PAGE.write_text(page())
