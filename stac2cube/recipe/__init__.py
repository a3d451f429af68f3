"""Recipes: one YAML file that says what is to be made of an archive, in the words of the command line.

Nothing here knows a command. :mod:`stac2cube.cli.recipes` reads the words, their types, defaults and help from the
commands themselves, so that each of them is written down once.
"""

from __future__ import annotations
