"""Exceptions, each with a one-line message: what is wrong and what to do."""

from __future__ import annotations


class Stac2cubeError(Exception):
    """Base of all errors that stac2cube raises on purpose; the command line prints them without a traceback."""


class BadInputError(Stac2cubeError):
    """The request itself is wrong (unknown name, bad date, unusable area); nothing was written."""


class TableError(BadInputError):
    """A TOML table is malformed or holds an unknown key; the message names file and key."""


class NothingFoundError(BadInputError):
    """The catalog holds no scene for the area and time asked for."""


class CatalogError(Stac2cubeError):
    """A catalog cannot be reached or answers nonsense, after retries."""


class ItemError(CatalogError):
    """One item of a catalog cannot be used; the message names it. The others can."""


class RadiometryError(Stac2cubeError):
    """An item's metadata contradict each other and no written rule covers the case; the message names the item."""


class ReadError(Stac2cubeError):
    """An asset cannot be read after retries. Its step stays unsealed; its pixels never become zeros."""


class CubeError(Stac2cubeError):
    """A cube on disk is not usable (not a cube, damaged, written by a newer version)."""


class CubeMismatchError(CubeError):
    """A request differs from the options with which the cube was made; raised before any byte is written."""


class CubeLockedError(CubeError):
    """Another process is writing this cube; the message names it."""


class EngineError(Stac2cubeError):
    """A library that was chosen for a task failed; another can be chosen."""


class IncompleteError(Stac2cubeError):
    """Some time steps failed; the others are sealed and safe, and the same command tries the failed ones again."""


class ProgramError(IncompleteError):
    """Every block fails with the same error of the program, so the build was stopped early; report it."""


class PlaceError(Stac2cubeError):
    """The place where blocks are made is not available, or lost every worker."""


class GatewayError(PlaceError):
    """A Dask Gateway or a Dask cluster refused, cannot be reached, or has no workers that can do the work."""


class SlurmError(PlaceError):
    """SLURM refused a request, cannot be reached, or lost every worker; the message contains SLURM's own."""
