"""The container recipe. No image is built here: what it copies, installs and starts must at least be there."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path

from packaging.requirements import Requirement

from stac2cube.executors.worker import MALLOC

REPOSITORY = Path(__file__).parents[2]
FILE = REPOSITORY / "envs" / "Containerfile"
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())


def instructions() -> list[tuple[str, str]]:
    """Instruction and words of each step, lines joined and comments left out."""
    lines = [line for line in FILE.read_text().splitlines() if line.strip() and not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in joined.splitlines())]


def test_hadolint_has_nothing_to_say() -> None:
    program = Path(sys.executable).parent / "hadolint"
    done = subprocess.run([program, FILE], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_workers_that_a_gateway_starts_use_memory_as_others_do() -> None:
    said = " ".join(rest for word, rest in instructions() if word == "ENV")
    assert all(f"{name}={size}" in said.split() for name, size in MALLOC.items())


def test_what_it_copies_is_there_and_whole() -> None:
    copied = [source for word, rest in instructions() if word == "COPY" and not rest.startswith("--from")
              for source in rest.split()[:-1]]  # fmt: skip
    assert copied
    for source in copied:
        path = REPOSITORY / source
        assert path.exists(), source
        # A link that leads out of what is copied would dangle in the image.
        for link in (inner for inner in (path.rglob("*") if path.is_dir() else ()) if inner.is_symlink()):
            target = str(link.resolve().relative_to(REPOSITORY))
            assert any(target == one or target.startswith(f"{one}/") for one in copied), link
    build_needs = {PROJECT["project"]["readme"], *PROJECT["project"]["license-files"], "pyproject.toml"}
    assert build_needs <= set(copied)


def test_what_it_installs_and_starts_is_known() -> None:
    said = dict(instructions())
    extras = next(rest.partition("=")[2] for word, rest in instructions() if rest.startswith("EXTRAS=")).split(",")
    known = PROJECT["project"]["optional-dependencies"]
    assert set(extras) <= set(known)
    image = next(rest for word, rest in instructions() if rest.startswith("PYTHON="))
    python = re.search(r"python:(\d+)\.(\d+)-", image)
    assert python
    pins = REPOSITORY / "envs" / "constraints" / f"py{python[1]}{python[2]}.txt"
    pinned = {line.partition("==")[0].lower().replace("_", "-") for line in pins.read_text().splitlines()}
    wanted = [Requirement(text) for text in PROJECT["project"]["dependencies"]]
    wanted += [Requirement(text) for extra in extras for text in known[extra]]
    loose = {one.name for one in wanted} - pinned
    assert not loose, "an image of today should be that of next year"
    assert said["CMD"] == '["stac2cube", "--help"]'
    assert "stac2cube" in PROJECT["project"]["scripts"]
    for part in ("scheduler", "worker"):
        assert find_spec(f"distributed.cli.dask_{part}")
    assert said["USER"] not in ("0", "root")
    assert not re.search(r"gcc|g\+\+|build-essential|-dev\b", FILE.read_text()), "no build tools"
