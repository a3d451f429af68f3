"""Choosing an area and dates by looking: a local page with a map and a calendar that writes a recipe.

Nothing on it comes from anywhere else, unless an address of map tiles is given: its files are here, the outline of land
is the one that odc-geo brings, and catalogs are asked by this side.
"""

from __future__ import annotations
