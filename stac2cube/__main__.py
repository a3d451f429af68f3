"""``python -m stac2cube``."""

from stac2cube.cli import main

main()
