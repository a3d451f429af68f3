"""From catalogs to scenes (driver side) and from scenes to pixels (worker side). This room knows no Zarr."""

from __future__ import annotations
