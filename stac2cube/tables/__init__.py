"""Facts, no code: names, numbers and units of missions and catalogs, as TOML."""

from __future__ import annotations
