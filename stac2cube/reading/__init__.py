"""Reading pixels directly, without a cube, for small tasks: fields, plots, points."""

from __future__ import annotations
