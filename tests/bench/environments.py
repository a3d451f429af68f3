"""Tools that cannot live with the others: each in a virtual environment of its own, made when first asked for."""

from __future__ import annotations

import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

_WANTED = {
    # It wants an older pandas than everybody else.
    "stackstac": ["stackstac==0.5.1", "pandas<3", "zarr>=3", "xarray", "dask", "setuptools<80"],
    "rasteret": ["rasteret==0.4.1"],
    "async-geotiff": ["async-geotiff==0.5.1", "obstore>=0.6", "odc-geo"],
}
_NEEDS = {"rasteret": "python3.12"}


@cache
def python_of(tool: str, folder: Path) -> str:
    """The interpreter that has a tool; "" where what it needs is not on this machine, which is said."""
    name = tool.partition(",")[0]
    if name not in _WANTED:
        return sys.executable
    base = _NEEDS.get(name, sys.executable)
    if shutil.which(base) is None:
        print(f"{name} is left out: it needs {base} on the PATH", file=sys.stderr)
        return ""
    made = folder / name / "bin/python"
    if not made.exists():
        subprocess.run([base, "-m", "venv", folder / name], check=True)
        subprocess.run([made, "-m", "pip", "install", "-q", *_WANTED[name]], check=True)
    return str(made)
