"""Tools that cannot live with the others: each in a virtual environment of its own, made when first asked for."""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from pathlib import Path


@cache
def stackstac_python(folder: Path) -> str:
    """It wants an older pandas than everybody else."""
    wanted = ["stackstac==0.5.1", "pandas<3", "zarr>=3", "xarray", "dask", "setuptools<80"]
    return _python(folder / "stackstac", sys.executable, wanted)


def _python(venv: Path, python: str, wanted: list[str]) -> str:
    made = venv / "bin/python"
    if not made.exists():
        subprocess.run([python, "-m", "venv", venv], check=True)
        subprocess.run([made, "-m", "pip", "install", "-q", *wanted], check=True)
    return str(made)
