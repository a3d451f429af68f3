"""Handling of untrusted input: addresses without keys, texts without control characters, time limits, file names."""

from __future__ import annotations
