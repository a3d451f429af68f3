"""Balance of a picture's colours in the words of rio-color: contrast, gamma and saturation.

The package color-operations, the maintained fork of rio-color that rio-tiler uses, does the arithmetic: ``sigmoidal
BANDS CONTRAST BIAS`` is ImageMagick's sigmoidal contrast, ``gamma BANDS G`` the power 1/G, ``saturation PROPORTION`` a
factor on the chroma of CIE LCH.
"""

from __future__ import annotations

import numpy as np

from stac2cube.errors import BadInputError


def balanced(colours: np.ndarray, operations: str) -> np.ndarray:
    """Colours after some operations, one after the other.

    Args:
        colours: ``(..., 3)`` float, 0 to 1.
        operations: For example ``"gamma B 0.9, sigmoidal RGB 6 0.4, saturation 1.2"``.

    Returns:
        ``(..., 3)`` float32, 0 to 1.

    Raises:
        BadInputError: Not such words, or color-operations is not installed.
    """
    flat = np.moveaxis(colours.reshape(-1, 1, 3), -1, 0).astype("float64")
    for operation in _parsed(operations):
        flat = np.clip(operation(flat), 0, 1)
    balanced: np.ndarray = np.moveaxis(flat, 0, -1).reshape(colours.shape).astype("float32")
    return balanced


def check_balance(operations: str) -> str:
    """The words themselves; errors as :func:`balanced`."""
    balanced(np.full((1, 3), 0.5), operations)
    return operations


def _parsed(operations: str):  # type: ignore[no-untyped-def]
    try:
        from color_operations import parse_operations
    except ImportError as error:
        raise BadInputError("balancing colours needs color-operations: pip install 'stac2cube[pictures]'") from error
    try:
        found = parse_operations(operations)
        for operation in found:
            operation(np.full((3, 1, 1), 0.5))
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise BadInputError(
            f"the balance {operations!r} is not understood ({error}): write for example "
            "'gamma B 0.9, sigmoidal RGB 6 0.4, saturation 1.2'"
        ) from error
    return found
