"""Uses of libraries beyond their public interface: one module per library, with a test for each.

A module documents what it uses and why there is no public alternative. If a release of the library lacks it, importing
the module fails with the name of the library, its version and the missing name. No other part of the package may import
or call private names of a library; a test in tests/house checks this.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any


def taken(library: str, module: str, *names: str) -> tuple[Any, ...]:
    """Get names from a module that is not public.

    Args:
        library: The distribution that contains the module, ``"rasterio"``.
        module: The module, ``"rasterio._err"``.
        names: The names to get.

    Returns:
        The objects, in the order of their names.

    Raises:
        ImportError: This release of the library has no such module or name; the message says which release it is.
    """
    try:
        source = import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not (module == error.name or module.startswith(f"{error.name}.")):
            raise
        raise ImportError(_missing(library, module), name=error.name) from error
    for name in names:
        if not hasattr(source, name):
            raise ImportError(_missing(library, f"{module}.{name}"), name=module)
    return tuple(getattr(source, name) for name in names)


def _missing(library: str, what: str) -> str:
    try:
        release = version(library)
    except PackageNotFoundError:
        return f"{library} is not installed"
    return (
        f"{library} {release} has no {what}, which stac2cube needs: install a release of {library} that it was tested "
        "with (see envs/constraints), or a newer stac2cube"
    )
