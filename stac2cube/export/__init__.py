"""Exports of a cube: pictures, files for other programs, reports."""

from __future__ import annotations
