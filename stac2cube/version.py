"""The version, in a room of its own: all that write it down stand below the package's front door."""

from __future__ import annotations

__version__ = "0.2.0"
"""What is installed, read by the build too."""
