"""Shell scripts, wherever they stand."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
FOLDERS = (".ci", "envs", "slurm", "tests")


def shell_scripts() -> list[Path]:
    """Files whose first line names a shell."""
    files = [path for folder in FOLDERS for path in (REPOSITORY / folder).iterdir() if path.is_file()]
    first = {path: path.read_bytes().partition(b"\n")[0] for path in files}
    return sorted(path for path in files if first[path].startswith(b"#!") and first[path].endswith(b"sh"))


NEWEST_SHELLCHECK = (0, 11)
"""The newest release that these scripts were checked with; newer ones may know of more to say."""


def test_shellcheck_has_nothing_to_say() -> None:
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed: apt install shellcheck")
    about = subprocess.run(["shellcheck", "--version"], capture_output=True, text=True, check=True).stdout
    release = re.search(r"version: (\d+)\.(\d+)", about)
    assert release
    if (int(release[1]), int(release[2])) > NEWEST_SHELLCHECK:
        pytest.skip(f"shellcheck {release[1]}.{release[2]} is newer than {'.'.join(map(str, NEWEST_SHELLCHECK))}")
    names = {path.name for path in shell_scripts()}
    assert {"run", "cluster", "make-venv", "install-arosics", "setup-services", "build_cube.sbatch"} <= names
    done = subprocess.run(["shellcheck", *shell_scripts()], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_make_sets_aside_what_leads_to_other_modules_and_data() -> None:
    astray = ["PYTHONPATH", "PYTHONHOME", "PIP_USER", "PIP_TARGET", "PIP_PREFIX", "PROJ_DATA", "PROJ_LIB", "GDAL_DATA"]
    settings = {**os.environ, **dict.fromkeys(astray, "/elsewhere"), "PIP_INDEX_URL": "https://index.example/simple"}
    command = ["make", "--silent", "--eval", "show:; @env", "show"]
    told = subprocess.run(command, cwd=REPOSITORY, env=settings, capture_output=True, text=True, check=True).stdout
    names = {line.partition("=")[0] for line in told.splitlines()}
    assert not names & set(astray)
    assert {"PIP_INDEX_URL", "PATH"} <= names
