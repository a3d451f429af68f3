"""The version, in a separate module, so that modules below the package's public interface can import it."""

from __future__ import annotations

__version__ = "0.2.0"
"""Version of the installed package, read by the build too."""
