"""Stages: each is a pure function from a block to pixels. Stages exchange data on disk only."""

from __future__ import annotations
