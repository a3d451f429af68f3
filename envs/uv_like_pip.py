#!/usr/bin/env python3
"""Run uv with the indexes, folders and certificates that pip is set up with here: uv reads neither pip.conf nor PIP_*.

uv answers two questions that pip cannot: which are the oldest releases that pyproject.toml allows, and which are the
newest for another Python. It is installed, in the release of envs/tools.txt, into build/uv.

Usage: envs/uv_like_pip.py pip compile ...      whatever uv takes; UV_* variables that are set already win
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import venv
from pathlib import Path

ENVS = Path(__file__).resolve().parent
HOME = ENVS.parent / "build" / "uv"

# pip's setting, uv's variable, and what stands between several values.
SETTINGS = {
    "index-url": ("UV_DEFAULT_INDEX", " "),
    "extra-index-url": ("UV_INDEX", " "),
    "find-links": ("UV_FIND_LINKS", ","),
    "no-index": ("UV_NO_INDEX", " "),
    "constraint": ("UV_CONSTRAINT", " "),
    "trusted-host": ("UV_INSECURE_HOST", " "),
    "cert": ("SSL_CERT_FILE", " "),
    "proxy": ("ALL_PROXY", " "),
    "default-timeout": ("UV_HTTP_TIMEOUT", " "),
    "timeout": ("UV_HTTP_TIMEOUT", " "),
}


def translated(listing: str) -> dict[str, str]:
    """Variables for uv.

    Args:
        listing: What `pip config list` prints: lines like `global.index-url='https://...'`, the stronger ones later.

    Returns:
        Name and value of each variable.
    """
    found = {}
    for line in listing.splitlines():
        name, _, value = line.partition("=")
        match = re.fullmatch(r"(?:global|install|:env:)\.(.+)", name)
        if match and match[1] in SETTINGS:
            variable, between = SETTINGS[match[1]]
            found[variable] = between.join(str(ast.literal_eval(value)).split())
    return found


def main() -> None:
    """Install uv where it is missing, and become it."""
    program = HOME / "bin" / "uv"
    pip = [str(HOME / "bin" / "python"), "-m", "pip", "--disable-pip-version-check"]
    wanted = next(line for line in (ENVS / "tools.txt").read_text().splitlines() if line.startswith("uv=="))
    stamp = HOME / "installed"
    if not stamp.exists() or stamp.read_text() != wanted:
        venv.create(HOME, with_pip=True, clear=True)
        subprocess.run([*pip, "install", "--quiet", "--no-input", "--root-user-action=ignore", wanted], check=True)
        stamp.write_text(wanted)
    listing = subprocess.run([*pip, "config", "list"], check=True, capture_output=True, text=True).stdout
    # As pip does: any index may have the wanted release, and no interpreter is fetched.
    settings = {"UV_INDEX_STRATEGY": "unsafe-best-match", "UV_PYTHON_DOWNLOADS": "never", **translated(listing)}
    os.execve(program, [str(program), *sys.argv[1:]], {**settings, **os.environ})


if __name__ == "__main__":
    main()
