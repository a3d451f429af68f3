"""Pixels for small jobs, read directly without a cube: fields, plots, points."""

from __future__ import annotations
