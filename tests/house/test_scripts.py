"""Shell scripts, wherever they stand."""

from __future__ import annotations

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


def test_shellcheck_has_nothing_to_say() -> None:
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed: apt install shellcheck")
    names = {path.name for path in shell_scripts()}
    assert {"run", "cluster", "make-venv", "install-arosics", "setup-services", "build_cube.sbatch"} <= names
    done = subprocess.run(["shellcheck", *shell_scripts()], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
