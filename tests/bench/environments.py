"""Tools that cannot live with the others: each in a virtual environment of its own, made when first asked for."""

from __future__ import annotations

import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path


@cache
def stackstac_python(folder: Path) -> str:
    """It wants an older pandas than everybody else."""
    wanted = ["stackstac==0.5.1", "pandas<3", "zarr>=3", "xarray", "dask", "setuptools<80"]
    return _python(folder / "stackstac", sys.executable, wanted)


@cache
def rasteret_python(folder: Path) -> str | None:
    """It wants Python 3.12; None where there is none."""
    elsewhere = Path("~/.pyenv/versions").expanduser().glob("3.12*/bin/python")
    found = shutil.which("python3.12") or next(map(str, elsewhere), None)
    if found is None or subprocess.run([found, "--version"], check=False, capture_output=True).returncode:
        found = next(iter(map(str, Path("~/.pyenv/versions").expanduser().glob("3.12*/bin/python"))), None)
    return _python(folder / "rasteret", found, ["rasteret==0.4.1", "pystac"]) if found else None


def _python(venv: Path, python: str, wanted: list[str]) -> str:
    made = venv / "bin/python"
    if not made.exists():
        subprocess.run([python, "-m", "venv", venv], check=True)
        subprocess.run([made, "-m", "pip", "install", "-q", *wanted], check=True)
    return str(made)
