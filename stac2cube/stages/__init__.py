"""What is made: each stage is a pure function from a block to pixels. Stages meet on disk only."""

from __future__ import annotations
