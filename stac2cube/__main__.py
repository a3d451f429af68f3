"""``python -m stac2cube``."""

from __future__ import annotations

from stac2cube.cli import main

main()
