"""What is used of libraries beyond their public interface: one module per library, and a test of each.

A module says what it takes and why there is no public way. Where a release of the library no longer has it, importing
the module fails with the name of the library, its version and what is missing. Nothing else of the package may import
or call private names of a library; a test of the house looks for them.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any


def taken(library: str, module: str, *names: str) -> tuple[Any, ...]:
    """Names of a module that is not public.

    Args:
        library: The distribution that it comes from, ``"rasterio"``.
        module: Where they are, ``"rasterio._err"``.
        names: What is taken.

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
