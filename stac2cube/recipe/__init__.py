"""Recipes: a YAML file that lists what to make from an archive, in the vocabulary of the command line.

This room does not depend on the commands. :mod:`stac2cube.cli.recipes` reads the keys, their types, defaults and help
from the commands, so that each is defined only once.
"""

from __future__ import annotations
